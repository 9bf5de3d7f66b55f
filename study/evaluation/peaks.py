"""Prominent flood peaks of many basins at once, and how far a simulation's peaks lie from them.

Arrays of flows are [series, day]; tables of peaks are [series, peak], with `NO_PEAK` filling the
rows of series that have fewer peaks than others.
"""

import numpy as np
from numpy.typing import NDArray

Flows = NDArray[np.float64]
Days = NDArray[np.intp]
Mask = NDArray[np.bool_]

MIN_DISTANCE = 100
"""Days between two peaks, at the least: one flood is counted once."""

WINDOW = 3
"""Days before and after an observed peak in which the simulated one is looked for."""

NO_PEAK = -1


def prominent_peaks(flow: Flows, prominence: Flows) -> Days:
    """Find the peaks of each series that rise clearly and stand well apart.

    1. A peak is a day above the day before and not below the day after.
    2. It counts when the flow falls by `prominence` on both sides before it exceeds the peak.
       Gaps are passed over; beyond the ends of the series nothing is known to fall.
    3. Of peaks less than `MIN_DISTANCE` days apart only the highest is kept (the first of
       equals), starting from the highest of the series.
    4. Peaks with a missing day, or an end of the series, within `WINDOW` days are left out.

    Args:
        flow: [series, day], NaN where missing.
        prominence: [series], the fall that is asked for.

    Returns:
        Table of days, the highest peak first.
    """
    before, day_of, after = flow[:, :-2], flow[:, 1:-1], flow[:, 2:]
    # No fall reaches below the lowest flow, which rules out most local maxima at once.
    high_enough = day_of >= (np.fmin.reduce(flow, axis=1) + prominence)[:, np.newaxis]
    series, day = np.nonzero((day_of > before) & (day_of >= after) & high_enough)
    day += 1
    for direction in (-1, 1):
        falls = _falls_enough(flow, series, day, prominence[series], direction)
        series, day = series[falls], day[falls]
    peaks = _keep_apart(*_tabulate(flow, series, day))
    around, inside = _around(peaks, flow.shape[1])
    observed = ~np.isnan(_pick(flow, around))
    return np.where((inside & observed).all(axis=-1), peaks, NO_PEAK)


def absolute_lags(sim: Flows, peaks: Days) -> Flows:
    """Return the days between each observed peak and the simulated one; NaN for `NO_PEAK`.

    The lag is zero where the simulation, too, is higher than on the days before and after.
    Elsewhere the simulated peak is the highest flow within `WINDOW` days.

    Args:
        sim: [series, day].
        peaks: Table of observed peaks, as found by `prominent_peaks`.
    """
    around, _ = _around(peaks, sim.shape[1])
    nearby = _pick(sim, around)
    before, same, after = (nearby[..., WINDOW + shift] for shift in (-1, 0, 1))
    highest = np.abs(nearby.argmax(axis=-1) - WINDOW)
    lags = np.where((same > before) & (same > after), 0, highest)
    return np.where(peaks == NO_PEAK, np.nan, lags)


def _falls_enough(flow: Flows, series: Days, day: Days, fall: Flows, direction: int) -> Mask:
    """Walk from all peaks at once, a day a step; most are decided within a few steps."""
    top = flow[series, day]
    floor = top - fall
    # An infinite flow on either side ends every walk at the ends of the series.
    fenced = np.pad(flow, ((0, 0), (1, 1)), constant_values=np.inf)
    at = np.ravel_multi_index((series, day + 1), fenced.shape)
    found = np.zeros(day.shape, dtype=bool)
    walking = np.arange(day.size)
    while walking.size:
        at = at + direction
        now = fenced.ravel()[at]
        fell = now <= floor
        found[walking[fell]] = True
        goes_on = ~(fell | (now > top))  # also over NaN
        walking, at = walking[goes_on], at[goes_on]
        top, floor = top[goes_on], floor[goes_on]
    return found


def _tabulate(flow: Flows, series: Days, day: Days) -> tuple[Flows, Days]:
    """Turn a list of peaks, ordered by series, into tables of heights and days."""
    counts = np.bincount(series, minlength=len(flow))
    column = np.arange(series.size) - (np.cumsum(counts) - counts)[series]
    shape = (len(flow), counts.max(initial=0))
    heights, days = np.full(shape, -np.inf), np.full(shape, NO_PEAK)
    heights[series, column] = flow[series, day]
    days[series, column] = day
    return heights, days


def _keep_apart(heights: Flows, days: Days) -> Days:
    """Take the highest peak of every series, drop its neighbours, and again until none is left."""
    kept = []
    while (heights > -np.inf).any():
        highest = heights.argmax(axis=1)[:, np.newaxis]
        taken = np.take_along_axis(days, highest, axis=1)
        left = np.take_along_axis(heights, highest, axis=1) > -np.inf
        kept.append(np.where(left, taken, NO_PEAK))
        heights = np.where(np.abs(days - taken) < MIN_DISTANCE, -np.inf, heights)
    return np.hstack(kept) if kept else days[:, :0]


def _around(peaks: Days, num_days: int) -> tuple[Days, Mask]:
    """Return the days within `WINDOW` of each peak, moved inside the series, and which were."""
    days = peaks[..., np.newaxis] + np.arange(-WINDOW, WINDOW + 1)
    inside = (days >= 0) & (days < num_days)
    return days.clip(0, num_days - 1), inside


def _pick(flow: Flows, days: Days) -> Flows:
    """Return the flow [series, peak, offset] on the days [series, peak, offset]."""
    return flow[np.arange(len(flow))[:, np.newaxis, np.newaxis], days]
