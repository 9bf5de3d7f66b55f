"""A store turned into a study's arrays: the common mask, scaling on training days, no peeking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from added import add_by_hand
from small import small_content

from study.data.arrays import StudyArrays, assemble
from study.data.climate import CLIMATE_ATTRIBUTES
from study.data.features import Inputs, union
from study.data.scaling import fit_scaler, stack_scaled, subset
from study.data.store import open_store
from study.errors import DataError, SpecError
from study.spec import StudySpec, parse_spec

INPUTS = Inputs(dynamic=("prcp", "tmax", "srad", "swe"), static=("p_mean", "frac_snow"))
FIRST = np.datetime64("1980-10-01")


def spec_of(**changes: Any) -> StudySpec:
    return parse_spec(small_content(**changes), "test")


@pytest.fixture
def store(synthetic_store: Path) -> xr.Dataset:
    """In memory, free to be changed; snow without gaps."""
    dataset = open_store(synthetic_store).load().copy(deep=True)
    dataset["swe"] = dataset["swe"].fillna(0.0)
    return dataset


def same(a: StudyArrays, b: StudyArrays) -> bool:
    """Scaler, attributes and training data, to the bit."""
    train = a.periods["train"]
    return (
        a.scaler == b.scaler
        and np.array_equal(a.qobs_std, b.qobs_std)
        and np.array_equal(a.static, b.static)
        and np.array_equal(a.dynamic[:, train], b.dynamic[:, train])
        and np.array_equal(a.qobs[:, train], b.qobs[:, train], equal_nan=True)
    )


def test_values_are_the_stores_standardised(store: xr.Dataset) -> None:
    arrays = assemble(store, spec_of(), INPUTS)
    days = pd.date_range("1981-09-11", spec_of().data.periods.test.end)  # 20 days of warm-up
    assert str(arrays.first_day) == "1981-09-11"
    assert arrays.dynamic.shape == (6, len(days), 4)
    for i, name in enumerate(INPUTS.dynamic):
        own = store[name].sel(time=days).values
        train = own[:, arrays.periods["train"]].astype(np.float64)
        wanted = (own - train.mean()) / train.std()
        np.testing.assert_allclose(arrays.dynamic[..., i], wanted, rtol=1e-4, atol=1e-5)
    for period, span in spec_of().data.periods:
        if period != "test":
            own = store["qobs"].sel(time=slice(str(span.start), str(span.end))).values
            np.testing.assert_array_equal(arrays.observed(period), own)
            assert len(arrays.days(period)) == own.shape[1]
            assert str(arrays.days(period)[0].date()) == str(span.start)


def test_test_discharge_is_not_there_unless_asked_for(store: xr.Dataset) -> None:
    spec = spec_of()
    arrays = assemble(store, spec, INPUTS)
    assert set(arrays.periods) == {"train", "validation"}
    assert str(arrays.days("validation")[-1].date()) == "1985-09-30"
    assert np.isnan(arrays.qobs[:, arrays.periods["validation"].stop :]).all()
    read = assemble(store, spec, INPUTS, read_test=True)
    assert np.isfinite(read.observed("test")).any()
    assert same(arrays, read)


def test_test_discharge_between_the_other_periods_stays_out(store: xr.Dataset) -> None:
    """A test period that lies between training and validation is on the calendar, unread."""
    periods = {
        "train": "1981-10-01:1983-09-30",
        "test": "1983-10-01:1985-09-30",
        "validation": "1985-10-01:1987-09-30",
    }
    arrays = assemble(store, spec_of(data__periods=periods), INPUTS)
    between = slice(arrays.periods["train"].stop, arrays.periods["validation"].start)
    assert np.isnan(arrays.qobs[:, between]).all()
    assert np.isnan(arrays.qobs[:, : arrays.periods["train"].start]).all()


@pytest.mark.parametrize("source", ["published", "recomputed"])
def test_only_training_days_reach_the_scaler(store: xr.Dataset, source: str) -> None:
    """Everything else corrupted: scaler, training data and attributes stay the same to the bit.
    The store's own warm-up before training is an input of training, and is left as it is."""
    spec = spec_of(data__attributes_source=source)
    before = assemble(store, spec, INPUTS)
    rng = np.random.default_rng(0)
    days = store["time"].values
    held_out = (days < np.datetime64("1981-09-11")) | (days > np.datetime64("1983-09-30"))
    for name in ("prcp", "tmax", "tmin", "srad", "vp", "dayl", "swe", "qobs"):
        noise = rng.uniform(1, 1000, (6, int(held_out.sum()))).astype(np.float32)
        store[name].values[:, held_out] = noise
    after = assemble(store, spec, INPUTS)
    assert same(before, after)
    assert not np.array_equal(before.dynamic, after.dynamic), "nothing was corrupted"
    store["prcp"].values[:, days == np.datetime64("1982-03-03")] += 1
    assert not same(before, assemble(store, spec, INPUTS)), "the comparison notices nothing"


