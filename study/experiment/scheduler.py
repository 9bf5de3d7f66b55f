"""Synchronous successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) in fixed cohorts.

A rung of a cohort is decided when every member has reported there or failed. The decision is a
function of the members' scores alone: not of time, of the number of workers or of their order.
"""

from __future__ import annotations

import math
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


def finite(score: float) -> float:
    """A score that can be ranked: one that is not a number is the worst."""
    return score if math.isfinite(score) else -math.inf
