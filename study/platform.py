"""What differs from machine to machine: cores, and folders of one's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

OTHERS_MAY_WRITE = 0o022


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity
        return os.cpu_count() or 1


def is_private(path: Path) -> bool:
    """Whether a file or folder is this user's, and no one else may write to it."""
    if not hasattr(os, "geteuid"):  # Windows: homes are private by their ACL
        return True
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & OTHERS_MAY_WRITE


def private_folder() -> Path:
    """The user's cache folder of this package, made with mode 0700.

    `study` in XDG_CACHE_HOME or `~/.cache`; where that cannot be made or is not this user's alone,
    one in the folder of temporary files.

    Raises:
        OSError: Neither can be had.
    """
    for folder in (_in_the_home(), Path(tempfile.gettempdir(), f"study-{_user()}")):
        try:
            if folder is not None and _make_private(folder):
                return folder
        except OSError:
            continue
    raise OSError("there is no folder for copies that only this user may write to")


def _in_the_home() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "study"
    except RuntimeError:  # no HOME, and a user without a name, as in some containers
        return None


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _make_private(folder: Path) -> bool:
    """Whether it is this user's alone; a folder of the user's own is made so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder) and folder.stat().st_uid == _user():
        folder.chmod(0o700)
    return is_private(folder)
