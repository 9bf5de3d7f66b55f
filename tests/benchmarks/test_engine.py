"""What a study costs beyond its training: idle workers, the driver, the memory of a worker."""

from __future__ import annotations

import datetime
import functools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from clock import charged
from mlflow import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from small import small_content, small_spec

from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.scaling import Scaler
from study.data.store import build_camels_us
from study.experiment.arms import expand
from study.experiment.book import Book
from study.experiment.cluster import connected
from study.experiment.engine import Prepared, prepare
from study.experiment.eventlog import Event, EventLog
from study.experiment.jobs import JobKey
from study.experiment.storage import LocalStorage
from study.experiment.sweep import BookScheduler, BookSearcher, JobTrainable, sweep
from study.experiment.tracking.following import Tracker
from study.experiment.tracking.tracker import Projection
from study.experiment.trial import RunningJob, Worker
from study.spec import KRATZERT_2019, load_spec, parse_spec
from study.training.loop import DeviceData

from .conftest import Bench

SNOW = Path(__file__).parents[2] / "search_spaces" / "camels_us_snow.yaml"
WORKERS = 2
STOCK_TRIALS = 40
"""Enough for a mean: each starts processes of its own."""
CONTENT = small_content(
    training__epochs=27,
    training__batch_size=2,
    training__targets_per_window=50,
    search__rungs=[3, 9],
    search__reduction=3,
    search__cohorts=6,
    search__cohort_size=9,
    confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 2},
)
"""Two arms of 54 trials; an epoch is a fraction of a second."""


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    with connected(None, num_cpus=WORKERS):
        yield


@dataclass(kw_only=True)
class Cost:
    """Of a study, beyond its training."""

    overhead: float
    """Seconds of a worker's time that a trial took beyond its steps"""
    driver: float
    """Processor seconds a report, in callbacks and what they call"""
    tracking: float = 0.0
    """Processor seconds a report, of a thread beside"""


