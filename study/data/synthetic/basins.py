"""What is drawn once for each basin: its region, its climate and its landscape."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LAPSE_RATE_K_PER_KM = 6.0
BAND_POSITIONS = np.array([-0.8, -0.4, 0.0, 0.4, 0.8])
"""Middle of each elevation band, of equal areas, between the lowest (-1) and the highest (1)."""
HALF_RELIEF_KM = 6.0
"""Length of slope that lies between a basin's mean elevation and its highest, km."""
BASINS_PER_REGION_GROUP = 12
REGIONS_PER_GROUP = 6


class Purpose(IntEnum):
    """What a stream of random numbers is for; the numbers are part of every seed."""

    LANDSCAPE = 0
    CLIMATE = 1
    WEATHER = 2
    CATCH = 3
    GAUGE = 4
    WINTERS = 5


def stream(seed: int, basin: int, purpose: Purpose) -> np.random.Generator:
    """Return the random numbers of one basin for one purpose, whatever other basins exist."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(basin, purpose)))


class Region(NamedTuple):
    """The typical basin of a two-digit hydrologic unit."""

    huc: str
    place: str
    latitude: float
    """degrees north"""
    longitude: float
    """degrees east"""
    elevation: float
    """m"""
    slope: float
    """m/km"""
    temperature: float
    """annual mean, degC"""
    amplitude: float
    """half the difference of the warmest and the coldest day of the mean year, K"""
    diurnal_range: float
    """tmax - tmin on a dry day, K"""
    precipitation: float
    """annual mean, mm/d"""
    seasonality: float
    """relative amplitude of the annual cycle of precipitation"""
    wettest_day: float
    """day of the year"""
    wet_fraction: float
    """share of days with precipitation"""
    forest: float
    """share of the area"""


# Snowy and rainy regions alternate, so that any number of basins holds both kinds. Basins fill
# the first six regions, then the next six, then the last.
# fmt: off
REGIONS = tuple(Region(*row) for row in (
    # huc  place                 lat     lon  elev slope  T    amp   dtr    P seas  day  wet forest
    ("14", "Upper Colorado",    39.7, -106.3, 3000, 125,  0.3, 10.5, 18.0, 2.5, .45,  40, .40, .60),
    ("03", "South Atlantic",    34.5,  -83.5,  300,  20, 15.5,  9.5, 13.0, 3.8, .12,  40, .33, .75),
    ("17", "Pacific Northwest", 46.5, -114.5, 1800, 115,  1.5, 10.0, 15.0, 3.2, .60,  10, .42, .80),
    ("01", "New England",       44.5,  -69.5,  280,  25,  5.5, 13.0, 12.0, 3.4, .08, 300, .37, .85),
    ("16", "Great Basin",       39.5, -118.0, 2350, 110,  2.0, 10.5, 18.5, 2.5, .75,  20, .24, .45),
    ("05", "Ohio",              40.0,  -82.0,  350,  20, 10.5, 12.5, 12.5, 3.5, .12, 150, .36, .65),
    ("10", "Missouri",          43.5, -108.0, 2800, 100,  0.3, 11.0, 17.0, 2.4, .40,  50, .38, .60),
    ("08", "Lower Mississippi", 32.5,  -91.5,   80,   5, 18.0, 10.0, 13.0, 4.2, .20,  30, .28, .70),
    ("18", "California",        37.5, -119.2, 2500, 115,  2.5,  8.5, 16.0, 3.2, .90,  15, .22, .70),
    ("02", "Mid Atlantic",      41.0,  -76.5,  400,  35,  9.0, 12.8, 12.5, 3.3, .10, 170, .36, .75),
    ("11", "Upper Arkansas",    39.0, -106.0, 3200, 140,  0.0, 10.5, 18.0, 2.4, .35,  50, .38, .50),
    ("06", "Tennessee",         35.6,  -83.3,  850,  65, 12.5, 10.5, 13.0, 4.6, .15,  40, .38, .85),
    ("13", "Rio Grande",        37.3, -106.5, 3100, 120,  0.3, 10.0, 18.5, 2.5, .45,  35, .36, .60),
    ("12", "Texas Gulf",        30.8,  -95.5,   90,   5, 19.5,  9.0, 12.5, 3.9, .12, 150, .26, .50),
    ("09", "Saint Mary",        48.7, -113.5, 1900, 110,  0.5, 11.0, 14.5, 3.0, .45,  10, .40, .70),
    ("04", "Great Lakes",       43.5,  -84.5,  270,  10,  7.8, 13.5, 11.5, 2.9, .20, 190, .37, .60),
    ("15", "Lower Colorado",    35.2, -111.5, 2550,  60,  2.5,  9.5, 18.0, 2.5, .75,  20, .25, .60),
    ("07", "Upper Mississippi", 44.0,  -91.0,  350,   8,  6.8, 15.5, 11.5, 2.6, .50, 180, .30, .45),
))
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Climate:
    """What the weather generator needs to know; every field has shape (basin,)."""

    temperature: FloatArray
    """annual mean, degC"""
    amplitude: FloatArray
    """half the annual range of the mean daily temperature, K"""
    diurnal_range: FloatArray
    """tmax - tmin on a dry day, K"""
    precipitation: FloatArray
    """annual mean of what truly falls, mm/d"""
    seasonality: FloatArray
    """relative amplitude of the annual cycle of precipitation"""
    wettest_day: FloatArray
    """day of the year"""
    wet_fraction: FloatArray
    """share of days with precipitation"""


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """What does not change, under the names of the CAMELS tables; shape (basin,)."""

    gauge_lat: FloatArray
    """degrees north"""
    gauge_lon: FloatArray
    """degrees east"""
    elev_mean: FloatArray
    """m above sea level"""
    slope_mean: FloatArray
    """m/km"""
    area_gages2: FloatArray
    """km2"""
    frac_forest: FloatArray
    """share of the area"""
    lai_max: FloatArray
    """largest monthly leaf area index"""
    lai_diff: FloatArray
    """largest less smallest monthly leaf area index"""
    gvf_max: FloatArray
    """largest monthly green vegetation fraction"""
    gvf_diff: FloatArray
    """largest less smallest monthly green vegetation fraction"""
    soil_depth_pelletier: FloatArray
    """depth to bedrock, m"""
    soil_depth_statsgo: FloatArray
    """soil depth, at most 1.5 m"""
    soil_porosity: FloatArray
    """share of the volume"""
    soil_conductivity: FloatArray
    """saturated hydraulic conductivity, cm/h"""
    max_water_content: FloatArray
    """m of water"""
    sand_frac: FloatArray
    """%"""
    silt_frac: FloatArray
    """%"""
    clay_frac: FloatArray
    """%"""
    carbonate_rocks_frac: FloatArray
    """share of the area"""
    geol_permeability: FloatArray
    """log10 of m2"""
    geol_porosity: FloatArray
    """share of the volume"""

    @property
    def band_elevation(self) -> FloatArray:
        """Elevation of the bands above the basin's mean, km; shape (band, basin)."""
        return np.outer(BAND_POSITIONS, HALF_RELIEF_KM * self.slope_mean / 1000.0)


