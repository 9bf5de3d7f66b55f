"""Daily weather of a climate: temperature, precipitation, radiation, vapour pressure.

Arrays have the shape (day, basin). Sun and vapour pressure follow Allen et al. (1998), *Crop
evapotranspiration*, FAO Irrigation and Drainage Paper 56 ("FAO-56" below).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from study.data.synthetic.basins import (
    LAPSE_RATE_K_PER_KM,
    Basins,
    Climate,
    FloatArray,
    Purpose,
    stream,
)

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

DAYS_PER_YEAR = 365.25
WARMEST_DAY = 201.0
SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class WeatherParameters:
    """What all basins share."""

    temperature_memory: float = 0.75
    """lag-1 autocorrelation of temperature anomalies"""
    winter_deviation_k: float = 4.5
    """standard deviation of temperature anomalies on the coldest day, K"""
    summer_deviation_k: float = 2.5
    """standard deviation of temperature anomalies on the warmest day, K"""
    range_spread: float = 0.2
    """standard deviation of the logarithm of the diurnal range"""
    wet_range_factor: float = 0.65
    """diurnal range of a wet day relative to a dry one"""
    wet_memory: float = 0.35
    """lag-1 autocorrelation of the occurrence of precipitation"""
    amount_shape: float = 0.7
    """shape of the gamma distribution of daily amounts"""
    year_spread: float = 0.18
    """standard deviation of the logarithm of a water year's wetness"""
    dew_point_depression_k: float = 4.0
    """how far the dew point lies below tmin on a dry day of the driest region, K"""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What truly happened; shape (day, basin)."""

    day_length: FloatArray
    """s"""
    tmin: FloatArray
    """degC"""
    tmax: FloatArray
    """degC"""
    srad: FloatArray
    """global radiation, mean over the daylight hours, W/m2"""
    vp: FloatArray
    """vapour pressure, Pa"""
    pet: FloatArray
    """potential evapotranspiration, mm/d"""
    precipitation: FloatArray
    """mm/d"""
    storm: IntArray
    """number of the spell of wet days that the day belongs to (or that came last)"""
    band_warmth: FloatArray
    """temperature of the elevation bands above the basin's mean, K; shape (band, basin)"""

    @property
    def tmean(self) -> FloatArray:
        """Mean of tmin and tmax, degC."""
        return 0.5 * (self.tmin + self.tmax)

    @property
    def snowfall(self) -> FloatArray:
        """The part of precipitation that falls as snow, mean over the basin, mm/d."""
        shares = [snow_share(self.tmean + warmth) for warmth in self.band_warmth]
        snowfall: FloatArray = self.precipitation * np.mean(shares, axis=0)
        return snowfall


def snow_share(tmean: FloatArray) -> FloatArray:
    """Return the share of precipitation that is snow: 1 below -1 degC, 0 above 3 degC."""
    return np.clip((3.0 - tmean) / 4.0, 0.0, 1.0)


def water_years(dates: pd.DatetimeIndex) -> IntArray:
    """Return the number of each day's water year (October to September), counted from 0."""
    year: IntArray = np.asarray(dates.year + (dates.month >= 10), dtype=np.int64)
    count: IntArray = year - year[0]
    return count


def make_weather(
    basins: Basins,
    dates: pd.DatetimeIndex,
    seed: int,
    parameters: WeatherParameters | None = None,
) -> Weather:
    """Draw the weather of all basins.

    Temperature is an annual cycle with AR(1) anomalies; precipitation is a first-order Markov
    chain of wet and dry days with gamma amounts (Richardson 1981, doi:10.1029/WR017i001p00182),
    both with an annual cycle.

    Args:
        basins: Climates and landscapes.
        dates: Days without gaps.
        seed: Seed of the whole data set.
        parameters: What all basins share; None takes the defaults.

    Returns:
        Daily series of shape (day, basin).
    """
    p = parameters or WeatherParameters()
    climate = basins.climate
    day_of_year = np.asarray(dates.day_of_year, dtype=np.float64)[:, None]
    noise = _draw_noise(len(basins.regions), len(dates), seed, p.amount_shape)
    cycle = 1.0 + climate.seasonality * _annual_wave(day_of_year, climate.wettest_day)
    wet_chance = np.clip(climate.wet_fraction * np.sqrt(cycle), 0.02, 0.9)
    anomaly, wet = _run_chains(noise, wet_chance, p)

    year_wetness = np.exp(p.year_spread * noise.year[water_years(dates)])
    amount = climate.precipitation * cycle / wet_chance * noise.amount * year_wetness
    precipitation = np.where(wet, amount, 0.0)

    summer = 0.5 * (1.0 + _annual_wave(day_of_year, np.array(WARMEST_DAY)))
    spread = p.winter_deviation_k + (p.summer_deviation_k - p.winter_deviation_k) * summer
    tmean = climate.temperature + climate.amplitude * (2.0 * summer - 1.0) + spread * anomaly
    diurnal_range = climate.diurnal_range * np.exp(p.range_spread * noise.diurnal_range)
    diurnal_range = diurnal_range * np.where(wet, p.wet_range_factor, 1.0)
    tmin = tmean - 0.5 * diurnal_range

    day_length, top_radiation = _sun(day_of_year, basins.landscape.gauge_lat)
    share = transmissivity(diurnal_range, basins.landscape.elev_mean)
    dryness = np.where(wet, 0.0, p.dew_point_depression_k) * _aridity(climate)
    return Weather(
        day_length=day_length,
        tmin=tmin,
        tmax=tmean + 0.5 * diurnal_range,
        srad=share * top_radiation * 1e6 / day_length,
        vp=saturation_vapour_pressure(tmin - dryness),
        pet=hargreaves_pet(tmean, diurnal_range, top_radiation),
        precipitation=precipitation,
        storm=_number_storms(wet),
        band_warmth=-LAPSE_RATE_K_PER_KM * basins.landscape.band_elevation,
    )


