"""The data store: one Zarr folder, one schema whatever the source.

An `xarray.Dataset` with dims `(basin, time)`, float32; attributes are `(basin,)` variables. Each
variable carries `units` and the `group` it belongs to (`forcing`, `discharge`, `snow`,
`attributes`); each group has a digest of its values, so that a study can name what it used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from study import __version__
from study.data import camels_us
from study.errors import DataError

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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Read CAMELS-US files into a new store.

    Args:
        root: Folder in the original CAMELS-US layout.
        out: The store; must not exist. It appears when it is complete, never before.
        basins: Gauge ids; all basins of the forcing product if None.
        forcing: Name of the forcing product.
        snow: Folder of `<id>_swe.csv`, or None for a store without snow.
        progress: Called with the number of basins read and their total.

    Returns:
        The store, opened.

    Raises:
        DataError: A file, a basin or the place of the store cannot be used.
    """
    _refuse_existing(out)
    ids = list(basins) if basins is not None else camels_us.list_basins(root, forcing)
    _refuse_repeated(ids)
    read = partial(camels_us.read_basin, root, forcing=forcing, snow=snow)
    records = []
    for record in _spread(read, ids):
        records.append(record)
        progress(len(records), len(ids))
    dataset = _assemble(records, camels_us.read_attributes(root, ids))
    dataset.attrs["source"] = "camels-us"
    dataset.attrs["forcing_product"] = forcing
    write_store(dataset, out)
    return open_store(out)


def write_store(dataset: xr.Dataset, out: Path) -> None:
    """Write a dataset of the schema as a store: aside first, then renamed."""
    _refuse_existing(out)
    dataset = dataset.assign_attrs(
        schema=SCHEMA, written_by=f"study {__version__}", digests=_digests(dataset)
    )
    chunks = {"basin": min(64, dataset.sizes["basin"]), "time": dataset.sizes["time"]}
    encoding = {
        name: {"chunks": tuple(chunks[str(d)] for d in variable.dims), "compressors": None}
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind == "f"
    }
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.building")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
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
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: is not a data store ({error}); build it again") from None
    if dataset.attrs.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: has schema {dataset.attrs.get('schema')}, this version reads {SCHEMA}; "
            "build the store again with `study data build`"
        )
    return dataset


def verify(dataset: xr.Dataset, path: Path | str) -> None:
    """Compare every group's values with the digest written beside them.

    Raises:
        DataError: A value is not the one that was written.
    """
    found = _digests(dataset)
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


def _refuse_repeated(ids: Sequence[str]) -> None:
    repeated = sorted({b for b in ids if list(ids).count(b) > 1})
    if repeated:
        raise DataError(f"basin {repeated[0]} is listed more than once; list each basin once")
    if not ids:
        raise DataError("the list of basins is empty; give one id a line")


def _spread(read: Callable[[str], Any], ids: Sequence[str]) -> Any:
    if len(ids) < PARALLEL_FROM:
        yield from map(read, ids)
        return
    workers = min(len(os.sched_getaffinity(0)), 16)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(read, ids, chunksize=8)


def _assemble(records: Sequence[camels_us.BasinRecord], attributes: pd.DataFrame) -> xr.Dataset:
    """One dataset on the calendar of the forcing; what a basin lacks is NaN."""
    time = pd.date_range(
        min(r.forcing.index[0] for r in records), max(r.forcing.index[-1] for r in records)
    )
    ids = np.array([r.gauge_id for r in records], dtype=object)
    dataset = xr.Dataset(coords={"basin": ids, "time": time})
    for name, units in camels_us.FORCING_UNITS.items():
        values = _stack([r.forcing[name] for r in records], time)
        dataset[name] = ("basin", "time"), values, {"units": units, "group": "forcing"}
    qobs = _stack([r.qobs for r in records], time)
    dataset["qobs"] = ("basin", "time"), qobs, {"units": "mm/d", "group": "discharge"}
    if records[0].swe is not None:
        swe = _stack([r.swe for r in records if r.swe is not None], time)
        dataset["swe"] = ("basin", "time"), swe, {"units": "mm", "group": "snow"}
    group = {"group": "attributes"}
    dataset["area"] = "basin", [r.area for r in records], {"units": "m2", **group}
    for name in attributes.columns:
        column = attributes[name]
        if name in TEXT_ATTRIBUTES:
            dataset[name] = "basin", column.to_numpy(object), group
        elif pd.api.types.is_numeric_dtype(column):
            dataset[name] = "basin", column.to_numpy(np.float64), group
    return dataset


def _stack(series: Sequence[pd.Series], time: pd.DatetimeIndex) -> np.ndarray:
    values = np.full((len(series), len(time)), np.nan, np.float32)
    for row, one in zip(values, series, strict=True):
        days = pd.DatetimeIndex(one.index)
        inside = (days >= time[0]) & (days <= time[-1])
        row[(days[inside] - time[0]).days] = one.to_numpy()[inside]
    return values


def _digests(dataset: xr.Dataset) -> dict[str, str]:
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
            digest.update(np.ascontiguousarray(variable.values).tobytes())
        else:
            digest.update("\n".join(map(str, variable.values)).encode())
    return digest.hexdigest()
