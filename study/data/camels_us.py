"""Reader of the original CAMELS-US layout (Newman et al. 2015, doi 10.5194/hess-19-209-2015;
Addor et al. 2017, doi 10.5194/hess-21-5293-2017).

    basin_mean_forcing/<forcing>/[<huc>/]<id>_lump_*_forcing_leap.txt
    usgs_streamflow/[<huc>/]<id>_streamflow_qc.txt
    camels_attributes_v2.0/camels_<table>.txt

and, beside it, a folder of basin-mean snow water equivalent, `<id>_swe.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from study.errors import DataError

FORCING_UNITS = {
    "prcp": "mm/d",
    "srad": "W/m2",
    "tmax": "degC",
    "tmin": "degC",
    "vp": "Pa",
    "dayl": "s",
}
"""Variables kept of a forcing file. `srad` is a mean over daylight hours."""

ATTRIBUTE_TABLES = ("clim", "geol", "hydro", "name", "soil", "topo", "vege")
FT3_IN_M3 = 0.3048**3
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class BasinRecord:
    """All daily series of one basin, as float32 on its own contiguous calendar."""

    gauge_id: str
    latitude: float
    """Degrees north, of the forcing file's header."""
    elevation: float
    """m, of the forcing file's header."""
    area: float
    """Catchment area in m2, of the forcing file's header."""
    forcing: pd.DataFrame
    """Index: days; columns: `FORCING_UNITS`."""
    qobs: pd.Series
    """mm/d, NaN where missing; its own days."""
    swe: pd.Series | None
    """mm, NaN where missing; its own days."""


def list_basins(root: Path, forcing: str) -> list[str]:
    """Ids of all basins that have a file of this forcing product, sorted."""
    folder = _forcing_folder(root, forcing)
    ids = sorted(p.name.partition("_")[0] for p in folder.rglob("*_forcing_leap.txt"))
    if not ids:
        raise DataError(f"{folder}: holds no <id>_lump_*_forcing_leap.txt; give the CAMELS folder")
    return ids


def read_basin(root: Path, gauge_id: str, *, forcing: str, snow: Path | None) -> BasinRecord:
    """Read one basin.

    Args:
        root: The CAMELS-US folder.
        gauge_id: Eight digits, leading zeros kept.
        forcing: Product, the name of a folder in `basin_mean_forcing`.
        snow: Folder of `<id>_swe.csv`, or None.

    Raises:
        DataError: A file is missing or cannot be read; names it and the cure.
    """
    path = _find(_forcing_folder(root, forcing), f"{gauge_id}_lump_*_forcing_leap.txt", gauge_id)
    latitude, elevation, area, table = _read_forcing(path)
    flow_path = _find(root / "usgs_streamflow", f"{gauge_id}_streamflow_qc.txt", gauge_id)
    return BasinRecord(
        gauge_id=gauge_id,
        latitude=latitude,
        elevation=elevation,
        area=area,
        forcing=table,
        qobs=_read_discharge(flow_path, gauge_id, area),
        swe=None if snow is None else _read_swe(snow, gauge_id),
    )


def read_attributes(root: Path, basins: Sequence[str]) -> pd.DataFrame:
    """All attribute tables joined; index `gauge_id` in the order of `basins`.

    Numeric columns are float64, text columns (`huc_02`, `gauge_name`, ...) strings.
    """
    folder = root / "camels_attributes_v2.0"
    tables = []
    for name in ATTRIBUTE_TABLES:
        path = folder / f"camels_{name}.txt"
        try:
            text = {"gauge_id": str, "huc_02": str}
            table = pd.read_csv(path, sep=";", dtype=text, encoding="utf-8").set_index("gauge_id")
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}: cannot be read as an attribute table ({error}); "
                "restore the file from the CAMELS-US archive"
            ) from None
        if table.index.has_duplicates:
            twice = table.index[table.index.duplicated()][0]
            raise DataError(f"{path}: lists basin {twice} twice; remove one of its lines")
        absent = [b for b in basins if b not in table.index]
        if absent:
            raise DataError(
                f"{path}: has no line for basin {absent[0]}; add it, or leave the basin out "
                "with --basins FILE"
            )
        tables.append(table.loc[list(basins)])
    return pd.concat(tables, axis=1)


def _forcing_folder(root: Path, forcing: str) -> Path:
    parent = root / "basin_mean_forcing"
    if not (parent / forcing).is_dir():
        there = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        raise DataError(
            f"{parent / forcing}: no such folder; --root must be a CAMELS-US folder in its "
            f"original layout, and --forcing one of: {', '.join(there) or '(none found)'}"
        )
    return parent / forcing


