"""A bundle's files from a manifest and weights: the same for a study's arm and an imported run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from safetensors.torch import save
from torch import Tensor

from study.errors import InputError
from study.export.bundle import Bundle, write_bundle
from study.export.card import model_card
from study.export.example import as_csv, example_forcing, expected_discharge
from study.export.manifest import ATTRIBUTES, CARD, EXAMPLE, EXPECTED, FIGURE, Manifest
from study.export.program import build_model, build_programs


def build_bundle(
    out: str | Path,
    manifest: Manifest,
    members: Sequence[Mapping[str, Tensor]],
    attributes: pd.DataFrame,
    *,
    figure: bytes | None = None,
    key: Path | None = None,
) -> Manifest:
    """Write all of a bundle.

    Args:
        out: New folder, new `.tar`, or `s3://bucket/key`.
        manifest: Without checksums.
        members: Weights by parameter name, one network a confirmation seed.
        attributes: Index `gauge_id`, a column for each static input; may have no line.
        figure: PNG for the model card.
        key: Private key that signs the bundle.

    Returns:
        The manifest, without checksums.

    Raises:
        BundleError: The place is taken, or cannot be written.
        InputError: The package that writes ONNX graphs is not installed.
    """
    try:
        from study.export.graph import build_graph
    except ImportError as error:
        raise InputError(
            f"writing a bundle needs the package {error.name}; pip install '.[torch]'"
        ) from None
    networks = [{n: tensor.contiguous() for n, tensor in weights.items()} for weights in members]
    files = {n: save(w) for n, w in zip(manifest.weights_files, networks, strict=True)}
    for name, weights in zip(manifest.graph_files, networks, strict=True):
        graph = build_graph(manifest, build_model(manifest, weights))
        files |= {} if graph is None else {name: graph}
    for days in manifest.program_files[0]:
        programs = build_programs(manifest, networks, days=days)
        files |= {names[days]: p for names, p in zip(manifest.program_files, programs, strict=True)}
    files[ATTRIBUTES] = attributes.to_csv(index_label="gauge_id").encode()
    files[EXAMPLE] = as_csv(example_forcing(manifest, attributes))
    files[EXPECTED] = as_csv(expected_discharge(_unwritten(manifest, files, attributes), "torch"))
    if figure is not None:
        files[FIGURE] = figure
    card = model_card(manifest, figure=FIGURE in files, graphs=manifest.graph_files[0] in files)
    files[CARD] = card.encode()
    write_bundle(out, manifest, files, key=key)
    return manifest


def _unwritten(manifest: Manifest, files: Mapping[str, bytes], attributes: pd.DataFrame) -> Bundle:
    """The bundle as far as it is, for its own example."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Bundle(
        uri="the bundle",
        manifest=manifest.model_copy(update={"checksums": sums}),
        raw_manifest=b"",
        files=files,
        attributes=attributes,
        signed=False,
    )
