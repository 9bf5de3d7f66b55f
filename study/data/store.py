"""The data store: one Zarr folder, one schema whatever the source.

An `xarray.Dataset` with dims `(basin, time)`, float32; attributes are `(basin,)` variables. Each
variable carries `units` and the `group` it belongs to (`forcing`, `discharge`, `snow`,
`snow_simulated`, `attributes`, `sacsma` where CAMELS has its output, and what is added later:
`shyft`); each group has a digest of its values, so that a study can name what it used.
"""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from study import __version__
from study.data import camels_us, sacsma
from study.data.groups import read_groups
from study.data.snow import DEGREE_DAY_FACTOR, THRESHOLD, degree_day_swe
from study.errors import DataError
from study.platform import cores

SCHEMA = 1
TEXT_ATTRIBUTES = ("huc_02", "gauge_name")
"""Attributes kept as text; other text columns of the source are left out."""
PARALLEL_FROM = 64
"""Basins from which reading is spread over processes; below it their start costs more."""


def build_camels_us(
    root: Path,
    out: Path,
    *,
    basins: Sequence[str] | None = None,
    forcing: str = "maurer_extended",
    snow: Path | None = None,
    snow_column: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Read CAMELS-US files into a new store.

    Args:
        root: Folder in the original CAMELS-US layout.
        out: The store; must not exist. It appears when it is complete, never before.
        basins: Gauge ids; all basins of the forcing product if None.
        forcing: Name of the forcing product.
        snow: Folder of `<id>_swe.csv`, or None for a store without observed snow.
        snow_column: Column of these files; the first of `camels_us.SWE_COLUMNS` if None.
        progress: Called with the number of basins read and their total.

    Returns:
        The store, opened.

    Raises:
        DataError: A file, a basin or the place of the store cannot be used.
    """
    _refuse_existing(out)
    ids = list(basins) if basins is not None else camels_us.list_basins(root, forcing)
    _refuse_repeated(ids)
    files = camels_us.find_files(root, ids, forcing=forcing, snow=snow, swe_column=snow_column)
    attributes = camels_us.read_attributes(root, ids)
    product = next((f.sacsma.product for f in files if f.sacsma), None)
    series: BasinSeries | None = None
    for row, record in enumerate(_spread(camels_us.read_basin, files)):
        series = series or BasinSeries(record, len(ids), product)
        series.put(row, record)
        progress(row + 1, len(ids))
    assert series is not None
    dataset = series.to_dataset(ids, attributes)
    dataset.attrs["source"] = "camels-us"
    dataset.attrs["forcing_product"] = forcing
    write_store(dataset, out)
    return open_store(out)


class BasinSeries:
    """The daily series of all basins, filled as they are read; only one copy is ever held."""

    def __init__(
        self, first: camels_us.BasinRecord, num_basins: int, sacsma_product: str | None
    ) -> None:
        self.first = first
        self.sacsma_product = sacsma_product
        names = [*first.forcing, "qobs", "swe_simulated"]
        names += [] if first.swe is None else ["swe"]
        names += [] if sacsma_product is None else ["qsim_sacsma"]
        shape = (num_basins, len(first.days))
        self.values = {name: np.full(shape, np.nan, np.float32) for name in names}
        self.area = np.zeros(num_basins)

    def put(self, row: int, record: camels_us.BasinRecord) -> None:
        """Take over one basin.

        Raises:
            DataError: Its forcing or its snow is not of the same kind as the first basin's.
        """
        self._check_same_kind(record)
        for name, series in record.forcing.items():
            self.values[name][row] = series
        self.values["qobs"][row] = record.qobs
        self.values["swe_simulated"][row] = degree_day_swe(
            record.forcing["prcp"], record.forcing["tmax"], record.forcing["tmin"]
        )
        if record.swe is not None:
            self.values["swe"][row] = record.swe
        if record.qsim_sacsma is not None:
            self.values["qsim_sacsma"][row] = record.qsim_sacsma
        self.area[row] = record.area

    def _check_same_kind(self, record: camels_us.BasinRecord) -> None:
        first = self.first
        if (record.days[0], record.days[-1]) != (first.days[0], first.days[-1]):
            short, full = sorted((record, first), key=lambda r: len(r.days))
            raise DataError(
                f"{short.path}: basin {short.gauge_id} has the days {short.days[0]} to "
                f"{short.days[-1]}, but basin {full.gauge_id} has {full.days[0]} to "
                f"{full.days[-1]}; all files of a forcing product have the same days, so this one "
                "was cut off: fetch it again, or leave the basin out with --basins FILE"
            )
        if record.swe_column != first.swe_column:
            raise DataError(
                f"basin {record.gauge_id}: its snow water equivalent is in the column "
                f"{record.swe_column}, that of basin {first.gauge_id} in {first.swe_column}; use "
                "files of one product"
            )

    def to_dataset(self, ids: Sequence[str], attributes: pd.DataFrame) -> xr.Dataset:
        """One dataset of the schema; shares the memory of the series."""
        time = self.first.days.astype("datetime64[ns]")
        dataset = xr.Dataset(coords={"basin": np.array(ids, dtype=object), "time": time})
        for name, values in self.values.items():
            dataset[name] = ("basin", "time"), values, self._attrs(name)
        group = {"group": "attributes"}
        dataset["area"] = "basin", self.area, {"units": "m2", **group}
        for name in attributes.columns:
            column = attributes[name]
            if name in TEXT_ATTRIBUTES:
                dataset[name] = "basin", column.to_numpy(object), group
            elif pd.api.types.is_numeric_dtype(column):
                dataset[name] = "basin", column.to_numpy(np.float64), group
        return dataset

    def _attrs(self, name: str) -> dict[str, str]:
        if name in camels_us.FORCING_UNITS:
            return {"units": camels_us.FORCING_UNITS[name], "group": "forcing"}
        if name == "qobs":
            return {"units": "mm/d", "group": "discharge"}
        if name == "swe":
            return {"units": "mm", "group": "snow", "column": str(self.first.swe_column)}
        if name == "qsim_sacsma":
            origin = {"product": str(self.sacsma_product), "source": sacsma.SOURCE}
            return {"units": "mm/d", "group": "sacsma", **origin}
        model = f"degree-day model, {DEGREE_DAY_FACTOR} mm/degC/d above {THRESHOLD} degC"
        return {"units": "mm", "group": "snow_simulated", "source": model}


def write_store(dataset: xr.Dataset, out: Path) -> None:
    """Write a dataset of the schema as a store: aside first, then renamed."""
    _refuse_existing(out)
    dataset = dataset.drop_encoding().assign_attrs(
        schema=SCHEMA, written_by=f"study {__version__}", digests=digests_of(dataset)
    )
    chunks = {"basin": min(64, dataset.sizes["basin"]), "time": dataset.sizes["time"]}
    encoding = {
        name: {"chunks": tuple(chunks[str(d)] for d in variable.dims), "compressors": None}
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind == "f"
    }
    aside = out.with_name(f".{out.name}.{platform.node()}.{os.getpid()}.building")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        dataset.to_zarr(aside, zarr_format=2, consolidated=True, encoding=encoding)
        aside.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error}); nothing was left there") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def open_store(path: Path | str) -> xr.Dataset:
    """Open a store; series are read when used.

    Raises:
        DataError: There is no store, or it is not of this schema.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such store; make it with `study data build --out {path} ...`")
    try:
        dataset: xr.Dataset = xr.open_zarr(path, consolidated=True, chunks=None)
    except Exception as error:  # whatever damaged metadata make of the reading library
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: is not a data store ({reason}); build it again with `study data build`"
        ) from None
    if "digests" not in dataset.attrs:
        raise DataError(
            f"{path}: is Zarr, but no data store: it has no digests of its groups; build one with "
            "`study data build`"
        )
    if dataset.attrs.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: has schema {dataset.attrs.get('schema')}, this version reads {SCHEMA}; "
            "build the store again with `study data build`"
        )
    return read_groups(path, dataset)


