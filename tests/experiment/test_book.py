"""The study's book without Ray: the same decisions whatever happens to workers and driver."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
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
from study.experiment.book import MAX_LOSSES, Book
from study.experiment.eventlog import EventLog
from study.experiment.jobs import CLOSED, JobKey, rungs_of
from study.experiment.progress import (
    is_finished,
    planned_epochs,
    planned_jobs,
    seconds_left,
    winner_of,
)
from study.experiment.storage import LocalStorage
from study.spec import StudySpec

NewStorage = Callable[[], LocalStorage]


@pytest.fixture
def new_storage(tmp_path: Path) -> NewStorage:
    used: list[LocalStorage] = []

    def new() -> LocalStorage:
        used.append(LocalStorage(tmp_path / str(len(used))))
        return used[-1]

    return new


CONDITIONS = [
    Conditions(workers=2, seed=1),
    Conditions(workers=5, seed=2),
    Conditions(workers=13, seed=3),
    Conditions(workers=1, seed=4, restarts=0.05),
    Conditions(workers=2, seed=5, losses=0.05, restarts=0.02),
    CONDITIONS_ROUGH,
]

STUDIES: dict[str, tuple[StudySpec, dict[str, Any]]] = {
    "two arms": (small_spec(), {}),
    "failures": (small_spec(), {"failure": sometimes}),
    "ties, NaN, failures": (small_spec(), {"score": coarse, "failure": sometimes}),
    "one cohort without rungs": (small_spec(search__cohorts=1, search__rungs=[]), {}),
    "three cohorts, four arms": (
        small_spec(search__cohorts=3, factors__model=["lstm", "ealstm"]),
        {"failure": sometimes},
    ),
    "a random sampler": (small_spec(search__sampler="random"), {"failure": sometimes}),
    "a single trial": (small_spec(search__cohorts=1, search__cohort_size=1), {}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_conditions_change_nothing(name: str, new_storage: NewStorage) -> None:
    """Workers, order, deaths of workers and of the driver: not a function of any of them."""
    spec, kind = STUDIES[name]
    expected = outcome(drive(spec, new_storage(), **kind))
    assert expected["open"] == []
    for conditions in CONDITIONS:
        storage = new_storage()
        book = drive(spec, storage, conditions, **kind)
        assert outcome(book) == expected, conditions
        replayed = open_book(spec, storage)
        assert outcome(replayed) == expected, "replay"
        for counted in (book, replayed):
            assert counted.closed == Counter((k.arm, k.stage) for k in counted.jobs)


def test_the_simulator_disturbs(new_storage: NewStorage) -> None:
    """The test above could not fail if orders were alike and nobody died."""
    calm = drive(small_spec(), new_storage())
    rough = drive(small_spec(), new_storage(), CONDITIONS[-1])
    order = [[e["key"] for e in b.log.events if e["event"] == "asked"] for b in (calm, rough)]
    assert order[0] != order[1]
    assert sum(event["event"] == "lost" for event in rough.log.events) > 5


def test_scores_decide(new_storage: NewStorage) -> None:
    """Nor could it fail if decisions ignored the scores."""

    def turned(key: JobKey, hyperparameters: Mapping[str, Any], epoch: int) -> float:
        return -hilly(key, hyperparameters, epoch)

    one, other = (drive(small_spec(), new_storage(), score=s) for s in (hilly, turned))
    assert outcome(one)["decisions"] != outcome(other)["decisions"]
    assert outcome(one)["hyperparameters"] != outcome(other)["hyperparameters"]  # TPE learnt


def test_arms_have_the_same_budget(new_storage: NewStorage) -> None:
    spec = small_spec(factors__model=["lstm", "ealstm"], search__cohorts=3)
    book = drive(spec, new_storage(), CONDITIONS[4])
    jobs = Counter((k.arm, k.stage) for k in book.jobs)
    epochs: Counter[str] = Counter()
    for key, job in book.jobs.items():
        epochs[key.arm] += job.epochs
        assert sorted(job.reports) == list(range(1, job.epochs + 1))  # each epoch once
    assert len(book.arms) == 4
    assert {jobs[a, "search"] for a in book.arms} == {spec.trials_per_arm()} == {12}
    assert {jobs[a, "replicate"] for a in book.arms} == {3}
    assert {epochs[a] for a in book.arms} == {planned_epochs(spec)}
    assert len(book.jobs) == planned_jobs(spec, 4)


@pytest.mark.parametrize("failure", [never, sometimes])
def test_a_rung_is_decided_when_all_have_reported_or_failed(
    new_storage: NewStorage, failure: Any
) -> None:
    spec = small_spec()
    book = drive(spec, new_storage(), CONDITIONS[5], failure=failure)
    came: dict[str, set[int]] = {}
    failed: set[str] = set()
    decided = 0
    for event in book.log.events:
        if event["event"] == "reported":
            came.setdefault(event["key"], set()).add(event["epoch"])
        elif event["event"] == "failed":
            failed.add(event["key"])
        elif event["event"] == "decided":
            decided += 1
            earlier = [r for r in rungs_of(spec) if r < event["rung"]]
            size = spec.search.cohort_size
            first = event["cohort"] * size
            members = (
                book.decisions[event["arm"], event["cohort"], earlier[-1]]
                if earlier
                else list(range(first, first + size))
            )
            keys = [str(JobKey(event["arm"], "search", i, 0)) for i in members]
            assert all(k in failed or event["rung"] in came[k] for k in keys), event
            assert len(event["go"]) <= max(1, len(members) // spec.search.reduction)
            assert not {str(JobKey(event["arm"], "search", i, 0)) for i in event["go"]} & failed
    assert decided == 2 * 2 * 2  # arms, cohorts, rungs


def test_later_cohorts_are_asked_when_earlier_ones_are_closed(new_storage: NewStorage) -> None:
    spec = small_spec(search__cohorts=3)
    storage = new_storage()
    drive(spec, storage, CONDITIONS[2], failure=sometimes)
    book = open_book(spec, storage)
    replayed = Book(spec, tuple(book.arms.values()), type(book.log)(new_storage()))
    for event in book.log.events:
        if event["event"] == "asked" and "/search/" in event["key"]:
            key = JobKey.parse(event["key"])
            cohort = key.trial // spec.search.cohort_size
            earlier = range(cohort * spec.search.cohort_size)
            keys = [JobKey(key.arm, "search", i, 0) for i in earlier]
            assert all(replayed.status(k) in CLOSED for k in keys), event
        replayed.apply(event)


def ask_all(book: Book, number: int) -> list[JobKey]:
    """The first jobs of a study, all in hand."""
    keys = []
    for _ in range(number):
        job = book.next_job()
        assert job is not None
        book.live.add(job.key)
        keys.append(job.key)
    return keys


def scored(epoch: int, score: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1.0, "seconds": 1.0, "saved": True,
            "validation": {"nse_median": score, "nse_mean": score}, **more}  # fmt: skip


ONE_ARM = {"factors": {"model": ["lstm"]}, "search__cohort_size": 6, "search__reduction": 3}


@pytest.mark.parametrize(
    ("scores", "go"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [4, 5]),
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0, 1]),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0, 1]),  # ties: the lower index
        ([0.1, 0.5, 0.3, 0.5, 0.5, 0.2], [1, 3]),
        ([math.nan, -9.0, math.nan, -8.0, math.nan, math.nan], [1, 3]),  # NaN is the worst
        ([math.nan] * 6, [0, 1]),
        ([math.inf, 0.1, 0.2, math.nan, -math.inf, 0.0], [1, 2]),
        ([None, None, 0.1, 0.2, None, None], [2, 3]),  # None: failed
        ([None, None, None, math.nan, None, None], [3]),
        ([None] * 6, []),
    ],
)
def test_who_goes_on(scores: list[float | None], go: list[int], new_storage: NewStorage) -> None:
    for order in (range(6), reversed(range(6))):
        book = open_book(small_spec(**ONE_ARM), new_storage())
        keys = ask_all(book, 6)
        assert book.next_job() is None  # the next cohort waits
        for trial in order:
            assert ("lstm", 0, 1) not in book.decisions
            score = scores[trial]
            if score is None:
                book.fail(keys[trial], "diverged", lost=False)
            else:
                book.report(keys[trial], scored(1, score))
        assert book.decisions["lstm", 0, 1] == go
        states = [book.status(key) for key in keys]
        assert [i for i, s in enumerate(states) if s == "run"] == go
        assert [s == "failed" for s in states] == [s is None for s in scores]


def test_a_waiting_worker_serves_other_arms(new_storage: NewStorage) -> None:
    book = open_book(small_spec(search__cohort_size=2, search__reduction=2), new_storage())
    keys = ask_all(book, 2)
    assert {key.arm for key in keys} == {"lstm", "lstm-snow"}  # arms are served in turn
    assert book.report(keys[0], scored(1, 0.3)) == "wait"
    book.live.discard(keys[0])
    assert ask_all(book, 1) == [JobKey("lstm", "search", 1, 0)]


def test_a_lost_job_goes_on_and_is_not_charged(new_storage: NewStorage) -> None:
    storage = new_storage()
    book = open_book(small_spec(**ONE_ARM), storage)
    (key,) = ask_all(book, 1)
    for loss in range(MAX_LOSSES):
        book.live.discard(key)
        book.fail(key, "node lost", lost=True)
        assert book.jobs[key].losses == loss + 1
        assert book.status(key) == "run"
        assert ask_all(open_book(small_spec(**ONE_ARM), storage), 1) == [key]
    book.fail(key, "node lost", lost=True)  # it is taken for the cause
    assert book.status(key) == "failed"


def test_an_epoch_told_again_counts_once(new_storage: NewStorage) -> None:
    """A job that goes back to its last checkpoint reports the epochs since then again."""
    book = open_book(small_spec(**ONE_ARM), new_storage())
    keys = ask_all(book, 6)
    assert book.report(keys[0], scored(1, 0.9)) == "wait"
    assert book.report(keys[0], scored(1, 0.9)) == "wait"
    for key in keys[1:]:
        book.report(key, scored(1, 0.1))
    assert book.report(keys[0], scored(2, 0.9)) == "wait"
    assert book.report(keys[0], scored(1, 0.9)) == "run"  # on its way to where it was
    assert book.jobs[keys[0]].seconds == 2.0
    assert sum(e["event"] == "reported" for e in book.log.events) == 7


def test_who_takes_up_a_job_is_known_though_it_tells_old_epochs_first(
    new_storage: NewStorage,
) -> None:
    book = open_book(small_spec(**ONE_ARM), new_storage())
    key, *others = ask_all(book, 6)
    first, second = {"host": "first"}, {"host": "second"}
    for epoch in (1, 2, 3):
        book.report(key, scored(epoch, 0.9) | ({"worker": first} if epoch == 1 else {}))
        for other in others if epoch == 1 else ():
            book.report(other, scored(1, 0.1))
    book.fail(key, "node lost", lost=True)
    book.report(key, scored(2, 0.9) | {"worker": second})  # from a checkpoint of epoch 1
    for epoch in (3, 4):
        book.report(key, scored(epoch, 0.9))
    told = [e for e in book.log.events if e["event"] == "reported" and "worker" in e]
    assert [(e["epoch"], e["worker"]) for e in told] == [(1, first), (4, second)]


def test_an_arm_whose_trials_all_fail(new_storage: NewStorage) -> None:
    def snow_fails(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
        return 1 if key.arm == "lstm-snow" else None

    spec = small_spec()
    book = drive(spec, new_storage(), CONDITIONS[1], failure=snow_fails)
    assert book.arm_failed("lstm-snow") and not book.arm_failed("lstm")
    assert sum(k.arm == "lstm-snow" for k in book.jobs) == spec.trials_per_arm()
    assert len(book.replicates("lstm")) == 3 and book.replicates("lstm-snow") == []
    assert book.trained() and not is_finished(book)


def test_an_arm_whose_candidates_all_fail(new_storage: NewStorage) -> None:
    def candidates_fail(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
        return 2 if key.stage == "candidate" and key.arm == "lstm" else None

    book = drive(small_spec(), new_storage(), failure=candidates_fail)
    assert book.arm_failed("lstm") and not book.arm_failed("lstm-snow")
    assert book.trained()


def test_the_winner_is_the_candidate_that_is_best_with_fresh_seeds(
    new_storage: NewStorage,
) -> None:
    """The search's best score is partly luck; its luck must not be confirmed with it."""

    def lucky(key: JobKey, hyperparameters: Mapping[str, Any], epoch: int) -> float:
        again = {1: 0.5, 2: 0.7, 6: 0.6}
        search = {1: 0.9, 2: 0.8, 6: 0.85}
        return (search if key.stage == "search" else again).get(key.trial, 0.0) + 0.01 * key.seed

    spec = small_spec(confirmation__candidates=3, search__rungs=[])
    book = drive(spec, new_storage(), CONDITIONS[1], score=lucky)
    for arm in book.arms:
        assert [key.trial for key in book.candidates(arm)] == [1, 6, 2]
        assert book.winner(arm) == 2
        jobs = book.replicates(arm)
        assert [j.key for j in jobs] == [JobKey(arm, "replicate", 2, s) for s in range(3)]
        trial = book.jobs[JobKey(arm, "search", 2, 0)]
        assert all(j.hyperparameters == trial.hyperparameters for j in jobs)
        assert {j.epochs for j in jobs} == {spec.training.epochs}  # at full cap


