"""The record as it is published: true weather and water, seen through imperfect gauges."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.data.synthetic.basins import Basins, FloatArray, Purpose, draw_basins, stream
from study.data.synthetic.hydrology import RunoffParameters, WaterBalance, run_hydrology
from study.data.synthetic.weather import (
    SECONDS_PER_DAY,
    BoolArray,
    IntArray,
    Weather,
    make_weather,
    water_years,
)

FIRST_DAY = "1980-10-01"
M3_PER_CUBIC_FOOT = 0.028316846592


@dataclass(frozen=True, kw_only=True)
class GaugeErrors:
    """How far measurements are from the truth."""

    snow_catch: float = 0.7
    """mean share of the snowfall that precipitation gauges catch"""
    winter_spread: float = 0.35
    """standard deviation of the logarithm of a winter's catch"""
    storm_spread: float = 0.2
    """standard deviation of the logarithm of a storm's catch"""
    discharge_spread: float = 0.03
    """standard deviation of the logarithm of a day's discharge"""
    gap_share: float = 0.03
    """share of days without discharge, where a basin has gaps at all"""
    gap_days: tuple[int, int] = (5, 60)
    """shortest and longest gap, d"""
    complete_every: int = 3
    """the first of so many basins has no gap"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """All series of a data set; arrays have shape (day, basin)."""

    basins: Basins
    dates: pd.DatetimeIndex
    weather: Weather
    """what truly happened"""
    truth: WaterBalance
    """where the water truly went"""
    precipitation: FloatArray
    """as published: too little snow, by a share that nobody knows, mm/d"""
    discharge_cfs: FloatArray
    """as published, but without gaps, ft3/s"""
    gap: BoolArray
    """days without discharge"""

    @property
    def discharge(self) -> FloatArray:
        """Published discharge without its gaps, mm/d."""
        return self.discharge_cfs / _cfs_per_mm(self.basins)


def make_record(basins: int, years: int, seed: int, errors: GaugeErrors | None = None) -> Record:
    """Draw basins, let it rain, and measure.

    Args:
        basins: Number of basins.
        years: Number of water years, the first beginning on 1980-10-01.
        seed: Seed of the whole data set.
        errors: How far measurements are from the truth; None takes the defaults.
    """
    e = errors or GaugeErrors()
    drawn = draw_basins(basins, seed)
    last_day = f"{1980 + years}-09-30"
    dates = pd.date_range(FIRST_DAY, last_day, freq="D")
    weather = make_weather(drawn, dates, seed)
    day_of_year = np.asarray(dates.day_of_year, dtype=np.float64)
    truth = run_hydrology(weather, day_of_year, RunoffParameters.of(drawn.landscape))
    streams = [stream(seed, basin, Purpose.GAUGE) for basin in range(basins)]
    noise = np.stack([rng.standard_normal(len(dates)) for rng in streams], axis=1)
    discharge = truth.discharge * np.exp(e.discharge_spread * noise)
    gaps = [
        _draw_gaps(len(dates), rng, e) if basin % e.complete_every else np.zeros(len(dates), bool)
        for basin, rng in enumerate(streams)
    ]
    return Record(
        basins=drawn,
        dates=dates,
        weather=weather,
        truth=truth,
        precipitation=_measure_precipitation(weather, water_years(dates), seed, e),
        discharge_cfs=round_discharge(discharge * _cfs_per_mm(drawn)),
        gap=np.stack(gaps, axis=1),
    )


def round_discharge(cfs: FloatArray) -> FloatArray:
    """Round ft3/s as the USGS does: hundredths below 1, tenths below 10, then three digits.

    Between 10 and 100 the published series hold whole numbers.
    """
    magnitude = np.floor(np.log10(np.maximum(cfs, 0.01)))
    exponent = np.where(cfs < 100.0, np.clip(magnitude, -1.0, 1.0) - 1.0, magnitude - 2.0)
    step = 10.0**exponent
    rounded: FloatArray = np.round(cfs / step) * step
    return rounded


def shuffle_winters(record: Record, seed: int) -> FloatArray:
    """Return true SWE with the water years of each basin in another order, none in its place.

    Every value is plausible for its day of the year and says nothing about that year's snow.

    Args:
        record: The data set.
        seed: Seed of the whole data set.

    Returns:
        SWE in mm, shape (day, basin).
    """
    year = water_years(record.dates)
    first_day = np.searchsorted(year, np.arange(year[-1] + 1))
    length = np.bincount(year)
    day = np.arange(len(year)) - first_day[year]
    shuffled = np.empty_like(record.truth.swe)
    for basin in range(shuffled.shape[1]):
        source = _derangement(len(length), stream(seed, basin, Purpose.WINTERS))[year]
        # A leap year that takes a common year's winter repeats its 30 September.
        source_day = first_day[source] + np.minimum(day, length[source] - 1)
        shuffled[:, basin] = record.truth.swe[source_day, basin]
    return shuffled


def _measure_precipitation(
    weather: Weather, water_year: IntArray, seed: int, e: GaugeErrors
) -> FloatArray:
    days, basins = weather.precipitation.shape
    years = int(water_year[-1]) + 1
    streams = [stream(seed, basin, Purpose.CATCH) for basin in range(basins)]
    winter = np.stack([rng.standard_normal(years) for rng in streams], axis=1)[water_year]
    storms = np.stack([rng.standard_normal(days) for rng in streams], axis=1)
    storm = np.take_along_axis(storms, np.maximum(weather.storm - 1, 0), axis=0)
    mean = e.snow_catch * np.exp(-0.5 * (e.winter_spread**2 + e.storm_spread**2))
    catch = mean * np.exp(e.winter_spread * winter + e.storm_spread * storm)
    caught: FloatArray = weather.snowfall * np.minimum(catch, 1.0)
    return weather.precipitation - weather.snowfall + caught


def _draw_gaps(days: int, rng: np.random.Generator, e: GaugeErrors) -> BoolArray:
    shortest, longest = e.gap_days
    gap = np.zeros(days, dtype=np.bool_)
    while gap.mean() < e.gap_share:
        begin = int(rng.integers(days))
        gap[begin : begin + int(rng.integers(shortest, longest + 1))] = True
    return gap


def _derangement(count: int, rng: np.random.Generator) -> IntArray:
    """Return a random order of `count` things that leaves none in its place."""
    in_place = np.arange(count)
    order = rng.permutation(count)
    while (order == in_place).any():
        order = rng.permutation(count)
    return order


def _cfs_per_mm(basins: Basins) -> FloatArray:
    """Return the discharge in ft3/s that is 1 mm/d over each basin."""
    m3_per_s = areas_m2(basins) / 1000.0 / SECONDS_PER_DAY
    return m3_per_s / M3_PER_CUBIC_FOOT


def areas_m2(basins: Basins) -> FloatArray:
    """Return the catchment areas as the forcing files state them: whole m2."""
    return np.round(basins.landscape.area_gages2 * 1e6)
