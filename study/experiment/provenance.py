"""Where results come from: code, environment, host."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path

from study import __version__

STARTTIME = 19
"""Of what follows the process's name in /proc/PID/stat (proc(5)); counted from boot, in ticks."""
PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy", "pandas", "xarray", "zarr")


def collect() -> dict[str, object]:
    """Code, packages and hardware, as they are now."""
    return {
        "study": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": os.cpu_count(),
    }


def host() -> dict[str, object]:
    """This process, and how many seconds it has run."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "seconds": age()}


def age() -> float | None:
    """Seconds since this process began; None where the system does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[STARTTIME]) / os.sysconf("SC_CLK_TCK")
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 2)
    except (OSError, AttributeError):
        return None


def _git(*arguments: str) -> str | None:
    """Answer of git about the code that runs; None if it is not a checkout."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
