"""A copy of the checkout, in which a fault can be planted and tests be run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .faults import Fault

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_SECONDS = 120
"""Of one test; a fault may let it wait for ever."""

PROGRAM = """
import sys
from pathlib import Path
import study
assert Path(study.__file__).is_relative_to(Path.cwd()), f"{study.__file__} is tested"
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""

SLIPS = (
    *("ImportError", "ModuleNotFoundError", "NameError", "SyntaxError", "UnboundLocalError"),
    "Failed: Timeout",
)
"""Failures that say that a fault was written badly, or a machine is slow: no test has seen it."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What tests said, by name."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    void: tuple[str, ...]
    """Skipped, not collected, without their fixtures, or failed by a slip: they say nothing."""
    seconds: float
    output: str


class Checkout:
    """The files that git knows, as they are in the working tree, and a cache for their kernels."""

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        self.root, self._cache = self._folder / "checkout", self._folder / "cache"
        for name in _names():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, self.root / name)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """The copy with one fault."""
        path = self.root / fault.file
        before, sound = path.stat(), path.read_text()
        path.write_text(sound.replace(fault.old, fault.new))
        try:
            yield
        finally:
            path.write_text(sound)
            # as the bytecode of the run without faults remembers it
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def run(self, tests: Iterable[str], *, sound: bool) -> Answers:
        """Run tests: all of them on the sound copy; with a fault, until the first one fails."""
        found = self._folder / "answers.xml"
        found.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-c", PROGRAM, "-q", "-p", "no:cacheprovider", "--tb=short"),
            *(f"--timeout={TEST_SECONDS}", f"--junitxml={found}", "-o", "junit_family=xunit1"),
            *(() if sound else ("--exitfirst",)),
            *dict.fromkeys(tests),
        ]
        started = time.monotonic()
        ended = subprocess.run(
            command,
            cwd=self.root,
            env=self._environment(sound=sound),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = _read(found) if found.is_file() else {"void": ["pytest"]}
        return Answers(
            passed=tuple(said.get("passed", ())),
            failed=tuple(said.get("failed", ())),
            void=tuple(said.get("void", ())),
            seconds=time.monotonic() - started,
            output=ended.stdout,
        )

    def kernels(self) -> frozenset[str]:
        """The C libraries built so far: a changed source is another one."""
        return frozenset(path.name for path in self._cache.rglob("*.so"))

    def _environment(self, *, sound: bool) -> dict[str, str]:
        """Only the sound copy's bytecode is kept: no run may meet that of another fault."""
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(self._cache)}
        return {**os.environ, **own, **({} if sound else {"PYTHONDONTWRITEBYTECODE": "1"})}


def _names() -> list[str]:
    """Files that git tracks or would track, and that are there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    names = dict.fromkeys(filter(None, listed.stdout.split("\0")))
    return [name for name in names if (REPOSITORY / name).is_file()]


def _read(path: Path) -> dict[str, list[str]]:
    """Kind of answer -> the tests that gave it."""
    said: dict[str, list[str]] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        failure = case.find("failure")
        if failure is not None:
            kind = "void" if failure.get("message", "").startswith(SLIPS) else "failed"
        else:
            empty = case.find("error") is None and case.find("skipped") is None
            kind = "passed" if empty else "void"
        said.setdefault(kind, []).append(f"{case.get('file')}::{case.get('name')}")
    return said
