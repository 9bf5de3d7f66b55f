"""10,000 trials on a simulated cluster: how busy it is, and what the driver needs for it.

.venv/bin/pytest -m benchmark -s --timeout=0 tests/benchmarks/test_simulator.py
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clock import Cluster, Measured, Simulation
from mlflow import MlflowClient
from simulator import chance, open_book
from small import small_spec

from study.experiment.jobs import JobKey
from study.experiment.storage import LocalStorage
from study.spec import StudySpec

from .conftest import Bench

TRIALS = 10_000
HOURS_OF_A_NODE = 12
"""Mean; then it is lost with its 8 GPUs, and another comes after 10 minutes."""
BUSY = 0.95
"""Share of GPU time that is enough."""


def study_of(arms: int, cohort_size: int, *, trials: int = TRIALS, **search: Any) -> StudySpec:
    """Rungs after 1, 3 and 9 of 27 epochs, one in three goes on; 17 jobs confirm an arm."""
    changes = {f"search__{key}": value for key, value in search.items()}
    return small_spec(
        factors={"model": ["lstm"], "forget_bias": [str(i) for i in range(arms)]},
        training__epochs=27,
        search__rungs=[1, 3, 9],
        search__reduction=3,
        search__cohort_size=cohort_size,
        search__cohorts=trials // (arms * cohort_size),
        confirmation={"candidates": 3, "candidate_seeds": 3, "seeds": 8},
        **changes,
    )


def rarely(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
    """Three in a hundred jobs diverge in their first epoch."""
    return 1 if chance("fails", *key) < 0.03 else None


def milliseconds(seconds: list[float], count: int) -> float:
    return 1e3 * sum(seconds) / count


@pytest.fixture(scope="module")
def _heading() -> None:
    print(
        f"\n{TRIALS} trials; GPUs x arms x cohort; busy while trials are left to ask, until the "
        "search ends, until all is trained;\nsimulated hours, epochs trained again; driver's "
        "processor time a job and a report (ms), to open the log again (s); real time (s)"
    )


def show(name: str, measured: Measured, jobs: int, opened: float) -> None:
    shares = [getattr(measured, phase).share for phase in ("asking", "search", "study")]
    print(
        f"{name:42}" + "".join(f"{share:7.1%}" for share in shares),
        f"{measured.hours:6.1f} {measured.repeated:5}",
        f"{milliseconds(measured.next_job + measured.idle, jobs):7.2f}",
        f"{milliseconds(measured.reports, len(measured.reports)):6.2f}",
        f"{opened:6.1f} {measured.real:6.0f}",
    )


SIZES = [(4, 25), (4, 125), (4, 625), (16, 25), (16, 125), (16, 625), (80, 25), (80, 125)]
TABLE = [
    *((gpus, *size, "synchronous", "random") for gpus in (64, 512) for size in SIZES),
    *((gpus, arms, 25, "asynchronous", "random") for gpus in (64, 512) for arms in (4, 16, 80)),
    (512, 16, 125, "synchronous", "tpe"),
    (512, 16, 25, "asynchronous", "tpe"),
]


@pytest.mark.benchmark
@pytest.mark.usefixtures("_heading")
@pytest.mark.parametrize(("gpus", "arms", "cohort_size", "halving", "sampler"), TABLE)
def test_ten_thousand_trials(
    bench: Bench,
    tmp_path: Path,
    gpus: int,
    arms: int,
    cohort_size: int,
    halving: str,
    sampler: str,
) -> None:
    spec = study_of(arms, cohort_size, halving=halving, sampler=sampler)
    storage = LocalStorage(tmp_path)
    cluster = Cluster(gpus=gpus, lifetime=HOURS_OF_A_NODE * 3600)
    simulation = Simulation(spec, storage, cluster, failure=rarely)
    measured = simulation.run()
    started = time.process_time()
    again = open_book(spec, storage)
    opened = time.process_time() - started
    assert again.trained() and again.closed == simulation.book.closed
    kind = "" if halving == "synchronous" else ", async"
    name = f"{gpus} x {arms} x {cohort_size}, {sampler}{kind}"
    show(name, measured, len(again.jobs), opened)
    bench.limit(f"{name}: idle (share)", ours=1 - measured.asking.share, limit=1 - BUSY)
    tenth = len(measured.reports) // 10
    last = milliseconds(measured.reports[-tenth:], tenth)
    bench.limit(f"{name}: last reports (ms)", ours=last, limit=1)


@pytest.mark.benchmark
def test_tracking_keeps_up(bench: Bench, tmp_path: Path) -> None:
    """The projection into MLflow's SQLite, in the driver's processor as in a real study."""
    spec = study_of(4, 25, trials=500)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    simulation = Simulation(
        spec, LocalStorage(tmp_path / "study"), Cluster(gpus=64), failure=rarely, tracking_uri=uri
    )
    measured = simulation.run()
    client, book = MlflowClient(tracking_uri=uri), simulation.book
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    assert len(runs) == 1 + len(book.arms) + len(book.jobs)
    share = measured.tracking / (3600 * measured.hours)
    bench.limit("tracking, 500 trials, 64 GPUs (share of the time)", ours=share, limit=1)
    spent = 1e3 * measured.tracking / len(measured.reports)
    print(f"tracking: {spent:.1f} ms a report, {len(measured.reports)} reports")