@dataclass(frozen=True, kw_only=True)
class Basins:
    """Everything that is drawn once."""

    regions: tuple[Region, ...]
    """the region of each basin"""
    climate: Climate
    landscape: Landscape

    @property
    def gauge_ids(self) -> list[str]:
        """Eight digits: the region, a 9 that marks the basin as synthetic, its number."""
        return [f"{region.huc}9{basin:05d}" for basin, region in enumerate(self.regions)]

    @property
    def names(self) -> list[str]:
        """A gauge name for each basin."""
        return [
            f"Synthetic River {basin + 1}, {region.place}"
            for basin, region in enumerate(self.regions)
        ]


def draw_basins(count: int, seed: int) -> Basins:
    """Draw `count` basins; basin k is the same whatever the count."""
    regions = tuple(_region_of(basin) for basin in range(count))
    landscape = _draw_landscape(regions, _normals(seed, count, Purpose.LANDSCAPE))
    climate = _draw_climate(regions, landscape, _normals(seed, count, Purpose.CLIMATE))
    return Basins(regions=regions, climate=climate, landscape=landscape)


def _region_of(basin: int) -> Region:
    groups = len(REGIONS) // REGIONS_PER_GROUP
    group = basin // BASINS_PER_REGION_GROUP % groups
    return REGIONS[group * REGIONS_PER_GROUP + basin % REGIONS_PER_GROUP]


