"""Snow water equivalent simulated from the forcing: no new information, only memory."""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.0
"""degC of daily mean temperature. Below it all precipitation is snow, above it snow melts: the
threshold by which Addor et al. (2017), doi 10.5194/hess-21-5293-2017, tell snow from rain."""

DEGREE_DAY_FACTOR = 3.0
"""mm of melt a day and degC above the threshold; Hock (2003), doi 10.1016/S0022-1694(03)00257-9,
collects factors of snow, most of them between 2 and 6 (table 1). The same in all basins and never
fitted, so it can carry no information from any period."""


def degree_day_swe(prcp: np.ndarray, tmax: np.ndarray, tmin: np.ndarray) -> np.ndarray:
    """Snow water equivalent of a degree-day model, from a bare ground on the first day.

    On each day the pack S (mm) gains the day's snowfall and loses its melt, as far as it lasts:
    S(t) = max(0, S(t-1) + snowfall(t) - melt(t)), where with T = (tmax + tmin) / 2 snowfall is
    prcp if T < threshold, else 0, and melt is factor * max(0, T - threshold). The recursion is
    solved at once: S is the height of the running sum of gains above its lowest point so far.
    The first winter of a record that begins within one is too low.

    Args:
        prcp: (..., day) mm/d, without gaps.
        tmax: (..., day) degC.
        tmin: (..., day) degC; equal to `tmax` where a product has daily means only.

    Returns:
        (..., day) float32 mm, at the end of each day.
    """
    tmean = (tmax.astype(np.float64) + tmin) / 2
    snowfall = np.where(tmean < THRESHOLD, prcp, 0.0)
    melt = DEGREE_DAY_FACTOR * np.maximum(tmean - THRESHOLD, 0.0)
    gained = np.cumsum(snowfall - melt, axis=-1)
    lowest = np.minimum(np.minimum.accumulate(gained, axis=-1), 0.0)
    return (gained - lowest).astype(np.float32)
