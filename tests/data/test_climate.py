"""Climate attributes and degree-day snow: by hand, by brute force, on real basins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.data.climate import (
    CLIMATE_ATTRIBUTES,
    CLIMATE_FORCING,
    climate_attributes,
    extraterrestrial,
    mean_spell,
    priestley_taylor,
    seasonality,
)
from study.data.snow import DEGREE_DAY_FACTOR, degree_day_swe
from study.data.store import build_camels_us

DAYS = np.arange(np.datetime64("1990-01-01"), np.datetime64("1994-01-01"))
DAY_OF_YEAR = (DAYS - DAYS.astype("datetime64[Y]")).astype(int) + 1.0


def weather(basins: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shape = (basins, len(DAYS))
    wave = np.sin(2 * np.pi * (DAY_OF_YEAR - 110) / 365.25)
    tmean = 6 + 12 * wave + rng.normal(0, 2, shape)
    return {
        "prcp": np.where(rng.random(shape) < 0.4, rng.exponential(6, shape), 0),
        "srad": np.clip(300 + 150 * wave + rng.normal(0, 40, shape), 30, None),
        "tmax": tmean + 5,
        "tmin": tmean - 5,
        "vp": np.full(shape, 800.0),
        "dayl": np.broadcast_to(43_200 + 9_000 * wave, shape),
    }


def attributes_of(forcing: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    places = {"latitude": np.array([45.0, 40.0]), "elevation": np.array([300.0, 900.0])}
    return climate_attributes(forcing, DAYS, **places)


def test_frequencies_and_spells_by_brute_force() -> None:
    forcing = weather()
    found = attributes_of(forcing)
    assert tuple(found) == CLIMATE_ATTRIBUTES
    for basin, prcp in enumerate(forcing["prcp"]):
        for kind, event in (("high", prcp >= 5 * prcp.mean()), ("low", prcp < 1)):
            runs = [len(r) for r in "".join("x" if e else " " for e in event).split()]
            a_year = sum(runs) / len(DAYS) * 365.25
            assert found[f"{kind}_prec_freq"][basin] == pytest.approx(a_year)
            assert found[f"{kind}_prec_dur"][basin] == pytest.approx(np.mean(runs))
        cold = (forcing["tmax"][basin] + forcing["tmin"][basin]) / 2 < 0
        assert found["frac_snow"][basin] == pytest.approx(prcp[cold].sum() / prcp.sum())
    np.testing.assert_allclose(found["aridity"], found["pet_mean"] / found["p_mean"])


def test_gaps_are_left_out() -> None:
    forcing = weather()
    whole = attributes_of(forcing)
    doubled = {n: np.concatenate([v, np.full_like(v, np.nan)], axis=1) for n, v in forcing.items()}
    later = np.arange(DAYS[-1] + 1, DAYS[-1] + 1 + len(DAYS))
    places = {"latitude": np.array([45.0, 40.0]), "elevation": np.array([300.0, 900.0])}
    with_gaps = climate_attributes(doubled, np.concatenate([DAYS, later]), **places)
    for name in CLIMATE_ATTRIBUTES:
        np.testing.assert_allclose(with_gaps[name], whole[name])


def test_spells() -> None:
    event = np.array([[1, 1, 0, 1, 0, 0, 1, 1, 1], [0] * 9, [1] * 9], bool)
    assert mean_spell(event).tolist() == [2.0, 0.0, 9.0]


@pytest.mark.parametrize(("shift", "wanted"), [(0, 0.8), (182.625, -0.8), (91.3125, 0.0)])
def test_seasonality_of_sines(shift: float, wanted: float) -> None:
    """Rain in phase with warmth counts in full, against it negative, across it not at all."""
    warmth = 10 * np.sin(2 * np.pi * DAY_OF_YEAR / 365.25)[None]
    rain = 3 * (1 + 0.8 * np.sin(2 * np.pi * (DAY_OF_YEAR - shift) / 365.25))[None]
    assert seasonality(rain, warmth, DAY_OF_YEAR)[0] == pytest.approx(wanted, abs=1e-6)


def test_radiation_at_the_top_of_the_atmosphere() -> None:
    """FAO-56, example 8: 20 degrees south, 3 September: 32.2 MJ/m2/d."""
    assert extraterrestrial(np.array([246]), np.array([-20.0]))[0] == pytest.approx(32.2, abs=0.05)


def test_evapotranspiration_by_hand() -> None:
    """25 degC, vp 2 kPa, sea level, equator at an equinox under a clear sky. Ra = 37.8 MJ/m2/d,
    Rs = 0.75 Ra = 28.4, net shortwave 21.8; net longwave 4.903e-9 * 298.16^4 *
    (0.34 - 0.14 sqrt 2) * 1 = 5.5; delta = 0.189, gamma = 0.0674 kPa/degC; 1.26 * 0.737 *
    16.3 / 2.442 = 6.2 mm."""
    solar = 0.75 * float(extraterrestrial(np.array([80]), np.array([0.0]))[0])
    forcing = {
        "srad": np.array([[solar * 1e6 / 43_200]]),
        "dayl": np.array([[43_200.0]]),
        "tmax": np.array([[25.0]]),
        "tmin": np.array([[25.0]]),
        "vp": np.array([[2000.0]]),
    }
    pet = priestley_taylor(forcing, np.array([80]), np.array([[0.0]]), np.array([[0.0]]))
    assert pet[0, 0] == pytest.approx(6.2, abs=0.1)


def test_close_to_the_published_on_real_basins(camels_root: Path | None, tmp_path: Path) -> None:
    """The published values are of another product (Daymet) and of calibrated evapotranspiration,
    so they agree in rank and size, not in digits."""
    if camels_root is None:
        pytest.skip("no real data: set CAMELS_US_ROOT (the rest is tested on invented weather)")
    store = build_camels_us(camels_root, tmp_path / "us.zarr")
    store = store.sel(time=slice("1989-10-01", "2008-12-31"))
    found = climate_attributes(
        {n: store[n].values for n in CLIMATE_FORCING},
        store["time"].values,
        latitude=store["gauge_lat"].values,
        elevation=store["elev_mean"].values,
    )
    for name in CLIMATE_ATTRIBUTES:
        least = 0.75 if name == "pet_mean" else 0.85
        assert np.corrcoef(found[name], store[name].values)[0, 1] > least, name


# Snow


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), days=st.integers(1, 400), warm=st.floats(-15, 15))
def test_snow_day_by_day(seed: int, days: int, warm: float) -> None:
    rng = np.random.default_rng(seed)
    prcp = rng.exponential(3, (2, days)).astype(np.float32)
    tmax = rng.normal(warm + 4, 6, (2, days)).astype(np.float32)
    tmin = (tmax - rng.exponential(4, (2, days))).astype(np.float32)
    found = degree_day_swe(prcp, tmax, tmin)
    for basin in range(2):
        pack = 0.0
        for day in range(days):
            t = (float(tmax[basin, day]) + float(tmin[basin, day])) / 2
            pack += float(prcp[basin, day]) if t < 0 else 0.0
            pack = max(0.0, pack - DEGREE_DAY_FACTOR * max(0.0, t))
            assert found[basin, day] == pytest.approx(pack, rel=1e-5, abs=1e-6)


def test_snow_uses_no_later_day() -> None:
    forcing = weather()
    whole = degree_day_swe(forcing["prcp"], forcing["tmax"], forcing["tmin"])
    part = [forcing[n][:, :500] for n in ("prcp", "tmax", "tmin")]
    np.testing.assert_array_equal(degree_day_swe(*part), whole[:, :500])
    assert whole.min() == 0 and whole.max() > 10
