"""A bundle: an arm's confirmed networks as a folder that predicts without this platform.

    manifest.json            what the model is, what it is fed with, where it comes from
    weights-000.safetensors  one file for each confirmation seed
    attributes.csv           static attributes of the training basins, unscaled

Reading a bundle runs no code of it: JSON, CSV and named tensors only, each file against its
checksum.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from study import models
from study.data.features import INPUT_UNITS, Inputs
from study.data.scaling import Scaler, subset
from study.errors import BundleError
from study.models import RunoffModel
from study.spec import TrainingSpec

FORMAT = 1
MANIFEST = "manifest.json"
ATTRIBUTES = "attributes.csv"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class InputEntry(_Model):
    """One input, in the order the network takes it."""

    name: str
    units: str | None = None
    mean: float
    std: float


class Manifest(_Model):
    """`manifest.json`."""

    format: int
    study: str
    arm: str
    factors: dict[str, str]
    model: str
    training: TrainingSpec
    attributes_source: str
    """`published`, or `recomputed` from training days: then new basins cannot be predicted."""
    dynamic_inputs: tuple[InputEntry, ...]
    static_inputs: tuple[InputEntry, ...]
    baseline: InputEntry | None = None
    """Simulated discharge that the networks' output is added to; scaled as the target is."""
    target: InputEntry
    periods: dict[str, str]
    basins: tuple[str, ...]
    """Training basins."""
    metrics: dict[str, Any]
    """Period -> metric -> mean over members of the median over basins."""
    digests: dict[str, str]
    """Data group -> digest of the store it was trained on."""
    provenance: dict[str, Any]
    checksums: dict[str, str]
    """File -> SHA-256."""

    @property
    def inputs(self) -> Inputs:
        return Inputs(
            dynamic=tuple(i.name for i in self.dynamic_inputs),
            static=tuple(i.name for i in self.static_inputs),
            baseline=None if self.baseline is None else self.baseline.name,
        )

    @property
    def scaler(self) -> Scaler:
        entries = (*self.dynamic_inputs, *self.static_inputs)
        return Scaler(
            means={i.name: i.mean for i in entries},
            stds={i.name: i.std for i in entries},
            qobs_mean=self.target.mean,
            qobs_std=self.target.std,
        )


class Bundle(_Model):
    """A bundle that was read and checked."""

    manifest: Manifest
    members: tuple[RunoffModel, ...]
    """The networks, one a confirmation seed."""
    attributes: pd.DataFrame
    """Static attributes of the training basins; index `gauge_id`."""


def input_entries(names: Sequence[str], scaler: Scaler) -> tuple[InputEntry, ...]:
    """Inputs with their units and scaling."""
    part = subset(scaler, names)
    return tuple(
        InputEntry(name=n, units=INPUT_UNITS.get(n), mean=part.means[n], std=part.stds[n])
        for n in names
    )


def write_bundle(
    out: Path,
    manifest: Manifest,
    members: Sequence[dict[str, torch.Tensor]],
    attributes: pd.DataFrame,
) -> None:
    """Write a bundle aside and rename it into place.

    Args:
        out: The folder; must not exist.
        manifest: Without checksums.
        members: Weights by parameter name, one network a confirmation seed.
        attributes: Index `gauge_id`, a column for each static input.

    Raises:
        BundleError: The folder exists, or cannot be written.
    """
    if out.exists():
        raise BundleError(f"{out}: exists already; remove it, or give another --out")
    files = {_weights_file(i): save(weights) for i, weights in enumerate(members)}
    files[ATTRIBUTES] = attributes.to_csv(index_label="gauge_id").encode()
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = manifest.model_copy(update={"checksums": checksums})
    files[MANIFEST] = manifest.model_dump_json(indent=1).encode()
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        for name, content in files.items():
            (aside / name).write_bytes(content)
        aside.rename(out)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file of it.

    Raises:
        BundleError: A file is missing, damaged, or not what the manifest says.
    """
    manifest = _read_manifest(folder)
    if ATTRIBUTES not in manifest.checksums:
        raise BundleError(f"{folder / MANIFEST}: `checksums` lacks {ATTRIBUTES}; export it again")
    number = len(manifest.checksums) - 1
    if set(manifest.checksums) != {ATTRIBUTES, *map(_weights_file, range(number))} or number < 1:
        raise BundleError(
            f"{folder / MANIFEST}: `checksums` must name {ATTRIBUTES} and weights-000.safetensors, "
            f"weights-001.safetensors, ..., but names {', '.join(sorted(manifest.checksums))}"
        )
    contents = {name: _read_checked(folder, manifest, name) for name in manifest.checksums}
    members = [
        _build(manifest, contents[_weights_file(i)], folder / _weights_file(i))
        for i in range(number)
    ]
    attributes = pd.read_csv(folder / ATTRIBUTES, dtype={"gauge_id": str}).set_index("gauge_id")
    return Bundle(manifest=manifest, members=tuple(members), attributes=attributes)


def _weights_file(member: int) -> str:
    return f"weights-{member:03d}.safetensors"


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"`format` must be {FORMAT}")
        return Manifest.model_validate(content)
    except OSError:
        raise BundleError(f"{path}: cannot be read; give a folder made by `study export`") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: `{where}`: {first['msg']}; export the model again") from None
    except ValueError as error:
        raise BundleError(f"{path}: is not a bundle's manifest ({error})") from None


def _read_checked(folder: Path, manifest: Manifest, name: str) -> bytes:
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the model again") from None
    if hashlib.sha256(content).hexdigest() != manifest.checksums[name]:
        raise BundleError(f"{path}: differs from its checksum; fetch or export the bundle again")
    return content


def _build(manifest: Manifest, content: bytes, path: Path) -> RunoffModel:
    config = manifest.training
    try:
        model = models.build(
            manifest.model,
            num_dynamic=len(manifest.dynamic_inputs),
            num_static=len(manifest.static_inputs),
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            forget_bias=config.forget_bias,
            recurrent_init=config.recurrent_init,
            generator=torch.Generator(),
        )
        model.load_state_dict(load(content))
    except (ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{path}: does not fit the manifest's model: {reason}") from None
    return model.eval()
