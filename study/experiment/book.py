"""The book of a study: the ledger of the one driver that may write and decide.

Facts come in (`report`, `fail`), are written to the event log and decided upon; `next_job` says
what a free worker does next. Opening the log again gives the same book, so going on after a crash
and running on are one path.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from study.experiment.arms import Arm
from study.experiment.eventlog import EventLog
from study.experiment.jobs import CLOSED, Job, JobKey, Status, rungs_of
from study.experiment.ledger import Ledger
from study.experiment.scheduler import finite, survivors
from study.experiment.search import Outcome, Sampler
from study.spec import StudySpec

MAX_LOSSES = 3
"""Times in a row that a trial may lose its worker; then it is taken for the cause and fails."""


class Book(Ledger):
    """Facts and decisions of a study; see the module."""

    def __init__(self, spec: StudySpec, arms: tuple[Arm, ...], log: EventLog):
        super().__init__(spec, arms, log.events)
        self.log = log
        self.live: set[JobKey] = set()
        """Jobs that a worker has in hand."""
        self._samplers: dict[str, tuple[int, Sampler]] = {}
        """Arm -> its latest cohort and that cohort's sampler"""
        self._closed_outcomes: dict[str, list[Outcome]] = defaultdict(list)
        """Arm -> outcomes of its first trials, as far as all of them are closed: they are final"""
        self._taken_up: dict[JobKey, Any] = {}
        """Workers that have taken up a job and have told nothing new of it yet"""
        for arm in self.arms:  # reported, but ended before the decision was written
            for cohort in range(spec.search.cohorts):
                self._decide(arm, cohort)
            self._select(arm)

    def next_job(self) -> Job | None:
        """The next job for a free worker, or None while all must wait."""
        for key in self._running:
            if key not in self.live:
                return self.jobs[key]
        return self._ask_search() or self._ask_confirmation()

    def report(self, key: JobKey, result: dict[str, Any]) -> Status:
        """A job has finished an epoch.

        Args:
            key: The job.
            result: `epoch`, `loss`, `seconds`; `validation` (metric -> median) where it was
                scored; `saved` if it left a checkpoint; `worker` if another one has taken it up.

        Returns:
            What becomes of it; `run`: go on.
        """
        job, epoch = self.jobs[key], result["epoch"]
        if "worker" in result:
            self._taken_up[key] = result["worker"]
        if epoch in job.reports:  # told again by a job that went back to its last checkpoint
            return "run" if epoch < job.epochs else self.status(key)
        if key in self._taken_up:
            result = result | {"worker": self._taken_up.pop(key)}
        self._write(event="reported", key=str(key), **result)
        if epoch in rungs_of(self.spec):
            self._settle(key)
        status = self.status(key)
        urgent = status in ("wait", *CLOSED) or result.get("saved")
        self.log.flush(older_than=0.0 if urgent else 1.0)
        return status

    def saved(self, key: JobKey, epoch: int) -> None:
        """A job has left a checkpoint of an epoch after it had reported it."""
        if epoch > self.jobs[key].saved:
            self._write(event="saved", key=str(key), epoch=epoch)
            self.log.flush()

    def fail(self, key: JobKey, reason: str, *, lost: bool) -> None:
        """A job ended early: lost with its worker (it goes on elsewhere), or by its own doing."""
        if self.status(key) in CLOSED:
            return
        lost = lost and self.may_lose(key)
        self._write(event="lost" if lost else "failed", key=str(key), reason=reason)
        if not lost:
            self._settle(key)
        self.log.flush()

    def may_lose(self, key: JobKey) -> bool:
        """Whether a job that loses its worker goes on elsewhere."""
        return self.jobs[key].losses < MAX_LOSSES

    def begin_test_read(self, keys: Iterable[JobKey]) -> None:
        """Log the reading of the test period before it happens, so that a crash cannot hide it."""
        self._write(event="test_read", keys=[str(k) for k in keys])
        self.log.flush()

    def evaluated(self, key: JobKey, scores: dict[str, Any]) -> None:
        """A replicate was simulated and scored on the periods read."""
        self._write(event="evaluated", key=str(key), scores=scores)
        self.log.flush(older_than=1.0)

    def _ask_search(self) -> Job | None:
        """The next trial, from the arm with the fewest so far. With synchronous halving, an arm
        waits until its last cohort is closed."""
        for arm in sorted(self.arms, key=lambda a: self._asked[a]):
            index = self._asked[arm]
            cohort, member = divmod(index, self.spec.search.cohort_size)
            may = self.asynchronous or self.closed[arm, "search"] >= index - member
            if may and cohort < self.spec.search.cohorts:
                drawn = self._sampler(arm, cohort).draw(index)
                return self._ask(JobKey(arm, "search", index, 0), drawn)
        return None

    def _sampler(self, arm: str, cohort: int) -> Sampler:
        """What draws a cohort's trials: one for all, since they learn from the same trials."""
        latest, sampler = self._samplers.get(arm, (None, None))
        if sampler is None or latest != cohort:
            sampler = Sampler(self.spec.search, self.arms[arm], self._past(arm, cohort))
            self._samplers[arm] = cohort, sampler
        return sampler

    def _past(self, arm: str, cohort: int) -> list[Outcome]:
        """What a cohort learns from: those trials of earlier cohorts that have come to a rung or
        failed. That is all of them; with asynchronous halving, those that have by now, and none
        while they are too few to fill a cohort."""
        size, rungs = self.spec.search.cohort_size, rungs_of(self.spec)
        past = self._closed_outcomes[arm]
        keys = [JobKey(arm, "search", i, 0) for i in range(len(past), cohort * size)]
        closed = itertools.takewhile(lambda key: self.status(key) in CLOSED, keys)
        past += [self._outcome(key) for key in closed]
        later = [self.jobs[JobKey(arm, "search", i, 0)] for i in range(len(past), cohort * size)]
        known = [j for j in later if j.failure is not None or any(r in j.scores for r in rungs)]
        outcomes = past + [self._outcome(job.key) for job in known]
        return outcomes if len(outcomes) >= size else []

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

    def _settle(self, key: JobKey) -> None:
        """Decide what follows from a job's coming to a rung, or its failure."""
        if key.stage == "search":
            self._decide(key.arm, self._cohort_of(key))
        self._select(key.arm)

    def _decide(self, arm: str, cohort: int) -> None:
        """Decide what can be decided now that a trial of a cohort has come to a rung, or failed."""
        if self.asynchronous:
            self._promote(arm)
        elif not self._unsettled[arm, cohort]:
            self._halve(arm, cohort)

    def _halve(self, arm: str, cohort: int) -> None:
        """Synchronous halving: decide all rungs of a cohort whose members are there."""
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

    def _promote(self, arm: str) -> None:
        """Asynchronous halving: promote each waiting trial that ranks in the top 1/reduction of its
        rung so far.

        Once all others are closed, those that wait can hope for nobody: the best of a rung that
        was too small to let anyone go on does so now; if there is none, all of them are stopped.
        """
        least = 1 if self._at_rest(arm) else 0
        for rung in self.spec.search.rungs:
            there = self.rungs[arm, rung]
            while (best := there.promotable(self.spec.search.reduction, least=least)) is not None:
                self._write(event="decided", arm=arm, rung=rung, go=[best], stop=[])
        if self._at_rest(arm):
            for rung in self.spec.search.rungs:
                waiting = self.rungs[arm, rung].waiting
                if waiting:
                    self._write(event="decided", arm=arm, rung=rung, go=[], stop=waiting)

    def _at_rest(self, arm: str) -> bool:
        """All trials of an arm were asked, and are closed or wait."""
        waiting = sum(self.rungs[arm, rung].num_waiting for rung in self.spec.search.rungs)
        return self.closed[arm, "search"] + waiting == self.spec.trials_per_arm()

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

    def _ask(self, key: JobKey, hyperparameters: dict[str, Any]) -> Job:
        self._write(event="asked", key=str(key), hyperparameters=hyperparameters)
        self.log.flush(older_than=1.0)
        return self.jobs[key]

    def _write(self, **event: Any) -> None:
        self.apply(self.log.append(**event))
