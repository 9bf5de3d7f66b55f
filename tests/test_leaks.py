"""Nothing held out reaches a network: a study on corrupted held-out data comes out the same.

The study's own parts run here one job after the other, without Ray between them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import small_spec

from study.data.arrays import assemble
from study.data.splits import day_range
from study.data.store import open_store, variables_of, write_store
from study.experiment.arms import all_inputs, expand
from study.experiment.book import Book
from study.experiment.eventlog import EventLog
from study.experiment.storage import LocalStorage
from study.experiment.trial import RunningJob, Worker
from study.spec import Period, StudySpec
from study.training import checkpoint
from study.training.loop import DeviceData

# One trial an arm and no rung: nothing is chosen, so validation must not matter either.
NO_CHOICE = small_spec(search__cohorts=1, search__cohort_size=1, search__rungs=[])
CHOICE = small_spec(search__cohorts=2, search__cohort_size=2, search__rungs=[1])


def run_study(spec: StudySpec, store: Path, folder: Path) -> dict[str, Any]:
    """Train a whole study; returns the scaler, every decision and every job's final weights."""
    arms = expand(spec)
    arrays = assemble(open_store(store), spec, all_inputs(arms))
    storage = LocalStorage(folder)
    book = Book(spec, arms, EventLog(storage))
    worker = Worker(spec=spec, arms=book.arms, data=DeviceData(arrays), storage=storage)
    weights = {}
    while (job := book.next_job()) is not None:
        running = RunningJob(worker, job.key, job.hyperparameters, saved=job.saved)
        while book.report(job.key, running.step()) == "run":
            pass
        weights[str(job.key)] = checkpoint.dump(running.trainer)
    assert book.trained()
    return {
        "scaler": arrays.scaler,
        "qobs_std": arrays.qobs_std.tobytes(),
        "asked": {str(k): j.hyperparameters for k, j in book.jobs.items()},
        "decisions": book.decisions,
        "winners": [book.winner(arm) for arm in book.arms],
        "weights": weights,
    }


def corrupt(store: Path, out: Path, *, discharge: list[Period], inputs: list[Period]) -> Path:
    """A copy of a store with nonsense on these days: still numbers, so that nothing is refused."""
    dataset = open_store(store).load()
    draws = np.random.default_rng(7)
    names = {"qobs": discharge}
    names |= {n: inputs for g in ("forcing", "snow") for n in variables_of(dataset, g)}
    for name, periods in names.items():
        for period in periods:
            days = day_range(period, dataset.indexes["time"][0].date())
            values = dataset[name].values
            values[:, days] = draws.gamma(2.0, 50.0, values[:, days].shape)
    write_store(dataset, out)
    return out


def held_out_inputs(spec: StudySpec, store: Path) -> list[Period]:
    """All days but the training period's and its warm-up."""
    train, warmup = spec.data.periods.train, np.timedelta64(spec.training.warmup, "D")
    time = open_store(store)["time"].values.astype("datetime64[D]")
    first = np.datetime64(train.start) - warmup
    return [
        Period(start=time[0].item(), end=(first - 1).item()),
        Period(start=(np.datetime64(train.end) + 1).item(), end=time[-1].item()),
    ]


@pytest.fixture(scope="module")
def undisturbed(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_study(NO_CHOICE, synthetic_store, tmp_path_factory.mktemp("undisturbed"))


def test_held_out_days_leave_scalers_and_weights_alone(
    synthetic_store: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    periods = NO_CHOICE.data.periods
    assert periods.test is not None
    held_out = corrupt(
        synthetic_store,
        tmp_path / "store.zarr",
        discharge=[periods.validation, periods.test],
        inputs=held_out_inputs(NO_CHOICE, synthetic_store),
    )
    assert run_study(NO_CHOICE, held_out, tmp_path / "study") == undisturbed


def test_the_comparison_above_can_fail(
    synthetic_store: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    last = Period(start=NO_CHOICE.data.periods.train.end, end=NO_CHOICE.data.periods.train.end)
    one_day = corrupt(synthetic_store, tmp_path / "store.zarr", discharge=[last], inputs=[])
    found = run_study(NO_CHOICE, one_day, tmp_path / "study")
    assert found["scaler"] != undisturbed["scaler"]
    assert all(found["weights"][k] != w for k, w in undisturbed["weights"].items())


def test_the_test_period_decides_nothing(synthetic_store: Path, tmp_path: Path) -> None:
    """Search, halving and selection look at validation, and never at test."""
    test = CHOICE.data.periods.test
    assert test is not None
    corrupted = corrupt(synthetic_store, tmp_path / "store.zarr", discharge=[test], inputs=[test])
    clean = run_study(CHOICE, synthetic_store, tmp_path / "clean")
    assert run_study(CHOICE, corrupted, tmp_path / "corrupted") == clean
    assert clean["decisions"]
