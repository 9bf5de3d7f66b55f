"""`make sanitize` sees what it is for: faults planted in a copy of the C code end its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from watched import REPOSITORY

TEST = "tests/models/test_native.py::test_outputs_and_gradients_are_those_of_torch[11-21-lstm]"


def sanitized(
    checkout: Path, name: str, before: str, after: str
) -> subprocess.CompletedProcess[str]:
    """One test with the checks, in a copy of this repository with another line of C."""
    for part in ("study", "tests", "infra/sanitize"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / part, checkout / part, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", checkout)
    (checkout / ".venv").symlink_to(sys.prefix)
    source = checkout / "study" / "native" / name
    text = source.read_text()
    assert text.count(before) == 1, f"{before} is not in {name} once"
    source.write_text(text.replace(before, after))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.run(
        ["infra/sanitize/run.sh", TEST], cwd=checkout, env=environment, capture_output=True,
        text=True, timeout=280,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(
    ("name", "before", "after", "report"),
    [
        pytest.param("recurrence.c", "h + (t + 1) * size", "h + (t + 2) * size",
                     "AddressSanitizer: heap-buffer-overflow", id="a day too far"),
        pytest.param("muon.c", "(size + BLOCK - 1)", "(size * INT64_MAX + BLOCK - 1)",
                     "runtime error: signed integer overflow", id="overflow"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_seen(
    tmp_path: Path, name: str, before: str, after: str, report: str
) -> None:
    done = sanitized(tmp_path, name, before, after)
    assert done.returncode != 0
    assert report in done.stdout + done.stderr