def verify(dataset: xr.Dataset, path: Path | str) -> None:
    """Compare every group's values with the digest written beside them.

    Raises:
        DataError: A value is not the one that was written.
    """
    try:
        found = digests_of(dataset)
    except Exception as error:  # a chunk that cannot be decoded
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: a part of it cannot be read ({reason}); the store was damaged, build it again"
        ) from None
    for group, digest in dataset.attrs["digests"].items():
        if found.get(group) != digest:
            raise DataError(
                f"{path}: the values of group `{group}` are not those that were written "
                "(digest differs); the store was damaged or edited, build it again"
            )


def variables_of(dataset: xr.Dataset, group: str) -> list[str]:
    """Names of a group's variables, in the order of the store."""
    return [str(n) for n, v in dataset.data_vars.items() if v.attrs.get("group") == group]


def describe(dataset: xr.Dataset) -> dict[str, Any]:
    """What a store holds, as plain data: what `study data info --json` prints."""
    groups: dict[str, Any] = {}
    for group, digest in dataset.attrs["digests"].items():
        variables = {
            name: {
                "units": dataset[name].attrs.get("units", ""),
                "missing": float(dataset[name].isnull().mean()),
            }
            for name in variables_of(dataset, group)
        }
        groups[group] = {"digest": digest, "variables": variables}
    time = pd.DatetimeIndex(dataset["time"].values)
    return {
        "basins": dataset.sizes["basin"],
        "first_day": str(time[0].date()),
        "last_day": str(time[-1].date()),
        "source": dataset.attrs["source"],
        "forcing_product": dataset.attrs["forcing_product"],
        "groups": groups,
    }


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise DataError(f"{out}: exists already; remove it, or give another --out")


