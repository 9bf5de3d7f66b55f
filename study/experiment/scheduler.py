"""Successive halving: who goes on after a rung.

Synchronous (Jamieson and Talwalkar 2016, arXiv 1502.07943), in fixed cohorts: a rung of a cohort is
decided when every member has reported there or failed. The decision is a function of the members'
scores alone: not of time, of the number of workers or of their order.

Asynchronous (Li et al. 2020, arXiv 1810.05934), over all trials of an arm: a trial goes on as soon
as it is among the best of those that have come so far. Who is depends on the order in which they
come.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from study.experiment.jobs import Job


def survivors(members: Sequence[Job], rung: int, reduction: int) -> list[int] | None:
    """Which members of a cohort go on after a rung.

    Args:
        members: The trials that came as far as this rung, or failed on the way.
        rung: Epochs trained.
        reduction: One member in this many goes on, at least one.

    Returns:
        Trial numbers, sorted; None while a member has neither reported nor failed.
    """
    there = [job for job in members if job.failure is None]
    if any(rung not in job.scores for job in there):
        return None
    ranked = sorted(there, key=lambda job: (-finite(job.scores[rung]), job.key.trial))
    keep = max(1, len(members) // reduction)
    return sorted(job.key.trial for job in ranked[:keep])


class Rung:
    """An arm's trials at one rung of asynchronous halving, kept in order of score."""

    def __init__(self) -> None:
        self._came: list[tuple[float, int]] = []
        """Of all that came or failed on the way: negative score and number"""
        self._waiting: list[tuple[float, int]] = []
        """Of those that neither went on nor were stopped"""

    def come(self, trial: int, score: float) -> None:
        """A trial has reported here, and waits."""
        insort(self._came, (-finite(score), trial))
        insort(self._waiting, (-finite(score), trial))

    def fall(self, trial: int) -> None:
        """A trial has failed on its way here: it counts as the worst."""
        insort(self._came, (math.inf, trial))

    def leave(self, trial: int, score: float) -> None:
        """A trial waits no longer."""
        del self._waiting[bisect_left(self._waiting, (-finite(score), trial))]

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[int]:
        """Trials that wait, best first."""
        return [trial for _, trial in self._waiting]

    def promotable(self, reduction: int, *, least: int) -> int | None:
        """The best trial that waits, if it may go on.

        Args:
            reduction: One in this many of those that came goes on.
            least: Even if they are fewer, so many go on.
        """
        if not self._waiting:
            return None
        keep = max(least, len(self._came) // reduction)
        best = self._waiting[0]
        return best[1] if bisect_left(self._came, best) < keep else None


def finite(score: float) -> float:
    """A score that can be ranked: one that is not a number is the worst."""
    return score if math.isfinite(score) else -math.inf
