"""Forcing of a prediction: read from CSV, NetCDF or Zarr, and checked before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from study.data.features import INPUT_LIMITS
from study.data.groups import read_groups
from study.errors import DataError
from study.export.manifest import InputEntry, Manifest
from study.spec import nearest

SAME_UNITS = {
    "mm/d": ("mm/day", "mm d-1", "mm day-1", "mm/d", "kg m-2 d-1", "kg m-2 day-1"),
    "W/m2": ("w/m2", "w m-2", "w/m^2", "w/m**2", "w m**-2"),
    "degC": ("degc", "c", "°c", "celsius", "deg c", "degrees c", "degree_celsius",
             "degrees_celsius", "degrees celsius", "deg_c"),
    "Pa": ("pa", "pascal", "n m-2"),
    "mm": ("mm", "millimeter", "millimetre", "kg m-2", "kg/m2"),
    "s": ("s", "sec", "second", "seconds"),
    "1": ("1", "-", "", "fraction"),
}  # fmt: skip
"""Units of an input -> other ways to write them."""

BAD_CELL = "bad_cell"
"""Attribute of a variable of a CSV: its first value that is no number, and where."""


@dataclass(frozen=True, kw_only=True)
class Forcing:
    """Unscaled inputs of a prediction."""

    source: str
    """Named in errors."""
    data: xr.Dataset
    """Daily inputs `(basin, time)`; attributes `(basin,)`, where the source has them."""

    @property
    def basins(self) -> list[str]:
        return [str(b) for b in self.data["basin"].values]

    @property
    def days(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.data["time"].values)


def read_forcing(path: Path, attributes: Path | None = None) -> Forcing:
    """Read daily inputs.

    Args:
        path: A data store or other Zarr folder, a NetCDF file (`.nc`), each with dims
            `(basin, time)`; or a CSV with columns `gauge_id`, `date` and the inputs by name.
        attributes: CSV with `gauge_id` and static attributes, for basins the model does not know.

    Raises:
        DataError: A file cannot be read as one of these.
    """
    try:
        if path.is_dir():
            data = xr.open_zarr(path, chunks=None)
            if "digests" in data.attrs:  # a data store, which may have groups added
                data = read_groups(path, data)
        elif path.suffix in (".nc", ".nc4"):
            data = xr.open_dataset(path, engine="h5netcdf")
        else:
            data = _pivot(pd.read_csv(path, dtype={"gauge_id": str, "date": str}), str(path))
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes of the reading library
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as forcing ({reason}); give a data store, a NetCDF file with "
            "dims (basin, time), or a CSV with columns gauge_id, date and the inputs"
        ) from None
    forcing = from_dataset(data, str(path))
    if attributes is None:
        return forcing
    return Forcing(source=str(path), data=_with_attributes(forcing.data, attributes))


def from_dataset(data: xr.Dataset, source: str) -> Forcing:
    """Forcing from a dataset with the dims `(basin, time)`, as a store's.

    Args:
        data: Daily inputs by name; attributes `(basin,)`, where it has them.
        source: Named in errors.

    Raises:
        DataError: It has other dims, a basin twice, or days that are none.
    """
    if not {"basin", "time"} <= set(data.dims) or "basin" not in data.coords:
        raise DataError(f"{source}: must have the dims basin and time, but has {list(data.dims)}")
    data = data.assign_coords(basin=[str(b) for b in data["basin"].values])
    _check_axes(source, data)
    return Forcing(source=source, data=data)


def _check_axes(path: str, data: xr.Dataset) -> None:
    """Every basin once, every day once and in order."""
    basins, times = pd.Index(data["basin"].values), data["time"].values
    if not np.issubdtype(times.dtype, np.datetime64):
        raise DataError(f"{path}: `time` must hold dates, but holds {times.dtype}")
    days = pd.DatetimeIndex(times)
    if basins.has_duplicates:
        raise DataError(f"{path}: has basin {basins[basins.duplicated()][0]} twice; keep one")
    if not days.is_monotonic_increasing or days.has_duplicates:
        late = days[1:][np.diff(days.asi8) <= 0][0]
        raise DataError(f"{path}: days must follow each other, but {late:%Y-%m-%d} does not")
    if (days != days.normalize()).any():
        raise DataError(
            f"{path}: has {days[days != days.normalize()][0]}; the model takes one value a day, "
            "with no time of day"
        )


def from_table(table: pd.DataFrame, source: str) -> Forcing:
    """Forcing from lines, as those of a CSV.

    Args:
        table: Columns `gauge_id`, `date` (`2024-02-29`) and the inputs by name.
        source: Named in errors.

    Raises:
        DataError: A column is missing, a date is none, or a line is there twice.
    """
    return Forcing(source=source, data=_pivot(table, source))


def _pivot(table: pd.DataFrame, source: str) -> xr.Dataset:
    """(basin, time) of lines."""
    for name in ("gauge_id", "date"):
        if name not in table:
            raise DataError(
                f"{source}: cannot be read as forcing: it has no column `{name}`; its columns are "
                f"{', '.join(map(str, table.columns[:20]))}"
            )
    rows, basins = pd.factorize(table["gauge_id"])
    texts, written = pd.factorize(table["date"])
    days = pd.to_datetime(pd.Series(written), format="%Y-%m-%d", errors="coerce").to_numpy()
    bad = (rows < 0) | (texts < 0) | np.isnat(days[texts])
    if bad.any():
        line = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{source}: cannot be read as forcing: line {line + 2} has gauge_id "
            f"{table['gauge_id'].iloc[line]!r} and date {table['date'].iloc[line]!r}; a date is "
            "written 2024-02-29, and every line has both"
        )
    calendar, columns = np.unique(days[texts], return_inverse=True)
    places = rows * len(calendar) + columns
    order = np.sort(places)
    if (order[1:] == order[:-1]).any():
        row, column = divmod(int(order[1:][order[1:] == order[:-1]][0]), len(calendar))
        raise DataError(
            f"{source}: cannot be read as forcing: has basin {basins[row]} on "
            f"{np.datetime_as_string(calendar[column], 'D')} twice; keep one line"
        )
    data = xr.Dataset(coords={"basin": [str(b) for b in basins], "time": calendar})
    for name in table.columns.difference(["gauge_id", "date"], sort=False):
        values, told = _numbers(table[name])
        # float64, for a column may be a static attribute
        grid = np.full(len(basins) * len(calendar), np.nan)
        grid[places] = values
        data[name] = ("basin", "time"), grid.reshape(len(basins), len(calendar)), told
    return data


def _numbers(column: pd.Series) -> tuple[np.ndarray, dict[str, str]]:
    """A column's values, and a word on the first that is no number."""
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64), {}
    values = pd.to_numeric(column, errors="coerce")
    bad = values.isna() & column.notna()
    line = int(np.flatnonzero(bad)[0])
    return values.to_numpy(np.float64), {BAD_CELL: f"line {line + 2}: {column.iloc[line]!r}"}


