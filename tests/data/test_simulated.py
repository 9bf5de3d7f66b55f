"""Simulated inputs that know more than their study may know are refused, and say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from added import add_by_hand
from small import small_spec

from study.data.simulated import check_calibration
from study.data.store import open_store
from study.errors import DataError, InputError, SpecError
from study.experiment.arms import all_inputs, expand
from study.experiment.engine import prepare
from study.spec import StudySpec

SHYFT: dict[str, Any] = {"factors": {"model": ["lstm"], "shyft": ["off", "residual"]}}


def check(store: Path, spec: StudySpec) -> None:
    check_calibration(open_store(store), spec, all_inputs(expand(spec)))


def test_calibration_within_the_training_period_is_taken(
    synthetic_store: Path, tmp_path: Path
) -> None:
    check(add_by_hand(synthetic_store, tmp_path / "all.zarr"), small_spec(**SHYFT))
    part = add_by_hand(
        synthetic_store, tmp_path / "part.zarr", train_period="1982-01-01:1983-01-31"
    )
    check(part, small_spec(**SHYFT))


@pytest.mark.parametrize("period", ["1981-09-30:1983-09-30", "1981-10-01:1983-10-01"])
@pytest.mark.parametrize("level", ["input", "residual", "both"])
def test_one_held_out_day_is_too_many(
    synthetic_store: Path, tmp_path: Path, period: str, level: str
) -> None:
    store = add_by_hand(synthetic_store, tmp_path / "store.zarr", train_period=period)
    spec = small_spec(factors={"model": ["lstm"], "shyft": ["off", level]})
    with pytest.raises(SpecError, match=f"discharge of {period}.*--train-period 1981-10-01:1983"):
        check(store, spec)
    check(store, small_spec())  # no arm uses it


def test_held_out_basin_must_not_have_lent_its_parameters(
    synthetic_store: Path, tmp_path: Path
) -> None:
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    spec = small_spec(**SHYFT, data__held_out=basins[:1])
    knowing = add_by_hand(synthetic_store, tmp_path / "knowing.zarr")
    with pytest.raises(SpecError, match=f"names {basins[0]}, whose discharge Shyft was calib"):
        prepare(spec, knowing)
    prepare(spec, add_by_hand(synthetic_store, tmp_path / "out.zarr", calibrated=basins[1:]))


def test_basin_on_which_shyft_failed_is_named(synthetic_store: Path, tmp_path: Path) -> None:
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    store = add_by_hand(synthetic_store, tmp_path / "store.zarr", failed={basins[2]: "signal 11"})
    with pytest.raises(DataError, match=rf"basin {basins[2]}: Shyft failed on it.*\(signal 11\)"):
        prepare(small_spec(**SHYFT), store)
    others = [b for b in basins if b != basins[2]]
    prepare(small_spec(**SHYFT, data__basins=others), store)


def test_store_without_the_series_names_the_command(synthetic_store: Path) -> None:
    with pytest.raises(InputError, match="`shyft_discharge`; add Shyft's series with `study shyft"):
        prepare(small_spec(**SHYFT), synthetic_store)