@contextmanager
def accounted(*methods: tuple[type, str]) -> Iterator[list[float]]:
    """Note the processor time of every call of these methods, of the thread that calls."""
    spent: list[float] = []

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with charged(spent):
                return method(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in methods:
            patch.setattr(owner, name, timed(getattr(owner, name)))
        yield spent


def new_database(folder: Path) -> str:
    """MLflow takes seconds to make one."""
    folder.mkdir(exist_ok=True)
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(tracking_uri=uri).search_experiments()
    return uri


def events_of_a_sweep(prepared: Prepared, folder: Path, uri: str) -> list[Event]:
    """Train a study, followed by the tracker."""
    storage = LocalStorage(folder / "study")
    log = EventLog(storage)
    log.append(event="study", spec={}, digests={}, provenance={})
    book = Book(prepared.spec, prepared.arms, log)
    with Tracker(book, uri):
        sweep(book, prepared.arrays, storage, num_workers=WORKERS, progress=lambda book: None)
    return log.events


def our_cost(prepared: Prepared, folder: Path) -> Cost:
    uri = new_database(folder)
    callbacks = [
        *((BookScheduler, n) for n in ("on_trial_result", "on_trial_add", "choose_trial_to_run")),
        *((BookSearcher, n) for n in ("suggest", "on_trial_complete")),
    ]
    with accounted(*callbacks) as driver, accounted((Projection, "catch_up")) as tracking:
        started = time.perf_counter()
        events = events_of_a_sweep(prepared, folder, uri)
        wall = time.perf_counter() - started
    steps = [event["seconds"] for event in events if event["event"] == "reported"]
    trials = sum(event["event"] == "asked" for event in events)
    return Cost(
        overhead=(WORKERS * wall - sum(steps)) / trials,
        driver=sum(driver) / len(steps),
        tracking=sum(tracking) / len(steps),
    )


def stock_trainable(shared: dict[str, Any]) -> Any:
    """The same work as a trainable of the usual kind."""

    class Stock(tune.Trainable):
        def setup(self, config: dict[str, Any], shared: dict[str, Any] | None = None) -> None:
            assert shared is not None
            torch.set_num_threads(1)
            worker = Worker(
                spec=shared["spec"],
                arms=shared["arms"],
                data=DeviceData(ray.get(shared["arrays"])),
                storage=LocalStorage(shared["storage"]),
            )
            key = JobKey(config.pop("arm"), "search", int(self.trial_id, 16), 0)
            self.job = RunningJob(worker, key, config, saved=0)
            self.scores: dict[str, float] = {}

        def step(self) -> dict[str, Any]:
            report = self.job.step()
            self.scores |= report.get("validation", {})
            return {"loss": report["loss"], "spent": self.job.spent, **self.scores}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """The job saves itself."""

    return tune.with_resources(tune.with_parameters(Stock, shared=shared), {"cpu": 1})


def stock_cost(prepared: Prepared, folder: Path) -> Cost:
    """By Tune, its asynchronous halving, Ray's Optuna searcher and Ray's MLflow callback."""
    uri, spec = new_database(folder), prepared.spec
    shared = {
        "spec": spec,
        "arms": {arm.name: arm for arm in prepared.arms},
        "arrays": ray.put(prepared.arrays),
        "storage": str(folder / "study"),
    }
    target = {"metric": "nse_median", "mode": "max"}
    space = {
        "arm": CategoricalDistribution([arm.name for arm in prepared.arms]),
        "learning_rate": FloatDistribution(0.003, 0.03, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
    }
    tuner = tune.Tuner(
        stock_trainable(shared),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space=space, seed=1, **target),
            scheduler=ASHAScheduler(
                max_t=spec.training.epochs,
                grace_period=spec.search.rungs[0],
                reduction_factor=spec.search.reduction,
                **target,
            ),
            num_samples=STOCK_TRIALS,
        ),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(folder),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="stock")],
        ),
    )
    callbacks = [
        *((MLflowLoggerCallback, f"log_trial_{n}") for n in ("start", "result", "end")),
        *((OptunaSearch, n) for n in ("suggest", "on_trial_result", "on_trial_complete")),
        (ASHAScheduler, "on_trial_result"),
    ]
    with accounted(*callbacks) as driver:
        started = time.perf_counter()
        results = tuner.fit()
        wall = time.perf_counter() - started
    reports = sum(result.metrics["training_iteration"] for result in results)
    spent = sum(result.metrics["spent"] for result in results)
    return Cost(overhead=(WORKERS * wall - spent) / STOCK_TRIALS, driver=sum(driver) / reports)


@pytest.mark.benchmark
def test_small_study(bench: Bench, synthetic_store: Path, tmp_path: Path, ray_runs: None) -> None:
    prepared = prepare(parse_spec(CONTENT, "the small study"), synthetic_store)
    stock = stock_cost(prepared, tmp_path / "stock")
    ours = our_cost(prepared, tmp_path / "ours")
    bench.limit("overhead a trial (s)", ours=ours.overhead, limit=0.25)
    bench.add(
        "overhead a trial, against stock Tune (s)",
        ours=ours.overhead,
        reference=stock.overhead,
        target=0.25,
    )
    bench.limit("driver's callbacks, a report, with Ray (ms)", ours=1e3 * ours.driver, limit=1)
    bench.add(
        "callbacks and tracker, against stock's (ms)",
        ours=1e3 * (ours.driver + ours.tracking),
        reference=1e3 * stock.driver,
        target=1,
    )


# How busy the workers are


