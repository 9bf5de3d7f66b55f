"""A study trained in this process: what Ray does, one job after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small import small_spec

from study.errors import TrialError
from study.experiment.book import Book
from study.experiment.confirm import confirm
from study.experiment.engine import Prepared, _begin, prepare
from study.experiment.eventlog import EventLog
from study.experiment.storage import LocalStorage
from study.experiment.trial import RunningJob, Worker
from study.spec import StudySpec
from study.training.loop import DeviceData

QUICK: dict[str, Any] = {
    "training__epochs": 2,
    "search__rungs": [],
    "search__cohorts": 1,
    "search__cohort_size": 2,
    "confirmation": {"candidates": 2, "candidate_seeds": 1, "seeds": 2},
}


@dataclass(frozen=True, kw_only=True)
class InlineStudy:
    """A results folder on which a study is started or gone on with."""

    store: Path
    storage: LocalStorage

    def train(self, **changes: Any) -> tuple[Book, Prepared]:
        """Train all that is left to train of a small study."""
        return self.train_spec(small_spec(**QUICK | changes))

    def train_spec(self, spec: StudySpec) -> tuple[Book, Prepared]:
        """Train all that is left to train; as one launch of `study run` does."""
        prepared = prepare(spec, self.store)
        log = EventLog(self.storage)
        _begin(log, prepared)
        book = Book(prepared.spec, prepared.arms, log)
        worker = Worker(
            spec=prepared.spec,
            arms=book.arms,
            data=DeviceData(prepared.arrays),
            storage=self.storage,
        )
        while not book.trained():
            job = book.next_job()
            assert job is not None
            running = RunningJob(worker, job.key, job.hyperparameters, saved=job.saved)
            try:
                while book.report(job.key, running.step()) == "run":
                    pass
            except TrialError as error:
                book.fail(job.key, str(error), lost=False)
        return book, prepared

    def finish(self, **changes: Any) -> Book:
        """Train a small study, then score its replicates."""
        return self.finish_spec(small_spec(**QUICK | changes))

    def finish_spec(self, spec: StudySpec) -> Book:
        """Train, then score the replicates."""
        book, prepared = self.train_spec(spec)
        confirm(book, prepared.store, self.storage)
        return book