def _with_attributes(data: xr.Dataset, path: Path) -> xr.Dataset:
    try:
        table = pd.read_csv(path, dtype={"gauge_id": str})
        table = table.set_index("gauge_id")
        if table.index.has_duplicates:
            raise ValueError(f"basin {table.index[table.index.duplicated()][0]} is there twice")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as attributes ({error}); give a CSV with the column gauge_id "
            "and one line a basin"
        ) from None
    table = table.reindex([str(b) for b in data["basin"].values]).select_dtypes("number")
    own = {str(name): ("basin", table[name].to_numpy(np.float64)) for name in table}
    return data.drop_vars([n for n in own if n in data]).assign(own)


def daily_series(forcing: Forcing, entry: InputEntry, days: pd.DatetimeIndex) -> np.ndarray:
    """(basin, day) float32 of one input, checked.

    Raises:
        DataError: It is not there, in other units, has a gap or an impossible value; says which
            basin and day.
    """
    data, source = forcing.data, forcing.source
    if entry.name not in data or set(data[entry.name].dims) != {"basin", "time"}:
        raise DataError(
            f"{source}: has no daily input `{entry.name}`"
            f"{'' if entry.units is None else f' ({entry.units})'}"
            f"{nearest(entry.name, map(str, data.data_vars))}"
        )
    variable = data[entry.name]
    _check_units(source, entry, variable.attrs.get("units"))
    series = variable.reindex(time=days).transpose("basin", "time").values.astype(np.float32)
    _check_gaps(forcing, entry.name, series, days, variable.attrs.get(BAD_CELL))
    low, high = INPUT_LIMITS.get(entry.name, (-np.inf, np.inf))
    beyond = (series < low) | (series > high)
    if beyond.any():
        row, day = _first(beyond)
        raise DataError(
            f"{source}: basin {forcing.basins[row]}, {days[day]:%Y-%m-%d}: `{entry.name}` is "
            f"{series[row, day]:g}, but must lie between {low:g} and {high:g} {entry.units}; "
            "look whether the column has other units"
        )
    return series


