"""Data stores, as Python code opens them."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import xarray as xr

from study.data.store import open_store as _open_store
from study.data.store import write_store as _write_store
from study.errors import InputError
from study.experiment.storage import is_s3

Where = str | os.PathLike[str]
"""A path, or `s3://...`."""

_opened: dict[int, tuple[Path, frozenset[str]]] = {}
"""Identity of a store that `open_store` gave -> its folder and variables: what was made of it since
is another object, or has others, and is not taken for it."""


def open_store(place: Where) -> xr.Dataset:
    """Open a data store.

    Args:
        place: Its folder, or `s3://...`, of which this host keeps a copy.

    Returns:
        Dims `(basin, time)`; every variable says its `units` and `group`. Values are read when
        they are asked for.

    Raises:
        DataError: There is no store, or it is not of this schema.

    Example:
        >>> store = study.open_store("us.zarr")
        >>> store["prcp"].dims, store["prcp"].units
        (('basin', 'time'), 'mm/d')
    """
    folder = folder_of(place)
    store = _open_store(folder)
    _opened[id(store)] = folder, frozenset(map(str, store.data_vars))
    weakref.finalize(store, _opened.pop, id(store))
    return store


def write_store(store: xr.Dataset, place: Where) -> None:
    """Write a data store.

    Args:
        store: Dims `(basin, time)`; every variable says its `units` and `group`, the dataset its
            `source` and `forcing_product`.
        place: A new folder.

    Raises:
        DataError: The place is taken.

    Example:
        >>> store = study.open_store("us.zarr").load()
        >>> store["swe_mine"] = (2 * store["swe"]).assign_attrs(units="mm", group="snow")
        >>> study.write_store(store, "mine.zarr")
        >>> study.open_store("mine.zarr")["swe_mine"].group
        'snow'
    """
    _write_store(store, Path(place))


def folder_of(store: Where | xr.Dataset) -> Path:
    """The folder of a store; of one in a bucket, this host's copy."""
    if isinstance(store, xr.Dataset):
        folder, names = _opened.get(id(store), (None, None))
        if folder is None or names != frozenset(map(str, store.data_vars)):
            raise InputError(
                "this dataset is not a store as `study.open_store` has opened it; name basins and "
                "days in the spec, or write what you changed with `study.write_store` and open that"
            )
        return folder
    if is_s3(str(store)):
        from study.experiment.shared_store import fetch

        return fetch(str(store))
    return Path(store)
