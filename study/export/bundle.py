"""A bundle: an arm's confirmed networks as files that predict without this platform.

    manifest.json            what the model is, what it is fed with, where it comes from
    manifest.sig             signature of the manifest, if it was signed
    README.md, figure.png    model card
    weights-000.safetensors  one network for each confirmation seed
    graph-000.onnx           the same network as an ONNX graph, physical units in and out; there is
                             none of architectures that are no LSTM
    program-000-day.pt2      ... as a torch.export program for one day, and
    program-000-month.pt2    for 32 days
    attributes.csv           static attributes of the training basins, unscaled
    example.csv              invented forcing, and
    example-expected.csv     what the networks make of it

Reading a bundle runs no code of it: JSON, CSV, named tensors and a graph of arithmetic, each file
against its checksum. Programs are the exception, and are only loaded from a signed bundle (see
`study.export.program`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from study.errors import BundleError
from study.export.manifest import (
    ATTRIBUTES,
    CARD,
    EXAMPLE,
    EXPECTED,
    FIGURE,
    FORMAT,
    MANIFEST,
    SIGNATURE,
    Manifest,
)
from study.export.places import Place, open_place, write_files
from study.export.signature import check, sign


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read and checked."""

    uri: str
    manifest: Manifest
    raw_manifest: bytes
    files: Mapping[str, bytes]
    """Content of every file but the manifest."""
    attributes: pd.DataFrame
    """Static attributes of the training basins, float64; index `gauge_id`."""
    signed: bool
    """Whether the signature was checked with a key that the reader trusts."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest and, by its checksums, of everything."""
        return hashlib.sha256(self.raw_manifest).hexdigest()

    def contents(self, key: Path | None = None) -> dict[str, bytes]:
        """All files, to write them elsewhere; signed anew with a private key if one is given."""
        signed = {} if key is None else {SIGNATURE: sign(self.raw_manifest, key)}
        return {**self.files, **signed, MANIFEST: self.raw_manifest}

    @property
    def has_graphs(self) -> bool:
        """Whether its networks can be run without torch."""
        return self.manifest.graph_files[0] in self.files

    @property
    def networks_digest(self) -> str:
        """Of the weights alone: what a carried state belongs to."""
        sums = [self.manifest.checksums[name] for name in self.manifest.weights_files]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def write_bundle(
    out: str | Path, manifest: Manifest, files: Mapping[str, bytes], *, key: Path | None = None
) -> None:
    """Write a bundle.

    Args:
        out: New folder, new `.tar`, or `s3://bucket/key`.
        manifest: Its checksums are made here.
        files: Content of every other file.
        key: Private key that signs the manifest.

    Raises:
        BundleError: The place is taken, or cannot be written.
        InputError: The key cannot be used.
    """
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = manifest.model_copy(update={"checksums": checksums})
    content = manifest.model_dump_json(indent=1).encode()
    signed = {} if key is None else {SIGNATURE: sign(content, key)}
    write_files(out, {**files, **signed, MANIFEST: content})


def read_bundle(uri: str | Path, *, key: Path | None = None) -> Bundle:
    """Read a bundle and check every file of it.

    Args:
        uri: A folder, a `.tar`, or `s3://bucket/key`.
        key: Public key; the bundle must be signed with it.

    Raises:
        BundleError: A file is missing, damaged, not what the manifest says, or not signed.
        InputError: The key cannot be used.
    """
    place = open_place(uri)
    content = _read_first(place)
    if key is not None:
        check(content, _read_signature(place), key, place.uri)
    manifest = _parse(content, place.uri)
    _check_names(manifest, place.uri)
    files = {name: _read_checked(place, manifest, name) for name in manifest.checksums}
    return Bundle(
        uri=place.uri,
        manifest=manifest,
        raw_manifest=content,
        files=files,
        attributes=_read_attributes(files[ATTRIBUTES], manifest, place.uri),
        signed=key is not None,
    )


def _read_first(place: Place) -> bytes:
    try:
        return place.read(MANIFEST)
    except OSError:
        raise BundleError(
            f"{place.uri}/{MANIFEST}: cannot be read; give a folder, a .tar or an s3:// address "
            "that `study export` wrote"
        ) from None


def _read_signature(place: Place) -> bytes | None:
    try:
        return place.read(SIGNATURE)
    except FileNotFoundError:
        return None


def _parse(content: bytes, uri: str) -> Manifest:
    where = f"{uri}/{MANIFEST}"
    try:
        parsed = json.loads(content)
        if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
            raise ValueError(f"`format` must be {FORMAT}")
        return Manifest.model_validate(parsed)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "its content"
        raise BundleError(f"{where}: `{key}`: {first['msg']}; export the model again") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: is not a bundle's manifest ({error})") from None


def _check_names(manifest: Manifest, uri: str) -> None:
    """Exactly the files of a bundle may be named: whatever else is there is never read."""
    needed = {ATTRIBUTES, EXAMPLE, EXPECTED, CARD, *manifest.weights_files}
    programs = {name for names in manifest.program_files for name in names.values()}
    graphs = set(manifest.graph_files)
    named = set(manifest.checksums)
    for missing in sorted(needed - named):
        raise BundleError(f"{uri}/{MANIFEST}: `checksums` lacks {missing}; export it again")
    for unknown in sorted(named - needed - programs - graphs - {FIGURE}):
        raise BundleError(
            f"{uri}/{MANIFEST}: `checksums` names {unknown}, which is no file of a bundle of "
            f"{manifest.members} members; export it again"
        )
    for kind, names in {"programs": programs, "graphs": graphs}.items():
        if named & names and not names <= named:
            raise BundleError(f"{uri}/{MANIFEST}: `checksums` lacks some {kind}; export it again")


def _read_checked(place: Place, manifest: Manifest, name: str) -> bytes:
    try:
        content = place.read(name)
    except OSError as error:
        raise BundleError(
            f"{place.uri}/{name}: cannot be read ({error}); export the model again"
        ) from None
    if hashlib.sha256(content).hexdigest() != manifest.checksums[name]:
        raise BundleError(
            f"{place.uri}/{name}: differs from its checksum; fetch or export the bundle again"
        )
    return content


def _read_attributes(content: bytes, manifest: Manifest, uri: str) -> pd.DataFrame:
    names = list(manifest.attributes)
    try:
        table = pd.read_csv(io.BytesIO(content), dtype={"gauge_id": str})
        return table.set_index("gauge_id")[names].astype("float64")
    except (ValueError, KeyError) as error:
        raise BundleError(
            f"{uri}/{ATTRIBUTES}: must have {', '.join(['gauge_id', *names])}, all but the first "
            f"as numbers ({error}); export the model again"
        ) from None
