"""Write a synthetic data set in the folder layout of CAMELS-US.

    basin_mean_forcing/maurer_extended/<huc>/<gauge id>_lump_maurer_forcing_leap.txt
    usgs_streamflow/<huc>/<gauge id>_streamflow_qc.txt
    swe_uaz/<gauge id>_swe.csv
    camels_attributes_v2.0/camels_<table>.txt
    basins.txt

The readers of the real data read it.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from study.data.synthetic.attributes import attribute_tables
from study.data.synthetic.basins import FloatArray
from study.data.synthetic.record import Record, areas_m2, make_record, shuffle_winters
from study.errors import DataError, InputError

BASINS = (2, 200)
"""fewest and most basins of a data set"""
YEARS = (2, 60)
"""fewest and most water years of a data set"""
ICE_BELOW_DEGC = -10.0
"""daily mean temperature below which discharge is flagged as estimated"""


def synthesize(
    out: Path, *, basins: int = 12, years: int = 12, seed: int = 1, snow_signal: bool = True
) -> None:
    """Write synthetic catchments in the folder layout of CAMELS-US.

    Snow is informative by construction: discharge stems from what truly fell, while the
    published precipitation misses a share of the snow that differs from winter to winter and
    from storm to storm. The SWE file holds the true snow pack. About half of the basins are
    dominated by snow, the others hardly know it or see some of it. Basin k is the same whatever
    the number of basins; the same arguments give the same bytes.

    Args:
        out: Folder to create; must not exist or be empty. It appears when it is complete.
        basins: Number of basins, 2 to 200.
        years: Number of water years from 1980-10-01 on, 2 to 60.
        seed: Seed of everything that is drawn, not negative.
        snow_signal: False makes the SWE files useless and changes nothing else: they hold each
            basin's true SWE with the water years in another order.

    Raises:
        InputError: A number is outside its range.
        DataError: `out` is in use, or cannot be written.
    """
    _check_range("basins", basins, BASINS)
    _check_range("years", years, YEARS)
    if seed < 0:
        raise InputError(f"seed must be 0 or more, not {seed}.")
    out = out.resolve()
    _check_free(out)
    record = make_record(basins, years, seed)
    swe = record.truth.swe if snow_signal else shuffle_winters(record, seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as aside:
            folder = Path(aside) / out.name
            write_folder(record, swe, folder)
            folder.replace(out)
    except OSError as error:
        raise DataError(
            f"{out} could not be written ({error}). Nothing was left there; choose a folder on a "
            "disk with room that you may write to."
        ) from error


def write_folder(record: Record, swe: FloatArray, folder: Path) -> None:
    """Write all files of a data set.

    Args:
        record: The published series.
        swe: What the SWE files shall hold, mm, shape (day, basin).
        folder: Is created.
    """
    streamflow = folder / "usgs_streamflow"
    forcing = folder / "basin_mean_forcing" / "maurer_extended"
    attributes = folder / "camels_attributes_v2.0"
    for new in (streamflow, forcing, attributes, folder / "swe_uaz"):
        new.mkdir(parents=True)
    gauge_ids = record.basins.gauge_ids
    for basin, (gauge_id, region) in enumerate(zip(gauge_ids, record.basins.regions, strict=True)):
        for parent in (streamflow, forcing):
            (parent / region.huc).mkdir(exist_ok=True)
        _write(
            forcing / region.huc / f"{gauge_id}_lump_maurer_forcing_leap.txt",
            _forcing_text(record, basin),
        )
        _write(
            streamflow / region.huc / f"{gauge_id}_streamflow_qc.txt",
            _streamflow_text(record, basin),
        )
        _write(folder / "swe_uaz" / f"{gauge_id}_swe.csv", _swe_text(record, swe[:, basin]))
    for name, table in attribute_tables(record).items():
        text = table.to_csv(sep=";", na_rep="NA", lineterminator="\n")
        _write(attributes / f"camels_{name}.txt", text)
    _write(folder / "basins.txt", "".join(f"{gauge_id}\n" for gauge_id in gauge_ids))


def _forcing_text(record: Record, basin: int) -> str:
    """Return latitude, elevation (m), area (m2), and the table of Maurer's forcing."""
    weather, landscape = record.weather, record.basins.landscape
    table = pd.DataFrame(
        {
            "Year": record.dates.year,
            "Mnth": record.dates.month,
            "Day": record.dates.day,
            "Hr": 12,
            "dayl(s)": weather.day_length[:, basin],
            "prcp(mm/day)": record.precipitation[:, basin],
            "srad(W/m2)": weather.srad[:, basin],
            "swe(mm)": 0.0,
            "tmax(C)": weather.tmax[:, basin],
            "tmin(C)": weather.tmin[:, basin],
            "vp(Pa)": weather.vp[:, basin],
        }
    )
    head = f"{landscape.gauge_lat[basin]:7.2f}\n{landscape.elev_mean[basin]:7.2f}\n"
    head += f"{areas_m2(record.basins)[basin]:.0f}\n"
    return head + table.round(2).to_csv(sep="\t", index=False, lineterminator="\n")


def _streamflow_text(record: Record, basin: int) -> str:
    """Return a line a day: gauge, date, ft3/s, flag (A approved, A:e estimated, M missing)."""
    gauge_id = record.basins.gauge_ids[basin]
    gap = record.gap[:, basin]
    discharge = np.where(gap, -999.0, record.discharge_cfs[:, basin])
    ice = record.weather.tmean[:, basin] < ICE_BELOW_DEGC
    flags = np.where(gap, "M", np.where(ice, "A:e", "A"))
    days = zip(record.dates.strftime("%Y %m %d"), discharge, flags, strict=True)
    return "".join(f"{gauge_id} {date} {flow:8.2f} {flag}\n" for date, flow, flag in days)


def _swe_text(record: Record, swe: FloatArray) -> str:
    days = zip(record.dates.strftime("%Y-%m-%d"), swe.round(2).tolist(), strict=True)
    return "date,uaz_swe,snodas_swe\n" + "".join(f"{date},{mm},\n" for date, mm in days)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    low, high = limits
    if not low <= value <= high:
        raise InputError(f"{name} must be from {low} to {high}, not {value}.")


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(
            f"{out} exists and is not an empty folder. A synthetic data set replaces nothing: "
            "choose a folder that does not exist, or empty this one."
        )
