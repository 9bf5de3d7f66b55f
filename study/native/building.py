"""The C library: built once a machine, kept in a folder of the user's own, checked when loaded.

A library's name tells what it was built from and the digest of its content, so that one which is
cut off, damaged or somebody else's is known before it is loaded, and built again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.platform import is_private, private_folder

FOLDER = Path(__file__).parent
SOURCES = tuple(sorted(FOLDER.glob("*.c")))
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno",
         "-fno-trapping-math", "-shared", "-fPIC")  # fmt: skip
"""Products and sums are contracted to one rounding; no option that reorders a sum is among them."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The library of this machine, or why there is none."""

    library: ctypes.CDLL | None = None
    compiler: str | None = None
    """As it names itself."""
    instructions: str | None = None
    """The set that the compiler built for, such as `avx512f`."""
    failure: str | None = None


def load() -> Loaded:
    """The library; built if there is none that is sound."""
    compiler = find_compiler()
    if platform.system() == "Windows":
        return Loaded(failure="it is not built on Windows")
    if compiler is None:
        return Loaded(failure="there is no C compiler (CC, cc or gcc)")
    try:
        version, folder = _version(compiler), private_folder()
        name = f"native-{_fingerprint(compiler, version)}"
        for path in sorted(folder.glob(f"{name}-*.so")):
            if _is_sound(path):
                return _opened(path, version)
            path.unlink(missing_ok=True)
        return _opened(_build(compiler, folder, name), version)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = lines[0] if lines else f"exit code {error.returncode}"
        return Loaded(failure=f"the C compiler {shlex.join(compiler)} fails: {reason[:300]}")
    except (OSError, AttributeError) as error:  # not to be made, not to be loaded; lacks a function
        return Loaded(failure=f"{shlex.join(compiler)} made no library that loads: {error}")


def find_compiler() -> list[str] | None:
    """The command of the C compiler, with the options that CC may have; None if there is none."""
    chosen = os.environ.get("CC")
    if chosen:
        return [chosen] if Path(chosen).is_file() else shlex.split(chosen)
    found = shutil.which("cc") or shutil.which("gcc")
    return None if found is None else [found]


def _version(compiler: Sequence[str]) -> str:
    done = subprocess.run([*compiler, "--version"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").partition("\n")[0]


def _fingerprint(compiler: Sequence[str], version: str) -> str:
    """Digest of all that the machine code follows from: a home may serve unlike machines."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
        lines = (line for line in processor.splitlines() if line.startswith(("flags", "Features")))
        features = next(lines, "")
    except OSError:
        features = platform.processor()
    texts = (path.read_text() for path in (*SOURCES, *sorted(FOLDER.glob("*.h"))))
    facts = (*texts, *compiler, version, *FLAGS, platform.machine(), features)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _is_sound(path: Path) -> bool:
    """Whether it is this user's own, and the content that was built."""
    return not path.is_symlink() and is_private(path) and path.stem.endswith(f"-{_digest(path)}")


def _build(compiler: Sequence[str], folder: Path, name: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        built = Path(aside, "native.so")
        subprocess.run([*compiler, *FLAGS, *SOURCES, "-o", built], check=True, capture_output=True)
        built.chmod(0o700)
        path = folder / f"{name}-{_digest(built)}.so"
        built.replace(path)  # whole or not at all, whoever else is building
    return path


def _opened(path: Path, version: str) -> Loaded:
    library = ctypes.CDLL(str(path))
    for function in ("forward", "backward", "muon_step"):
        getattr(library, function)
    library.padded.argtypes, library.padded.restype = [ctypes.c_int64], ctypes.c_int64
    library.instructions.restype = ctypes.c_char_p
    return Loaded(library=library, compiler=version, instructions=library.instructions().decode())
