"""What every place of results promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol


class Storage(Protocol):
    """Objects by key (`events/00000001.jsonl`), below one place.

    Any method raises StorageError if the place cannot be reached or used.
    """

    uri: str

    def read(self, key: str) -> bytes:
        """Content of an object; FileNotFoundError if there is none."""

    def read_all(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Contents of several objects, in order; where each takes a while, several at a time."""

    def write(self, key: str, content: bytes) -> None:
        """Put an object, in place of an older one; readers see the old or the new, whole."""

    def create(self, key: str, content: bytes) -> None:
        """Put an object that must not be there; FileExistsError if it is."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with a prefix, sorted."""

    def digest(self, key: str) -> str | None:
        """SHA-256 of an object in hexadecimal, without fetching it; None if there is none."""
