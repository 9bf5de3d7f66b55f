"""A basin's daily forcing as Shyft takes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HOURS_A_DAY = 24.0
SECONDS_A_DAY = 86_400.0
WIND_SPEED = 2.0
"""m/s, everywhere and always: CAMELS has no wind."""
LEAST_HUMIDITY = 0.05

NEEDED = ("prcp", "srad", "dayl", "tmax", "tmin", "vp")


def shyft_forcing(forcing: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert units and means.

    Args:
        forcing: (day,) series by name in `NEEDED`: prcp mm/d, srad W/m2 as a mean over the
            daylight hours, dayl s, tmax and tmin degC, vp Pa.

    Returns:
        (day,) float64 series: `temperature` degC, `precipitation` mm/h, `radiation` W/m2 as a mean
        over the whole day, `rel_hum` as a share, `wind_speed` m/s.
    """
    f = {name: np.asarray(forcing[name], np.float64) for name in NEEDED}
    temperature = 0.5 * (f["tmax"] + f["tmin"])
    return {
        "temperature": temperature,
        "precipitation": f["prcp"] / HOURS_A_DAY,
        "radiation": f["srad"] * f["dayl"] / SECONDS_A_DAY,
        "rel_hum": np.clip(f["vp"] / saturation_pressure(temperature), LEAST_HUMIDITY, 1.0),
        "wind_speed": np.full_like(temperature, WIND_SPEED),
    }


def saturation_pressure(temperature: np.ndarray) -> np.ndarray:
    """Pa over water at a temperature in degC.

    Bolton (1980), doi 10.1175/1520-0493(1980)108<1046:TCOEPT>2.0.CO;2, eq. 10.
    """
    return np.asarray(611.2 * np.exp(17.67 * temperature / (temperature + 243.5)))