def test_recomputed_attributes_replace_the_climate_only(store: xr.Dataset) -> None:
    inputs = Inputs(dynamic=("prcp",), static=(*CLIMATE_ATTRIBUTES, "area_gages2"))
    published = assemble(store, spec_of(), inputs).attributes
    recomputed = assemble(store, spec_of(data__attributes_source="recomputed"), inputs).attributes
    for name in CLIMATE_ATTRIBUTES:
        assert not np.array_equal(published[name], recomputed[name])
    np.testing.assert_array_equal(published["area_gages2"], recomputed["area_gages2"])
    train = store["prcp"].sel(time=slice("1981-10-01", "1983-09-30")).values
    np.testing.assert_allclose(recomputed["p_mean"], train.mean(axis=1), rtol=1e-5)


def test_a_missing_input_says_where(store: xr.Dataset) -> None:
    day = int((np.datetime64("1983-09-25") - FIRST).astype(int))  # warm-up of validation
    store["swe"].values[3, day : day + 4] = np.nan
    with pytest.raises(DataError) as caught:
        assemble(store, spec_of(), INPUTS)
    for words in (str(store["basin"].values[3]), "`swe`", "1983-09-25", "missing_inputs: mask"):
        assert words in str(caught.value)


def test_masked_days_are_those_a_gap_spoils_in_any_input(store: xr.Dataset) -> None:
    """By brute force over random gaps: a day is scored if all inputs of all arms are there on it
    and on every warm-up day before; all others of all arms lose their target alike."""
    rng = np.random.default_rng(3)
    spec = spec_of(data__missing_inputs="mask", training__warmup=5)
    for name in INPUTS.dynamic:
        store[name].values[rng.random(store[name].shape) < 0.01] = np.nan
    store["qobs"].values[rng.random(store["qobs"].shape) < 0.05] = np.nan
    arrays = assemble(store, spec, INPUTS, read_test=True)
    values = {n: store[n].values for n in (*INPUTS.dynamic, "qobs")}
    offset = int((np.datetime64(arrays.first_day) - FIRST).astype(int))
    lost = 0
    for span in arrays.periods.values():
        for basin in range(6):
            for day in range(span.start, span.stop):
                at = day + offset
                fed = [values[n][basin, at - 5 : at + 1] for n in INPUTS.dynamic]
                target = values["qobs"][basin, at]
                if np.isfinite(fed).all() and np.isfinite(target):
                    assert arrays.qobs[basin, day] == target
                else:
                    assert np.isnan(arrays.qobs[basin, day])
                    lost += 1
    assert lost > 1000
    assert np.isfinite(arrays.dynamic).all()


def test_an_empty_test_period_is_no_error(store: xr.Dataset) -> None:
    """As in an archive that withholds it; a study then reports validation."""
    store["qobs"].loc[{"time": slice("1985-10-01", None)}] = np.nan
    arrays = assemble(store, spec_of(), INPUTS, read_test=True)
    assert np.isnan(arrays.observed("test")).all()


