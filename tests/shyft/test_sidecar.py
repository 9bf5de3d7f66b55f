"""The real Shyft on synthetic basins, as its own process."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import numpy as np
import pytest

from study.data.features import SHYFT_FEATURES
from study.data.store import open_store
from study.errors import InputError
from study.shyft.calibration import (
    BasinData,
    BasinFeatures,
    Plan,
    convert,
    simulate_basin,
    simulate_with,
)
from study.shyft.forcing import NEEDED, shyft_forcing
from study.shyft.process import PYTHON_VARIABLE, SidecarError, find_python, run_sidecar
from study.shyft.stacks import STACKS, find_stack

TRAIN = (1461, 2557)  # water years 1985 to 1987, of 1981 to 1988
PLAN = Plan(train_days=TRAIN, starts=2, draws=4, evaluations=40)


@pytest.fixture(scope="module")
def basin(synthetic_store: Path) -> BasinData:
    """The snowiest of the synthetic basins; its discharge is known on training days only."""
    store = open_store(synthetic_store)
    chosen = store.isel(basin=int(np.argmax(store["frac_snow"].values)))
    qobs = chosen["qobs"].values.astype(np.float64)
    qobs[: TRAIN[0]] = qobs[TRAIN[1] :] = np.nan
    return BasinData(
        gauge_id=str(chosen["basin"].values),
        area=float(chosen["area"]),
        elevation=float(chosen["elev_mean"]),
        first_day=chosen["time"].values[0].astype("datetime64[D]").item(),
        forcing={name: chosen[name].values for name in NEEDED},
        qobs=qobs,
    )


@pytest.fixture(scope="module")
def features(python: str, basin: BasinData) -> BasinFeatures:
    return simulate_basin(python, basin, PLAN)


def test_features_are_whole(features: BasinFeatures, basin: BasinData) -> None:
    assert set(features.series) == set(SHYFT_FEATURES), features.log
    for series in features.series.values():
        assert series.shape == basin.qobs.shape and np.isfinite(series).all()
    assert features.series["shyft_sca"].min() >= 0 and features.series["shyft_sca"].max() <= 1
    assert features.series["shyft_swe"].max() > 50
    assert features.series["shyft_discharge"].min() >= 0


def test_calibration_beats_the_mean_flow_and_every_start(features: BasinFeatures) -> None:
    assert features.scores["nse_calibration"] > 0.3
    full = features.log["calibrations"]["full"]
    assert len(full["starts"]) == PLAN.starts
    assert full["goal"] == max(start["goal"] for start in full["starts"])
    # Shyft's own goal is the score that is reported.
    assert full["goal"] == pytest.approx(features.scores["nse_calibration"], abs=1e-3)
    for name, (low, high) in find_stack(PLAN.stack).bounds.items():
        assert low <= features.parameters[name] <= high, name


def test_the_same_twice(python: str, basin: BasinData, features: BasinFeatures) -> None:
    again = simulate_basin(python, basin, PLAN)
    assert again.parameters == features.parameters != {}
    for name, series in features.series.items():
        assert np.array_equal(series, again.series[name]), name


def test_training_days_are_cross_fitted(
    python: str, basin: BasinData, features: BasinFeatures
) -> None:
    """Each half's discharge changes the other half and the days outside, never its own."""
    middle = sum(TRAIN) // 2
    qobs = basin.qobs.copy()
    qobs[TRAIN[0] : middle] = qobs[TRAIN[0] : middle][::-1]
    changed = simulate_basin(python, dataclasses.replace(basin, qobs=qobs), PLAN)
    before, after = (f.series["shyft_discharge"] for f in (features, changed))
    early, late = slice(TRAIN[0], middle), slice(middle, TRAIN[1])
    assert np.array_equal(before[early], after[early])
    assert not np.array_equal(before[late], after[late])
    assert not np.array_equal(before[TRAIN[1] :], after[TRAIN[1] :])


def test_without_cross_fitting_all_days_have_one_calibration(
    python: str, basin: BasinData, features: BasinFeatures
) -> None:
    plain = simulate_basin(python, basin, dataclasses.replace(PLAN, crossfit=False))
    outside = slice(TRAIN[1], None)
    name = "shyft_discharge"
    assert np.array_equal(plain.series[name][outside], features.series[name][outside])
    assert not np.array_equal(plain.series[name], features.series[name])
    assert "nse_crossfit" not in plain.scores


