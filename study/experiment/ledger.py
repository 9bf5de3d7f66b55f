"""The ledger of a study: what its events say, and nothing else.

Applying the same events gives the same ledger, whoever reads them: the driver while it writes
them (`Book`), a report, `study status` in another terminal, the tracking server's projection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from study.experiment.arms import Arm
from study.experiment.eventlog import Event
from study.experiment.jobs import CLOSED, Job, JobKey, Stage, Status
from study.experiment.scheduler import Rung, finite
from study.spec import StudySpec


class Ledger:
    """State of a study; see the module."""

    def __init__(self, spec: StudySpec, arms: tuple[Arm, ...], events: Iterable[Event] = ()):
        self.spec = spec
        self.arms = {arm.name: arm for arm in arms}
        self.asynchronous = spec.search.halving == "asynchronous"
        self.jobs: dict[JobKey, Job] = {}
        self.decisions: dict[tuple[str, int, int], list[int]] = {}
        """(arm, cohort, rung) -> trials that go on; with synchronous halving"""
        self.rungs: dict[tuple[str, int], Rung] = defaultdict(Rung)
        """(arm, rung) -> who has come there; with asynchronous halving"""
        self.evaluations: dict[JobKey, dict[str, Any]] = {}
        """Replicate -> its scores on the periods read"""
        self.readings: list[list[str]] = []
        """For every reading of the test period, the replicates it was read with"""
        self.launched = 0.0
        """When the latest driver began, in seconds since 1970"""
        self.header: Event = {}
        """The latest `study` event: spec, digests of the data, provenance"""
        self.closed: Counter[tuple[str, Stage]] = Counter()
        """(arm, stage) -> how many of its jobs are closed"""
        self._finalists: dict[str, list[JobKey]] = {}
        """Arm whose search is closed -> its candidates, who are the same from then on"""
        self._selected: dict[tuple[str, int], int | None] = {}
        self._asked: Counter[str] = Counter()
        """Arm -> trials asked"""
        self._running: dict[JobKey, None] = {}
        """Jobs of status `run`, in the order in which they became so"""
        self._unsettled: Counter[tuple[str, int]] = Counter()
        """(arm, cohort) -> trials of status `run`"""
        for event in events:
            self.apply(event)

    @property
    def num_running(self) -> int:
        """Jobs of status `run`, in the hands of a worker or not."""
        return len(self._running)

    def status(self, key: JobKey) -> Status:
        """run | wait (for the rest of its cohort) | stopped | done | failed"""
        return self.jobs[key].status

    def _cohort_of(self, key: JobKey) -> int:
        return key.trial // self.spec.search.cohort_size

    def cohort(self, arm: str, cohort: int) -> list[Job] | None:
        """A cohort's trials, None while not all of them have been asked."""
        size = self.spec.search.cohort_size
        keys = [JobKey(arm, "search", i, 0) for i in range(cohort * size, (cohort + 1) * size)]
        jobs = [self.jobs[key] for key in keys if key in self.jobs]
        return jobs if len(jobs) == size else None

    def search_closed(self, arm: str) -> bool:
        return self.closed[arm, "search"] == self.spec.trials_per_arm()

    def candidates(self, arm: str) -> list[JobKey]:
        """The arm's best trials: those that came furthest, then by score."""
        if arm in self._finalists:
            return self._finalists[arm]
        trials = [j for j in self.stage(arm, "search") if j.scores and j.failure is None]
        best = sorted(
            trials, key=lambda j: (-max(j.scores), -finite(j.scores[max(j.scores)]), j.key.trial)
        )
        keys = [job.key for job in best[: self.spec.confirmation.candidates]]
        if self.search_closed(arm):
            self._finalists[arm] = keys
        return keys

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
            self._asked[key.arm] += key.stage == "search"
            self._count(key, "run", 1)
        elif key is not None and kind in ("reported", "saved", "lost", "failed"):
            self._apply_to_job(self.jobs[key], event)
        elif kind == "decided":
            self._apply_decision(event)
        elif kind == "selected":
            self._selected[event["arm"], event["cohorts"]] = event["trial"]
        elif kind == "test_read":
            self.readings.append(event["keys"])
        elif key is not None and kind == "evaluated":
            self.evaluations[key] = event["scores"]

    def _apply_to_job(self, job: Job, event: Event) -> None:
        if event["event"] == "lost":
            job.losses += 1
        elif event["event"] == "saved":
            job.saved = max(job.saved, event["epoch"])
        elif event["event"] == "failed":
            job.failure = event["reason"]
            if self.asynchronous and job.key.stage == "search":
                self._fall(job)
            self._become(job, "failed")
        else:
            epoch = event["epoch"]
            job.reports[epoch] = event
            job.losses = 0
            if event.get("validation"):
                job.scores[epoch] = event["validation"]["nse_median"]
            if event.get("saved"):
                job.saved = max(job.saved, epoch)
            if epoch == self.spec.training.epochs:
                self._become(job, "done")
            elif job.key.stage == "search" and epoch in self.spec.search.rungs:
                self._become(job, "wait")
                if self.asynchronous:
                    self.rungs[job.key.arm, epoch].come(job.key.trial, job.scores[epoch])

    def _fall(self, job: Job) -> None:
        """Record a failed trial. On its way to a rung it ranks last there; waiting at one, it keeps
        its score."""
        arm, trial = job.key.arm, job.key.trial
        if job.status == "wait":
            self.rungs[arm, job.epochs].leave(trial, job.scores[job.epochs])
        else:
            ahead = [rung for rung in self.spec.search.rungs if rung > job.epochs]
            if ahead:
                self.rungs[arm, ahead[0]].fall(trial)

    def decided_on(self, event: Event) -> list[Job]:
        """The trials that a decision is about: a cohort's; with asynchronous halving, those that
        it names."""
        if not self.asynchronous:
            return self.cohort(event["arm"], event["cohort"]) or []
        named = event["go"] + event["stop"]
        return [self.jobs[JobKey(event["arm"], "search", trial, 0)] for trial in named]

    def _apply_decision(self, event: Event) -> None:
        """Those in `go` go on, the others that wait are stopped."""
        arm, rung, go = event["arm"], event["rung"], set(event["go"])
        if not self.asynchronous:
            self.decisions[arm, event["cohort"], rung] = event["go"]
        for job in self.decided_on(event):
            if job.status == "wait":
                if self.asynchronous:
                    self.rungs[arm, rung].leave(job.key.trial, job.scores[rung])
                self._become(job, "run" if job.key.trial in go else "stopped")

    def _become(self, job: Job, status: Status) -> None:
        self._count(job.key, job.status, -1)
        job.status = status
        self._count(job.key, status, 1)

    def _count(self, key: JobKey, status: Status, change: int) -> None:
        """A job has come to a status (1), or left it (-1); so nobody need look at all jobs."""
        if status in CLOSED:
            self.closed[key.arm, key.stage] += change
        if status != "run":
            return
        if key.stage == "search":
            self._unsettled[key.arm, self._cohort_of(key)] += change
        if change == 1:
            self._running[key] = None
        else:
            del self._running[key]
