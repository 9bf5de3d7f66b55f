"""Where a study keeps its results: small named objects, written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from study.errors import InputError, StudyError

ASIDE = re.compile(r"\..+\.[0-9a-f]{8}")
"""Names of files and folders that are being written, here and elsewhere in the results."""
FOLDER_PATIENCE_SECONDS = 600
"""A folder is a report or an export, which need not be a driver's: a younger one may be in work."""


class Storage(Protocol):
    """A folder of objects by key (`events/000001.jsonl`)."""

    uri: str

    def read(self, key: str) -> bytes:
        """Content of an object; FileNotFoundError if there is none."""

    def write(self, key: str, content: bytes) -> None:
        """Put an object, in place of an older one; readers see the old or the new, whole."""

    def create(self, key: str, content: bytes) -> None:
        """Put an object that must not be there; FileExistsError if it is."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with a prefix, sorted."""


class LocalStorage:
    """Objects as files below a folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).resolve()
        self.uri = str(self.folder)

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        aside = self._aside(key, content)
        aside.replace(self.folder / key)

    def create(self, key: str, content: bytes) -> None:
        aside = self._aside(key, content)
        try:
            os.link(aside, self.folder / key)  # unlike a rename, refuses an existing name
        finally:
            aside.unlink()

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> list[str]:
        parent = self.folder / prefix.rpartition("/")[0]
        paths = (p for p in parent.rglob("*") if p.is_file() and not p.name.startswith("."))
        found = (p.relative_to(self.folder).as_posix() for p in paths)
        return sorted(key for key in found if key.startswith(prefix))

    def remove_leftovers(self) -> None:
        """Remove what writers that were killed left half-written. For the one driver only."""
        for path in [p for p in self.folder.rglob(".*") if ASIDE.fullmatch(p.name)]:
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif time.time() - path.stat().st_mtime > FOLDER_PATIENCE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def _aside(self, key: str, content: bytes) -> Path:
        place = self.folder / key
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return aside


def open_storage(uri: str) -> Storage:
    """Storage at a folder.

    Raises:
        InputError: The place is of a kind that is not supported.
    """
    if "://" in uri:
        raise InputError(f"{uri}: results are kept in a folder; give --results a path")
    return LocalStorage(uri)


@contextmanager
def only_driver(storage: Storage) -> Iterator[None]:
    """Hold a study for one driver on this host; the lock goes with the process.

    Raises:
        StudyError: Another driver holds it.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    storage.folder.mkdir(parents=True, exist_ok=True)
    with (storage.folder / ".driver").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"{storage.uri}: another `study run` drives this study now; "
                "watch it with `study status`, or end it first"
            ) from None
        storage.remove_leftovers()
        yield
