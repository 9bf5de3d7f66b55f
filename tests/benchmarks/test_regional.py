"""The benchmark of 531 basins: how well networks simulate it after how long a training.

From the opened store to the score of the validation period. Runs for more than an hour, with
STUDY_BENCH_ACCURACY=1 and CAMELS_US_531_ROOT only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.data.store import build_camels_us

from .conftest import Bench

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "search_spaces" / "camels_us_531.yaml"
MINUTE = {
    "hidden_size": 64,
    "dropout": 0.0,
    "learning_rate": 6.5e-3,
    "output": "sinh",
    "discharge_scale": "basin",
    "clip_norm": 0.15,
    "gradient_warmup": 0,
    "epochs": 6,
}
"""What the study file says, made short."""
STEADY = {"gradient_warmup": 0}
BENT = MINUTE | {"dropout": 0.1, "epochs": 16}
"""Two kinds of networks that are wrong on different days, see the README beside."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    arm: str = "lstm"
    members: int = 1
    training: dict[str, Any] = field(default_factory=dict)
    """What is not as in the study file."""
    other: dict[str, Any] = field(default_factory=dict)
    """What is not so in the second half of the members."""
    seconds: float
    score: float


def of_two_kinds(name: str, *, arm: str, members: int, seconds: float, score: float) -> Recipe:
    return Recipe(name=f"{name} of two kinds", arm=arm, members=members, training=STEADY,
                  other=BENT, seconds=seconds, score=score)  # fmt: skip


RECIPES = (
    Recipe(name="LSTM in a minute", training=MINUTE, seconds=60, score=0.70),
    Recipe(name="LSTM", seconds=600, score=0.75),
    Recipe(name="EA-LSTM", arm="ealstm", seconds=600, score=0.73),
    of_two_kinds("4 LSTMs", arm="lstm", members=4, seconds=600, score=0.75),
    of_two_kinds("4 EA-LSTMs", arm="ealstm", members=4, seconds=600, score=0.73),
    of_two_kinds("8 LSTMs", arm="lstm", members=8, seconds=2700, score=0.77),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.environ.get("CAMELS_US_531_ROOT")
    if root is None or not os.environ.get("STUDY_BENCH_ACCURACY"):
        pytest.skip("takes an hour; set STUDY_BENCH_ACCURACY=1 and CAMELS_US_531_ROOT to run it")
    path = tmp_path_factory.mktemp("regional") / "us531.zarr"
    build_camels_us(Path(root), path)
    return path


@pytest.mark.benchmark
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_accuracy(bench: Bench, store: Path, recipe: Recipe) -> None:
    settings = [
        f"--{option}=training.{name}={value}"
        for option, changes in (("set", recipe.training), ("other", recipe.other))
        for name, value in changes.items()
    ]
    options = ["--arm", recipe.arm, "--members", str(recipe.members), *settings]
    command = [sys.executable, "-m", "tests.benchmarks.regional", SPEC, store, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    name = f"531 basins, {recipe.name}"
    bench.limit(f"{name} (s)", ours=found["seconds"], limit=recipe.seconds)
    bench.add(
        f"{name}, median NSE (more is better)",
        ours=found["nse"],
        reference=recipe.score,
        ratio=recipe.score / found["nse"],
        target=1,
    )
