"""A data store in a bucket: pushed there once, and one checked copy of it on each host that reads.

The files of the store keep their names below the place; beside them lies `manifest.json` with their
digests, written last, so that a store without one is not complete.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from study import __version__
from study.data.store import open_store, verify
from study.errors import DataError
from study.experiment.cache import cache_folder, locked
from study.experiment.storage import Storage, open_storage

MANIFEST = "manifest.json"
FORMAT = 1
AT_A_TIME = 8
"""Files that are under way at a time."""

Progress = Callable[[int, int], None]
Digests = Mapping[str, str]
"""File of a store, relative to it -> its SHA-256."""


def push(
    store: Path, place: str, *, replace: bool = False, progress: Progress = lambda done, total: None
) -> int:
    """Copy a store to a place that other hosts can reach; goes on where it was stopped.

    Args:
        store: The store's folder.
        place: Such as `s3://bucket/us.zarr`.
        replace: Whether it may take the place of another store.
        progress: Called with the number of files that are there and their total.

    Returns:
        The number of files that had to be sent.

    Raises:
        DataError: The store is damaged, or another one is there.
        StorageError: The place cannot be used.
    """
    verify(open_store(store), store)
    storage = open_storage(place, check=True)
    files = _digests(store)
    older = _read_manifest(storage, required=False)
    if older not in (None, files):
        if not replace:
            raise DataError(f"{storage.uri}: holds another store; give another place, or --replace")
        storage.delete(MANIFEST)  # from here on it is neither of the two

    def send(name: str) -> bool:
        if storage.digest(name) == files[name]:
            return False
        storage.write(name, (store / name).read_bytes())
        return True

    sent = _each(send, list(files), progress).count(True)
    content = {"format": FORMAT, "written_by": f"study {__version__}", "files": files,
               "digest": _digest(files)}  # fmt: skip
    if older != files:
        storage.write(MANIFEST, json.dumps(content, indent=1).encode())
        for name in set(older or ()) - set(files):
            storage.delete(name)
    return sent


def fetch(place: str, *, progress: Progress = lambda done, total: None) -> Path:
    """A copy on this host of the store at a place; every file is compared with its digest.

    What an earlier call on this host fetched is not fetched again; what has been damaged since is.

    Raises:
        DataError: There is no complete store, or it is damaged.
        StorageError: The place cannot be used.
    """
    storage = open_storage(place, check=True)
    files = _read_manifest(storage, required=True)
    assert files is not None
    name = f"{PurePosixPath(storage.uri).name}-{_digest(files)[:16]}"
    folder = cache_folder("stores") / name
    aside = folder.with_name(f".{name}.fetching")

    with locked(folder.with_name(f".{name}.lock")):
        target = folder if folder.is_dir() else aside

        def get(file: str) -> None:
            _get(storage, file, files[file], target / file)

        _each(get, list(files), progress)
        if target is aside:
            aside.rename(folder)
    return folder


def _get(storage: Storage, file: str, digest: str, path: Path) -> None:
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return
    try:
        content = storage.read(file)
    except FileNotFoundError:
        raise _damaged(storage, f"lacks {file}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(storage, f"{file} differs from its digest")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    aside.write_bytes(content)
    aside.replace(path)


def _each(act: Callable[[str], Any], names: list[str], progress: Progress) -> list[Any]:
    """What comes of an act on every file, several at a time."""
    results = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for result in pool.map(act, names):
                results.append(result)
                progress(len(results), len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _digests(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store, except files that are still being written."""
    names = (path.relative_to(store) for path in sorted(store.rglob("*")) if path.is_file())
    whole = [name for name in names if not any(part.startswith(".") for part in name.parts[:-1])]
    contents = ((name.as_posix(), (store / name).read_bytes()) for name in whole)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents}


def _digest(files: Digests) -> str:
    """Of a store, by the digests of its files."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _read_manifest(storage: Storage, *, required: bool) -> dict[str, str] | None:
    """The digests at a place, checked; None if there are none."""
    try:
        content = json.loads(storage.read(MANIFEST))
    except FileNotFoundError:
        if not required:
            return None
        raise DataError(
            f"{storage.uri}: holds no complete data store; send one there with "
            f"`study data push STORE {storage.uri}`, or end a push that was stopped"
        ) from None
    except ValueError:
        raise _damaged(storage, f"{MANIFEST} is not JSON") from None
    try:
        files = dict(content["files"])
        sound = content["format"] == FORMAT and content["digest"] == _digest(files)
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound or not all(_is_inside(name) for name in files):
        raise _damaged(storage, f"{MANIFEST} is not that of a store")
    return files


def _is_inside(name: str) -> bool:
    """Whether a name from elsewhere stays inside the folder that it is written to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _damaged(storage: Storage, how: str) -> DataError:
    return DataError(
        f"{storage.uri}: is damaged ({how}); send it again with "
        f"`study data push STORE {storage.uri} --replace`"
    )