def test_no_day_looks_ahead(python: str, basin: BasinData, features: BasinFeatures) -> None:
    """A record that ends earlier gives the same series up to its end."""
    end = TRAIN[1] + 100
    short = dataclasses.replace(
        basin,
        forcing={name: series[:end] for name, series in basin.forcing.items()},
        qobs=basin.qobs[:end],
    )
    cut = simulate_with(python, short, PLAN, features.parameters)
    whole = simulate_with(python, basin, PLAN, features.parameters)
    for name, series in cut.series.items():
        assert np.array_equal(series, whole.series[name][:end]), name


@pytest.mark.parametrize("stack", STACKS)
def test_water_is_neither_made_nor_lost(python: str, basin: BasinData, stack: str) -> None:
    """|P - Q - AET - dS| of every stack: a Kirchner store's S follows from its discharge.

    dS = dQ / g(Q) with ln g = c1 + c2 ln Q + c3 (ln Q)^2 (Kirchner 2009,
    doi 10.1029/2008WR006912), Q in mm/h; HBV's are its soil and tanks.
    """
    chosen = find_stack(stack)
    if stack.endswith("_k"):
        places = {"q": "sc.kirchner_discharge"}
    else:
        places = {"soil": "sc.soil_sm", "upper": "sc.tank_uz", "lower": "sc.tank_lz"}
    request = {
        "stack": stack, "area": basin.area, "first_day_seconds": 0, "goal": "nse", "bounds": {},
        "series": {**chosen.series, **places}, "warmup": 0, "calibrate": {},
        "parameters": {"defaults": {}},
        "simulate": {"defaults": {"days": (0, len(basin.qobs)), "parameters": "defaults"}},
    }  # fmt: skip
    arrays = shyft_forcing(basin.forcing)
    given = {**arrays, "qobs": basin.qobs, "elevation": np.array(basin.elevation)}
    series = run_sidecar(python, request, given).series["defaults"]
    days = slice(400, len(basin.qobs))
    ours = convert(series, basin.area, (0, len(basin.qobs)))
    rain = 24.0 * arrays["precipitation"][days].sum()
    snow_change = np.ptp(ours["shyft_swe"][[days.start - 1, -1]])
    snow_change *= np.sign(ours["shyft_swe"][-1] - ours["shyft_swe"][days.start - 1])
    assert rain - ours["shyft_outflow"][days].sum() == pytest.approx(snow_change, abs=0.01 * rain)
    stored = _stored(series, basin.area)
    through_the_ground = ours["shyft_storage"][-1] - ours["shyft_storage"][days.start - 1]
    change = stored[-1] - stored[days.start - 1]
    assert through_the_ground == pytest.approx(change, abs=0.01 * rain)


def _stored(series: dict[str, np.ndarray], area: float) -> np.ndarray:
    """Water below the snow at the end of each day, mm."""
    if "q" not in series:
        return series["soil"] + series["upper"] + series["lower"]
    q = series["q"] * 3600.0 * 1000.0 / area
    c1, c2, c3 = -2.439, 0.966, -0.1  # Shyft's defaults
    x = np.linspace(np.log(q.min()), np.log(q.max()), 20_001)
    rate = np.exp(x - c1 - c2 * x - c3 * x**2)
    steps = 0.5 * (rate[1:] + rate[:-1]) * np.diff(x)
    return np.interp(np.log(q), x, np.concatenate([[0.0], np.cumsum(steps)]))


def test_a_failure_of_shyft_is_this_basins(python: str, basin: BasinData) -> None:
    """It is told with the log, and raises nothing."""
    found = simulate_with(python, basin, PLAN, {"no.such.parameter": 1.0})
    assert found.series == {}
    assert "no.such.parameter" in found.log["error"]


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_crash_is_a_failure_with_its_signal_and_log(tmp_path: Path) -> None:
    python = script(tmp_path, "echo about to crash; kill -SEGV $$")
    with pytest.raises(SidecarError, match="signal 11: about to crash"):
        run_sidecar(python, {}, {})


def test_missing_environment_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere.*make shyft"):
        find_python()


def test_broken_environment_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, script(tmp_path, "echo No module named shyft >&2; exit 1"))
    with pytest.raises(InputError, match=r"No module named shyft.*make shyft"):
        find_python()
