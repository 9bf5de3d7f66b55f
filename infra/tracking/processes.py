"""Servers as background processes of a folder: started, waited for, stopped by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE_SECONDS = 300
SECONDS_TO_STOP = 20


class Failure(Exception):
    """A server could not be started or stopped; the message says what to do."""


def start(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a server in a session of its own, its output in `log/NAME.log`."""
    for part in ("log", "run"):
        (folder / part).mkdir(mode=0o700, exist_ok=True)
    log = os.open(log_file(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(log)
    _pid_file(folder, name).write_text(f"{process.pid} {_born(process.pid)}")


def stop(folder: Path, name: str) -> None:
    """End a server and its children; nothing happens if it does not run."""
    pid = running(folder, name)
    if pid is not None:
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_STOP
        while running(folder, name) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _pid_file(folder, name).unlink(missing_ok=True)


def running(folder: Path, name: str) -> int | None:
    """Process id of a server that lives. Its time of birth tells it from a later namesake."""
    with contextlib.suppress(OSError, ValueError):
        pid, born = _pid_file(folder, name).read_text().split()
        if _born(int(pid)) == born:
            return int(pid)
    return None


def wait_for(folder: Path, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if running(folder, name) is None:
            raise Failure(f"{name} ended; see the last lines of {log_file(folder, name)}")
        if time.monotonic() > deadline:
            stop(folder, name)
            raise Failure(
                f"{name} did not answer in {PATIENCE_SECONDS} s; see {log_file(folder, name)}"
            )
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a server says 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def log_file(folder: Path, name: str) -> Path:
    return folder / "log" / f"{name}.log"


def _pid_file(folder: Path, name: str) -> Path:
    return folder / "run" / f"{name}.pid"


def _born(pid: int) -> str:
    """Start time of a living process; a zombie has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(pid)
    return fields[19]
