"""Asynchronous halving: its weaker promise, kept whatever happens to workers and driver."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clock import Cluster, Simulation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from simulator import (
    CONDITIONS_ROUGH,
    Conditions,
    coarse,
    drive,
    hilly,
    never,
    open_book,
    outcome,
    sometimes,
)
from small import small_spec

from study.experiment.arms import expand
from study.experiment.book import Book
from study.experiment.eventlog import Event
from study.experiment.jobs import CLOSED, JobKey
from study.experiment.ledger import Ledger
from study.experiment.progress import most_epochs, planned_epochs, planned_jobs
from study.experiment.search import Sampler
from study.experiment.storage import LocalStorage
from study.spec import StudySpec


def asynchronous(**changes: Any) -> StudySpec:
    return small_spec(**{"search__halving": "asynchronous", "search__cohorts": 3} | changes)


def state(book: Ledger) -> dict[str, Any]:
    """All that a log implies."""
    rungs = {place: vars(rung) for place, rung in sorted(book.rungs.items()) if vars(rung)["_came"]}
    return outcome(book) | {"rungs": rungs, "closed": book.closed}


CONDITIONS = [
    Conditions(),
    Conditions(workers=5, seed=2),
    Conditions(workers=13, seed=3, losses=0.05),
    Conditions(workers=2, seed=5, losses=0.05, restarts=0.05),
    CONDITIONS_ROUGH,
]

STUDIES: dict[str, tuple[StudySpec, dict[str, Any]]] = {
    "two arms": (asynchronous(), {}),
    "ties, NaN, failures": (asynchronous(), {"score": coarse, "failure": sometimes}),
    "no rungs": (asynchronous(search__rungs=[]), {"failure": sometimes}),
    "four arms": (asynchronous(factors__model=["lstm", "ealstm"]), {"failure": sometimes}),
    "a reduction that few can pass": (asynchronous(search__reduction=7), {"failure": sometimes}),
    "a single trial": (asynchronous(search__cohorts=1, search__cohort_size=1), {}),
}


@pytest.mark.parametrize("conditions", CONDITIONS, ids=str)
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_ends_and_its_log_says_how(
    name: str, conditions: Conditions, tmp_path: Path
) -> None:
    spec, kind = STUDIES[name]
    book = drive(spec, LocalStorage(tmp_path), conditions, **kind)
    assert book.trained() and state(book)["open"] == []
    assert book.closed == Counter((k.arm, k.stage) for k in book.jobs)
    asked = Counter((k.arm, k.stage) for k in book.jobs)
    assert {asked[arm, "search"] for arm in book.arms} == {spec.trials_per_arm()}
    replayed = open_book(spec, LocalStorage(tmp_path))
    assert state(replayed) == state(book)
    assert len(replayed.log.events) == len(book.log.events)  # nothing was left to decide


def test_decisions_depend_on_the_order_of_reports(tmp_path: Path) -> None:
    """The promise is weaker: were this not so, cohorts need not wait for each other."""
    spec = asynchronous()
    books = [
        drive(spec, LocalStorage(tmp_path / str(seed)), Conditions(workers=5, seed=seed))
        for seed in range(3)
    ]
    statuses = [{key: book.status(key) for key in sorted(book.jobs)} for book in books]
    assert len({str(s) for s in statuses}) > 1


def cut(events: list[Event], number: int, folder: Path) -> LocalStorage:
    """What a driver leaves that dies after so many events."""
    storage = LocalStorage(folder)
    lines = "".join(f"{json.dumps(event)}\n" for event in events[:number])
    storage.create("events/00000001.jsonl", lines.encode())
    return storage


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Book:
    storage = LocalStorage(tmp_path_factory.mktemp("rough"))
    return drive(asynchronous(), storage, CONDITIONS_ROUGH, failure=sometimes)


def test_a_driver_may_die_after_any_event(rough: Book, tmp_path: Path) -> None:
    """Another goes on from there: what was decided stays, and the study ends."""
    events = rough.log.events
    for number in range(1, len(events), 7):
        storage = cut(events, number, tmp_path / str(number))
        before = Ledger(rough.spec, tuple(rough.arms.values()), events[:number])
        conditions = Conditions(workers=3, seed=number)
        book = drive(rough.spec, storage, conditions, failure=sometimes)
        assert book.log.events[:number] == events[:number]
        assert outcome(book)["open"] == []
        for key, job in before.jobs.items():
            assert book.jobs[key].hyperparameters == job.hyperparameters
            if job.status in CLOSED:
                assert book.status(key) == job.status


def came_to(ledger: Ledger, arm: str, rung: int) -> list[tuple[float, int]]:
    """Those that came to a rung or failed on the way, best first; found the long way."""
    below = [0, *ledger.spec.search.rungs]
    before = below[below.index(rung) - 1]
    found = []
    for job in ledger.stage(arm, "search"):
        if rung in job.scores:
            score = job.scores[rung]
            found.append((-score if math.isfinite(score) else math.inf, job.key.trial))
        elif job.failure is not None and before <= job.epochs < rung:
            found.append((math.inf, job.key.trial))
    return sorted(found)


def promotable(ledger: Ledger, arm: str, rung: int, *, least: int = 0) -> set[int]:
    came = came_to(ledger, arm, rung)
    best = came[: max(least, len(came) // ledger.spec.search.reduction)]
    waiting = {job.key.trial for job in ledger.stage(arm, "search")
               if job.status == "wait" and job.epochs == rung}  # fmt: skip
    return {trial for _, trial in best} & waiting


def at_rest(ledger: Ledger, arm: str) -> bool:
    jobs = list(ledger.stage(arm, "search"))
    return len(jobs) == ledger.spec.trials_per_arm() and all(job.status != "run" for job in jobs)


@pytest.mark.parametrize("name", STUDIES)
def test_who_goes_on_is_among_the_best_so_far(name: str, tmp_path: Path) -> None:
    """Every decision of a log follows the rule, and none that the rule asks for is missing."""
    spec, kind = STUDIES[name]
    book = drive(spec, LocalStorage(tmp_path), CONDITIONS_ROUGH, **kind)
    ledger = Ledger(spec, tuple(book.arms.values()))
    decided = 0
    for event in book.log.events:
        arms = [event["arm"]] if event["event"] == "decided" else []
        for arm in arms:
            decided += 1
            last = at_rest(ledger, arm)
            assert set(event["go"]) <= promotable(ledger, arm, event["rung"], least=int(last))
            if event["stop"]:
                assert last
                assert not any(promotable(ledger, arm, r, least=1) for r in spec.search.rungs)
        if event["event"] == "asked":  # a driver asks when it has decided all it can
            for arm in ledger.arms:
                assert not any(promotable(ledger, arm, r) for r in spec.search.rungs), event
        ledger.apply(event)
    assert decided > 2 or not spec.search.rungs or spec.trials_per_arm() == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cohorts=st.integers(1, 3),
    cohort_size=st.integers(1, 6),
    reduction=st.integers(2, 5),
    rungs=st.sets(st.integers(1, 3)),
    conditions=st.builds(
        Conditions,
        workers=st.integers(1, 9),
        seed=st.integers(0, 1000),
        losses=st.sampled_from([0.0, 0.1]),
        restarts=st.sampled_from([0.0, 0.1]),
    ),
    score=st.sampled_from([hilly, coarse]),
    failure=st.sampled_from([never, sometimes]),
)
def test_budgets(
    tmp_path_factory: pytest.TempPathFactory,
    cohorts: int,
    cohort_size: int,
    reduction: int,
    rungs: set[int],
    conditions: Conditions,
    score: Any,
    failure: Any,
) -> None:
    """As many trials in every arm, and no more epochs than `study check` says."""
    spec = asynchronous(search__cohorts=cohorts, search__cohort_size=cohort_size,
                        search__reduction=reduction, search__rungs=sorted(rungs),
                        search__sampler="random")  # fmt: skip
    storage = LocalStorage(tmp_path_factory.mktemp("budget"))
    book = drive(spec, storage, conditions, score=score, failure=failure)
    for arm in book.arms:
        epochs = sum(job.epochs for job in book.jobs.values() if job.key.arm == arm)
        assert epochs <= most_epochs(spec)
        assert len(list(book.stage(arm, "search"))) == spec.trials_per_arm()
        if failure is never:
            assert epochs >= planned_epochs(spec)
            assert any(job.status == "done" for job in book.stage(arm, "search"))
    if failure is never:
        assert len(book.jobs) == planned_jobs(spec, len(book.arms))


def test_an_arm_whose_trials_all_fail(tmp_path: Path) -> None:
    def snow_fails(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
        return 2 if key.arm == "lstm-snow" else None

    book = drive(asynchronous(), LocalStorage(tmp_path), CONDITIONS[1], failure=snow_fails)
    assert book.arm_failed("lstm-snow") and not book.arm_failed("lstm")
    assert book.trained()


def test_a_study_that_grows_keeps_what_it_has(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = drive(asynchronous(search__cohorts=1), storage, failure=sometimes)
    kept = {key: (job.hyperparameters, job.status) for key, job in first.jobs.items()}
    grown = drive(asynchronous(search__cohorts=3), storage, CONDITIONS[1], failure=sometimes)
    assert kept.items() <= {k: (j.hyperparameters, j.status) for k, j in grown.jobs.items()}.items()
    assert grown.closed["lstm", "search"] == 12
    assert outcome(grown)["open"] == []


def drawn(book: Book, index: int) -> Mapping[str, Any]:
    return book.jobs[JobKey("lstm", "search", index, 0)].hyperparameters


def test_cohorts_bound_what_the_sampler_learns_from(tmp_path: Path) -> None:
    """One worker: earlier cohorts are known when the next is begun. Twelve workers: nothing is."""
    spec = asynchronous(factors__snow=["off"])
    untaught = [Sampler(spec.search, expand(spec)[0], []).draw(i) for i in range(12)]
    one, many = (
        drive(spec, LocalStorage(tmp_path / str(workers)), Conditions(workers=workers))
        for workers in (1, 200)
    )
    assert [drawn(one, i) for i in range(4)] == untaught[:4]
    assert all(drawn(one, i) != untaught[i] for i in range(4, 12))
    assert [drawn(many, i) for i in range(12)] == untaught


def test_no_worker_waits_for_a_cohort(tmp_path: Path) -> None:
    """Until all trials are asked; with synchronous halving more than half of these GPUs idle."""
    shares = {}
    for halving in ("synchronous", "asynchronous"):
        spec = small_spec(search__cohorts=30, search__halving=halving, search__sampler="random")
        cluster = Cluster(gpus=16, arrival=0)
        measured = Simulation(spec, LocalStorage(tmp_path / halving), cluster).run()
        shares[halving] = measured.asking.share
    assert shares["asynchronous"] > 0.999
    assert shares["synchronous"] < 0.5


def test_the_tracking_server_hears_of_every_end(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "study")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    spec = asynchronous(search__cohorts=1)
    simulation = Simulation(spec, storage, Cluster(gpus=8), failure=sometimes, tracking_uri=uri)
    simulation.run()
    book, client = simulation.book, MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    told = Counter(run.data.tags["study.status"] for run in runs if "study.status" in run.data.tags)
    assert told == Counter(book.status(key) for key in book.jobs)
    assert told["stopped"] > 0


def scored(epoch: int, score: float) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1.0, "seconds": 1.0, "saved": True,
            "validation": {"nse_median": score, "nse_mean": score}}  # fmt: skip


def test_a_rung_step_by_step(tmp_path: Path) -> None:
    """One arm, six trials, rungs after 1 and 2 epochs of 4, one in three goes on."""
    spec = asynchronous(factors__snow=["off"], search__cohorts=2, search__cohort_size=3,
                        search__reduction=3)  # fmt: skip
    book = open_book(spec, LocalStorage(tmp_path))
    keys = [JobKey("lstm", "search", i, 0) for i in range(6)]
    for key in keys:
        job = book.next_job()
        assert job is not None and job.key == key
        book.live.add(key)

    def states() -> str:
        return " ".join(book.status(key) for key in keys)

    assert book.report(keys[0], scored(1, 0.5)) == "wait"  # one of one: too few
    assert book.report(keys[1], scored(1, 0.4)) == "wait"
    assert book.report(keys[2], scored(1, 0.3)) == "wait"  # the third lets the first go on
    assert states() == "run wait wait run run run"
    assert book.report(keys[3], scored(1, 0.6)) == "run"  # better than the one that went on
    assert book.report(keys[4], scored(1, 0.1)) == "wait"
    book.fail(keys[5], "diverged", lost=False)  # the sixth, and the worst: two may go on, and did
    assert states() == "run wait wait run wait failed"
    assert book.report(keys[3], scored(2, 0.6)) == "wait"  # one of one
    assert book.report(keys[0], scored(2, 0.7)) == "run"  # nobody else can come: the best goes on
    assert states() == "run wait wait wait wait failed"
    book.report(keys[0], scored(3, 0.7))
    assert book.report(keys[0], scored(4, 0.7)) == "done"  # and the others have nothing to hope for
    assert states() == "done stopped stopped stopped stopped failed"
    decided = [event for event in book.log.events if event["event"] == "decided"]
    assert [(e["rung"], e["go"], e["stop"]) for e in decided] == [
        (1, [0], []),
        (1, [3], []),
        (2, [0], []),
        (1, [], [1, 2, 4]),
        (2, [], [3]),
    ]
