"""Reader of the original CAMELS-US layout (Newman et al. 2015, doi 10.5194/hess-19-209-2015;
Addor et al. 2017, doi 10.5194/hess-21-5293-2017).

    basin_mean_forcing/<forcing>/[<huc>/]<id>_lump_*_forcing_leap.txt
    usgs_streamflow/[<huc>/]<id>_streamflow_qc.txt
    camels_attributes_v2.0/camels_<table>.txt

where they exist the files of `study.data.sacsma`, and, beside it, a folder of basin-mean snow water
equivalent, `<id>_swe.csv`.

The forcing products `daymet`, `maurer`, `maurer_extended` and `nldas` differ in the case of their
column names (`prcp(mm/day)`, `PRCP(mm/day)`), in tabs and spaces, and in the hour a day is stamped
with, which says nothing and is not read. The original `maurer` and `nldas` have the daily mean as
both `tmax` and `tmin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from study.data.sacsma import OutputFiles, find_output, read_output
from study.data.text import on_days, read_dated, read_lines, read_table, to_days
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

WRITTEN_UNITS = {
    "prcp": ("mm/day", "mm/d"),
    "srad": ("w/m2",),
    "tmax": ("c", "degc"),
    "tmin": ("c", "degc"),
    "vp": ("pa",),
    "dayl": ("s",),
}
"""How a forcing file's header writes these units, in lower case."""

POSSIBLE = {
    "prcp": (0, 2000),
    "srad": (0, 1500),
    "tmax": (-90, 70),
    "tmin": (-90, 70),
    "vp": (0, 20_000),
    "dayl": (0, 86_400),
}
"""Lowest and highest value that is weather and not a mark for a gap, in `FORCING_UNITS`."""

SWE_COLUMNS = ("uaz_swe", "swe", "swe_mm", "snodas_swe")
"""Columns that a file of snow water equivalent may have; the first one found is read."""

ATTRIBUTE_TABLES = ("clim", "geol", "hydro", "name", "soil", "topo", "vege")
FT3_IN_M3 = 0.3048**3
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class BasinFiles:
    """Where one basin's daily series are."""

    gauge_id: str
    forcing: Path
    discharge: Path
    swe: Path | None
    swe_column: str | None
    """Column to read; the first known one if None."""
    sacsma: OutputFiles | None = None


@dataclass(frozen=True, kw_only=True)
class BasinRecord:
    """All daily series of one basin, on the days of its forcing."""

    gauge_id: str
    path: Path
    """The forcing file, for errors."""
    latitude: float
    """Degrees north, of the forcing file's header."""
    elevation: float
    """m, of the forcing file's header."""
    area: float
    """Catchment area in m2, of the forcing file's header."""
    days: np.ndarray
    """(day,) datetime64[D], without gaps."""
    forcing: dict[str, np.ndarray]
    """Name in `FORCING_UNITS` -> (day,) float32."""
    qobs: np.ndarray
    """(day,) float32 mm/d, NaN where missing."""
    swe: np.ndarray | None
    """(day,) float32 mm, NaN where missing."""
    swe_column: str | None
    """Column of the file that `swe` was read from."""
    qsim_sacsma: np.ndarray | None
    """(day,) float32 mm/d, NaN where missing."""


def list_basins(root: Path, forcing: str) -> list[str]:
    """Ids of all basins that have a file of this forcing product, sorted."""
    return sorted(_index(_forcing_folder(root, forcing), "_forcing_leap.txt"))


def find_files(
    root: Path,
    basins: Sequence[str],
    *,
    forcing: str,
    snow: Path | None = None,
    swe_column: str | None = None,
) -> list[BasinFiles]:
    """The files of these basins, SAC-SMA output where there is any.

    Args:
        root: The CAMELS-US folder.
        basins: Gauge ids, leading zeros kept.
        forcing: Product, the name of a folder in `basin_mean_forcing`.
        snow: Folder of `<id>_swe.csv`, or None.
        swe_column: Column of these files; the first known one if None.

    Raises:
        DataError: A basin has no file, or more than one.
    """
    output = find_output(root, basins, forcing)
    folders = (
        (_forcing_folder(root, forcing), "_forcing_leap.txt"),
        (root / "usgs_streamflow", "_streamflow_qc.txt"),
        *([] if snow is None else [(snow, "_swe.csv")]),
    )
    indexes = [(folder, ending, _index(folder, ending)) for folder, ending in folders]
    result = []
    for gauge_id in basins:
        found = [_one_file(gauge_id, *index) for index in indexes]
        result.append(
            BasinFiles(
                gauge_id=gauge_id,
                forcing=found[0],
                discharge=found[1],
                swe=None if snow is None else found[2],
                swe_column=swe_column,
                sacsma=output.get(gauge_id),
            )
        )
    return result


