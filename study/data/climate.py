"""Climate attributes computed from forcing, as Addor et al. (2017), table 2, define them
(doi 10.5194/hess-21-5293-2017).

The published values span 1989–2009 and so the years that studies test on. Computed from the
training period's forcing alone, they carry nothing out of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

CLIMATE_ATTRIBUTES = (
    *("p_mean", "pet_mean", "aridity", "p_seasonality", "frac_snow"),
    *("high_prec_freq", "high_prec_dur", "low_prec_freq", "low_prec_dur"),
)
CLIMATE_FORCING = ("prcp", "srad", "tmax", "tmin", "vp", "dayl")
"""Daily series that the attributes are computed from."""

DAYS_A_YEAR = 365.25


def climate_attributes(
    forcing: Mapping[str, np.ndarray],
    days: np.ndarray,
    *,
    latitude: np.ndarray,
    elevation: np.ndarray,
) -> dict[str, np.ndarray]:
    """All climate attributes of these days.

    Args:
        forcing: Each of `CLIMATE_FORCING` -> (basin, day), in the units of a data store; a day
            that lacks one of them is left out.
        days: (day,) datetime64.
        latitude: (basin,) degrees north.
        elevation: (basin,) m.

    Returns:
        Each of `CLIMATE_ATTRIBUTES` -> (basin,): `p_mean`, `pet_mean` mm/d; `high_prec_freq`,
        `low_prec_freq` days a year with at least 5 times the mean, or less than 1 mm;
        `high_prec_dur`, `low_prec_dur` mean length of such spells in days; the others without unit.
    """
    series = {name: forcing[name].astype(np.float64) for name in CLIMATE_FORCING}
    there = np.all([np.isfinite(s) for s in series.values()], axis=0)
    prcp = np.where(there, series["prcp"], np.nan)
    tmean = np.where(there, (series["tmax"] + series["tmin"]) / 2, np.nan)
    day_of_year = (days - days.astype("datetime64[Y]")) / np.timedelta64(1, "D") + 1
    pet = priestley_taylor(series, day_of_year, latitude[:, None], elevation[:, None])
    p_mean = np.nanmean(prcp, axis=1)
    pet_mean = np.nanmean(np.where(there, pet, np.nan), axis=1)
    high = prcp >= 5 * p_mean[:, None]
    low = prcp < 1.0
    a_year = DAYS_A_YEAR / there.sum(axis=1)
    return {
        "p_mean": p_mean,
        "pet_mean": pet_mean,
        "aridity": pet_mean / p_mean,
        "p_seasonality": seasonality(prcp, tmean, day_of_year),
        "frac_snow": np.nansum(np.where(tmean < 0, prcp, 0), axis=1) / np.nansum(prcp, axis=1),
        "high_prec_freq": high.sum(axis=1) * a_year,
        "high_prec_dur": mean_spell(high),
        "low_prec_freq": low.sum(axis=1) * a_year,
        "low_prec_dur": mean_spell(low),
    }


def seasonality(prcp: np.ndarray, tmean: np.ndarray, day_of_year: np.ndarray) -> np.ndarray:
    """How much of the precipitation falls in the warm (above 0) or cold season (below 0).

    Woods (2009), doi 10.1016/j.advwatres.2009.06.011, equation 14: delta_p sgn(delta_t)
    cos(2 pi (s_p - s_t)), with amplitude and phase of sines fitted to the annual cycles by least
    squares, delta_p relative to the mean precipitation.

    Args:
        prcp: (basin, day) mm/d; NaN is left out.
        tmean: (basin, day) degC; NaN where `prcp` is.
        day_of_year: (day,) from 1 on.

    Returns:
        (basin,)
    """
    angle = 2 * np.pi * day_of_year / DAYS_A_YEAR
    waves = np.stack([np.ones_like(angle), np.sin(angle), np.cos(angle)], axis=1)
    result = np.empty(len(prcp))
    for row, (p, t) in enumerate(zip(prcp, tmean, strict=True)):
        there = np.isfinite(p)
        both = np.stack([p[there], t[there]], axis=1)
        fit = np.linalg.lstsq(waves[there], both, rcond=None)[0]
        p_wave, t_wave = fit[1:, 0] / fit[0, 0], fit[1:, 1]
        result[row] = p_wave @ t_wave / np.linalg.norm(t_wave)
    return result


def mean_spell(event: np.ndarray) -> np.ndarray:
    """Mean length of the runs of True, in days; 0 without any. (basin, day) -> (basin,)"""
    before = np.zeros_like(event)
    before[:, 1:] = event[:, :-1]
    spells = (event & ~before).sum(axis=1)
    mean: np.ndarray = event.sum(axis=1) / np.maximum(spells, 1)
    return mean


def priestley_taylor(
    forcing: Mapping[str, np.ndarray],
    day_of_year: np.ndarray,
    latitude: np.ndarray,
    elevation: np.ndarray,
) -> np.ndarray:
    """Potential evapotranspiration, mm/d: Priestley and Taylor (1972),
    doi 10.1175/1520-0493(1972)100<0081:OTAOSH>2.3.CO;2, with their coefficient of 1.26 and the
    net radiation of FAO Irrigation and Drainage Paper 56 (Allen et al. 1998), whose equation
    numbers stand at the lines. The published attribute uses a coefficient calibrated for each
    basin, which needs discharge.

    Args:
        forcing: `srad` (W/m2, mean over daylight), `dayl` (s), `tmax`, `tmin` (degC), `vp` (Pa).
        day_of_year: (day,)
        latitude: (basin, 1) degrees north.
        elevation: (basin, 1) m.

    Returns:
        (basin, day), never negative.
    """
    tmax, tmin = forcing["tmax"], forcing["tmin"]
    tmean = (tmax + tmin) / 2
    solar = forcing["srad"] * forcing["dayl"] / 1e6  # MJ/m2/d
    clear = (0.75 + 2e-5 * elevation) * extraterrestrial(day_of_year, latitude)  # (37)
    cloud = 1.35 * np.clip(solar / np.maximum(clear, 1e-6), 0.3, 1.0) - 0.35
    humidity = 0.34 - 0.14 * np.sqrt(forcing["vp"] / 1000)
    emitted = 4.903e-9 * ((tmax + 273.16) ** 4 + (tmin + 273.16) ** 4) / 2
    net = (1 - 0.23) * solar - emitted * humidity * cloud  # (38), (39), (40)
    saturation = 0.6108 * np.exp(17.27 * tmean / (tmean + 237.3))  # kPa (11)
    slope = 4098 * saturation / (tmean + 237.3) ** 2  # (13)
    pressure = 101.3 * ((293 - 0.0065 * elevation) / 293) ** 5.26  # kPa (7)
    psychrometric = 0.665e-3 * pressure  # (8)
    latent_heat = 2.501 - 0.002361 * tmean  # MJ/kg
    evaporated = 1.26 * slope / (slope + psychrometric) * net / latent_heat
    depth: np.ndarray = np.maximum(evaporated, 0.0)
    return depth


def extraterrestrial(day_of_year: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Solar radiation at the top of the atmosphere, MJ/m2/d; equations 21 to 25 of FAO-56."""
    angle = 2 * np.pi * day_of_year / 365
    phi, declination = np.radians(latitude), 0.409 * np.sin(angle - 1.39)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    height = sunset * np.sin(phi) * np.sin(declination)
    height = height + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    energy: np.ndarray = 24 * 60 / np.pi * 0.0820 * (1 + 0.033 * np.cos(angle)) * height
    return energy
