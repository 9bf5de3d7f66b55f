"""The group `shyft` of a data store, made by the real Shyft on synthetic basins."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from study.data.features import SHYFT_FEATURES
from study.data.groups import group_path
from study.data.store import describe, open_store, verify, write_store
from study.errors import DataError, InputError, StudyError
from study.shyft.calibration import Method
from study.shyft.process import PYTHON_VARIABLE
from study.shyft.store import add_features, here, nearest_donors
from study.spec import Period

TRAIN = Period.model_validate("1984-10-01:1986-09-30")
QUICK = Method(starts=1, draws=2, evaluations=20)
BASINS = 3


def new_store(
    source: Path, out: Path, change: Callable[[xr.Dataset], xr.Dataset] = lambda d: d
) -> Path:
    """A store of the first basins, changed."""
    dataset = open_store(source).isel(basin=slice(BASINS)).load()
    write_store(change(dataset), out)
    return out


@pytest.fixture(scope="module")
def plain(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_store(synthetic_store, tmp_path_factory.mktemp("plain") / "plain.zarr")


@pytest.fixture(scope="module")
def added(python: str, synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with Shyft's features."""
    path = new_store(synthetic_store, tmp_path_factory.mktemp("added") / "added.zarr")
    add_features(path, TRAIN, QUICK)
    return path


def test_other_groups_keep_their_digests(plain: Path, added: Path) -> None:
    before, after = (open_store(path).attrs["digests"] for path in (plain, added))
    assert set(after) == {*before, "shyft"}
    assert {group: after[group] for group in before} == before
    verify(open_store(added), added)


def test_group_is_described_and_accounted_for(added: Path) -> None:
    store = open_store(added)
    variables = describe(store)["groups"]["shyft"]["variables"]
    assert {n: v["units"] for n, v in variables.items()} == dict(SHYFT_FEATURES)
    assert all(v["missing"] == 0 for v in variables.values())
    about = store.attrs["about"]["shyft"]
    assert about["stack"] == "pt_st_k" and about["train_period"] == str(TRAIN)
    assert about["calibrated"] == list(store["basin"].values)
    assert about["crossfit"] is True and about["failed"] == {} and about["donors"] == {}
    assert set(about["parameters"]) == set(about["scores"]) == set(about["calibrated"])


def test_discharge_outside_training_days_is_never_read(
    python: str, synthetic_store: Path, added: Path, tmp_path: Path
) -> None:
    def corrupt(dataset: xr.Dataset) -> xr.Dataset:
        outside = (dataset.time < np.datetime64(TRAIN.start)) | (
            dataset.time > np.datetime64(TRAIN.end)
        )
        return dataset.assign(
            qobs=dataset["qobs"].where(~outside, 99.0).assign_attrs(dataset["qobs"].attrs)
        )

    path = new_store(synthetic_store, tmp_path / "corrupt.zarr", corrupt)
    add_features(path, TRAIN, QUICK)
    a, b = (open_store(p).attrs["digests"] for p in (added, path))
    assert a["shyft"] == b["shyft"] and a["discharge"] != b["discharge"]


def test_features_are_replaced_on_demand_only(
    python: str, synthetic_store: Path, tmp_path: Path
) -> None:
    path = new_store(synthetic_store, tmp_path / "twice.zarr")
    add_features(path, TRAIN, dataclasses.replace(QUICK, crossfit=False))
    before = open_store(path).attrs["digests"]
    with pytest.raises(DataError, match=r"already \(pt_st_k, calibrated on 1984.*--replace"):
        add_features(path, TRAIN, dataclasses.replace(QUICK, stack="pt_hs_k"))
    assert open_store(path).attrs["digests"] == before
    add_features(path, TRAIN, dataclasses.replace(QUICK, stack="pt_hs_k"), replace=True)
    after = open_store(path)
    assert after.attrs["digests"]["shyft"] != before["shyft"]
    assert after.attrs["about"]["shyft"]["stack"] == "pt_hs_k"
    assert [p.name for p in group_path(path, "shyft").parent.iterdir()] == ["shyft.zip"]


