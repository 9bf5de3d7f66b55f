"""A cluster on a clock of its own: GPUs that train nothing, nodes that come and go.

The driver is the real one: sampler, halving, event log and, if asked for, the tracking server's
projection. Only time is invented: epochs last what their hyperparameters say, a driver's answer
takes none, and the clock jumps from one event to the next. Ray is not there, nor what Tune itself
costs.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from simulator import Failure, Score, chance, hilly, never

from study.experiment import eventlog
from study.experiment.arms import expand
from study.experiment.book import Book
from study.experiment.eventlog import EventLog
from study.experiment.jobs import JobKey, rungs_of, validation_epochs
from study.experiment.storage import LocalStorage
from study.experiment.tracking.tracker import Projection
from study.seeding import generator
from study.spec import StudySpec

Gpu = tuple[int, int]
"""Node and place in it."""
SECONDS_BETWEEN_ROUNDS = 5.0
"""Simulated time between two looks of the tracking projection at the log."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a study runs on; times in seconds."""

    gpus: int = 512
    gpus_a_node: int = 8
    epoch: float = 60.0
    """Median time of an epoch."""
    spread: float = 0.5
    """Standard deviation of the logarithm of a trial's epoch time: 16 % last 1.6 times as long."""
    arrival: float = 300.0
    """Nodes come one after the other, the last after this time."""
    lifetime: float = math.inf
    """Mean time until a node is lost with all that runs there; exponentially distributed."""
    replacement: float = 600.0
    """From a node's loss until another takes its place."""
    seed: int = 1

    def epoch_seconds(self, hyperparameters: Mapping[str, Any]) -> float:
        """The same for every epoch and seed of a configuration."""
        share = chance("epoch", sorted(hyperparameters.items()))
        return self.epoch * math.exp(self.spread * statistics.NormalDist().inv_cdf(share or 0.5))


@dataclass
class Assignment:
    """A job in the hands of a GPU."""

    key: JobKey
    epoch: int
    """Epochs that it has been trained for."""
    seconds: float
    """Time of one epoch."""
    saved_at: float


@dataclass
class Use:
    """GPU time so far, in seconds."""

    there: float = 0.0
    """Of all GPUs of nodes that were there."""
    busy: float = 0.0
    """Of those that had a job in hand, be it to repeat what a lost node had done."""

    @property
    def share(self) -> float:
        return self.busy / self.there


@dataclass
class Measured:
    """What a study took."""

    asking: Use = field(default_factory=Use)
    """Until the last trial was asked."""
    search: Use = field(default_factory=Use)
    """Until the last trial was closed."""
    study: Use = field(default_factory=Use)
    """Until the last replicate was trained."""
    hours: float = 0.0
    """Simulated."""
    next_job: list[float] = field(default_factory=list)
    """Driver's processor time of every call that handed a job out, in seconds."""
    idle: list[float] = field(default_factory=list)
    """Of every call that found none."""
    reports: list[float] = field(default_factory=list)
    """Of every report, with the log's writing."""
    tracking: float = 0.0
    """Processor time of the projection."""
    repeated: int = 0
    """Epochs trained again after a loss."""
    real: float = 0.0
    """Seconds that the simulation took."""


