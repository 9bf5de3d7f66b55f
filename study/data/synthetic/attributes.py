"""The attribute tables of CAMELS, computed from the published series and the landscape.

Definitions follow Addor et al. (2017, doi:10.5194/hess-21-5293-2017). Discharge signatures use
the series without its gaps.
"""

from typing import Any

import numpy as np
import pandas as pd

from study.data.synthetic.basins import FloatArray, Landscape
from study.data.synthetic.record import Record
from study.data.synthetic.weather import DAYS_PER_YEAR, BoolArray, water_years

Columns = dict[str, Any]
"""the columns of a table, one value per basin"""

SEASONS = np.array(["djf", "mam", "jja", "son"])


def attribute_tables(record: Record) -> dict[str, pd.DataFrame]:
    """Return the seven tables by name (`clim`, `geol`, ...), indexed by gauge id."""
    landscape = record.basins.landscape
    columns: dict[str, Columns] = {
        "clim": _climate(record),
        "geol": _geology(landscape),
        "hydro": _signatures(record),
        "name": {
            "huc_02": [region.huc for region in record.basins.regions],
            "gauge_name": record.basins.names,
        },
        "soil": _soil(landscape),
        "topo": _topography(landscape),
        "vege": _vegetation(landscape),
    }
    index = pd.Index(record.basins.gauge_ids, name="gauge_id")
    return {name: pd.DataFrame(table, index=index).round(6) for name, table in columns.items()}


def _climate(record: Record) -> Columns:
    precipitation = record.precipitation
    tmean = record.weather.tmean
    mean = precipitation.mean(axis=0)
    pet = record.weather.pet.mean(axis=0)
    high = precipitation >= 5.0 * mean
    low = precipitation < 1.0
    snow = np.where(tmean < 0.0, precipitation, 0.0)
    return {
        "p_mean": mean,
        "pet_mean": pet,
        "p_seasonality": _seasonality(precipitation, tmean),
        "frac_snow": snow.mean(axis=0) / mean,
        "aridity": pet / mean,
        "high_prec_freq": _frequency(high),
        "high_prec_dur": _duration(high),
        "high_prec_timing": _timing(high, record.dates),
        "low_prec_freq": _frequency(low),
        "low_prec_dur": _duration(low),
        "low_prec_timing": _timing(low, record.dates),
    }


def _signatures(record: Record) -> Columns:
    discharge = record.discharge
    mean = discharge.mean(axis=0)
    high = discharge > 9.0 * np.median(discharge, axis=0)
    low = discharge < 0.2 * mean
    return {
        "q_mean": mean,
        "runoff_ratio": mean / record.precipitation.mean(axis=0),
        "slope_fdc": _duration_curve_slope(discharge),
        "baseflow_index": baseflow(discharge).sum(axis=0) / discharge.sum(axis=0),
        "stream_elas": _elasticity(record),
        "q5": np.quantile(discharge, 0.05, axis=0),
        "q95": np.quantile(discharge, 0.95, axis=0),
        "high_q_freq": _frequency(high),
        "high_q_dur": _duration(high),
        "low_q_freq": _frequency(low),
        "low_q_dur": _duration(low),
        "zero_q_freq": (discharge == 0.0).mean(axis=0),
        "hfd_mean": _half_flow_day(record),
    }


def _geology(landscape: Landscape) -> Columns:
    carbonate = landscape.carbonate_rocks_frac
    permeable = landscape.geol_permeability > -13.5
    main = np.where(permeable, "Siliciclastic sedimentary rocks", "Metamorphics")
    return {
        "geol_1st_class": np.where(carbonate > 0.5, "Carbonate sedimentary rocks", main),
        "glim_1st_class_frac": np.maximum(carbonate, 1.0 - carbonate),
        "geol_2nd_class": [
            _second_class(str(rock), share) for rock, share in zip(main, carbonate, strict=True)
        ],
        "glim_2nd_class_frac": np.minimum(carbonate, 1.0 - carbonate),
        "carbonate_rocks_frac": carbonate,
        "geol_porostiy": landscape.geol_porosity,
        "geol_permeability": landscape.geol_permeability,
    }


def _second_class(main: str, carbonate: float) -> str | None:
    if carbonate == 0.0:
        return None
    return main if carbonate > 0.5 else "Carbonate sedimentary rocks"


def _soil(landscape: Landscape) -> Columns:
    nothing = np.zeros_like(landscape.sand_frac)
    rest = 100.0 - landscape.sand_frac - landscape.silt_frac - landscape.clay_frac
    return {
        "soil_depth_pelletier": landscape.soil_depth_pelletier,
        "soil_depth_statsgo": landscape.soil_depth_statsgo,
        "soil_porosity": landscape.soil_porosity,
        "soil_conductivity": landscape.soil_conductivity,
        "max_water_content": landscape.max_water_content,
        "sand_frac": landscape.sand_frac,
        "silt_frac": landscape.silt_frac,
        "clay_frac": landscape.clay_frac,
        "water_frac": nothing,
        "organic_frac": nothing,
        "other_frac": rest,
    }


