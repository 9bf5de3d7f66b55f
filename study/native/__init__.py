"""Inner loops in C: built with the machine's own compiler at first use, kept for later ones.

`torch.nn.LSTM` on a processor repeats the attributes on every day, computes a gradient by the
inputs that nobody asked for, and reaches a third of the processor's arithmetic at the hidden and
batch sizes of hydrology. `recurrence.c` does neither and is two to three times as fast;
`muon.c` is what the optimiser Muon spends its time with. Where there is no C compiler, torch
computes both.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

FOLDER = Path(__file__).parent
SOURCES = tuple(sorted(FOLDER.glob("*.c")))
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno",
         "-fno-trapping-math", "-shared", "-fPIC")  # fmt: skip
"""Products and sums are contracted to one rounding; no option that reorders a sum is among them."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be built."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None or platform.system() == "Windows":
        return None
    try:
        path = _folder() / f"native-{_fingerprint(compiler)}.so"
        if not path.exists():
            _build(compiler, path)
        found = ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError):
        return None
    found.padded.argtypes, found.padded.restype = [ctypes.c_int64], ctypes.c_int64
    return found


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "study"


def _fingerprint(compiler: str) -> str:
    """Of all that the machine code follows from: a home directory may serve unlike machines."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
        lines = (line for line in processor.splitlines() if line.startswith(("flags", "Features")))
        features = next(lines, "")
    except OSError:
        features = platform.processor()
    texts = (path.read_text() for path in (*SOURCES, *sorted(FOLDER.glob("*.h"))))
    facts = (*texts, compiler, _version(compiler), *FLAGS, platform.machine(), features)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _version(compiler: str) -> str:
    done = subprocess.run([*compiler.split(), "--version"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").partition("\n")[0]


def _build(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        aside = Path(folder) / path.name
        subprocess.run([*compiler.split(), *FLAGS, *SOURCES, "-o", aside],
                       check=True, capture_output=True)  # fmt: skip
        aside.replace(path)  # whole or not at all, whoever else is building


def call(function: str, *arguments: int | Tensor | None) -> None:
    """Call a function of the library; tensors are float32, on the CPU and without gaps."""
    found = library()
    assert found is not None
    converted: list[ctypes.c_void_p | ctypes.c_int64 | None] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            if argument.dtype != torch.float32 or not argument.is_contiguous():
                raise TypeError(f"{function} takes float32 without gaps, but got {argument.dtype}")
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            converted.append(None if argument is None else ctypes.c_int64(argument))
    getattr(found, function)(*converted)


def padded(hidden_size: int) -> int:
    """Rows or columns that the library computes, some of which may be no one's."""
    found = library()
    assert found is not None
    return int(found.padded(hidden_size))


def widened(values: Tensor, width: int) -> Tensor:
    """Values with zeros for the columns that are no one's."""
    missing = width - values.shape[-1]
    return (pad(values, (0, missing)) if missing else values).contiguous()
