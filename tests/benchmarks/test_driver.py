"""What a study's driver computes for a report, with few trials closed and with many."""

from __future__ import annotations

import io
import itertools
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clock import charged
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils.object_cache import _ObjectCache
from rich.console import Console
from simulator import hilly

from study.experiment.arms import expand
from study.experiment.book import Book
from study.experiment.eventlog import EventLog
from study.experiment.interruption import Interruption
from study.experiment.jobs import JobKey, rungs_of, validation_epochs
from study.experiment.storage import LocalStorage
from study.experiment.sweep import BookScheduler, BookSearcher
from study.experiment.tracking.tracker import Projection
from study.report.console import LiveProgress
from study.spec import load_spec

from .conftest import Bench

SNOW = Path(__file__).parents[2] / "search_spaces" / "camels_us_snow.yaml"
WORKERS = 2


@dataclass(kw_only=True)
class Spent:
    """Processor time of the driver, in seconds a report."""

    reports: list[float] = field(default_factory=list)
    asking: list[float] = field(default_factory=list)
    """Most of it is the sampler's: of its library's draw, which takes longer the more it learnt"""
    tracking: list[float] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Milliseconds a report; the callbacks are reports and asking together."""
        reports, asking, tracker = (
            float(1e3 * np.mean(seconds)) for seconds in (self.reports, self.asking, self.tracking)
        )
        return {
            "callbacks": reports + asking,
            "reports": reports,
            "asking": asking,
            "tracker": tracker,
        }


def searched(book: Book) -> Iterator[tuple[float, float]]:
    """Ask and tell our callbacks what Tune would in a search; nothing is trained.

    Yields:
        Report by report, processor time of asking for trials before it, and of the report.
    """
    searcher, spent = BookSearcher(book, Interruption()), []
    progress = LiveProgress(Console(file=io.StringIO())).update
    scheduler = BookScheduler(book, searcher, progress)
    working: deque[SimpleNamespace] = deque()
    names, tune = map(str, itertools.count()), SimpleNamespace(_actor_cache=_ObjectCache())
    while not all(book.search_closed(arm) for arm in book.arms):
        with charged(spent):
            _hand_out(searcher, scheduler, tune, working, names)
        trial = working.popleft()
        trial.epoch += 1
        report = {"report": json.dumps(_report(book, trial))}
        with charged(spent):
            if scheduler.on_trial_result(tune, trial, report) == TrialScheduler.CONTINUE:
                working.append(trial)
            else:
                scheduler.on_trial_complete(tune, trial, None)
                searcher.on_trial_complete(trial.trial_id)
        report_seconds, asking_seconds = spent.pop(), spent.pop()
        yield asking_seconds, report_seconds


def _hand_out(
    searcher: BookSearcher,
    scheduler: BookScheduler,
    tune: SimpleNamespace,
    working: deque[SimpleNamespace],
    names: Iterator[str],
) -> None:
    """As Tune does it: ask until all workers have a trial or the searcher has none."""
    while len(working) < WORKERS:
        name = next(names)
        config = searcher.suggest(name)
        if not isinstance(config, dict):
            return
        trial = SimpleNamespace(
            trial_id=name,
            config=config,
            status="RUNNING",
            placement_group_factory="a core",
            epoch=config["saved"],
        )
        scheduler.on_trial_add(tune, trial)
        scheduler.choose_trial_to_run(tune)
        working.append(trial)


def _report(book: Book, trial: SimpleNamespace) -> dict[str, Any]:
    key, epoch = JobKey.parse(trial.config["key"]), trial.epoch
    report: dict[str, Any] = {"epoch": epoch, "loss": 1 / epoch, "seconds": 1.0}
    if epoch in validation_epochs(book.spec):
        value = hilly(key, trial.config["hyperparameters"], epoch)
        report["validation"] = {"nse_median": value, "nse_mean": value}
    if epoch in rungs_of(book.spec):
        report["saved"] = True
    return report


@pytest.mark.benchmark
def test_driver_time(bench: Bench, tmp_path: Path) -> None:
    """The 29-basin study, grown until it has more than a thousand trials; the tracker looks at the
    log after every report, as it does where an epoch takes longer than its rounds."""
    spec = load_spec(SNOW, ["search.cohorts=30"])
    log = EventLog(LocalStorage(tmp_path))
    log.append(event="study", spec={}, digests={}, provenance={})
    book = Book(spec, expand(spec), log)
    projection = Projection(book, f"sqlite:///{tmp_path}/mlflow.db")
    first, late = Spent(), Spent()
    for asking, report in searched(book):
        closed = book.closed.total()
        window = first if closed < 60 else late if closed >= 1000 else None
        if window is not None:
            window.asking.append(asking)
            window.reports.append(report)
            log.flush()
            with charged(window.tracking):
                projection.catch_up()
        elif closed % 50 == 0:
            projection.catch_up()
    before, after = first.means(), late.means()
    for name, milliseconds in after.items():
        bench.add(
            f"driver's {name}, a report, after 1,000 trials (ms)",
            ours=milliseconds,
            reference=before[name],
            target=1.5,
        )
    bench.limit("driver's callbacks, a report (ms)", ours=after["callbacks"], limit=1)
