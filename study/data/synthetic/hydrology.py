"""Snow, soil and runoff: a small conceptual model of the HBV family.

A degree-day snow pack in each of five elevation bands feeds one soil store; what the soil does not
hold fills a fast store, which feeds a slow one; both drain to the channel. The structure follows
Seibert and Vis (2012, doi:10.5194/hess-16-3315-2012). Every parameter that differs between basins
is a function of their landscape, so static attributes are informative. Water is neither
made nor lost.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from study.data.synthetic.basins import FloatArray, Landscape
from study.data.synthetic.weather import Weather, snow_share

SPIN_UP_DAYS = 730

RETENTION = 0.1
"""share of the snow that the pack holds as liquid water before any leaves it"""
REFREEZING = 0.05
"""speed of refreezing relative to melt"""
FULL_COVER_MM = 150.0
"""frozen water above which snow covers a whole band; below it less than the band melts"""
LEAST_COVER = 0.1
"""share of a band that any snow covers"""
SUBLIMATION = 0.5
"""what snow evaporates relative to the potential of bare ground"""
STRESS = 0.7
"""share of the soil capacity below which evapotranspiration is limited"""


@dataclass(frozen=True, kw_only=True)
class RunoffParameters:
    """What differs between basins; shape (basin,)."""

    melt_factor: FloatArray
    """annual mean of the degree-day factor, mm/K/d"""
    soil_capacity: FloatArray
    """mm"""
    soil_exponent: FloatArray
    """how strongly a dry soil holds water back"""
    pet_factor: FloatArray
    """potential evapotranspiration of the vegetation relative to the weather's"""
    percolation: FloatArray
    """largest flow from the fast to the slow store, mm/d"""
    fast_days: FloatArray
    """residence time of the fast store, d"""
    slow_days: FloatArray
    """residence time of the slow store, d"""
    channel_days: FloatArray
    """residence time of the channel, d"""

    @classmethod
    def of(cls, landscape: Landscape) -> "RunoffParameters":
        """Derive the parameters from static attributes."""
        flatness = np.exp(-landscape.slope_mean / 40.0)
        permeability = landscape.geol_permeability + 16.5
        return cls(
            melt_factor=3.4 - 1.4 * landscape.frac_forest,
            soil_capacity=550.0 * landscape.max_water_content,
            soil_exponent=np.clip(4.0 - 0.06 * landscape.clay_frac, 1.0, 4.0),
            pet_factor=1.0 + 0.3 * landscape.frac_forest,
            percolation=(1.0 + landscape.soil_conductivity) * (0.3 + landscape.slope_mean / 80.0),
            fast_days=1.5 + permeability,
            slow_days=(60.0 + 25.0 * permeability) * (1.0 + 0.5 * flatness),
            channel_days=0.4 + 0.15 * np.sqrt(landscape.area_gages2 / 100.0),
        )


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Water in the basin at one moment, mm; shape (basin,), of the snow (band, basin)."""

    snow: FloatArray
    """frozen part of the snow pack"""
    melt_water: FloatArray
    """liquid part of the snow pack"""
    soil: FloatArray
    """what plants can use"""
    fast: FloatArray
    """shallow groundwater"""
    slow: FloatArray
    """deep groundwater"""
    channel: FloatArray
    """on its way to the gauge"""

    @property
    def swe(self) -> FloatArray:
        """Snow water equivalent, mean over the basin, mm."""
        swe: FloatArray = (self.snow + self.melt_water).mean(axis=0)
        return swe

    @property
    def total(self) -> FloatArray:
        """All water in the basin, mm."""
        return self.swe + self.soil + self.fast + self.slow + self.channel


@dataclass(frozen=True, kw_only=True)
class WaterBalance:
    """The true fluxes and stores; series have shape (day, basin)."""

    discharge: FloatArray
    """mm/d"""
    aet: FloatArray
    """actual evapotranspiration, with sublimation, mm/d"""
    swe: FloatArray
    """snow water equivalent at the end of the day, mm"""
    start: Stores
    """before the first day"""
    end: Stores
    """after the last day"""


def run_hydrology(
    weather: Weather, day_of_year: FloatArray, parameters: RunoffParameters
) -> WaterBalance:
    """Turn weather into snow and discharge, after a spin-up with the record's first two years.

    Args:
        weather: The true weather, at least two years.
        day_of_year: Shape (day,).
        parameters: Of each basin.
    """
    inputs = (weather.precipitation, weather.tmean, weather.pet, _melt_season(day_of_year))
    half_full = 0.5 * parameters.soil_capacity
    nothing = np.zeros_like(half_full)
    empty = Stores(
        snow=np.zeros_like(weather.band_warmth),
        melt_water=np.zeros_like(weather.band_warmth),
        soil=half_full,
        fast=nothing,
        slow=nothing,
        channel=nothing,
    )
    warmth = weather.band_warmth
    spin_up = _run([series[:SPIN_UP_DAYS] for series in inputs], warmth, parameters, empty)
    return _run(list(inputs), warmth, parameters, spin_up.end)


def _melt_season(day_of_year: FloatArray) -> FloatArray:
    """Return the degree-day factor relative to its mean: a sine, largest on the longest day.

    Anderson (1973), *National Weather Service River Forecast System: snow accumulation and
    ablation model*, NOAA Technical Memorandum NWS HYDRO-17.
    """
    season: FloatArray = 1.0 + 0.4 * np.sin(2.0 * np.pi * (day_of_year - 80.0) / 365.25)
    return season


def _run(
    inputs: list[FloatArray], band_warmth: FloatArray, p: RunoffParameters, start: Stores
) -> WaterBalance:
    days = len(inputs[0])
    discharge, aet, swe = (np.empty((days, len(p.melt_factor))) for _ in range(3))
    stores = start
    for day, (precipitation, tmean, pet, season) in enumerate(zip(*inputs, strict=True)):
        demand = pet * p.pet_factor
        factor = season * p.melt_factor
        pack = _snow_step(stores, precipitation, tmean + band_warmth, factor, demand)
        bare_demand = (1.0 - pack.cover) * demand
        soil, transpiration, recharge = _soil_step(stores.soil, pack.outflow, bare_demand, p)
        aet[day] = pack.sublimation + transpiration
        fast, slow, channel, discharge[day] = _runoff_step(stores, recharge, p)
        stores = Stores(
            snow=pack.snow,
            melt_water=pack.melt_water,
            soil=soil,
            fast=fast,
            slow=slow,
            channel=channel,
        )
        swe[day] = stores.swe
    return WaterBalance(discharge=discharge, aet=aet, swe=swe, start=start, end=stores)


class _Pack(NamedTuple):
    """The snow pack after a day; mm, `cover` a share of the area.

    The pack's own water has shape (band, basin), what leaves it and its cover (basin,).
    """

    snow: FloatArray
    melt_water: FloatArray
    outflow: FloatArray
    sublimation: FloatArray
    cover: FloatArray


def _snow_step(
    stores: Stores,
    precipitation: FloatArray,
    tmean: FloatArray,
    factor: FloatArray,
    demand: FloatArray,
) -> _Pack:
    snowfall = precipitation * snow_share(tmean)
    snow = stores.snow + snowfall
    cover = np.where(snow > 0.0, np.clip(snow / FULL_COVER_MM, LEAST_COVER, 1.0), 0.0)
    sublimation = np.minimum(snow, cover * SUBLIMATION * demand)
    snow = snow - sublimation
    melt = np.minimum(snow, cover * factor * np.maximum(tmean, 0.0))
    freeze = np.minimum(stores.melt_water, REFREEZING * factor * np.maximum(-tmean, 0.0))
    snow = snow - melt + freeze
    liquid = stores.melt_water + melt - freeze + precipitation - snowfall
    held = np.minimum(liquid, RETENTION * snow)
    outflow = liquid - held
    return _Pack(snow, held, outflow.mean(axis=0), sublimation.mean(axis=0), cover.mean(axis=0))


def _soil_step(
    soil: FloatArray, inflow: FloatArray, demand: FloatArray, p: RunoffParameters
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the soil store, evapotranspiration, and the water that passes the soil, mm."""
    recharge = inflow * np.minimum(soil / p.soil_capacity, 1.0) ** p.soil_exponent
    soil = soil + inflow - recharge
    excess = np.maximum(soil - p.soil_capacity, 0.0)
    soil = soil - excess
    aet = np.minimum(soil, demand * np.minimum(soil / (STRESS * p.soil_capacity), 1.0))
    return soil - aet, aet, recharge + excess


def _runoff_step(
    stores: Stores, recharge: FloatArray, p: RunoffParameters
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return fast, slow and channel stores, and the discharge, mm."""
    fast = stores.fast + recharge
    percolation = np.minimum(fast, p.percolation)
    fast, quick_flow = _drain(fast - percolation, p.fast_days)
    slow, base_flow = _drain(stores.slow + percolation, p.slow_days)
    channel, discharge = _drain(stores.channel + quick_flow + base_flow, p.channel_days)
    return fast, slow, channel, discharge


def _drain(store: FloatArray, residence_days: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what a linear store keeps through a day and what it releases, mm."""
    kept = store * np.exp(-1.0 / residence_days)
    return kept, store - kept