def _normals(seed: int, count: int, purpose: Purpose, most: int = 32) -> Iterator[FloatArray]:
    """Return an iterator over standard normal vectors of shape (basin,)."""
    draws = [stream(seed, basin, purpose).standard_normal(most) for basin in range(count)]
    return iter(np.stack(draws, axis=1))


def _between(low: float, high: float, normal: FloatArray) -> FloatArray:
    """Map a standard normal variable to a nearly uniform one (logistic curve)."""
    return low + (high - low) / (1.0 + np.exp(-1.7 * normal))


def _draw_landscape(regions: tuple[Region, ...], normals: Iterator[FloatArray]) -> Landscape:
    region = _columns(regions)
    forest = np.clip(region["forest"] + 0.15 * next(normals), 0.02, 1.0)
    lai_max = 0.7 + 4.3 * forest * _between(0.7, 1.1, next(normals))
    gvf_max = 0.35 + 0.5 * forest + _between(-0.05, 0.05, next(normals))
    sand = _between(20.0, 65.0, next(normals))
    clay = (95.0 - sand) * _between(0.15, 0.6, next(normals))
    depth = _between(0.7, 1.5, next(normals))
    porosity = 0.48 - 0.0012 * sand + _between(-0.01, 0.01, next(normals))
    permeability = _between(-16.5, -12.0, next(normals))
    slope = region["slope"] * np.exp(0.2 * next(normals))
    return Landscape(
        gauge_lat=region["latitude"] + _between(-0.8, 0.8, next(normals)),
        gauge_lon=region["longitude"] + _between(-0.8, 0.8, next(normals)),
        elev_mean=region["elevation"] * np.exp(0.06 * next(normals)),
        slope_mean=slope,
        area_gages2=np.exp(_between(np.log(15.0), np.log(1500.0), next(normals))),
        frac_forest=forest,
        lai_max=lai_max,
        lai_diff=lai_max * _between(0.5, 0.9, next(normals)),
        gvf_max=gvf_max,
        gvf_diff=gvf_max * _between(0.25, 0.6, next(normals)),
        soil_depth_pelletier=0.5 + 30.0 * np.exp(-slope / 15.0) * _between(0.2, 1.2, next(normals)),
        soil_depth_statsgo=depth,
        soil_porosity=porosity,
        soil_conductivity=0.4 + 0.045 * sand * _between(0.6, 1.4, next(normals)),
        max_water_content=depth * porosity * _between(0.5, 1.1, next(normals)),
        sand_frac=sand,
        silt_frac=95.0 - sand - clay,
        clay_frac=clay,
        carbonate_rocks_frac=np.maximum(_between(-1.0, 0.6, next(normals)), 0.0),
        geol_permeability=permeability,
        geol_porosity=0.02 + 0.045 * (permeability + 16.5),
    )


def _draw_climate(
    regions: tuple[Region, ...], landscape: Landscape, normals: Iterator[FloatArray]
) -> Climate:
    region = _columns(regions)
    above_region_km = (landscape.elev_mean - region["elevation"]) / 1000.0
    return Climate(
        temperature=region["temperature"]
        - LAPSE_RATE_K_PER_KM * above_region_km
        + 0.4 * next(normals),
        amplitude=region["amplitude"] + 0.4 * next(normals),
        diurnal_range=region["diurnal_range"] + 0.6 * next(normals),
        precipitation=region["precipitation"] * np.exp(0.12 * next(normals)),
        seasonality=np.clip(region["seasonality"] + 0.06 * next(normals), 0.0, 0.95),
        wettest_day=region["wettest_day"] + 10.0 * next(normals),
        wet_fraction=region["wet_fraction"] * np.exp(0.06 * next(normals)),
    )


def _columns(regions: tuple[Region, ...]) -> dict[str, FloatArray]:
    """Return the numbers of the regions as vectors of shape (basin,)."""
    names = Region._fields[2:]
    return {name: np.array([getattr(region, name) for region in regions]) for name in names}
