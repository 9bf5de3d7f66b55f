"""Simulation of whole periods: one continuous pass over the days, all basins together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from study.data.features import Inputs
from study.models import RunoffModel
from study.native.threads import pool
from study.spec import TrainingSpec
from study.training.loop import DeviceData

GROUP = 24
"""Basins that a CPU simulates at a time: hidden values of one day stay in its first cache."""
CHUNK = 512
"""Days that it is fed at a time."""
GPU_CHUNK = 128
"""The same of a GPU, which takes all basins at once and holds the hidden values of so many days."""


def simulate(
    model: RunoffModel, dynamic: Tensor, static: Tensor, *, warmup: int, threads: int = 1
) -> Tensor:
    """Discharge of every day after the warm-up, in standard units.

    The state is carried from the first warm-up day to the last day. Basins and days are fed in
    parts whose sizes follow from the shapes alone, so that threads change no bit.

    Args:
        model: The network.
        dynamic: (basin, warmup + day, input), standardised.
        static: (basin, attribute), standardised.
        warmup: Days fed before the first one that is returned.
        threads: Share out the basins on a CPU.

    Returns:
        (basin, day)
    """
    model.eval()
    cpu = dynamic.device.type == "cpu"
    size, days = (GROUP, CHUNK) if cpu else (len(dynamic), GPU_CHUNK)
    groups = [slice(at, at + size) for at in range(0, len(dynamic), size)]

    def simulated(group: slice) -> Tensor:
        return _simulate(model, dynamic[group], static[group], warmup, days)

    if threads == 1:
        return torch.cat([simulated(group) for group in groups])
    with pool(threads) as workers:
        return torch.cat(list(workers.map(simulated, groups)))


@torch.no_grad()
def _simulate(
    model: RunoffModel, dynamic: Tensor, static: Tensor, warmup: int, days: int
) -> Tensor:
    pieces, state = [], None
    for start in range(0, dynamic.shape[1], days):
        y, state = model(dynamic[:, start : start + days], static, state=state)
        pieces.append(y[:, max(0, warmup - start) :])
    return torch.cat(pieces, dim=1)


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
    model: RunoffModel,
    data: DeviceData,
    inputs: Inputs,
    config: TrainingSpec,
    period: str,
    *,
    threads: int = 1,
) -> np.ndarray:
    """Discharge of all basins on the days of one of the study's periods.

    Args:
        model: A network fed with `inputs`.
        data: The study's arrays on the model's device.
        inputs: The model's inputs.
        config: Gives the warm-up and the mode of simulation.
        period: Name of the period.
        threads: Share out the basins on a CPU.

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
        y = simulate(model, dynamic, static, warmup=config.warmup, threads=threads)
    baseline = None
    if inputs.baseline is not None:
        assert data.baseline is not None  # the arrays were assembled for these inputs
        baseline = data.baseline[:, span]
    y = data.discharge(y, config, basin=slice(None), baseline=baseline)
    return np.asarray(data.arrays.scaler.unscale_qsim(y).cpu().numpy(), np.float32)