def test_the_test_period_does_not_choose_the_winner(new_storage: NewStorage) -> None:
    """One arm is better on validation, the other one on the test."""
    book = drive(small_spec(), new_storage())
    scores = {
        "lstm": {"validation": 0.6, "test": 0.5},
        "lstm-snow": {"validation": 0.5, "test": 0.6},
    }
    for arm, by_period in scores.items():
        for job in book.replicates(arm):
            book.evaluated(job.key, {p: {"nse_median": nse} for p, nse in by_period.items()})
    assert winner_of(book) == "lstm"


def test_a_study_that_grows_keeps_what_it_has(new_storage: NewStorage) -> None:
    """More cohorts and seeds go on from the log: no trial is asked twice or changes."""
    storage = new_storage()
    first = outcome(drive(small_spec(search__cohorts=1), storage, failure=sometimes))
    spec = small_spec(search__cohorts=3, confirmation__seeds=5)
    grown = drive(spec, storage, CONDITIONS[1], failure=sometimes)
    at_once = drive(spec, new_storage(), CONDITIONS[2], failure=sometimes)
    assert first["decisions"].items() <= outcome(grown)["decisions"].items()
    assert first["hyperparameters"].items() <= outcome(grown)["hyperparameters"].items()
    for fact in ("decisions", "winners", "candidates"):
        assert outcome(grown)[fact] == outcome(at_once)[fact]
    searched = {k: j.hyperparameters for k, j in grown.jobs.items() if k.stage == "search"}
    assert searched == {
        k: j.hyperparameters for k, j in at_once.jobs.items() if k.stage == "search"
    }
    assert all(len(grown.replicates(arm)) == 5 for arm in grown.arms)


def test_time_left_follows_the_pace_since_the_latest_launch(tmp_path: Path) -> None:
    """20 epochs of an earlier driver do not count towards it: 4 in 8 s are 2 s each."""
    spec = small_spec(factors={"model": ["lstm"]}, search__sampler="random")
    book = Book(spec, expand(spec), EventLog(LocalStorage(tmp_path)))
    assert seconds_left(book) is None
    job = book.next_job()
    assert job is not None
    for number in range(20):
        job.reports[-number] = {"time": 100.0 + number, "seconds": 1.0}
    book.apply({"event": "launch", "time": 1000.0})
    assert seconds_left(book) is None
    for number in range(4):
        job.reports[number + 1] = {"time": 1002.0 + 2 * number, "seconds": 1.0}
    planned = planned_epochs(spec) * len(book.arms)
    assert seconds_left(book) == (planned - len(job.reports)) * 8.0 / 4