def test_basins_without_training_or_validation_are_refused(store: xr.Dataset) -> None:
    empty = store.copy(deep=True)
    empty["qobs"].loc[{"time": slice("1983-10-01", "1985-09-30")}] = np.nan
    with pytest.raises(DataError, match="validation"):
        assemble(empty, spec_of(), INPUTS)
    store["qobs"].values[2] = np.nan
    with pytest.raises(DataError, match=str(store["basin"].values[2])):
        assemble(store, spec_of(), INPUTS)


def test_basins_come_in_the_order_of_the_spec(store: xr.Dataset) -> None:
    ids = [str(b) for b in store["basin"].values[[4, 1]]]
    arrays = assemble(store, spec_of(data__basins=ids), INPUTS)
    assert list(arrays.basins) == ids
    np.testing.assert_array_equal(
        arrays.attributes["p_mean"], store["p_mean"].sel(basin=ids).values
    )


def test_an_older_store_says_how_to_get_simulated_snow(store: xr.Dataset) -> None:
    inputs = Inputs(dynamic=("prcp", "swe_simulated"), static=())
    assemble(store, spec_of(), inputs)
    with pytest.raises(DataError, match="study data build"):
        assemble(store.drop_vars("swe_simulated"), spec_of(), inputs)


def test_union_keeps_the_order_of_first_appearance() -> None:
    a, b = Inputs(dynamic=("x", "y"), static=()), Inputs(dynamic=("z", "x"), static=("s",))
    assert union([a, b]) == Inputs(dynamic=("x", "y", "z"), static=("s",))


def test_union_keeps_the_baseline_that_any_arm_corrects() -> None:
    plain = Inputs(dynamic=("x",), static=())
    residual = Inputs(dynamic=("x",), static=(), baseline="q")
    assert union([plain, residual]).baseline == "q" and union([plain]).baseline is None
    assert residual.daily == ("x", "q") and plain.daily == ("x",)


def test_baseline_is_scaled_as_discharge_and_its_gaps_are_everybodys(
    synthetic_store: Path, tmp_path: Path
) -> None:
    dataset = open_store(add_by_hand(synthetic_store, tmp_path / "store.zarr")).load()
    dataset["swe"] = dataset["swe"].fillna(0.0)
    inputs = Inputs(**{**vars(INPUTS), "baseline": "shyft_discharge"})
    spec = spec_of(data__missing_inputs="mask")
    whole = assemble(dataset, spec, inputs)
    days = pd.date_range(whole.first_day, periods=whole.qobs.shape[1])
    assert whole.baseline is not None
    back = whole.baseline * whole.scaler.qobs_std + whole.scaler.qobs_mean
    wanted = dataset["shyft_discharge"].sel(time=days).values
    np.testing.assert_allclose(back, wanted, rtol=1e-4, atol=1e-5)
    assert "shyft_discharge" not in whole.scaler.means  # it is no input
    dataset["shyft_discharge"].values[0, 500] = np.nan
    gap = assemble(dataset, spec, inputs)
    lost = np.isfinite(whole.qobs) & ~np.isfinite(gap.qobs)
    at = 500 - int((days[0] - dataset.indexes["time"][0]).days)
    assert set(np.flatnonzero(lost.any(axis=0))) == set(range(at, at + spec.training.warmup + 1))
    assert np.isfinite(gap.baseline).all()


# Held-out basins


def test_held_out_discharge_is_read_for_test_scores_only(store: xr.Dataset) -> None:
    ids = [str(b) for b in store["basin"].values]
    spec = spec_of(data__held_out=ids[:2])
    arrays = assemble(store, spec, INPUTS, read_test=True)
    for name, span in arrays.periods.items():
        there = np.isfinite(arrays.qobs[:, span]).any(axis=1)
        assert there.tolist() == [(name == "test") == (b in ids[:2]) for b in ids], name
    assert np.isnan(arrays.qobs_std[:2]).all() and np.isfinite(arrays.qobs_std[2:]).all()