def _find(folder: Path, pattern: str, gauge_id: str) -> Path:
    """The one file of a basin, in the folder or in a per-HUC folder below it."""
    found = sorted([*folder.glob(pattern), *folder.glob(f"*/{pattern}")])
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files ({', '.join(map(str, found))})"
        raise DataError(
            f"basin {gauge_id}: {what} {folder}/[huc/]{pattern}; each basin needs exactly one"
        )
    return found[0]


def _read_forcing(path: Path) -> tuple[float, float, float, pd.DataFrame]:
    try:
        with path.open(encoding="utf-8") as file:
            latitude, elevation, area = (float(file.readline()) for _ in range(3))
            names = [n.partition("(")[0].lower() for n in file.readline().split()]
            table = pd.read_csv(file, sep=r"\s+", header=None, names=names)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as CAMELS forcing ({error}); three header lines (latitude, "
            "elevation, area in m2), a line of column names, then one line a day"
        ) from None
    absent = [n for n in ("year", "mnth", "day", *FORCING_UNITS) if n not in names]
    if absent:
        raise DataError(f"{path}: line 4 lacks the column `{absent[0]}`; it has {', '.join(names)}")
    if not area > 0:
        raise DataError(f"{path}: line 3 gives the catchment area as {area}; it must be above 0 m2")
    days = _days(path, table["year"], table["mnth"], table["day"], first_line=5)
    series = table[list(FORCING_UNITS)].set_axis(days)
    for name in FORCING_UNITS:
        column = pd.to_numeric(series[name], errors="coerce")
        if column.isna().any():
            at = int(np.flatnonzero(column.isna())[0])
            raise DataError(
                f"{path}: line {at + 5} ({days[at].date()}): `{name}` is "
                f"{series[name].iloc[at]!r}, not a number; forcing must have no gap"
            )
        series = series.assign(**{name: column})
    if (series["prcp"] < 0).any():
        at = int(np.flatnonzero(series["prcp"] < 0)[0])
        raise DataError(
            f"{path}: line {at + 5} ({days[at].date()}): precipitation is "
            f"{series['prcp'].iloc[at]} mm/d; it cannot be negative"
        )
    return latitude, elevation, area, series.astype(np.float32)


def _days(
    path: Path, year: pd.Series, month: pd.Series, day: pd.Series, *, first_line: int
) -> pd.DatetimeIndex:
    """The days of a file; they must follow each other without a gap."""
    try:
        days = pd.DatetimeIndex(
            pd.to_datetime(pd.DataFrame({"year": year, "month": month, "day": day}))
        )
    except ValueError as error:
        raise DataError(f"{path}: holds an impossible date ({error}); correct that line") from None
    if len(days) == 0:
        raise DataError(f"{path}: holds no day; the file was cut off, fetch it again")
    steps = np.diff(days.to_numpy()) != np.timedelta64(1, "D")
    if steps.any():
        at = int(np.flatnonzero(steps)[0]) + 1
        raise DataError(
            f"{path}: line {at + first_line}: {days[at].date()} follows {days[at - 1].date()}; "
            "days must be sorted, without gap or repetition"
        )
    return days


def _read_discharge(path: Path, gauge_id: str, area: float) -> pd.Series:
    names = ["gauge_id", "year", "month", "day", "q", "flag"]
    try:
        table = pd.read_csv(path, sep=r"\s+", header=None, names=names, dtype={"gauge_id": str})
        q = table["q"].to_numpy(np.float64)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as USGS discharge ({error}); "
            "each line is `id year month day ft3/s flag`"
        ) from None
    wrong = table["gauge_id"] != gauge_id
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: line {at + 1} belongs to basin {table['gauge_id'].iloc[at]}, "
            f"but the file is named for {gauge_id}"
        )
    days = _days(path, table["year"], table["month"], table["day"], first_line=1)
    q = np.where(q < 0, np.nan, q)  # -999.00 stands for missing
    depth = q * FT3_IN_M3 * SECONDS_A_DAY * 1000 / area
    return pd.Series(depth.astype(np.float32), index=days, name="qobs")


def _read_swe(folder: Path, gauge_id: str) -> pd.Series:
    path = folder / f"{gauge_id}_swe.csv"
    try:
        table = pd.read_csv(path, parse_dates=["date"], index_col="date")
        swe = table["uaz_swe"].astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as snow water equivalent of basin {gauge_id} ({error}); "
            "the file needs the columns date, uaz_swe (mm)"
        ) from None
    if swe.index.has_duplicates:
        raise DataError(f"{path}: has {swe.index[swe.index.duplicated()][0].date()} twice")
    if (swe < 0).any():
        raise DataError(f"{path}: {swe.index[swe < 0][0].date()}: snow water equivalent below 0 mm")
    return swe
