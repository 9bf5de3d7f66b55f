"""Training beside neuralhydrology on the 29 sample basins: scored days a second, time to a score.

The peer computes in an environment of its own (`make neuralhydrology`). Seconds are those of the
processor, of training alone, with one thread on either side: what other programs take meanwhile
does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from study.data.store import build_camels_us

from .conftest import Bench

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = Path(
    os.environ.get("NEURALHYDROLOGY_PYTHON", ROOT / ".venv-neuralhydrology" / "bin" / "python")
)
SPEC = ROOT / "search_spaces" / "camels_us_531.yaml"
PERIOD = "1981-10-01:1989-09-30"
"""Of validation, in `peer_training.py`, too."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the peer trains."""

    window: int
    targets: int
    batch: int
    learning_rate: float
    updates: int
    """Of a round that takes a few seconds."""
    target: float
    """Of the ratio."""


PEERS = {
    "published": Setting(
        window=365, targets=1, batch=256, learning_rate=1e-3, updates=10, target=1 / 100
    ),
    "fastest": Setting(
        window=730, targets=365, batch=64, learning_rate=5e-3, updates=5, target=1 / 3
    ),
}
ROUNDS = 10
OURS = {
    "hidden_size": 64,
    "dropout": 0.2,
    "learning_rate": 6.5e-3,
    "output": "sinh",
    "discharge_scale": "basin",
    "clip_norm": 0.15,
    "gradient_warmup": 0,
}
"""Beside what the study of 531 basins says."""


@pytest.fixture(scope="module")
def root(camels_root: Path | None) -> Path:
    if camels_root is None:
        pytest.skip("set CAMELS_US_ROOT to the folder of the 29 sample basins")
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is missing: `make neuralhydrology` builds it")
    return camels_root


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peer") / "us29.zarr"
    build_camels_us(root, path, forcing="maurer_extended")
    return path


def lines(command: list[Any]) -> list[dict[str, float]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          env=environment, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def peer(root: Path, setting: Setting, *, rounds: int, updates: int) -> list[dict[str, float]]:
    """A line for every round."""
    options = {
        "seq": setting.window,
        "last-n": setting.targets,
        "batch": setting.batch,
        "learning-rate": setting.learning_rate,
        "rounds": rounds,
        "updates": updates,
    }
    script, basins = HERE / "peer_training.py", root / "basins.txt"
    settings = [f"--{name}={value}" for name, value in options.items()]
    return lines([PYTHON, "-W", "ignore", script, root, basins, *settings])


def ours(store: Path, epochs: int) -> list[dict[str, float]]:
    """A line for every pass, the last with the score of a finished schedule."""
    training = OURS | {"epochs": epochs}
    settings = [f"--set=training.{name}={value}" for name, value in training.items()]
    period = f"--set=data.periods.validation={PERIOD}"
    command = [sys.executable, "-m", "tests.benchmarks.regional", SPEC, store, period]
    return lines([*command, "--every", 1, "--threads", 1, *settings])


@pytest.mark.benchmark
@pytest.mark.parametrize("name", PEERS)
def test_scored_days_a_second(bench: Bench, root: Path, store: Path, name: str) -> None:
    """The first pass and the first round warm up."""
    setting = PEERS[name]
    passes = ours(store, epochs=5)
    used = passes[-1]["train_processor_seconds"] - passes[0]["train_processor_seconds"]
    days = passes[-1]["scored_days"] * (len(passes) - 1)
    rounds = peer(root, setting, rounds=4, updates=setting.updates)
    theirs_used = rounds[-1]["processor_seconds"] - rounds[0]["processor_seconds"]
    windows = rounds[-1]["windows"] - rounds[0]["windows"]
    bench.add(
        f"a million scored days, peer's {name} setting (s)",
        ours=1e6 * used / days,
        reference=1e6 * theirs_used / (windows * setting.targets),
        target=setting.target,
    )


@pytest.mark.benchmark
@pytest.mark.parametrize("name", PEERS)
def test_time_to_equal_accuracy(bench: Bench, root: Path, store: Path, name: str) -> None:
    """Time until the best score that the peer reaches in the time it gets, by the shortest of our
    schedules that ends no lower."""
    budget = float(os.environ.get("STUDY_BENCH_PEER_SECONDS", 0))
    if not budget:
        pytest.skip("takes minutes; STUDY_BENCH_PEER_SECONDS=300 gives the peer so much time")
    setting = PEERS[name]
    probe = peer(root, setting, rounds=2, updates=setting.updates)
    a_round = probe[-1]["processor_seconds"] - probe[0]["processor_seconds"]
    updates = max(1, round(setting.updates * budget / a_round / ROUNDS))
    best = max(peer(root, setting, rounds=ROUNDS, updates=updates), key=lambda line: line["nse"])
    for epochs in (1, 2, 3, 5, 8, 12, 20, 40, 80):
        last = ours(store, epochs)[-1]
        if last["nse"] >= best["nse"]:
            break
    else:
        pytest.fail(f"the longest schedule ends at {last['nse']}, the peer at {best['nse']}")
    bench.add(
        f"29 basins to NSE {best['nse']:.2f}, peer's {name} setting (s)",
        ours=last["train_processor_seconds"],
        reference=best["processor_seconds"],
        target=setting.target,
    )
