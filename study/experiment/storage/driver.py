"""One driver at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.errors import StudyError
from study.experiment.storage.local import LocalStorage
from study.experiment.storage.protocol import Storage
from study.seeding import derive


@contextmanager
def only_driver(storage: Storage) -> Iterator[None]:
    """Hold a study for one driver on this host; the lock goes with the process.

    Drivers of several hosts shut each other out by the numbers of the event log's segments.

    Raises:
        StudyError: Another driver holds it.
    """
    with _lock_file(storage).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"{storage.uri}: another `study run` drives this study now; "
                "watch it with `study status`, or end it first"
            ) from None
        if isinstance(storage, LocalStorage):
            storage.remove_leftovers()
        yield


def _lock_file(storage: Storage) -> Path:
    """In the study's folder; of a study in a bucket, a file of this user on this host."""
    if isinstance(storage, LocalStorage):
        storage.folder.mkdir(parents=True, exist_ok=True)
        return storage.folder / ".driver"
    name = f"study-driver-{os.getuid()}-{derive(storage.uri):016x}"
    return Path(tempfile.gettempdir(), name)
