"""The page of calculated GPU throughput shows what its program prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INFRA = Path(__file__).resolve().parent.parent / "infra"


def test_the_page_shows_what_the_program_prints() -> None:
    command = [sys.executable, str(INFRA / "gpu_throughput.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.count("\n") == 11
    assert printed in (INFRA / "gpu.md").read_text()
