"""What a trained network remembers, and which days of its inputs a day's discharge comes from.

Shapes: a `window` is any stretch of days of one basin. Inputs and outputs are in the network's
standard units, before negative discharge is set to 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from study.models import RunoffModel


@torch.no_grad()
def cell_states(model: RunoffModel, dynamic: Tensor, static: Tensor) -> Tensor:
    """The memory cells of every day, from an empty memory on.

    Kratzert et al. (2019), https://doi.org/10.1007/978-3-030-28954-6_19, find cells among them
    that behave as snow or soil moisture, which the network was never shown.

    Args:
        model: A network.
        dynamic: (window, day, input), standardised.
        static: (window, attribute), standardised.

    Returns:
        (window, day, cell), at the end of each day.
    """
    model.eval()
    state, cells = None, []
    for day in range(dynamic.shape[1]):
        _, state = model(dynamic[:, day : day + 1], static, state=state)
        cells.append(state[1])
    return torch.stack(cells, dim=1)


def input_gradients(model: RunoffModel, dynamic: Tensor, static: Tensor) -> Tensor:
    """How the discharge of each window's last day answers to a small change of each input.

    Args:
        model: A network.
        dynamic: (window, day, input), standardised.
        static: (window, attribute), standardised.

    Returns:
        (window, day, input), in standard units of discharge a standard unit of the input.
    """
    model.eval()
    asked = dynamic.detach().clone().requires_grad_()
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN's only trains
        y, _ = model(asked, static, warmup=dynamic.shape[1] - 1)
        (gradients,) = torch.autograd.grad(y.sum(), asked)
    return gradients


def integrated_gradients(
    model: RunoffModel, dynamic: Tensor, static: Tensor, *, baseline: Tensor, steps: int = 32
) -> Tensor:
    """Share of every input of every day in the discharge of each window's last day.

    IG = (x - x') * mean over a in (0, 1) of the gradient at x' + a (x - x')

    The shares of a window add up to what its last day's discharge is above that of the baseline,
    but for the error of the mean, which is taken over the middles of `steps` equal parts.
    Sundararajan et al. (2017), https://proceedings.mlr.press/v70/sundararajan17a.html.

    Args:
        model: A network.
        dynamic: (window, day, input), standardised: x.
        static: (window, attribute), standardised.
        baseline: As `dynamic`: x', what the inputs are compared with, such as the same days without
            precipitation. An input that equals its baseline has a share of 0.
        steps: Parts of the way from the baseline to the inputs.

    Returns:
        (window, day, input), in standard units of discharge.

    Raises:
        ValueError: The baseline has another shape, or there are no steps.
    """
    if baseline.shape != dynamic.shape:
        raise ValueError(
            f"`baseline` must have the shape of `dynamic`, {tuple(dynamic.shape)}, "
            f"but has {tuple(baseline.shape)}."
        )
    if steps < 1:
        raise ValueError(f"`steps >= 1` must hold, but got {steps}.")
    difference = dynamic - baseline
    total = torch.zeros_like(difference)
    for step in range(steps):
        at = baseline + difference * ((step + 0.5) / steps)
        total += input_gradients(model, at, static)
    return difference * total / steps
