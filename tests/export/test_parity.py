"""Whatever runs a bundle, from whatever file: it says what the study's own networks said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity import Parity

from study.experiment.confirm import read_predictions
from study.export.backends import BACKENDS
from study.export.bundle import read_bundle
from study.export.forcing import read_forcing
from study.export.predict import named_period, predict
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