def _check_units(source: str, entry: InputEntry, given: object) -> None:
    if given is None or entry.units is None:
        return
    same = (entry.units.lower(), *SAME_UNITS.get(entry.units, ()))
    if str(given).strip().lower() not in same:
        raise DataError(
            f"{source}: `{entry.name}` is in {given}, the model takes {entry.units}; convert it"
        )


def _check_gaps(
    forcing: Forcing, name: str, series: np.ndarray, days: pd.DatetimeIndex, bad_cell: str | None
) -> None:
    gaps = ~np.isfinite(series)
    if not gaps.any():
        return
    row, day = _first(gaps)
    why = "" if bad_cell is None else f" (the column holds what is no number, {bad_cell})"
    raise DataError(
        f"{forcing.source}: basin {forcing.basins[row]} has no `{name}` on {days[day]:%Y-%m-%d}"
        f"{why}, one of {int(gaps.sum())} gaps of that input between {days[0]:%Y-%m-%d} and "
        f"{days[-1]:%Y-%m-%d}, on all of which the model is fed; fill the gap, or give another "
        "--period"
    )


def _first(found: np.ndarray) -> tuple[int, int]:
    row = int(np.flatnonzero(found.any(axis=1))[0])
    return row, int(np.flatnonzero(found[row])[0])


def told_once(forcing: Forcing, manifest: Manifest, known: pd.DataFrame) -> np.ndarray:
    """(basin, attribute) float64: as the model was trained with where it knows a basin, of the
    file where it is new.

    Raises:
        DataError: A basin has no value, or must not be new.
    """
    basins = forcing.basins
    new = [b for b in basins if b not in known.index]
    if new and manifest.bound_to_basins:
        raise DataError(
            f"{forcing.source}: basin {new[0]} is new to the model, {manifest.bound_to_basins}; "
            "predict basins that it was trained on"
        )
    values = np.empty((len(basins), len(manifest.attributes)))
    for column, name in enumerate(manifest.attributes):
        trained = known[name].reindex(basins).to_numpy(np.float64)
        if new:
            trained = np.where(np.isin(basins, new), _attribute(forcing, name, new), trained)
        if not np.isfinite(trained).all():
            basin = basins[int(np.flatnonzero(~np.isfinite(trained))[0])]
            raise DataError(f"{forcing.source}: basin {basin} has no value of `{name}`")
        values[:, column] = trained
    return values


def _attribute(forcing: Forcing, name: str, new: Sequence[str]) -> np.ndarray:
    """(basin,) values of an attribute; a CSV repeats them on every day."""
    if name not in forcing.data:
        raise DataError(
            f"{forcing.source}: basin {new[0]} is new to the model and the file has no attribute "
            f"`{name}`; give --attributes, a CSV with gauge_id and the attributes, or add it as a "
            "variable with the dim basin"
        )
    values = forcing.data[name].values.astype(np.float64)
    if "time" not in forcing.data[name].dims:
        return np.asarray(values)
    values = forcing.data[name].transpose("basin", "time").values
    low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    wrong = [b for b, ok in zip(forcing.basins, low == high, strict=True) if b in new and not ok]
    if wrong:
        raise DataError(
            f"{forcing.source}: attribute `{name}` of basin {wrong[0]} changes with time; it has "
            "one value a basin"
        )
    return np.asarray(low)