def _remove_leftovers(out: Path) -> None:
    """Remove what builds of the same store left aside when they were killed on this machine."""
    for aside in out.parent.glob(f".{glob.escape(out.name)}.{platform.node()}.*.building"):
        try:
            os.kill(int(aside.name.split(".")[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(aside, ignore_errors=True)
        except (OSError, ValueError):
            pass  # another user's build, or a name that is not ours


def _refuse_repeated(ids: Sequence[str]) -> None:
    repeated = sorted({b for b in ids if list(ids).count(b) > 1})
    if repeated:
        raise DataError(f"basin {repeated[0]} is listed more than once; list each basin once")
    if not ids:
        raise DataError("the list of basins is empty; give one id a line")


def _spread(
    read: Callable[[camels_us.BasinFiles], camels_us.BasinRecord],
    files: Sequence[camels_us.BasinFiles],
) -> Iterator[camels_us.BasinRecord]:
    """Read basins, in order; a few are under way at a time, so that none pile up."""
    workers = min(cores(), 16)
    if len(files) < PARALLEL_FROM or workers == 1:
        yield from map(read, files)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        ahead = 4 * workers
        waiting = deque(pool.submit(read, f) for f in files[:ahead])
        try:
            for done in range(len(files)):
                record = waiting.popleft().result()
                if done + ahead < len(files):
                    waiting.append(pool.submit(read, files[done + ahead]))
                yield record
        finally:
            for future in waiting:
                future.cancel()


def digests_of(dataset: xr.Dataset) -> dict[str, str]:
    """Group -> SHA-256 of its basins, days, names, units and values."""
    groups = dict.fromkeys(str(v.attrs["group"]) for v in dataset.data_vars.values())
    return {group: _digest(dataset, group) for group in groups}


def _digest(dataset: xr.Dataset, group: str) -> str:
    digest = hashlib.sha256()
    digest.update("\n".join(map(str, dataset["basin"].values)).encode())
    digest.update(dataset["time"].values.astype("datetime64[D]").astype(np.int64).tobytes())
    for name in sorted(variables_of(dataset, group)):
        variable = dataset[name]
        digest.update(f"{name} {variable.attrs.get('units', '')}".encode())
        if variable.dtype.kind == "f":
            digest.update(np.ascontiguousarray(variable.values).data)
        else:
            digest.update("\n".join(map(str, variable.values)).encode())
    return digest.hexdigest()
