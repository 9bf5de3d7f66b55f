"""Training losses: errors weighted by basin, with gaps left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from study.data.scaling import SPREAD_EPS

ROOT_EPS = 1e-4
"""Added to a mean square before its root is taken, whose slope at zero is infinite."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    weights: Callable[[Tensor], Tensor]
    """Basins' (basin,) standard deviations of training discharge in mm/d -> their weights."""
    mean: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Predictions and targets, (window, day) in standard units, NaN where there is no target, and
    the (window,) weights of the windows' basins -> mean error over all targets."""


def nse_weights(qobs_std: Tensor) -> Tensor:
    """Basin weights of NSE* (Kratzert et al. 2019, eq. 11, doi 10.5194/hess-23-5089-2019).

    As in the published code, the weight `1 / (s_b + 0.1)**2` takes the basin's standard deviation
    s_b of training discharge in mm/d, while the error it multiplies is in standard units.

    Args:
        qobs_std: (basin,) mm/d.
    """
    return (qobs_std + SPREAD_EPS) ** -2


def weighted_squares(y: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean weighted squared error, see `Loss.mean`."""
    there = torch.isfinite(target)
    error = torch.where(there, y - target, 0.0)
    return (weight[:, None] * error.square()).sum() / there.sum()


def weighted_roots(y: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of the windows' root mean square errors, by their targets, see `Loss.mean`.

    With the weights of NSE* it is each window's ratio of the root mean square error to the
    standard deviation of discharge, RSR (Moriasi et al. 2007, doi 10.13031/2013.23153). A flood
    that the inputs do not tell of counts by its error and not by its square.
    """
    there = torch.isfinite(target)
    error = torch.where(there, y - target, 0.0)
    targets = there.sum(dim=1)
    means = weight * error.square().sum(dim=1) / targets.clamp(min=1)
    return (targets * (means + ROOT_EPS).sqrt()).sum() / targets.sum()


LOSSES: Mapping[str, Loss] = {
    "nse": Loss(weights=nse_weights, mean=weighted_squares),
    "mse": Loss(weights=torch.ones_like, mean=weighted_squares),
    "rsr": Loss(weights=nse_weights, mean=weighted_roots),
}
"""By its name in a study file."""
