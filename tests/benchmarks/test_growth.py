"""How costs grow: with basins, with hidden units, with workers; and a benchmark's simulation."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from study import models
from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.scaling import Scaler
from study.evaluation.metrics import all_metrics
from study.evaluation.simulate import simulate
from study.spec import KRATZERT_2019, TrainingSpec
from study.training.loop import DeviceData, Trainer

from .conftest import Bench, processor_seconds

INPUTS = Inputs(dynamic=("prcp", "srad", "tmax", "tmin", "vp"), static=KRATZERT_2019)
CONFIG = TrainingSpec(warmup=180, targets_per_window=180, batch_size=8, hidden_size=64)
YEARS_DAYS, WARMUP_DAYS = 3652, 365
THREADS = 2


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random_arrays(basins: int, windows: int = 2) -> StudyArrays:
    """Basins with so many windows of training days each."""
    draws = np.random.default_rng(1)
    days = CONFIG.warmup + (windows - 1) * CONFIG.targets_per_window
    return StudyArrays(
        basins=tuple(f"{i:08d}" for i in range(basins)),
        first_day=datetime.date(1998, 10, 1),
        inputs=INPUTS,
        dynamic=draws.normal(size=(basins, days, len(INPUTS.dynamic))).astype(np.float32),
        static=draws.normal(size=(basins, len(INPUTS.static))).astype(np.float32),
        qobs=draws.gamma(0.5, 2.0, (basins, days)).astype(np.float32),
        periods={"train": slice(CONFIG.warmup, days)},
        scaler=Scaler(means={}, stds={}, qobs_mean=1.0, qobs_std=1.4),
        qobs_std=np.full(basins, 1.4, np.float32),
    )


def pass_seconds(data: DeviceData, config: TrainingSpec) -> float:
    """Processor seconds of one pass of one thread, the median of three."""
    trainer = Trainer(data, model="lstm", inputs=INPUTS, config=config, seed=1)
    trainer.run_epoch()
    return float(np.median([processor_seconds(trainer.run_epoch) for _ in range(3)]))


@pytest.mark.benchmark
def test_growth_with_basins(bench: Bench) -> None:
    seconds = {
        n: pass_seconds(DeviceData(random_arrays(n)), CONFIG) / n for n in (29, 100, 250, 531)
    }
    for number in (100, 250, 531):
        bench.add(
            f"a pass, a basin, {number} basins over 29 (ms)",
            ours=seconds[number] * 1e3,
            reference=seconds[29] * 1e3,
            target=1.10,
        )


@pytest.mark.benchmark
def test_growth_with_hidden_units(bench: Bench) -> None:
    """Beside the arithmetic of the recurrence, which grows by H (H + inputs)."""
    data = DeviceData(random_arrays(64))
    seconds = {
        size: pass_seconds(data, CONFIG.model_copy(update={"hidden_size": size}))
        for size in (32, 64, 128, 256)
    }

    def arithmetic(size: int) -> int:
        return size * (size + len(INPUTS.dynamic))

    for size in (64, 128, 256):
        bench.add(
            f"a pass, hidden {size} over 32, against arithmetic",
            ours=seconds[size] / seconds[32],
            reference=arithmetic(size) / arithmetic(32),
            target=1.10,
        )


WORKER = """
from tests.benchmarks.test_growth import DeviceData, random_arrays, wall_seconds
print(wall_seconds(DeviceData(random_arrays(64)), threads=1))
"""


def wall_seconds(data: DeviceData, threads: int) -> float:
    torch.set_num_threads(1)
    trainer = Trainer(data, model="lstm", inputs=INPUTS, config=CONFIG, seed=1, threads=threads)
    trainer.run_epoch()
    started = time.perf_counter()
    for _ in range(10):
        trainer.run_epoch()
    return (time.perf_counter() - started) / 10


def together(workers: int) -> float:
    """Seconds a pass of the slowest of so many workers, each a process of one thread."""
    command = [sys.executable, "-c", WORKER]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    return max(float(process.communicate()[0]) for process in running)


@pytest.mark.benchmark
def test_growth_with_workers(bench: Bench) -> None:
    """Says something about a quiet machine only: seconds are those of the clock on the wall."""
    pairs = np.array([(together(2), together(1)) for _ in range(3)])
    two, one = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    bench.add("a pass, two workers over one (s)", ours=two, reference=one, ratio=ratio, target=1.10)
    data = DeviceData(random_arrays(64))
    pairs = np.array([[wall_seconds(data, threads) for threads in (2, 1)] for _ in range(3)])
    two, one = np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 0] / pairs[:, 1]))
    bench.add("a pass, two threads over one (s)", ours=two, reference=one, ratio=ratio, target=0.6)


@pytest.mark.benchmark
def test_simulation_of_a_benchmark(bench: Bench) -> None:
    """531 basins, ten years and a warm-up, all metrics, on two threads."""
    draws = np.random.default_rng(1)
    model = models.build(
        "lstm",
        models.NetworkConfig(
            num_dynamic=len(INPUTS.dynamic),
            num_static=len(INPUTS.static),
            **{n: getattr(CONFIG, n) for n in ("dropout", "forget_bias", "recurrent_init")},
            hidden_size=128,
        ),
        generator=torch.Generator().manual_seed(1),
    )
    shape = (531, WARMUP_DAYS + YEARS_DAYS, len(INPUTS.dynamic))
    dynamic = torch.from_numpy(draws.normal(size=shape).astype(np.float32))
    static = torch.from_numpy(draws.normal(size=(531, len(INPUTS.static))).astype(np.float32))
    obs = draws.gamma(0.5, 2.0, (531, YEARS_DAYS))

    def score() -> None:
        sim = simulate(model, dynamic, static, warmup=WARMUP_DAYS, threads=THREADS)
        all_metrics(sim=sim.numpy(), obs=obs)

    score()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(3):
        score()
    wall, processor = (time.perf_counter() - wall) / 3, (time.process_time() - processor) / 3
    bench.limit("531 basins, 10 years, simulated and scored (s)", ours=wall, limit=3)
    bench.limit("... processor (s)", ours=processor, limit=6)
