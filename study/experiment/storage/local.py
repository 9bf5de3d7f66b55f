"""Results in a folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

ASIDE = re.compile(r"\..+\.[0-9a-f]{8}")
"""Names of files and folders that are being written, here and elsewhere in the results."""
FOLDER_PATIENCE_SECONDS = 600
"""A folder is a report or an export, which need not be a driver's: a younger one may be in work."""


class LocalStorage:
    """Objects as files below a folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).resolve()
        self.uri = str(self.folder)

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def read_all(self, keys: Sequence[str]) -> Iterator[bytes]:
        return map(self.read, keys)

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

    def digest(self, key: str) -> str | None:
        try:
            with (self.folder / key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

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