def read_basin(files: BasinFiles) -> BasinRecord:
    """Read one basin.

    Raises:
        DataError: A file is missing or cannot be read; names it and the cure.
    """
    lines = read_lines(files.forcing, "CAMELS forcing")
    latitude, elevation, area = _read_header(files.forcing, lines)
    days, series = _read_forcing(files.forcing, lines)
    swe = column = None
    if files.swe is not None:
        swe_days, values, column = _read_swe(files.swe, files.swe_column)
        swe = on_days(days, swe_days, values)
    sacsma = None if files.sacsma is None else on_days(days, *read_output(files.sacsma))
    flow_days, flow = _read_discharge(files.discharge, files.gauge_id)
    depth = flow * FT3_IN_M3 * SECONDS_A_DAY * 1000 / area
    return BasinRecord(
        gauge_id=files.gauge_id,
        path=files.forcing,
        latitude=latitude,
        elevation=elevation,
        area=area,
        days=days,
        forcing=series,
        qobs=on_days(days, flow_days, depth),
        swe=swe,
        swe_column=column,
        qsim_sacsma=sacsma,
    )


def read_attributes(root: Path, basins: Sequence[str]) -> pd.DataFrame:
    """All attribute tables joined; index `gauge_id` in the order of `basins`.

    Numeric columns are float64, text columns (`huc_02`, `gauge_name`, ...) strings.

    Raises:
        DataError: A table is missing, is not one, or lacks a basin.
    """
    folder = root / "camels_attributes_v2.0"
    paths = [folder / f"camels_{name}.txt" for name in ATTRIBUTE_TABLES]
    return pd.concat([_read_attribute_table(path, basins) for path in paths], axis=1)


def _read_attribute_table(path: Path, basins: Sequence[str]) -> pd.DataFrame:
    lines = read_lines(path, "attribute table")
    header, *rows = [[field.strip() for field in line.split(";")] for line in lines]
    if header[0] != "gauge_id":
        raise DataError(
            f"{path}: line 1 must begin with the column `gauge_id`, but begins with "
            f"{header[0][:40]!r}; restore the file from the CAMELS-US archive"
        )
    at: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {number} has {len(row)} fields, line 1 has {len(header)}; "
                "correct the line"
            )
        if row[0] in at:
            raise DataError(
                f"{path}: line {number} lists basin {row[0]} again; remove one of its lines"
            )
        at[row[0]] = number
    absent = [b for b in basins if b not in at]
    if absent:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(
            f"{path}: has no line for basin {absent[0]}{more}; add it, or leave the basin out "
            "with --basins FILE"
        )
    chosen = [at[b] - 2 for b in basins]
    columns = {
        name: _attribute(path, name, [row[i] for row in rows], chosen)
        for i, name in enumerate(header)
        if i > 0
    }
    return pd.DataFrame(columns, index=pd.Index(list(basins), name="gauge_id"))


def _attribute(
    path: Path, name: str, texts: Sequence[str], chosen: Sequence[int]
) -> list[str] | np.ndarray:
    """Chosen rows of a column: numbers (empty or NA is NaN), or text if most of it is none."""
    empty = ("", "NA", "NaN", "nan")
    numbers = np.array([np.nan if t in empty else _number(t) for t in texts], np.float64)
    filled = [i for i, t in enumerate(texts) if t not in empty]
    wrong = [i for i in filled if not np.isfinite(numbers[i])]
    if name == "huc_02" or 2 * len(wrong) > len(filled):
        return [texts[i] for i in chosen]
    for i in set(wrong) & set(chosen):
        raise DataError(
            f"{path}: line {i + 2}: `{name}` is {texts[i][:40]!r}, not a number; correct the "
            "field, or leave it empty"
        )
    return numbers[list(chosen)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _forcing_folder(root: Path, forcing: str) -> Path:
    parent = root / "basin_mean_forcing"
    if not (parent / forcing).is_dir():
        there = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        raise DataError(
            f"{parent / forcing}: no such folder; --root must be a CAMELS-US folder in its "
            f"original layout, and --forcing one of: {', '.join(there) or '(none found)'}"
        )
    return parent / forcing


def _index(folder: Path, ending: str) -> dict[str, list[Path]]:
    """Id -> its files in the folder, or in a per-HUC folder below it."""
    index: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob(f"*{ending}"), *folder.glob(f"*/*{ending}")]):
        index.setdefault(path.name.partition("_")[0], []).append(path)
    if not index:
        raise DataError(
            f"{folder}: holds no <id>*{ending}, neither itself nor in folders below; give a "
            "folder in the original CAMELS layout"
        )
    return index


