"""Workers that must soon leave save their jobs first: all of them when the study is interrupted,
those of a host that Ray drains when it is taken away."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from study.experiment.interruption import WORKERS_SECONDS, Interruption
from study.experiment.jobs import JobKey

if TYPE_CHECKING:  # workers import this module, and need no sampler
    from study.experiment.book import Book

NODE = "node"
"""Where a worker's result names the host it runs on, by Ray's id."""
SECONDS_BETWEEN_LOOKS = 2.0


class Drain(tune.Callback):
    """Looks, at every step of Tune's loop, whether somebody must leave."""

    def __init__(self, book: Book, interruption: Interruption):
        self.book, self.interruption = book, interruption
        self._saving: list[ray.ObjectRef] = []
        """What workers will have saved"""
        self._saved: list[tuple[JobKey, int]] = []
        """Jobs and epochs that are saved; the report of the epoch may be on its way"""
        self._asked: set[str] = set()
        """Tune trials that were asked to save"""
        self._ending = False
        self._last_look = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks into a file, which nothing ever reads

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._collect()
        self.book.log.flush(older_than=1.0)  # what no report follows, as the loss of a worker
        if self.interruption.received:
            self._end(trials)
        elif time.monotonic() - self._last_look > SECONDS_BETWEEN_LOOKS:
            self._warn(trials)
            self._last_look = time.monotonic()

    def _end(self, trials: list[Trial]) -> None:
        """Leave when all jobs are saved, or time is over; also those that begin meanwhile, as a
        job does that was handed out before."""
        if not self._ending:
            self._ending = True
            self._asked.clear()  # jobs of hosts that go have begun other epochs since
        self._ask(trials)
        if not (self._saving or self._saved) or not self._seconds_left():
            self.book.log.flush()
            self.interruption.leave()

    def _seconds_left(self) -> float | None:
        return self.interruption.seconds_left(WORKERS_SECONDS)

    def _warn(self, trials: list[Trial]) -> None:
        # As Ray's own libraries ask for them; there is no public way.
        draining = ray._private.state.state.get_draining_nodes()
        self._ask([t for t in trials if (t.last_result or {}).get(NODE) in draining])

    def _ask(self, trials: list[Trial]) -> None:
        """Let workers save their jobs, each once, as soon as the epoch that they are in is over."""
        for trial in trials:
            worker = trial.temporary_state.ray_actor
            if trial.status != Trial.RUNNING or worker is None or trial.trial_id in self._asked:
                continue
            self._asked.add(trial.trial_id)
            self._saving.append(worker.save_job.remote())

    def _collect(self) -> None:
        """Write down what is saved, once its epoch has been reported."""
        if self._saving:
            done, self._saving = ray.wait(self._saving, num_returns=len(self._saving), timeout=0)
            for answer in done:
                with suppress(RayError):  # the job falls back to the checkpoint before
                    if (saved := ray.get(answer)) is not None:
                        self._saved.append((JobKey.parse(saved[0]), saved[1]))
        for key, epoch in list(self._saved):
            if self.book.jobs[key].epochs >= epoch:
                self.book.saved(key, epoch)
                self._saved.remove((key, epoch))
