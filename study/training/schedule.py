"""Learning rate as a function of progress, so that a resumed trial needs no schedule state."""

import math

from study.spec import TrainingSpec

RISE = 0.3
"""Share of training in which a one-cycle schedule climbs."""
START = 1 / 25
END = 1e-4
"""First and last learning rate of a one-cycle schedule as shares of its peak (the last one of the
first), the usual values of Smith and Topin (2019), arXiv 1708.07120."""


def learning_rate(config: TrainingSpec, epoch: int, batch: int, batches: int) -> float:
    """Learning rate of one optimiser step.

    Args:
        config: Names the schedule and its peak.
        epoch: Pass over the training days, counted from 1.
        batch: Step in the pass, counted from 0.
        batches: Steps in the pass.
    """
    if config.schedule == "one_cycle":
        progress = (epoch - 1 + batch / batches) / config.epochs
        return config.learning_rate * _one_cycle(progress)
    if config.schedule == "steps":
        reached = [start for start in sorted(config.steps) if start <= epoch]
        return config.learning_rate * (config.steps[reached[-1]] if reached else 1.0)
    return config.learning_rate


def _one_cycle(progress: float) -> float:
    if progress < RISE:
        return _cosine(START, 1.0, progress / RISE)
    return _cosine(1.0, START * END, (progress - RISE) / (1 - RISE))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