def test_nothing_of_a_held_out_basin_is_learned_from(store: xr.Dataset) -> None:
    """Its discharge, forcing and attributes change; scaler and the others' data do not."""
    ids = [str(b) for b in store["basin"].values]
    spec = spec_of(data__held_out=ids[:1])
    before = assemble(store, spec, INPUTS)
    changed = store.copy(deep=True)
    for name in ("qobs", "prcp", "tmax", "swe"):
        changed[name].values[0] *= 3.0
    changed["p_mean"].values[0] *= 3.0
    after = assemble(changed, spec, INPUTS)
    assert after.scaler == before.scaler
    assert assemble(changed, spec_of(), INPUTS).scaler != assemble(store, spec_of(), INPUTS).scaler
    np.testing.assert_array_equal(after.qobs, before.qobs)
    np.testing.assert_array_equal(after.dynamic[1:], before.dynamic[1:])


def test_held_out_basin_that_is_not_there_is_named(store: xr.Dataset) -> None:
    with pytest.raises(SpecError, match=r"data\.held_out names 99999999"):
        assemble(store, spec_of(data__held_out=["99999999"]), INPUTS)
    every = [str(b) for b in store["basin"].values]
    with pytest.raises(SpecError, match="leave some to train on"):
        assemble(store, spec_of(data__held_out=every), INPUTS)


# Scaling


def test_scaler_by_hand() -> None:
    """Mean of 1, 2, 3, 6 is 3, their deviations -2, -1, 0, 3: variance 14 / 4."""
    values = np.array([[1.0, 2.0, np.nan], [3.0, 6.0, np.nan]], np.float32)
    scaler = fit_scaler({"x": values}, {"s": np.array([2.0, 4.0])}, values * 2)
    assert scaler.means == {"x": 3.0, "s": 3.0}
    assert scaler.stds == {"x": np.sqrt(3.5), "s": 1.0}
    assert (scaler.qobs_mean, scaler.qobs_std) == (6.0, 2 * np.sqrt(3.5))
    stacked = stack_scaled({"x": values}, scaler, 2, 3)
    assert stacked.shape == (2, 3, 1) and stacked.dtype == np.float32
    assert stacked[:, 2, 0].tolist() == [0, 0], "a gap is the mean"
    back = scaler.unscale_qsim(scaler.scale_qobs(np.array([0.0, 5.0])))
    np.testing.assert_allclose(back, [0.0, 5.0], atol=1e-12)
    assert scaler.unscale_qsim(np.array([-99.0])) == 0, "no negative flow"
    assert set(subset(scaler, ["s"]).means) == {"s"}


def test_an_input_that_never_varies_is_refused() -> None:
    flat, varied = np.full((2, 5), 3.0), np.arange(10.0).reshape(2, 5)
    for dynamic, static in (({"x": flat}, {}), ({"x": varied}, {"s": np.array([1.0, 1.0])})):
        with pytest.raises(DataError, match="the same"):
            fit_scaler(dynamic, static, varied)


def test_the_test_periods_inputs_are_asked_for_before_training(store: xr.Dataset) -> None:
    """A gap there must not come to light after days of training."""
    test = spec_of().data.periods.test
    assert test is not None
    broken = store.copy(deep=True).load()
    broken["tmax"].loc[{"time": str(test.end)}] = np.nan
    with pytest.raises(DataError, match=f"`tmax` is missing on {test.end}, which the test period"):
        assemble(broken, spec_of(), INPUTS)
    beyond = {"train": "1981-10-01:1983-09-30", "validation": "1983-10-01:1985-09-30",
              "test": "1985-10-01:2020-09-30"}  # fmt: skip
    with pytest.raises(DataError, match="test"):
        assemble(store, spec_of(data__periods=beyond), INPUTS)
