"""The ledger of a study: what its events say, and nothing else.

Applying the same events gives the same ledger, whoever reads them: the driver while it writes
them (`Book`), a report, `study status` in another terminal, the tracking server's projection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from study.experiment.arms import Arm
from study.experiment.eventlog import Event
from study.experiment.jobs import CLOSED, Job, JobKey, Stage, Status
from study.experiment.scheduler import finite
from study.spec import StudySpec


class Ledger:
    """State of a study; see the module."""

    def __init__(self, spec: StudySpec, arms: tuple[Arm, ...], events: Iterable[Event] = ()):
        self.spec = spec
        self.arms = {arm.name: arm for arm in arms}
        self.jobs: dict[JobKey, Job] = {}
        self.decisions: dict[tuple[str, int, int], list[int]] = {}
        """(arm, cohort, rung) -> trials that go on"""
        self.evaluations: dict[JobKey, dict[str, Any]] = {}
        """Replicate -> its scores on the periods read"""
        self.readings: list[list[str]] = []
        """For every reading of the test period, the replicates it was read with"""
        self.launched = 0.0
        """When the latest driver began, in seconds since 1970"""
        self.header: Event = {}
        """The latest `study` event: spec, digests of the data, provenance"""
        self._selected: dict[tuple[str, int], int | None] = {}
        self._open: dict[JobKey, None] = {}
        self._asked: dict[str, int] = defaultdict(int)
        for event in events:
            self.apply(event)

    def status(self, key: JobKey) -> Status:
        """run | wait (for the rest of its cohort) | stopped | done | failed"""
        job = self.jobs[key]
        if self.spec.training.epochs in job.scores:
            return "done"
        if job.failure is not None:
            return "failed"
        if key.stage != "search":
            return "run"
        reached = [rung for rung in self.spec.search.rungs if rung in job.scores]
        if not reached:
            return "run"
        going_on = self.decisions.get((key.arm, self._cohort_of(key), reached[-1]))
        if going_on is None:
            return "wait"
        return "run" if key.trial in going_on else "stopped"

    def _cohort_of(self, key: JobKey) -> int:
        return key.trial // self.spec.search.cohort_size

    def cohort(self, arm: str, cohort: int) -> list[Job] | None:
        """A cohort's trials, None while not all of them have been asked."""
        size = self.spec.search.cohort_size
        keys = [JobKey(arm, "search", i, 0) for i in range(cohort * size, (cohort + 1) * size)]
        jobs = [self.jobs[key] for key in keys if key in self.jobs]
        return jobs if len(jobs) == size else None

    def cohort_closed(self, arm: str, cohort: int) -> bool:
        jobs = self.cohort(arm, cohort)
        return jobs is not None and all(self.status(j.key) in CLOSED for j in jobs)

    def search_closed(self, arm: str) -> bool:
        return all(self.cohort_closed(arm, c) for c in range(self.spec.search.cohorts))

    def candidates(self, arm: str) -> list[JobKey]:
        """The arm's best trials: those that came furthest, then by score."""
        trials = [j for j in self.stage(arm, "search") if j.scores and j.failure is None]
        best = sorted(
            trials, key=lambda j: (-max(j.scores), -finite(j.scores[max(j.scores)]), j.key.trial)
        )
        return [job.key for job in best[: self.spec.confirmation.candidates]]

    def winner(self, arm: str) -> int | None:
        """Number of the trial whose hyperparameters the confirmation uses; None: not yet, or
        no trial of the arm could be trained (then `arm_failed`)."""
        return self._selected.get((arm, self.spec.search.cohorts))

    def arm_failed(self, arm: str) -> bool:
        return (arm, self.spec.search.cohorts) in self._selected and self.winner(arm) is None

    def replicates(self, arm: str) -> list[Job]:
        """The confirmation's jobs of the arm's winner, in order of seed."""
        winner, seeds = self.winner(arm), self.spec.confirmation.seeds
        keys = [JobKey(arm, "replicate", winner, s) for s in range(seeds) if winner is not None]
        return [self.jobs[key] for key in keys if key in self.jobs]

    def stage(self, arm: str, stage: Stage) -> Iterator[Job]:
        """An arm's jobs of one stage, in the order they were asked."""
        return (j for k, j in self.jobs.items() if k.arm == arm and k.stage == stage)

    @property
    def test_reads(self) -> int:
        """How often the test period was read."""
        return len(self.readings)

    def trained(self) -> bool:
        """Nothing is left to train."""
        return all(self.arm_failed(a) or self._confirmed(a) for a in self.arms)

    def _confirmed(self, arm: str) -> bool:
        done = self.replicates(arm)
        return len(done) == self.spec.confirmation.seeds and all(
            self.status(j.key) in CLOSED for j in done
        )

    def apply(self, event: Event) -> None:
        """Take in one event; the same when it happens and when a log is replayed."""
        kind = event["event"]
        key = JobKey.parse(event["key"]) if "key" in event else None
        if kind == "study":
            self.header = event
        elif kind == "launch":
            self.launched = event["time"]
        elif key is not None and kind == "asked":
            self.jobs[key] = Job(key=key, hyperparameters=event["hyperparameters"])
            self._open[key] = None
            self._asked[key.arm] += key.stage == "search"
        elif key is not None and kind in ("reported", "lost", "failed"):
            self._apply_to_job(self.jobs[key], event)
        elif kind == "decided":
            self.decisions[event["arm"], event["cohort"], event["rung"]] = event["go"]
            self._forget_closed(self.cohort(event["arm"], event["cohort"]) or [])
        elif kind == "selected":
            self._selected[event["arm"], event["cohorts"]] = event["trial"]
        elif kind == "test_read":
            self.readings.append(event["keys"])
        elif key is not None and kind == "evaluated":
            self.evaluations[key] = event["scores"]

    def _apply_to_job(self, job: Job, event: Event) -> None:
        if event["event"] == "lost":
            job.losses += 1
        elif event["event"] == "failed":
            job.failure = event["reason"]
        else:
            epoch = event["epoch"]
            job.reports[epoch] = event
            job.losses = 0
            if event.get("validation"):
                job.scores[epoch] = event["validation"]["nse_median"]
            if event.get("saved"):
                job.saved = max(job.saved, epoch)
        self._forget_closed([job])

    def _forget_closed(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if self.status(job.key) in CLOSED:
                self._open.pop(job.key, None)