def test_goes_on_after_a_crash(
    python: str, synthetic_store: Path, added: Path, tmp_path: Path
) -> None:
    path = new_store(synthetic_store, tmp_path / "crashed.zarr")
    asked: list[int] = []

    def crashing(
        function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        asked.append(len(tasks))
        for done in here(function, tasks):
            yield done
            if len(asked) == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_features(path, TRAIN, QUICK, each=crashing)
    assert "shyft" not in open_store(path).attrs["digests"]
    add_features(path, TRAIN, QUICK, each=crashing)
    assert asked == [BASINS, BASINS - 1]
    assert open_store(path).attrs["digests"] == open_store(added).attrs["digests"]
    assert [p.name for p in tmp_path.iterdir()] == ["crashed.zarr"]


def crashes_on(python: str, pattern: str, folder: Path) -> str:
    """A Python that dies of a segmentation fault on requests with this text."""
    path = folder / "python"
    crash = f"grep -qs '{pattern}' \"$2/request.json\" && kill -SEGV $$"
    path.write_text(f'#!/bin/sh\n{crash}\nexec {python} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_a_crash_is_one_basins_failure(
    python: str, synthetic_store: Path, added: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = new_store(synthetic_store, tmp_path / "one.zarr")
    store = open_store(path)
    area = float(store["area"].values[1])
    monkeypatch.setenv(PYTHON_VARIABLE, crashes_on(python, f'"area": {area}', tmp_path))
    found = add_features(path, TRAIN, QUICK)
    failed = str(store["basin"].values[1])
    assert [b for b, f in found.items() if not f.series] == [failed]
    store = open_store(path)
    assert list(store.attrs["about"]["shyft"]["failed"]) == [failed]
    assert "signal 11" in store.attrs["about"]["shyft"]["failed"][failed]
    expected = open_store(added)["shyft_discharge"].values
    assert np.isnan(store["shyft_discharge"].values[1]).all()
    for row in (0, 2):
        assert np.array_equal(store["shyft_discharge"].values[row], expected[row])


def test_failure_of_all_leaves_the_store_alone(
    python: str, synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new_store(synthetic_store, tmp_path / "none.zarr")
    monkeypatch.setenv(PYTHON_VARIABLE, crashes_on(python, "area", tmp_path))
    with pytest.raises(StudyError, match=r"failed on all basins.*signal 11"):
        add_features(path, TRAIN, QUICK)
    assert not group_path(path, "shyft").exists()


def test_held_out_basins_lend_from_others_and_so_do_all(
    python: str, synthetic_store: Path, added: Path, tmp_path: Path
) -> None:
    """Parameters of a held-out basin are another's; so are those of the calibrated ones."""
    path = new_store(synthetic_store, tmp_path / "held.zarr")
    ids = [str(b) for b in open_store(path)["basin"].values]
    add_features(path, TRAIN, QUICK, held_out=ids[:1])
    about = open_store(path).attrs["about"]["shyft"]
    alone = open_store(added).attrs["about"]["shyft"]["parameters"]
    assert set(about["donors"]) == set(ids)
    for basin, donor in about["donors"].items():
        assert donor != basin and donor != ids[0]
        assert about["parameters"][basin] == alone[donor]
    assert ids[0] not in about["calibrated"]


def test_donor_is_the_nearest_by_attributes(plain: Path) -> None:
    store = open_store(plain).load()
    twin = {n: ("basin", v.values[[0, 1, 0]]) for n, v in store.data_vars.items()
            if v.dims == ("basin",) and v.dtype.kind == "f"}  # fmt: skip
    store = store.assign(twin)
    ids = [str(b) for b in store["basin"].values]
    assert nearest_donors(store, ids)[ids[0]] == ids[2]
    assert nearest_donors(store, ids)[ids[2]] == ids[0]


def test_gap_in_the_forcing_is_named(python: str, synthetic_store: Path, tmp_path: Path) -> None:
    def gap(dataset: xr.Dataset) -> xr.Dataset:
        dataset["vp"].values[1, 100] = np.nan
        return dataset

    path = new_store(synthetic_store, tmp_path / "gap.zarr", gap)
    basin = open_store(path)["basin"].values[1]
    with pytest.raises(DataError, match=f"basin {basin}: `vp` is missing on 1981-01-09"):
        add_features(path, TRAIN, QUICK)


def test_area_of_zero_is_named(python: str, synthetic_store: Path, tmp_path: Path) -> None:
    def flatten(dataset: xr.Dataset) -> xr.Dataset:
        dataset["area"].values[2] = 0.0
        return dataset

    path = new_store(synthetic_store, tmp_path / "flat.zarr", flatten)
    basin = open_store(path)["basin"].values[2]
    with pytest.raises(DataError, match=f"basin {basin}: its area is 0 m2"):
        add_features(path, TRAIN, QUICK)


@pytest.mark.parametrize("period", ["1980-11-01:1984-09-30", "1984-10-01:2001-09-30"])
def test_period_outside_the_record_is_refused(python: str, plain: Path, period: str) -> None:
    with pytest.raises(InputError, match=r"--train-period .* 730 days after"):
        add_features(plain, Period.model_validate(period), QUICK)


def test_damaged_or_foreign_group_is_named(
    added: Path, synthetic_store: Path, tmp_path: Path
) -> None:
    path = new_store(synthetic_store, tmp_path / "foreign.zarr", lambda d: d.isel(basin=[1, 2]))
    file = group_path(path, "shyft")
    file.parent.mkdir()
    file.write_bytes(group_path(added, "shyft").read_bytes())
    with pytest.raises(DataError, match=r"shyft\.zip: was not made for this store"):
        open_store(path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"shyft\.zip: cannot be read"):
        open_store(path)


@pytest.mark.slow
def test_command_spreads_basins_with_ray(
    python: str, synthetic_store: Path, added: Path, tmp_path: Path
) -> None:
    path = new_store(synthetic_store, tmp_path / "cli.zarr")
    command = [sys.executable, "-m", "study", "shyft", "simulate", str(path), "--starts", "1",
               "--draws", "2", "--evaluations", "20", "--train-period", str(TRAIN)]  # fmt: skip
    ended = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    scores = json.loads(ended.stdout)
    assert scores == open_store(added).attrs["about"]["shyft"]["scores"]
    assert open_store(path).attrs["digests"] == open_store(added).attrs["digests"]
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert again.returncode == 2 and "--replace" in again.stderr
