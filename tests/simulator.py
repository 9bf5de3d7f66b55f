"""A cluster that trains nothing: workers that take, report, fail and die at random.

What a job scores is a fixed function of its hyperparameters, seed and epoch, as in real training;
who does what when is drawn from the conditions' seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.experiment.arms import expand
from study.experiment.book import MAX_LOSSES, Book
from study.experiment.eventlog import EventLog
from study.experiment.jobs import CLOSED, JobKey, rungs_of, validation_epochs
from study.experiment.storage import Storage
from study.spec import StudySpec

Score = Callable[[JobKey, Mapping[str, Any], int], float]
Failure = Callable[[JobKey, Mapping[str, Any]], int | None]
"""Epoch in which a job fails by its own doing; None: it does not."""


def chance(*parts: object) -> float:
    """A fixed number in [0, 1) for these parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def hilly(key: JobKey, hyperparameters: Mapping[str, Any], epoch: int) -> float:
    """Best near a learning rate of 0.01; more epochs help, and seeds differ a little."""
    distance = abs(math.log10(hyperparameters["learning_rate"]) + 2)
    noise = 0.05 * chance(key.arm, key.trial, key.stage, key.seed, epoch)
    return 0.8 - 0.5 * distance - 0.2 / epoch + noise


def coarse(key: JobKey, hyperparameters: Mapping[str, Any], epoch: int) -> float:
    """Many ties, and now and then no number at all."""
    score = hilly(key, hyperparameters, epoch)
    return math.nan if chance(key.trial, epoch) < 0.15 else round(score, 1)


def never(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
    return None


def sometimes(key: JobKey, hyperparameters: Mapping[str, Any]) -> int | None:
    """A fifth of all jobs, in the first, second or third epoch."""
    drawn = chance("fails", *key)
    return 1 + int(drawn * 15) if drawn < 0.2 else None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What differs between two clusters and must not matter."""

    workers: int = 1
    seed: int = 0
    losses: float = 0.0
    """Chance of a worker's death in a tick."""
    restarts: float = 0.0
    """Chance of the driver's death in a tick: events not yet flushed are lost."""


CONDITIONS_ROUGH = Conditions(workers=5, seed=6, losses=0.1, restarts=0.1)


def open_book(spec: StudySpec, storage: Storage) -> Book:
    return Book(spec, expand(spec), EventLog(storage))


def drive(
    spec: StudySpec,
    storage: Storage,
    conditions: Conditions = Conditions(),
    *,
    score: Score = hilly,
    failure: Failure = never,
) -> Book:
    """Train all of a study under some conditions; the book at its end is flushed."""
    draws = np.random.default_rng(conditions.seed)
    book = open_book(spec, storage)
    workers: dict[int, tuple[JobKey, int]] = {}
    """Worker -> its job, and the epochs that this worker knows it to have"""
    for _ in range(100_000):
        if book.trained() and not workers:
            book.log.flush()
            return book
        if draws.random() < conditions.restarts:
            book, workers = open_book(spec, storage), {}
        worker = int(draws.integers(conditions.workers))
        if worker not in workers:
            job = book.next_job()
            if job is None:
                assert workers or book.trained(), "nobody works and nobody may"
                continue
            book.live.add(job.key)
            workers[worker] = (job.key, job.saved)
            continue
        key, epoch = workers[worker]
        if draws.random() < conditions.losses and book.jobs[key].losses < MAX_LOSSES:
            del workers[worker]
            book.live.discard(key)
            book.fail(key, "worker lost", lost=True)
            continue
        epoch += 1
        if failure(key, book.jobs[key].hyperparameters) == epoch:
            del workers[worker]
            book.live.discard(key)
            book.fail(key, "diverged", lost=False)
        elif book.report(key, _report(book, key, epoch, score, draws)) == "run":
            workers[worker] = (key, epoch)
        else:
            del workers[worker]
            book.live.discard(key)
    raise AssertionError("the study does not end")


def _report(
    book: Book, key: JobKey, epoch: int, score: Score, draws: np.random.Generator
) -> dict[str, Any]:
    report: dict[str, Any] = {"epoch": epoch, "loss": 1 / epoch, "seconds": float(draws.random())}
    if epoch in validation_epochs(book.spec):
        value = score(key, book.jobs[key].hyperparameters, epoch)
        report["validation"] = {"nse_median": value, "nse_mean": value}
    if epoch in rungs_of(book.spec) or draws.random() < 0.3:  # some are saved by the clock
        report["saved"] = True
    return report


def outcome(book: Book) -> dict[str, Any]:
    """All that a study decided and found: what conditions must not change."""
    return {
        "decisions": dict(sorted(book.decisions.items())),
        "hyperparameters": {str(k): dict(j.hyperparameters) for k, j in sorted(book.jobs.items())},
        "status": {str(k): book.status(k) for k in sorted(book.jobs)},
        "scores": {str(k): repr(sorted(j.scores.items())) for k, j in sorted(book.jobs.items())},
        "winners": {arm: book.winner(arm) for arm in book.arms},
        "candidates": {arm: [k.trial for k in book.candidates(arm)] for arm in book.arms},
        "open": [key for key in book.jobs if book.status(key) not in CLOSED],
    }
