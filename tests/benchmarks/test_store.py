"""What it costs to turn the text files of a benchmark into a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Bench

SCRIPT = Path(__file__).with_name("build_store.py")


@pytest.mark.benchmark
def test_build_of_531_basins(bench: Bench, tmp_path: Path) -> None:
    root = os.environ.get("CAMELS_US_531_ROOT")
    if root is None:
        pytest.skip("set CAMELS_US_531_ROOT to the folder of the 531 benchmark basins")
    command = [sys.executable, SCRIPT, root, tmp_path / "531.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"{found['basins']} basins"
    bench.limit(f"{name}, text to store (s)", ours=found["build_seconds"], limit=20)
    # What is left of it on a machine that has nothing else to do: 20 s of two cores.
    bench.limit(f"{name}, text to store, processor (s)", ours=found["processor_seconds"], limit=40)
    bench.limit(f"{name}, store opened (s)", ours=found["open_seconds"], limit=0.5)
    bench.add(
        f"{name}, memory of the build over the values (MB)",
        ours=found["grown"] / 1e6,
        reference=found["values"] / 1e6,
        target=2,
    )
