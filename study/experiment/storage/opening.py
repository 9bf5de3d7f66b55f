"""From a place as a user names it to its storage."""

from __future__ import annotations

from study.errors import InputError
from study.experiment.storage.local import LocalStorage
from study.experiment.storage.protocol import Storage

S3_SCHEME = "s3://"


def is_s3(place: object) -> bool:
    """Whether a place is a bucket, not a path."""
    return str(place).startswith(S3_SCHEME)


def open_storage(uri: str, *, check: bool = False) -> Storage:
    """Storage at a folder, or at `s3://bucket/prefix`.

    Args:
        uri: The place.
        check: Whether to refuse a place at once if it does not answer; else each operation goes
            on trying for about a minute.

    Raises:
        InputError: The place is of a kind that is not supported, or cannot be used.
    """
    if is_s3(uri):
        # Here, so that workers and commands whose results are local never load boto3.
        from study.experiment.storage.s3 import S3Storage

        storage = S3Storage(uri)
        if check:
            storage.check()
        return storage
    if "://" in uri:
        raise InputError(
            f"{uri}: results are kept in a folder or in S3; give --results a path, or "
            "s3://bucket/prefix"
        )
    return LocalStorage(uri)


def study_storage(name: str, results: str) -> Storage:
    """Where the study of this name keeps its results.

    Raises:
        InputError: The place cannot be used.
    """
    return open_storage(f"{results.rstrip('/')}/{name}", check=True)
