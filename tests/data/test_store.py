"""The store: what was read is what is found, all of it or nothing, and damage is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from study.data import store as module
from study.data.camels_us import FORCING_UNITS, find_files, list_basins, read_basin
from study.data.store import (
    build_camels_us,
    describe,
    open_store,
    variables_of,
    verify,
    write_store,
)
from study.errors import DataError


def test_holds_what_the_reader_reads(synthetic_root: Path, synthetic_store: Path) -> None:
    dataset = open_store(synthetic_store)
    ids = list_basins(synthetic_root, "maurer_extended")
    assert list(dataset["basin"].values) == ids
    files = find_files(
        synthetic_root, ids, forcing="maurer_extended", snow=synthetic_root / "swe_uaz"
    )
    for row, record in enumerate(map(read_basin, files)):
        assert record.swe is not None
        series = {**record.forcing, "qobs": record.qobs, "swe": record.swe}
        for name, values in series.items():
            assert dataset[name].dtype == np.float32
            np.testing.assert_array_equal(dataset[name].values[row], values)
        assert dataset["area"].values[row] == record.area
    assert sorted(variables_of(dataset, "forcing")) == sorted(FORCING_UNITS)
    assert variables_of(dataset, "snow_simulated") == ["swe_simulated"]


def test_same_files_give_the_same_digests(
    synthetic_root: Path,
    synthetic_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when they are read in parallel."""
    monkeypatch.setattr(module, "PARALLEL_FROM", 2)
    seen: list[tuple[int, int]] = []
    again = build_camels_us(
        synthetic_root,
        tmp_path / "again.zarr",
        snow=synthetic_root / "swe_uaz",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert again.attrs["digests"] == open_store(synthetic_store).attrs["digests"]
    assert seen == [(i, 6) for i in range(1, 7)]


def test_digests_tell_every_group_apart(synthetic_store: Path, tmp_path: Path) -> None:
    dataset = open_store(synthetic_store).load()
    before = dataset.attrs["digests"]
    for group in before:
        changed = dataset.copy(deep=True)
        name = variables_of(changed, group)[0]
        changed[name].values.flat[5] += 1
        out = tmp_path / f"{group}.zarr"
        write_store(changed, out)
        after = open_store(out).attrs["digests"]
        assert [g for g in before if before[g] != after[g]] == [group]


def test_every_missing_chunk_is_noticed(synthetic_store: Path, tmp_path: Path) -> None:
    dataset = open_store(synthetic_store)
    verify(dataset, synthetic_store)
    for name in ("tmax", "swe_simulated", "p_mean", "gauge_name", "time"):
        copy = tmp_path / f"{name}.zarr"
        shutil.copytree(synthetic_store, copy)
        next(p for p in (copy / name).iterdir() if not p.name.startswith(".")).unlink()
        with pytest.raises(DataError, match="build it again"):
            verify(open_store(copy), copy)


def test_a_build_that_fails_leaves_nothing(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_store(synthetic_store).load()

    def interrupted(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_zarr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_store(dataset, tmp_path / "us.zarr")
    assert not list(tmp_path.iterdir())


def test_a_store_is_never_written_over(synthetic_root: Path, synthetic_store: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        build_camels_us(synthetic_root, synthetic_store)


def test_describes_itself(synthetic_store: Path) -> None:
    facts = describe(open_store(synthetic_store))
    assert facts["basins"] == 6
    assert set(facts["groups"]) == {"forcing", "discharge", "snow", "snow_simulated", "attributes"}
    assert facts["groups"]["forcing"]["variables"]["prcp"] == {"units": "mm/d", "missing": 0.0}
