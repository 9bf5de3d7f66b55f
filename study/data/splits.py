"""Periods of scored days on a calendar, and the days that may be scored in every arm."""

from __future__ import annotations

import datetime

import numpy as np

from study.spec import Period


def day_range(period: Period, first_day: datetime.date) -> slice:
    """Positions of a period's days on a calendar that begins with `first_day`."""
    start = (period.start - first_day).days
    return slice(start, start + (period.end - period.start).days + 1)


def warmed_up(valid: np.ndarray, warmup: int) -> np.ndarray:
    """Days whose own inputs and those of all `warmup` days before are valid.

    Args:
        valid: (basin, day) booleans.
        warmup: Days before a scored day that a model is fed with.

    Returns:
        (basin, day) booleans; the first `warmup` days are never warmed up.
    """
    gaps = np.zeros((valid.shape[0], valid.shape[1] + 1), np.int64)
    np.cumsum(~valid, axis=1, out=gaps[:, 1:])
    result = np.zeros_like(valid)
    if warmup < valid.shape[1]:
        result[:, warmup:] = gaps[:, warmup + 1 :] == gaps[:, : valid.shape[1] - warmup]
    return result