def _topography(landscape: Landscape) -> Columns:
    return {
        "gauge_lat": landscape.gauge_lat,
        "gauge_lon": landscape.gauge_lon,
        "elev_mean": landscape.elev_mean,
        "slope_mean": landscape.slope_mean,
        "area_gages2": landscape.area_gages2,
        "area_geospa_fabric": landscape.area_gages2,
    }


def _vegetation(landscape: Landscape) -> Columns:
    forest = landscape.frac_forest
    # The published classes begin with four spaces.
    cover = np.where(forest > 0.5, "    Mixed Forests", "    Grasslands")
    return {
        "frac_forest": forest,
        "lai_max": landscape.lai_max,
        "lai_diff": landscape.lai_diff,
        "gvf_max": landscape.gvf_max,
        "gvf_diff": landscape.gvf_diff,
        "dom_land_cover_frac": np.maximum(forest, 1.0 - forest),
        "dom_land_cover": cover,
        "root_depth_50": 0.12 + 0.1 * forest,
        "root_depth_99": 1.5 + 0.8 * forest,
    }


def baseflow(discharge: FloatArray) -> FloatArray:
    """Separate baseflow with three passes of the Lyne-Hollick filter.

    Ladson et al. (2013, doi:10.7158/W12-028.2013.17.1), filter constant 0.925.

    Args:
        discharge: Shape (day, basin), without gaps.

    Returns:
        Baseflow in the unit of the discharge.
    """
    flow = discharge
    for _ in range(3):
        flow = _lyne_hollick(flow)[::-1]
    return flow[::-1]


def _lyne_hollick(flow: FloatArray, constant: float = 0.925) -> FloatArray:
    quick = np.zeros_like(flow)
    for day in range(1, len(flow)):
        change = flow[day] - flow[day - 1]
        quick[day] = constant * quick[day - 1] + 0.5 * (1.0 + constant) * change
    return flow - np.maximum(quick, 0.0)


def _seasonality(precipitation: FloatArray, tmean: FloatArray) -> FloatArray:
    """Return the seasonality index of Woods (2009): positive when summers are wetter."""
    angle = 2.0 * np.pi * np.arange(len(tmean)) / DAYS_PER_YEAR
    wave = np.exp(-1j * angle)[:, None]
    wet = 2.0 * (precipitation * wave).mean(axis=0) / precipitation.mean(axis=0)
    warm = 2.0 * (tmean * wave).mean(axis=0)
    index: FloatArray = (wet * np.conj(warm)).real / np.abs(warm)
    return index


def _duration_curve_slope(discharge: FloatArray) -> FloatArray:
    """Return the slope of the log flow-duration curve between 33 and 66 % exceedance."""
    high, low = np.log(np.maximum(np.quantile(discharge, [0.67, 0.34], axis=0), 1e-4))
    slope: FloatArray = (high - low) / (0.66 - 0.33)
    return slope


def _elasticity(record: Record) -> FloatArray:
    """Return the median over years of dQ/dP * P/Q (Sankarasubramanian et al. 2001)."""
    year = water_years(record.dates)
    discharge, precipitation = (
        np.stack([series[year == y].mean(axis=0) for y in range(year[-1] + 1)])
        for series in (record.discharge, record.precipitation)
    )
    q, p = discharge.mean(axis=0), precipitation.mean(axis=0)
    elasticity: FloatArray = np.median((discharge - q) / (precipitation - p), axis=0) * p / q
    return elasticity


def _half_flow_day(record: Record) -> FloatArray:
    """Return the mean day of the water year by which half of its water has passed."""
    year = water_years(record.dates)
    days = []
    for y in range(year[-1] + 1):
        passed = np.cumsum(record.discharge[year == y], axis=0)
        days.append((passed < 0.5 * passed[-1]).sum(axis=0) + 1.0)
    mean: FloatArray = np.mean(days, axis=0)
    return mean


def _frequency(event: BoolArray) -> FloatArray:
    """Return the number of event days a year."""
    frequency: FloatArray = DAYS_PER_YEAR * event.mean(axis=0)
    return frequency


def _duration(event: BoolArray) -> FloatArray:
    """Return the mean length of unbroken spells of event days; 0 when there is none."""
    begins = event.copy()
    begins[1:] &= ~event[:-1]
    duration: FloatArray = event.sum(axis=0) / np.maximum(begins.sum(axis=0), 1)
    return duration


def _timing(event: BoolArray, dates: pd.DatetimeIndex) -> list[str]:
    """Return the season with most event days."""
    season = np.asarray(dates.month) % 12 // 3
    counts = np.stack([event[season == s].sum(axis=0) for s in range(4)])
    return [str(name) for name in SEASONS[counts.argmax(axis=0)]]
