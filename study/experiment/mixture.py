"""The log density of a fitted Parzen estimator, quickly, to about ten digits.

Optuna's own computes at every call what depends on no point, and sums over the hyperparameters
along the shortest axis of its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Array = NDArray[np.float64]
Term = Callable[[Array], Array]
"""Values of a hyperparameter -> their log density under every kernel, a value a row, but for what
is the same for all values."""
ROUNDING = 1e-12
"""Of a value relative to a range's greater end."""


class Mixture:
    """A mixture of products: of truncated normal densities, and of probabilities of choices."""

    def __init__(self, estimator: Any):
        """Take apart an estimator that Optuna has fitted."""
        mixture = estimator._mixture_distribution
        self._constants = np.log(mixture.weights)
        self._terms: list[Term] = []
        for kernels in mixture.distributions:
            if hasattr(kernels, "mu"):
                constants, term = _normal(kernels)
                self._constants += constants
            else:
                term = _choice(kernels)
            self._terms.append(term)

    def log_density(self, points: Array) -> Array:
        """Of points, one a row, with their hyperparameters in the estimator's order.

        Not a number for a point at the border of a range: rounding decides whether it lies inside.
        """
        logs = np.tile(self._constants, (len(points), 1))
        for term, values in zip(self._terms, points.T, strict=True):
            logs += term(values)
        most = logs.max(axis=1)
        logs -= most[:, None]
        return np.asarray(np.log(np.exp(logs, out=logs).sum(axis=1)) + most)


def _choice(kernels: Any) -> Term:
    logs = np.log(kernels.weights).T.copy()
    return lambda values: np.asarray(logs[values.astype(int)])


def _normal(kernels: Any) -> tuple[Array, Term]:
    mu, sigma, step = kernels.mu, kernels.sigma, kernels.step
    scaled: Term = np.log if kernels.is_log else np.asarray
    least, most = kernels.adapted_low, kernels.adapted_high
    rounding = ROUNDING * max(abs(least), abs(most))
    inverse = 1 / (math.sqrt(2) * sigma)

    def density(values: Array) -> Array:
        at = scaled(values)
        at = np.where((at > least + rounding) & (at < most - rounding), at, np.nan)
        logs = at[:, None] - mu
        logs *= inverse
        logs *= logs
        return np.asarray(np.negative(logs, out=logs))

    def mass(values: Array) -> Array:
        distinct, which = np.unique(values, return_inverse=True)
        low, high = (scaled(distinct + side)[:, None] for side in (-step / 2, step / 2))
        return np.asarray(_log_mass((low - mu) / sigma, (high - mu) / sigma)[which])

    constants = -_log_mass((least - mu) / sigma, (most - mu) / sigma)
    if step:
        return constants, mass
    return constants - np.log(math.sqrt(2 * math.pi) * sigma), density


def _log_mass(low: Array, high: Array) -> Array:
    """Of a standard normal distribution between two values; taken in its left half, for digits."""
    right = low + high > 0
    low, high = np.where(right, -high, low), np.where(right, -low, high)
    below = log_ndtr(high)
    return np.asarray(below + np.log1p(-np.exp(log_ndtr(low) - below)))
