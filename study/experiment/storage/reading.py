"""Reading what must be there."""

from __future__ import annotations

from study.errors import StorageError
from study.experiment.storage.protocol import Storage


def read_result(storage: Storage, key: str) -> bytes:
    """Content of an object that a finished part of a study has left.

    Raises:
        StorageError: It is not there.
    """
    try:
        return storage.read(key)
    except FileNotFoundError:
        raise StorageError(
            f"{storage.uri}/{key} is missing, which the study's log says was written: the results "
            "are not whole; put the file back from a copy, or run the study again with another "
            "--results"
        ) from None
