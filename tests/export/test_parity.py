"""Whatever runs a bundle, from whatever file: it says what the study's own networks said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import Parity

from study import models
from study.experiment.confirm import read_predictions
from study.export.backends import BACKENDS
from study.export.backends.onnx import OnnxNetwork
from study.export.backends.torch import TorchNetwork
from study.export.bundle import read_bundle
from study.export.forcing import read_forcing
from study.export.graph import build_graph
from study.export.manifest import FORMAT, Manifest
from study.export.predict import named_period, predict
from study.export.program import Physical
from study.export.winner import export_arm

from .conftest import (
    ARMS,
    SERIES,
    SHYFT_ARMS,
    Finished,
    as_csv,
    as_netcdf,
    as_zarr,
    assert_within,
)

KINDS = [(study, arm) for study in ("continuous", "windows") for arm in ARMS]
KINDS += [("with_shyft", arm) for arm in SHYFT_ARMS]


@pytest.mark.parametrize(("name", "arm"), KINDS)
def test_every_backend_says_what_the_study_said(
    request: pytest.FixtureRequest, name: str, arm: str, tmp_path: Path,
    keys: tuple[Path, Path], parity: Parity,
) -> None:  # fmt: skip
    """Every member and basin, and their mean, on validation and test."""
    study, book = request.getfixturevalue(name)
    export_arm(book, study.storage, arm, tmp_path / "bundle", key=keys[0])
    read = read_bundle(tmp_path / "bundle", key=keys[1])
    assert (read.manifest.baseline is not None) == ("residual" in arm)
    forcing = read_forcing(study.store)
    said = [read_predictions(study.storage, job.key) for job in book.replicates(arm)]
    for backend in BACKENDS:
        found, expected = [], []
        for period in ("validation", "test"):
            data = predict(read, forcing, named_period(read, period), backend=backend).data
            members = np.stack([one[period] for one in said])
            found += [data["qsim_members"].values.ravel(), data["qsim"].values.ravel()]
            expected += [members.ravel(), members.mean(axis=0).ravel()]
        ours, theirs = np.concatenate(found), np.concatenate(expected)
        assert theirs.std() > 0.01
        parity.check_flow(
            f"study, by {backend}", f"{arm}, {name}", ours, theirs, mm_per_day=1e-5, share=1e-6,
            beyond=1e-3 if backend == "onnx" else 0.0,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["store", "csv", "nc", "zarr"])
def test_every_kind_of_forcing(
    continuous: Finished, bundle: Path, kind: str, tmp_path: Path
) -> None:
    study, book = continuous
    source = {
        "store": lambda: study.store,
        "csv": lambda: as_csv(study.store, tmp_path / "forcing.csv", SERIES),
        "nc": lambda: as_netcdf(study.store, tmp_path / "forcing.nc", SERIES),
        "zarr": lambda: as_zarr(study.store, tmp_path / "forcing.zarr", SERIES),
    }[kind]()
    read = read_bundle(bundle)
    found = predict(read, read_forcing(source), named_period(read, "test")).data
    for member, job in enumerate(book.replicates(ARMS[0])):
        expected = read_predictions(study.storage, job.key)["test"]
        assert_within(found["qsim_members"].values[member], expected)


def by_hand(scale: str, *, corrects: bool) -> Manifest:
    """Of a network of one input, whose output is in units of 2 mm/d about 1 mm/d or of a basin."""
    discharge = {"name": "qobs", "units": "mm/d", "mean": 1.0, "std": 2.0}
    empty = ("factors", "training", "periods", "metrics", "digests", "provenance", "checksums")
    content: dict[str, Any] = {
        **{part: {} for part in empty},
        **dict.fromkeys(("static_inputs", "basins", "licences"), ()),
        "format": FORMAT,
        "name": "by hand",
        "study": None,
        "arm": None,
        "members": 1,
        "model": "lstm",
        "hidden_size": 3,
        "discharge_scale": scale,
        "simulation": {"mode": "continuous", "warmup": 0},
        "dynamic_inputs": [{"name": "prcp", "units": "mm/d", "mean": 0.0, "std": 1.0}],
        "attributes_source": "published",
        "baseline": discharge if corrects else None,
        "target": discharge,
    }
    return Manifest.model_validate(content)


@pytest.mark.parametrize("corrects", [False, True])
@pytest.mark.parametrize("scale", ["common", "basin"])
def test_no_flow_is_below_zero(scale: str, corrects: bool) -> None:
    """The network says less than no flow on many days."""
    manifest, draws = by_hand(scale, corrects=corrects), torch.Generator().manual_seed(1)
    network = models.build(
        "lstm",
        models.NetworkConfig(num_dynamic=1, num_static=0, hidden_size=3, forget_bias=1.0,
                             recurrent_init="uniform", kernel="torch"),
        generator=draws,
    ).eval()  # fmt: skip
    forcing, zeros = torch.randn(2, 60, 1, generator=draws), torch.zeros(2, 3)
    with torch.no_grad():
        network.head.weight.mul_(20)
        y, _ = network(forcing, torch.zeros(2, 0))
        network.head.bias.sub_(y.mean() + 0.3)
        y, _ = network(forcing, torch.zeros(2, 0))
    unit = np.array([[0.5], [3.0]]) if scale == "basin" else np.full((2, 1), 2.0)
    baseline = np.full((2, 60), 0.25, np.float32) if corrects else None
    mean = 0.0 if scale == "basin" else 1.0
    flow = unit * y.numpy() + (0.25 if corrects else mean)
    assert 0.2 < (flow < 0).mean() < 0.8
    graph = build_graph(manifest, network)
    assert graph is not None
    attributes = unit if scale == "basin" else np.zeros((2, 0))
    for backend in (
        OnnxNetwork(manifest, graph),
        TorchNetwork(Physical(manifest, network)),
    ):
        state = (zeros.numpy(), zeros.numpy())
        found, _ = backend.advance(forcing.numpy(), attributes, baseline, state)
        np.testing.assert_allclose(found, flow.clip(min=0), rtol=1e-5, atol=1e-5)
