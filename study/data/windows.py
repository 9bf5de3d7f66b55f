"""Training windows: each scored day of the training period once a pass, in random order.

A window is `warmup` days, then `targets` scored days. Windows tile the training period from a
random offset, drawn anew for every basin and pass; where the first or the last window would leave
the period it is moved inside and the days it shares with its neighbour are scored once only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All windows of one pass, in the order they are used; arrays of shape (window,)."""

    basin: np.ndarray
    start: np.ndarray
    """First scored day, counted from the start of the calendar."""
    first: np.ndarray
    """Scored are the window's days from this one, counted from `start`, ..."""
    last: np.ndarray
    """... up to this one, not included."""


def draw_windows(
    scored: np.ndarray, span: slice, targets: int, generator: np.random.Generator
) -> Windows:
    """Windows of one pass.

    Args:
        scored: (basin, day) booleans: days that have a target and may be scored.
        span: Training period on the calendar of `scored`.
        targets: Scored days a window; at most the length of the period.
        generator: Source of offsets and order.
    """
    num_basins, length = scored.shape[0], span.stop - span.start
    targets = min(targets, length)
    num = -(-length // targets) + (targets > 1)
    offset = generator.integers(0, targets, (num_basins, 1))
    edges = np.arange(num)[None, :] * targets - offset  # first day of each tile in the period
    low, high = np.clip(edges, 0, length), np.clip(edges + targets, 0, length)
    start = np.clip(edges, 0, length - targets)
    basin = np.broadcast_to(np.arange(num_basins)[:, None], edges.shape)
    counts = np.zeros((num_basins, length + 1), np.int64)
    np.cumsum(scored[:, span], axis=1, out=counts[:, 1:])
    keep = counts[basin, high] > counts[basin, low]
    order = generator.permutation(int(keep.sum()))
    return Windows(
        basin=basin[keep][order],
        start=(start + span.start)[keep][order],
        first=(low - start)[keep][order],
        last=(high - start)[keep][order],
    )