def saturation_vapour_pressure(temperature: FloatArray) -> FloatArray:
    """Return the saturation vapour pressure (Pa) at a temperature in degC (FAO-56, eq. 11)."""
    return 610.8 * np.exp(17.27 * temperature / (temperature + 237.3))


def hargreaves_pet(
    tmean: FloatArray, diurnal_range: FloatArray, top_radiation: FloatArray
) -> FloatArray:
    """Return potential evapotranspiration (mm/d) after Hargreaves and Samani (FAO-56, eq. 52).

    Args:
        tmean: Daily mean temperature, degC.
        diurnal_range: tmax - tmin, K.
        top_radiation: Radiation at the top of the atmosphere, MJ/m2/d.
    """
    water_mm_per_mj = 0.408
    pet = 0.0023 * (tmean + 17.8) * np.sqrt(diurnal_range) * top_radiation * water_mm_per_mj
    return np.maximum(pet, 0.0)


def transmissivity(diurnal_range: FloatArray, elevation: FloatArray) -> FloatArray:
    """Return the share of the sun's radiation that reaches the ground.

    The square root of the diurnal range after Hargreaves (FAO-56, eq. 50), a little more on
    mountains, at most that of a clear sky (FAO-56, eq. 37).

    Args:
        diurnal_range: tmax - tmin, K.
        elevation: m above sea level.
    """
    clear_sky = 0.75 + 2e-5 * elevation
    return np.minimum(0.16 * np.sqrt(diurnal_range) * clear_sky / 0.75, clear_sky)


def _sun(day_of_year: FloatArray, latitude: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return day length (s) and radiation above the air (MJ/m2/d) (FAO-56, eq. 21 to 25, 34)."""
    angle = 2.0 * np.pi * day_of_year / 365.0
    distance = 1.0 + 0.033 * np.cos(angle)
    declination = 0.409 * np.sin(angle - 1.39)
    phi = np.radians(latitude)
    sunset = np.arccos(-np.tan(phi) * np.tan(declination))
    height = sunset * np.sin(phi) * np.sin(declination)
    height = height + np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return SECONDS_PER_DAY * sunset / np.pi, 24.0 * 60.0 / np.pi * 0.0820 * distance * height


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """The random numbers behind the weather; (day, basin), `year` (year, basin)."""

    temperature: FloatArray
    diurnal_range: FloatArray
    wet: FloatArray
    amount: FloatArray
    year: FloatArray


def _draw_noise(basins: int, days: int, seed: int, amount_shape: float) -> _Noise:
    streams = [stream(seed, basin, Purpose.WEATHER) for basin in range(basins)]
    years = round(days / DAYS_PER_YEAR)
    return _Noise(
        temperature=np.stack([rng.standard_normal(days) for rng in streams], axis=1),
        diurnal_range=np.stack([rng.standard_normal(days) for rng in streams], axis=1),
        wet=np.stack([rng.random(days) for rng in streams], axis=1),
        amount=np.stack(
            [rng.standard_gamma(amount_shape, days) / amount_shape for rng in streams], axis=1
        ),
        year=np.stack([rng.standard_normal(years) for rng in streams], axis=1),
    )


def _run_chains(
    noise: _Noise, wet_chance: FloatArray, p: WeatherParameters
) -> tuple[FloatArray, BoolArray]:
    """Return temperature anomalies of unit variance and the wet days."""
    anomaly = np.empty_like(noise.temperature)
    wet = np.empty(wet_chance.shape, dtype=np.bool_)
    innovation = np.sqrt(1.0 - p.temperature_memory**2)
    anomaly[0] = noise.temperature[0]
    wet[0] = noise.wet[0] < wet_chance[0]
    for day in range(1, len(wet)):
        anomaly[day] = p.temperature_memory * anomaly[day - 1] + innovation * noise.temperature[day]
        chance = p.wet_memory * wet[day - 1] + (1.0 - p.wet_memory) * wet_chance[day]
        wet[day] = noise.wet[day] < chance
    return anomaly, wet


def _annual_wave(day_of_year: FloatArray, peak_day: FloatArray) -> FloatArray:
    """Return a cosine over the year that is 1 on the peak day."""
    wave: FloatArray = np.cos(2.0 * np.pi * (day_of_year - peak_day) / DAYS_PER_YEAR)
    return wave


def _aridity(climate: Climate) -> FloatArray:
    """Return 0 for the wettest and 1 for the driest climates."""
    return np.clip((4.5 - climate.precipitation) / 2.5, 0.0, 1.0)


def _number_storms(wet: BoolArray) -> IntArray:
    begins = wet.copy()
    begins[1:] &= ~wet[:-1]
    return np.cumsum(begins, axis=0)