class Simulation:
    """A study on a cluster; it is its own clock, with the two functions of the module `time` that
    the event log uses."""

    def __init__(
        self,
        spec: StudySpec,
        storage: LocalStorage,
        cluster: Cluster,
        *,
        score: Score = hilly,
        failure: Failure = never,
        tracking_uri: str | None = None,
    ):
        self.cluster, self.score, self.failure = cluster, score, failure
        self.now = 0.0
        self.measured = Measured()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._draws = generator("cluster", cluster.seed)
        self._free: dict[Gpu, None] = {}
        self._busy: dict[Gpu, Assignment] = {}
        self._asked: set[JobKey] = set()
        with self._timing():
            log = EventLog(storage)
            if tracking_uri is not None:
                log.append(
                    event="study", spec=spec.model_dump(mode="json"), digests={}, provenance={}
                )
        self.book = Book(spec, expand(spec), log)
        self._projection = Projection(self.book, tracking_uri) if tracking_uri else None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def run(self) -> Measured:
        """From the first trial to the last replicate."""
        started = time.perf_counter()
        nodes = self.cluster.gpus // self.cluster.gpus_a_node
        for node in range(nodes):
            self._after(self.cluster.arrival * node / nodes, functools.partial(self._arrive, node))
        if self._projection is not None:
            self._after(SECONDS_BETWEEN_ROUNDS, self._track)
        with self._timing():
            while not self.book.trained():
                at, _, happen = heapq.heappop(self._queue)
                self._account(at)
                happen()
                self._hand_out()
            self.book.log.flush()
        if self._projection is not None:
            self._track()
        self.measured.hours = self.now / 3600
        self.measured.real = time.perf_counter() - started
        return self.measured

    def _timing(self) -> AbstractContextManager[object]:
        """Make the event log live by this clock."""
        return mock.patch.object(eventlog, "time", self)

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), happen))

    def _account(self, until: float) -> None:
        """Let time pass, and note what the GPUs do with it."""
        book, phases = self.book, [self.measured.study]
        if not all(book.search_closed(arm) for arm in book.arms):
            phases.append(self.measured.search)
        if len(self._asked) < book.spec.trials_per_arm() * len(book.arms):
            phases.append(self.measured.asking)
        for use in phases:
            use.busy += (until - self.now) * len(self._busy)
            use.there += (until - self.now) * (len(self._busy) + len(self._free))
        self.now = until

    def _arrive(self, node: int) -> None:
        self._free |= {(node, place): None for place in range(self.cluster.gpus_a_node)}
        if math.isfinite(self.cluster.lifetime):
            lifetime = float(self._draws.exponential(self.cluster.lifetime))
            self._after(lifetime, functools.partial(self._lose, node))

    def _lose(self, node: int) -> None:
        for gpu in [(node, place) for place in range(self.cluster.gpus_a_node)]:
            self._free.pop(gpu, None)
            assignment = self._busy.pop(gpu, None)
            if assignment is not None:
                key = assignment.key
                self.measured.repeated += assignment.epoch - self.book.jobs[key].saved
                self.book.live.discard(key)
                with charged(self.measured.reports):
                    self.book.fail(key, "node lost", lost=True)
        self._after(self.cluster.replacement, functools.partial(self._arrive, node))

    def _hand_out(self) -> None:
        """Give free GPUs what there is to do."""
        while self._free:
            started = time.thread_time()
            job = self.book.next_job()
            spent = time.thread_time() - started
            (self.measured.idle if job is None else self.measured.next_job).append(spent)
            if job is None:
                return
            self.book.live.add(job.key)
            if job.key.stage == "search":
                self._asked.add(job.key)
            gpu = next(iter(self._free))
            del self._free[gpu]
            seconds = self.cluster.epoch_seconds(job.hyperparameters)
            self._busy[gpu] = Assignment(job.key, job.saved, seconds, saved_at=self.now)
            self._train(gpu)

    def _train(self, gpu: Gpu) -> None:
        """Let a GPU begin the next epoch of its job."""
        assignment = self._busy[gpu]
        self._after(assignment.seconds, functools.partial(self._end_epoch, gpu, assignment))

    def _end_epoch(self, gpu: Gpu, assignment: Assignment) -> None:
        if self._busy.get(gpu) is not assignment:
            return  # its node was lost meanwhile
        key, goes_on = assignment.key, False
        assignment.epoch += 1
        fails = self.failure(key, self.book.jobs[key].hyperparameters) == assignment.epoch
        report = self._report(assignment)
        with charged(self.measured.reports):
            if fails:
                self.book.fail(key, "diverged", lost=False)
            else:
                goes_on = self.book.report(key, report) == "run"
        if goes_on:
            self._train(gpu)
        else:
            del self._busy[gpu]
            self._free[gpu] = None
            self.book.live.discard(key)

    def _report(self, assignment: Assignment) -> dict[str, Any]:
        """As a worker makes it: saved at rungs, and by the clock."""
        spec, key, epoch = self.book.spec, assignment.key, assignment.epoch
        report = {"epoch": epoch, "loss": 1 / epoch, "seconds": assignment.seconds}
        if epoch in validation_epochs(spec):
            value = self.score(key, self.book.jobs[key].hyperparameters, epoch)
            report["validation"] = {"nse_median": value, "nse_mean": value}
        due = self.now - assignment.saved_at > spec.resources.checkpoint_seconds
        if due or epoch in rungs_of(spec):
            report["saved"] = True
            assignment.saved_at = self.now
        return report

    def _track(self) -> None:
        assert self._projection is not None
        started = time.process_time()
        self._projection.catch_up()
        self.measured.tracking += time.process_time() - started
        self._after(SECONDS_BETWEEN_ROUNDS, self._track)


@contextmanager
def charged(account: list[float]) -> Iterator[None]:
    """Note the processor time of what happens inside."""
    started = time.thread_time()
    yield
    account.append(time.thread_time() - started)
