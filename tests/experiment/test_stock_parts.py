"""What the stock parts get wrong, each beside our engine on the same scenario.

Tune's asynchronous halving and Ray's MLflow callback run here as they come (Ray's Optuna searcher:
`test_stock_sampler.py`). A scenario returns facts, from the stock part and from ours; a test names
the fact that is right, and would fail on the stock part.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mlflow import MlflowClient
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from simulator import open_book
from small import small_spec

from study.experiment.book import Book
from study.experiment.cluster import connected
from study.experiment.eventlog import EventLog
from study.experiment.storage import LocalStorage
from study.experiment.tracking.tracker import Projection
from study.spec import StudySpec

SCORES = (0.5, 0.7, 0.9, 0.1, 0.3, 0.2)
"""Of six trials, in the order they are begun. By halves, the last three are to stop early."""
EPOCHS, RUNGS, REDUCTION = 4, (1, 2), 2
DEATH = (3, 1)
"""The driver dies when this trial, a bad one, has told of this epoch."""
COUNTED = (2, 3)
"""The report whose calls of the MLflow client are counted."""
SETTLED_SECONDS = 1.0
"""In which Tune saves that the trials before are done; if it does not, one of them comes first
after the death, and the bad trial is judged by it."""


@dataclass(kw_only=True)
class Search:
    """What became of the six trials, searched by one worker."""

    epochs: dict[int, int] = field(default_factory=dict)
    """Trial -> epochs it was trained for"""
    known: list[int] = field(default_factory=list)
    """At every report, the number of scores that the first rung has to judge by"""
    runs: list[Any] = field(default_factory=list)
    """What MLflow has of it"""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of the MLflow client for one report, `COUNTED`"""


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """As it was, when these tests end: the stock callback names its server there, and a `study run`
    of a later test would write to that."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stock")


@pytest.fixture(scope="module")
def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@contextmanager
def calls_counted(calls: Counter[str]) -> Iterator[None]:
    """Count what the MLflow client is asked for meanwhile."""

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_run", "log_metric", "log_param", "log_batch", "set_tag"):
            patch.setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
        yield


def runs_of(uri: str, experiment: str) -> list[Any]:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


# The stock parts: Tune, its asynchronous halving (ASHA) and Ray's MLflow callback


class WatchedASHA(ASHAScheduler):
    """ASHA, and a note of how many scores its first rung had before each report."""

    def __init__(self, notes: Path):
        super().__init__(
            metric="score",
            mode="max",
            max_t=EPOCHS,
            grace_period=RUNGS[0],
            reduction_factor=REDUCTION,
        )
        self.notes = notes

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        first = dict(self._brackets[0]._rungs)[RUNGS[0]]
        with self.notes.open("a") as file:
            print(len(first), file=file)
        verdict: str = super().on_trial_result(tune_controller, trial, result)
        return verdict


class DriverDies(tune.Callback):
    """Ends the driver, once."""

    def __init__(self, died: Path):
        self.died = died

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if (trial.config["trial"], result["training_iteration"]) == DEATH:
            if self.died.exists():
                return
            self.died.touch()
            raise RuntimeError("the driver dies")


def scripted() -> Any:
    """A trainable whose scores are known; a local class, which Ray takes to its workers whole."""

    class Scripted(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.config, self.epoch = config, 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            if (self.config["trial"], self.epoch) == DEATH:
                time.sleep(SETTLED_SECONDS)
            return {"score": SCORES[self.config["trial"]]}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "epoch").write_text(str(self.epoch))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.epoch = int(Path(checkpoint, "epoch").read_text())

    return tune.with_resources(Scripted, {"cpu": 2})  # one after the other


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    """Ray; Tune saves its state after every step, so that a restore has all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")
        with connected(None, num_cpus=2):
            yield


def stock_search(folder: Path, uri: str, name: str, *, dies: bool) -> Search:
    """The six trials by Tune; if its driver dies, `Tuner.restore` goes on."""
    died, notes, found = folder / f"{name} died", folder / f"{name} notes", Search()
    if not dies:
        died.touch()
    tracking = MLflowLoggerCallback(tracking_uri=uri, experiment_name=name)
    tuner = tune.Tuner(
        scripted(),
        param_space={"trial": tune.grid_search(list(range(len(SCORES))))},
        tune_config=tune.TuneConfig(scheduler=WatchedASHA(notes), reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
            callbacks=[tracking, DriverDies(died)],
        ),
    )
    with reports_counted(found.calls):
        if dies:
            with pytest.raises(tune.TuneError, match="the driver dies"):
                tuner.fit()
            tuner = tune.Tuner.restore(str(folder / name), scripted())
        results = tuner.fit()
    found.epochs = {r.config["trial"]: r.metrics["training_iteration"] for r in results}
    found.known = [int(line) for line in notes.read_text().split()]
    found.runs = runs_of(uri, name)
    return found