def _one_file(gauge_id: str, folder: Path, ending: str, index: dict[str, list[Path]]) -> Path:
    found = index.get(gauge_id, [])
    if not found:
        raise DataError(
            f"basin {gauge_id}: no file {folder}/[huc/]{gauge_id}*{ending}; put it there, or "
            "leave the basin out with --basins FILE"
        )
    if len(found) > 1:
        raise DataError(
            f"basin {gauge_id}: {len(found)} files ({', '.join(map(str, found))}); remove all but "
            "one of them"
        )
    return found[0]


def _read_header(path: Path, lines: Sequence[str]) -> tuple[float, float, float]:
    """Latitude in degrees north, elevation in m, area in m2."""
    header = [_number(line) for line in (*lines[:3], "", "", "")[:3]]
    for number, (value, what) in enumerate(
        zip(header, ("latitude", "elevation in m", "area in m2"), strict=True), start=1
    ):
        if not np.isfinite(value):
            text = lines[number - 1].strip()[:40] if number <= len(lines) else ""
            raise DataError(
                f"{path}: line {number} must be the basin's {what}, but is {text!r}; CAMELS "
                "forcing begins with latitude, elevation, area and a line of column names"
            )
    latitude, elevation, area = header
    if not area > 0:
        raise DataError(
            f"{path}: line 3 gives the catchment area as {area:g} m2; it must be above 0, write "
            "the basin's area there"
        )
    return latitude, elevation, area


def _read_forcing(path: Path, lines: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Days; name -> (day,) float32."""
    names = _column_names(path, lines[3] if len(lines) > 3 else "")
    table = read_table(path, lines[4:], dict.fromkeys(names, float), first_line=5)
    days = to_days(path, table["year"], table["mnth"], table["day"], first_line=5)
    for name, (low, high) in POSSIBLE.items():
        wrong = ~((table[name] >= low) & (table[name] <= high))
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{path}: line {at + 5} ({days[at]}): `{name}` is {table[name][at]:g} "
                f"{FORCING_UNITS[name]}; it must lie between {low} and {high}, and forcing must "
                "have no gap; correct the line, or leave the basin out with --basins FILE"
            )
    return days, {name: table[name].astype(np.float32) for name in FORCING_UNITS}


def _column_names(path: Path, line: str) -> list[str]:
    """Names in lower case, without their units, which must be those we know."""
    names = []
    for column in line.split():
        name, _, unit = column.lower().partition("(")
        unit = unit.rstrip(")")
        known = WRITTEN_UNITS.get(name, (unit,))
        if unit and unit not in known:
            raise DataError(
                f"{path}: line 4: `{name}` is in {unit}; CAMELS forcing has it in {known[0]}, "
                "convert it"
            )
        names.append(name)
    for name in dict.fromkeys(("year", "mnth", "day", *FORCING_UNITS, *names)):
        if names.count(name) != 1 or not name:
            what = "repeats" if name in names else "lacks"
            raise DataError(
                f"{path}: line 4 {what} the column `{name}`; it has {', '.join(names) or 'none'}; "
                "CAMELS forcing begins with latitude, elevation, area and a line of column names"
            )
    return names


def _read_discharge(path: Path, gauge_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Days; (day,) float64 ft3/s, NaN where missing."""
    lines = read_lines(path, "USGS discharge")
    kinds = {"gauge_id": str, "year": float, "month": float, "day": float, "q": float, "flag": str}
    table = read_table(path, lines, kinds, first_line=1)
    wrong = table["gauge_id"] != gauge_id
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: line {at + 1} belongs to basin {table['gauge_id'][at]}, "
            f"but the file is named for {gauge_id}; fetch the file again"
        )
    days = to_days(path, table["year"], table["month"], table["day"], first_line=1)
    return days, np.where(table["q"] < 0, np.nan, table["q"])  # -999.00 stands for missing


def _read_swe(path: Path, column: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Days, in order but not all; (day,) float64 mm, NaN where missing; the column's name."""
    days, swe, name = read_dated(path, column, SWE_COLUMNS, "snow water equivalent")
    if (swe < 0).any():
        at = int(np.flatnonzero(swe < 0)[0])
        raise DataError(
            f"{path}: line {at + 2} ({days[at]}): `{name}` is {swe[at]:g} mm; it cannot be "
            "negative, leave the field empty where there is no value"
        )
    return days, swe, name
