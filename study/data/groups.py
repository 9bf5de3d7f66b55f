"""Groups of variables that are added to a data store after it was built.

Each is one file, `STORE/added/GROUP.zip`: Zarr in a zip, with the store's basins and days, a digest
of its own and an account of where it comes from. One file can be put in the place of another at
once, so a store never holds half a group; what the store was built with is not touched.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import numpy as np
import xarray as xr
from zarr.storage import ZipStore

from study.errors import DataError

FOLDER = "added"
GROUP_SCHEMA = 1


def group_path(store: Path, group: str) -> Path:
    return store / FOLDER / f"{group}.zip"


def write_group(
    store: Path, group: str, dataset: xr.Dataset, digest: str, about: dict[str, Any]
) -> None:
    """Add a group to a store, or put it in the place of the one that is there.

    Args:
        store: The store's folder.
        group: Name of the group; that of each variable's `group`, too.
        dataset: Its variables on the store's basins and days.
        digest: Of the values.
        about: Where they come from, as plain data.

    Raises:
        DataError: It cannot be written; the store is as before.
    """
    path = group_path(store, group)
    dataset = dataset.drop_encoding().assign_attrs(
        schema=GROUP_SCHEMA, group=group, digest=digest, about=about
    )
    try:
        path.parent.mkdir(exist_ok=True)
        with TemporaryDirectory(prefix=f".{group}.", dir=path.parent) as aside:
            folder = Path(aside, "zarr")
            dataset.to_zarr(folder, zarr_format=2, consolidated=False)
            _pack(folder, Path(aside, "zip")).replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error}); the store is as before") from None


def _pack(folder: Path, out: Path) -> Path:
    """One file of a folder; zarr's own writer of zips leaves names in them twice."""
    with ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return out


def read_groups(store: Path, base: xr.Dataset) -> xr.Dataset:
    """The store with all that was added to it.

    Raises:
        DataError: A file is damaged, or belongs to other basins or days.
    """
    for path in sorted((store / FOLDER).glob("*.zip")):
        added = _open(path)
        same = all(np.array_equal(added[dim].values, base[dim].values) for dim in base.dims)
        if added.attrs.get("schema") != GROUP_SCHEMA or not same:
            raise DataError(
                f"{path}: was not made for this store (other basins, days or schema); remove it "
                "and add the group again"
            )
        group = str(added.attrs["group"])
        digests = base.attrs["digests"] | {group: added.attrs["digest"]}
        about = base.attrs.get("about", {}) | {group: added.attrs["about"]}
        base = base.assign(added.data_vars).assign_attrs(digests=digests, about=about)
    return base


def _open(path: Path) -> xr.Dataset:
    try:
        dataset: xr.Dataset = xr.open_zarr(
            ZipStore(path, mode="r"), consolidated=False, chunks=None
        )
        return dataset
    except Exception as error:  # whatever a damaged zip makes of the reading library
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read ({reason}); remove it and add the group again"
        ) from None
