"""Training losses: a squared error weighted by basin, with gaps left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

NSE_EPS = 0.1
"""mm/d, added to a basin's standard deviation so that dry basins do not dominate."""


def nse_weights(qobs_std: Tensor) -> Tensor:
    """Basin weights of NSE* (Kratzert et al. 2019, eq. 11, doi 10.5194/hess-23-5089-2019).

    As in the published code, the weight `1 / (s_b + 0.1)**2` takes the basin's standard deviation
    s_b of training discharge in mm/d, while the error it multiplies is in standard units.

    Args:
        qobs_std: (basin,) mm/d.
    """
    return (qobs_std + NSE_EPS) ** -2


WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = {"nse": nse_weights, "mse": torch.ones_like}
"""Name of a loss -> basin weights from the basins' (basin,) standard deviations."""


def weighted_squares(y: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over all targets of the weighted squared error, and how many targets there are.

    The loss is one divided by the other; apart, they can be added up over parts of a batch.

    Args:
        y: (window, day) predictions in standard units.
        target: (window, day) targets in standard units, NaN where there is none; these do not
            count.
        weight: (window,) weight of each window's basin.
    """
    there = torch.isfinite(target)
    error = torch.where(there, y - target, 0.0)
    return (weight[:, None] * error.square()).sum(), there.sum()
