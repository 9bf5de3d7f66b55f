"""The book of a study: its event log, and everything that follows from it.

`Book` is the only state of the engine. Facts come in (`report`, `fail`), are written to the log and
decided upon; `next_job` says what a free worker does next. Opening the log again gives the same
book, so going on after a crash and running on are one path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from study.experiment.arms import Arm
from study.experiment.eventlog import Event, EventLog
from study.experiment.jobs import CLOSED, Job, JobKey, Stage, Status, rungs_of
from study.experiment.scheduler import finite, survivors
from study.experiment.search import Outcome, sample
from study.spec import StudySpec

MAX_LOSSES = 3
"""Times a trial may lose its worker; after that it is taken for the cause and fails."""


class Book:
    """Facts and decisions of a study; see the module."""

    def __init__(self, spec: StudySpec, arms: tuple[Arm, ...], log: EventLog):
        self.spec, self.log = spec, log
        self.arms = {arm.name: arm for arm in arms}
        self.jobs: dict[JobKey, Job] = {}
        self.live: set[JobKey] = set()
        """Jobs that a worker has in hand."""
        self.decisions: dict[tuple[str, int, int], list[int]] = {}
        """(arm, cohort, rung) -> trials that go on"""
        self.evaluations: dict[JobKey, dict[str, Any]] = {}
        """Replicate -> its scores on the periods read"""
        self.test_reads = 0
        self._selected: dict[tuple[str, int], int | None] = {}
        self._open: dict[JobKey, None] = {}
        self._asked: dict[str, int] = defaultdict(int)
        for event in log.events:
            self._apply(event)
        for arm in self.arms:  # reported, but ended before the decision was written
            self._decide_all(arm)

    # What is known -----------------------------------------------------------------------------

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

    def trained(self) -> bool:
        """Nothing is left to train."""
        return all(self.arm_failed(a) or self._confirmed(a) for a in self.arms)

    def _confirmed(self, arm: str) -> bool:
        done = self.replicates(arm)
        return len(done) == self.spec.confirmation.seeds and all(
            self.status(j.key) in CLOSED for j in done
        )

    # What happens ------------------------------------------------------------------------------

    def next_job(self) -> Job | None:
        """The next job for a free worker, or None while all must wait."""
        for key in self._open:
            if key not in self.live and self.status(key) == "run":
                return self.jobs[key]
        return self._ask_search() or self._ask_confirmation()

    def report(self, key: JobKey, result: dict[str, Any]) -> Status:
        """A job has finished an epoch.

        Args:
            key: The job.
            result: `epoch`, `loss`, `seconds`; `validation` (metric -> median) where it was
                scored; `saved` if it left a checkpoint.

        Returns:
            What becomes of it; `run`: go on.
        """
        job, epoch = self.jobs[key], result["epoch"]
        if epoch in job.reports:  # told again by a job that went back to its last checkpoint
            return "run" if epoch < job.epochs else self.status(key)
        self._write(event="reported", key=str(key), **result)
        if key.stage == "search" and epoch in rungs_of(self.spec):
            self._decide(key.arm, self._cohort_of(key))
        elif key.stage == "candidate" and epoch == self.spec.training.epochs:
            self._select(key.arm)
        status = self.status(key)
        self.log.flush(older_than=0.0 if status in ("wait", *CLOSED) else 1.0)
        return status

    def fail(self, key: JobKey, reason: str, *, lost: bool) -> None:
        """A job ended early: lost with its worker (it goes on elsewhere), or by its own doing."""
        if self.status(key) in CLOSED:
            return
        lost = lost and self.jobs[key].losses < MAX_LOSSES
        self._write(event="lost" if lost else "failed", key=str(key), reason=reason)
        if not lost:
            self._decide_all(key.arm)
        self.log.flush()

    def begin_test_read(self, keys: Iterable[JobKey]) -> None:
        """Say for ever that the test period is read, before it is."""
        self._write(event="test_read", keys=[str(k) for k in keys])
        self.log.flush()

    def evaluated(self, key: JobKey, scores: dict[str, Any]) -> None:
        """A replicate was simulated and scored on the periods read."""
        self._write(event="evaluated", key=str(key), scores=scores)
        self.log.flush(older_than=1.0)

    # How it is decided -------------------------------------------------------------------------

    def _cohort_of(self, key: JobKey) -> int:
        return key.trial // self.spec.search.cohort_size

    def _ask_search(self) -> Job | None:
        """The next trial: of the arm that has asked for fewest, once its last cohort is closed."""
        search = self.spec.search
        for arm in sorted(self.arms, key=lambda a: self._asked[a]):
            index = self._asked[arm]
            cohort = index // search.cohort_size
            if cohort < search.cohorts and (cohort == 0 or self.cohort_closed(arm, cohort - 1)):
                earlier = range(cohort * search.cohort_size)
                past = [self._outcome(JobKey(arm, "search", i, 0)) for i in earlier]
                return self._ask(JobKey(arm, "search", index, 0), sample(search, arm, index, past))
        return None

    def _ask_confirmation(self) -> Job | None:
        """The next candidate or replicate of an arm that has come so far."""
        for arm in self.arms:
            for key, trial in self._wanted(arm):
                if key not in self.jobs:
                    return self._ask(key, dict(self.jobs[trial].hyperparameters))
        return None

    def _wanted(self, arm: str) -> Iterator[tuple[JobKey, JobKey]]:
        """Confirmation jobs of an arm, each with the trial it takes its hyperparameters from."""
        confirmation = self.spec.confirmation
        winner = self.winner(arm)
        if winner is not None:
            for seed in range(confirmation.seeds):
                trial = JobKey(arm, "search", winner, 0)
                yield JobKey(arm, "replicate", winner, seed), trial
        elif self.search_closed(arm):
            for trial in self.candidates(arm):
                for seed in range(confirmation.candidate_seeds):
                    yield JobKey(arm, "candidate", trial.trial, seed), trial

    def _outcome(self, key: JobKey) -> Outcome:
        job = self.jobs[key]
        reached = [r for r in rungs_of(self.spec) if r in job.scores and job.failure is None]
        return Outcome(
            hyperparameters=job.hyperparameters,
            scores={rung: finite(job.scores[rung]) for rung in reached},
            complete=self.status(key) == "done",
        )

    def _decide_all(self, arm: str) -> None:
        for cohort in range(self.spec.search.cohorts):
            self._decide(arm, cohort)
        self._select(arm)

    def _decide(self, arm: str, cohort: int) -> None:
        """Decide all rungs of a cohort that can be decided."""
        members = self.cohort(arm, cohort)
        if members is None:
            return
        for rung in self.spec.search.rungs:
            if (arm, cohort, rung) not in self.decisions:
                go = survivors(members, rung, self.spec.search.reduction)
                if go is None:
                    return
                self._write(event="decided", arm=arm, cohort=cohort, rung=rung, go=go)
            going_on = self.decisions[arm, cohort, rung]
            members = [j for j in members if j.key.trial in going_on]
        if self.search_closed(arm):
            self._select(arm)

    def _select(self, arm: str) -> None:
        """Choose the arm's winner once its candidates are scored with fresh seeds."""
        if (arm, self.spec.search.cohorts) in self._selected or not self.search_closed(arm):
            return
        candidates = self.candidates(arm)
        if len(candidates) <= 1:
            self._write_winner(arm, candidates, candidates[0].trial if candidates else None)
            return
        seeds = range(self.spec.confirmation.candidate_seeds)
        means: dict[int, float] = {}
        for candidate in candidates:
            keys = [JobKey(arm, "candidate", candidate.trial, s) for s in seeds]
            if any(k not in self.jobs or self.status(k) not in CLOSED for k in keys):
                return
            means[candidate.trial] = sum(self._final_score(k) for k in keys) / len(keys)
        best = max(means, key=lambda trial: (means[trial], -trial))
        self._write_winner(arm, candidates, best if finite(means[best]) > -float("inf") else None)

    def _write_winner(self, arm: str, candidates: list[JobKey], trial: int | None) -> None:
        self._write(
            event="selected",
            arm=arm,
            cohorts=self.spec.search.cohorts,
            candidates=[key.trial for key in candidates],
            trial=trial,
        )

    def _final_score(self, key: JobKey) -> float:
        return finite(self.jobs[key].scores.get(self.spec.training.epochs, float("nan")))

    # How it is written and replayed ------------------------------------------------------------

    def _ask(self, key: JobKey, hyperparameters: dict[str, Any]) -> Job:
        self._write(event="asked", key=str(key), hyperparameters=hyperparameters)
        self.log.flush(older_than=1.0)
        return self.jobs[key]

    def _write(self, **event: Any) -> None:
        self._apply(self.log.append(**event))

    def _apply(self, event: Event) -> None:
        """What an event changes; the same when it happens and when the log is replayed."""
        kind = event["event"]
        key = JobKey.parse(event["key"]) if "key" in event else None
        if key is not None and kind == "asked":
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
            self.test_reads += 1
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
            if event.get("validation"):
                job.scores[epoch] = event["validation"]["nse_median"]
            if event.get("saved"):
                job.saved = max(job.saved, epoch)
        self._forget_closed([job])

    def _forget_closed(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if self.status(job.key) in CLOSED:
                self._open.pop(job.key, None)