@contextmanager
def reports_counted(calls: Counter[str]) -> Iterator[None]:
    """Count the client's calls when the stock callback logs one report."""
    log = MLflowLoggerCallback.log_trial_result

    def counting(self: Any, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        counted = (trial.config["trial"], result["training_iteration"]) == COUNTED
        with calls_counted(calls if counted else Counter()):
            log(self, iteration, trial, result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MLflowLoggerCallback, "log_trial_result", counting)
        yield


@pytest.fixture(scope="module")
def stock(folder: Path, uri: str, ray_runs: None) -> dict[str, Search]:
    return {
        "calm": stock_search(folder, uri, "stock-calm", dies=False),
        "disturbed": stock_search(folder, uri, "stock-disturbed", dies=True),
    }


# Our engine: the book and its projection


def halving_spec(name: str) -> StudySpec:
    return small_spec(
        name=name,
        factors={"model": ["lstm"]},
        training__epochs=EPOCHS,
        search__rungs=list(RUNGS),
        search__reduction=REDUCTION,
        search__cohorts=1,
        search__cohort_size=len(SCORES),
        confirmation={"candidates": 1, "candidate_seeds": 1, "seeds": 1},
    )


def searching(book: Book) -> Iterator[tuple[int, int]]:
    """One worker trains until the book has its winner; yields (trial, epoch) at every report."""
    while book.winner("lstm") is None:
        job = book.next_job()
        assert job is not None
        epoch, status = job.saved, "run"
        while status == "run":
            epoch += 1
            score = SCORES[job.key.trial]
            status = book.report(
                job.key,
                {"epoch": epoch, "loss": 1.0, "seconds": 1.0, "saved": epoch in (*RUNGS, EPOCHS),
                 "validation": {"nse_median": score, "nse_mean": score}},
            )  # fmt: skip
            yield job.key.trial, epoch


def our_search(folder: Path, uri: str, name: str, *, dies: bool) -> Search:
    """The six trials by our engine; if its driver dies, the book and its projection are opened
    again, and what was not yet safe in the log is gone."""
    spec, storage, found = halving_spec(name), LocalStorage(folder / name), Search()
    log = EventLog(storage)
    log.append(event="study", spec={}, digests={}, provenance={})
    log.flush()
    for death in (DEATH, None) if dies else (None,):
        book = open_book(spec, storage)
        projection = Projection(book, uri)
        for reported in searching(book):
            found.known.append(sum(RUNGS[0] in job.scores for job in book.jobs.values()))
            if reported == death:
                break
            book.log.flush()
            with calls_counted(found.calls if reported == COUNTED else Counter()):
                projection.catch_up()
    trials = [job for job in book.jobs.values() if job.key.stage == "search"]
    found.epochs = {job.key.trial: job.epochs for job in trials}
    found.runs = runs_of(uri, name)
    return found


@pytest.fixture(scope="module")
def ours(folder: Path, uri: str) -> dict[str, Search]:
    return {
        "calm": our_search(folder, uri, "ours-calm", dies=False),
        "disturbed": our_search(folder, uri, "ours-disturbed", dies=True),
    }


# What is right


@pytest.mark.slow
def test_a_rung_forgets_nothing(stock: dict[str, Search], ours: dict[str, Search]) -> None:
    """ASHA's rungs are not among what `Tuner.restore` restores."""
    assert 0 not in stock["calm"].known[1:]
    assert 0 in stock["disturbed"].known[1:]
    for search in ours.values():
        assert search.known == sorted(search.known)
        assert search.known[-1] == len(SCORES)


@pytest.mark.slow
def test_a_death_of_the_driver_changes_no_decision(
    stock: dict[str, Search], ours: dict[str, Search]
) -> None:
    """Judged by an empty rung, bad trials go on."""
    assert stock["disturbed"].epochs != stock["calm"].epochs
    assert sum(stock["disturbed"].epochs.values()) > sum(stock["calm"].epochs.values())
    assert ours["disturbed"].epochs == ours["calm"].epochs == {0: 2, 1: 2, 2: 4, 3: 1, 4: 1, 5: 1}


@pytest.mark.slow
def test_a_trial_is_one_run(stock: dict[str, Search], ours: dict[str, Search]) -> None:
    """Of the two runs of a restored trial, the first looks as if it were still running."""
    found = stock["disturbed"].runs
    assert max(Counter(run.data.tags["trial_name"] for run in found).values()) == 2
    assert Counter(run.info.status for run in found)["RUNNING"] == 1
    for search in ours.values():
        jobs = [run for run in search.runs if run.data.tags["study.stage"] not in ("study", "arm")]
        identities = Counter(run.data.tags["study.identity"] for run in jobs)
        assert set(identities.values()) == {1} and len(jobs) == len(SCORES)
        assert {run.info.status for run in jobs} == {"FINISHED"}


@pytest.mark.slow
def test_runs_form_a_tree(stock: dict[str, Search], ours: dict[str, Search]) -> None:
    def roots(runs: list[Any]) -> int:
        return sum("mlflow.parentRunId" not in run.data.tags for run in runs)

    assert roots(stock["calm"].runs) == len(stock["calm"].runs) == len(SCORES)
    assert [roots(search.runs) for search in ours.values()] == [1, 1]


@pytest.mark.slow
def test_a_stopped_trial_is_told_from_a_complete_one(
    stock: dict[str, Search], ours: dict[str, Search]
) -> None:
    """By what the runs say of themselves, their lengths apart."""
    own = {"trial_name", "mlflow.runName"}
    said = [{k: v for k, v in run.data.tags.items() if k not in own} | {"status": run.info.status}
            for run in stock["calm"].runs]  # fmt: skip
    assert said == [{"status": "FINISHED"}] * len(SCORES)
    trials = [run for run in ours["calm"].runs if run.data.tags["study.stage"] == "search"]
    told = Counter(run.data.tags["study.status"] for run in trials)
    assert told == {"stopped": 5, "done": 1}


@pytest.mark.slow
def test_a_report_is_one_request(stock: dict[str, Search], ours: dict[str, Search]) -> None:
    """The stock callback sends each number by itself, and Tune's own with them."""
    assert stock["calm"].calls["log_metric"] >= 10 and stock["calm"].calls["get_run"] >= 1
    assert ours["calm"].calls == {"log_batch": 1}
