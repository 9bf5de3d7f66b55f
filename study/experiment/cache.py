"""What this host keeps for speed: all of it can be removed and comes back when it is needed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder(part: str) -> Path:
    """A folder for a kind of copies: in STUDY_CACHE_DIR, else where the desktop standard says."""
    chosen = os.environ.get("STUDY_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().resolve() / part
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "study" / part


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; others on this host wait for it. It goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
