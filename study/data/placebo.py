"""Placebos: inputs of other water years, which have the season of a basin and no information.

A network may gain by an input because it tells of the days that are simulated, or only because it
is one more number with the right season. Fed with another year's values, it gains by the latter
alone; the idea is that of permutation importance (Breiman 2001, doi 10.1023/A:1010933404324).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from study.data.features import source_of
from study.data.levels import placebos_in, water_years
from study.errors import DataError
from study.seeding import generator

FEWEST_YEARS = 2


def with_placebos(store: xr.Dataset, names: Sequence[str], seed: int) -> xr.Dataset:
    """A store to which the placebos among these inputs are added.

    Args:
        store: With all of its days, so that there are many years to take from.
        names: Of inputs; `placebo(swe)` is made of `swe`.
        seed: Other seeds, other years.

    Raises:
        DataError: A basin has fewer than two water years without a gap.
    """
    missing = [name for name in placebos_in(names) if name not in store]
    if not missing:
        return store
    sources = {name: np.asarray(store[source_of(name)].values) for name in missing}
    days = store["time"].values.astype("datetime64[D]")
    years, positions = water_years(days), _positions(days)
    rows = {
        str(basin): _other_days(
            [values[row] for values in sources.values()], years, positions, str(basin), seed
        )
        for row, basin in enumerate(store["basin"].values)
    }
    taken = np.stack(list(rows.values()))
    return store.assign(
        {
            name: (("basin", "time"), np.take_along_axis(values, taken, axis=1),
                   store[source_of(name)].attrs)
            for name, values in sources.items()
        }
    )  # fmt: skip


def _positions(days: np.ndarray) -> np.ndarray:
    """(day,) position in the water year as if each had 366 days: 29 February has its own."""
    leap = 2000  # whose 29 February follows the October of 1999
    months = days.astype("datetime64[M]").astype(int) % 12
    day = (days - days.astype("datetime64[M]")).astype(int)
    first = np.array([f"{leap - (month >= 9)}-{month + 1:02d}-01" for month in range(12)],
                     "datetime64[D]")  # fmt: skip
    return np.asarray((first[months] - np.datetime64(f"{leap - 1}-10-01")).astype(int) + day)


def _other_days(
    series: Sequence[np.ndarray], years: np.ndarray, positions: np.ndarray, basin: str, seed: int
) -> np.ndarray:
    """(day,) for every day, the day of another water year whose values are taken."""
    complete = _complete(series, years, positions)
    if len(complete) < FEWEST_YEARS:
        raise DataError(
            f"basin {basin}: a placebo takes inputs from other water years, but only "
            f"{len(complete)} of its years (October to September) have no gap; leave the basin "
            "out, or use a store with more days"
        )
    draws = generator("placebo", seed, basin)
    order = draws.permutation(complete)
    source = dict(zip(order, np.roll(order, -1), strict=True))  # each once, none its own
    known, number = np.unique(years, return_inverse=True)
    for year in known:
        if year not in source:
            source[year] = draws.choice(complete)
    days = np.stack([_by_position(years, positions, source[year]) for year in known])
    return np.asarray(days[number, positions])


def _complete(series: Sequence[np.ndarray], years: np.ndarray, positions: np.ndarray) -> list[int]:
    """Water years that are whole and have no gap."""
    finite = np.all([np.isfinite(values) for values in series], axis=0)
    return [
        int(year)
        for year in np.unique(years)
        if finite[years == year].all() and np.unique(positions[years == year]).size >= 365
    ]


def _by_position(years: np.ndarray, positions: np.ndarray, year: int) -> np.ndarray:
    """(366,) the day of a year at each position; 28 February's where it has no 29th."""
    found = np.full(366, -1)
    of_year = np.flatnonzero(years == year)
    found[positions[of_year]] = of_year
    (absent,) = np.nonzero(found < 0)
    found[absent] = found[absent - 1]
    return found
