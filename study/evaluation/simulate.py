"""Simulation of whole periods: one continuous pass over the days, all basins together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from study.data.features import Inputs
from study.models import RunoffModel
from study.spec import TrainingSpec
from study.training.loop import DeviceData

CHUNK_CELLS = 2_000_000
"""Basin-days fed at once times inputs and hidden units stay below this, in float32 numbers."""


@torch.no_grad()
def simulate(model: RunoffModel, dynamic: Tensor, static: Tensor, *, warmup: int) -> Tensor:
    """Discharge of every day after the warm-up, in standard units.

    The state is carried from the first warm-up day to the last day. The days are fed in chunks
    whose size follows from the shapes alone.

    Args:
        model: The network.
        dynamic: (basin, warmup + day, input), standardised.
        static: (basin, attribute), standardised.
        warmup: Days fed before the first one that is returned.

    Returns:
        (basin, day)
    """
    model.eval()
    pieces, state, done = [], None, 0
    for days in _chunks(dynamic, static):
        y, state = model(dynamic[:, days], static, state=state)
        pieces.append(y[:, max(0, warmup - done) :])
        done = days.stop
    return torch.cat(pieces, dim=1)


def _chunks(dynamic: Tensor, static: Tensor) -> Iterator[slice]:
    num_basins, num_days, num_inputs = dynamic.shape
    length = max(64, CHUNK_CELLS // (num_basins * (num_inputs + static.shape[1])))
    for start in range(0, num_days, length):
        yield slice(start, min(start + length, num_days))


@torch.no_grad()
def simulate_windows(
    model: RunoffModel, dynamic: Tensor, static: Tensor, *, warmup: int, targets: int
) -> Tensor:
    """As `simulate`, but every `targets` days start from an empty state and their own warm-up.

    With one target this is the published sequence-to-one evaluation; it costs `warmup` times more.
    """
    model.eval()
    pieces = []
    for start in range(warmup, dynamic.shape[1], targets):
        window = dynamic[:, start - warmup : start + targets]
        y, _ = model(window, static, warmup=warmup)
        pieces.append(y)
    return torch.cat(pieces, dim=1)


def simulate_period(
    model: RunoffModel, data: DeviceData, inputs: Inputs, config: TrainingSpec, period: str
) -> np.ndarray:
    """Discharge of all basins on the days of one of the study's periods.

    Args:
        model: A network fed with `inputs`.
        data: The study's arrays on the model's device.
        inputs: The model's inputs.
        config: Gives the warm-up and the mode of simulation.
        period: Name of the period.

    Returns:
        (basin, day) float32 mm/d, never negative.
    """
    columns, attributes = data.columns(inputs)
    span = data.arrays.periods[period]
    dynamic = data.dynamic[:, span.start - config.warmup : span.stop][..., columns]
    static = data.static[:, attributes]
    if config.simulation == "windows":
        targets = config.targets_per_window
        y = simulate_windows(model, dynamic, static, warmup=config.warmup, targets=targets)
    else:
        y = simulate(model, dynamic, static, warmup=config.warmup)
    if inputs.baseline is not None:
        assert data.baseline is not None  # the arrays were assembled for these inputs
        y = y + data.baseline[:, span]
    return np.asarray(data.arrays.scaler.unscale_qsim(y).cpu().numpy(), np.float32)