@pytest.mark.benchmark
def test_search_of_29_basins(
    bench: Bench, camels_root: Path | None, tmp_path: Path, ray_runs: None
) -> None:
    """One cohort an arm of the snow study, with a quarter of its epochs."""
    if camels_root is None:
        pytest.skip("set CAMELS_US_ROOT to the folder of the 29 sample basins")
    settings = ["search.cohorts=1", "training.epochs=15", "search.rungs=[3, 8]"]
    settings += ["confirmation.candidates=1", "confirmation.seeds=1"]
    build_camels_us(camels_root, tmp_path / "29.zarr", snow=camels_root / "swe_uaz")
    prepared = prepare(load_spec(SNOW, settings), tmp_path / "29.zarr")
    events = events_of_a_sweep(prepared, tmp_path, new_database(tmp_path))
    idle = 1 - busy_share(events)
    bench.limit("29 basins, search: share of time without a step", ours=idle, limit=0.08)


def busy_share(events: list[Event]) -> float:
    """Of the workers' time, from the first trial asked to the last search report."""
    began = next(e["time"] for e in events if e["event"] == "asked")
    reports = [e for e in events if e["event"] == "reported"]
    ended = max(e["time"] for e in reports if JobKey.parse(e["key"]).stage == "search")
    steps = sum(e["seconds"] for e in reports if e["time"] <= ended)
    return float(steps / (WORKERS * (ended - began)))


# The memory of a worker


def arrays_of_531_basins() -> StudyArrays:
    """Of the size of the benchmark's; what the numbers are is no matter."""
    draws, shape = np.random.default_rng(1), (531, 10_593)
    inputs = Inputs(dynamic=("prcp", "srad", "tmax", "tmin", "vp", "swe"), static=KRATZERT_2019)
    return StudyArrays(
        basins=tuple(f"{i:08d}" for i in range(shape[0])),
        first_day=datetime.date(1980, 1, 1),
        inputs=inputs,
        dynamic=draws.random((*shape, len(inputs.dynamic)), dtype=np.float32),
        static=draws.random((shape[0], len(inputs.static)), dtype=np.float32),
        qobs=draws.random(shape, dtype=np.float32),
        periods={"train": slice(365, 4000), "validation": slice(4000, 7000)},
        scaler=Scaler(means={}, stds={}, qobs_mean=0.5, qobs_std=0.3),
        qobs_std=np.ones(shape[0], np.float32),
    )


def megabytes(pid: int) -> float:
    """A process's share of memory: what it shares with n others counts one in n + 1 times."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1e3


@contextmanager
def bare_torch() -> Iterator[int]:
    """A process that has imported torch and done nothing else."""
    command = [sys.executable, "-c", "import torch; print('there', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdin is not None and it.stdout is not None
        it.stdout.readline()
        yield it.pid
        print(file=it.stdin)


def started(trainable: Any) -> tuple[Any, int]:
    """An actor as Tune starts it, and its process."""

    class Known(trainable):  # type: ignore[misc]
        def where(self) -> int:
            import os

            return os.getpid()

    actor = ray.remote(num_cpus=0)(Known).remote({"key": "lstm/search/0/0"})
    return actor, ray.get(actor.where.remote())


def bare_trainable() -> Any:
    class Bare(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            torch.set_num_threads(1)

    return Bare


@pytest.mark.benchmark
def test_memory_of_a_further_worker(bench: Bench, ray_runs: None) -> None:
    arrays, spec = arrays_of_531_basins(), small_spec()
    _ = arrays.target
    shared = {
        "spec": spec,
        "arms": {arm.name: arm for arm in expand(spec)},
        "arrays": ray.put(arrays),
        "storage": "/nowhere",
    }
    ours = tune.with_parameters(JobTrainable, shared=shared)
    actors = [started(ours), started(ours), started(bare_trainable())]
    _, further, bare = (pid for _, pid in actors)
    tenth = arrays.num_bytes / 1e6 / 10
    with bare_torch() as alone:
        bench.add(
            "a further worker, over torch + 1/10 store (MB)",
            ours=megabytes(further),
            reference=megabytes(alone) + tenth,
            target=1,
        )
        bench.add(
            "... over a bare Tune trainable + 1/10 store (MB)",
            ours=megabytes(further),
            reference=megabytes(bare) + tenth,
            target=1,
        )
