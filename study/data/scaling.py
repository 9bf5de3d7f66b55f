"""Standardisation, fitted on training days of training basins and stored with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.errors import DataError

SPREAD_EPS = 0.1
"""mm/d, added to a basin's standard deviation so that dry basins do not dominate (Kratzert et al.
2019, doi 10.5194/hess-23-5089-2019)."""

Array = Any  # numpy array or torch tensor; what goes in comes out


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Mean and standard deviation of each named input and of discharge (mm/d)."""

    means: dict[str, float]
    stds: dict[str, float]
    qobs_mean: float
    qobs_std: float

    def scale(self, name: str, values: Array) -> Array:
        """Standardise one input; shape and type are kept."""
        return (values - self.means[name]) / self.stds[name]

    def scale_qobs(self, qobs: Array) -> Array:
        """mm/d to standard units."""
        return (qobs - self.qobs_mean) / self.qobs_std

    def unscale_qsim(self, y: Array) -> Array:
        """Standard units to mm/d, negative flow set to 0."""
        return (y * self.qobs_std + self.qobs_mean).clip(min=0)


def fit_scaler(
    dynamic: dict[str, np.ndarray], static: dict[str, np.ndarray], qobs: np.ndarray
) -> Scaler:
    """Fit on what is given: training days only.

    Args:
        dynamic: Name -> (basin, day) values; NaN is left out.
        static: Name -> (basin,) values.
        qobs: (basin, day) mm/d; NaN is left out.

    Raises:
        DataError: An input does not vary, so there is nothing to standardise by.
    """
    means, stds = {}, {}
    for name, values in (dynamic | static).items():
        wide = values.astype(np.float64)
        means[name], stds[name] = float(np.nanmean(wide)), float(np.nanstd(wide))
        if not stds[name] > 1e-9 * max(1.0, abs(means[name])):
            kind = "attribute" if name in static else "input"
            raise DataError(
                f"{kind} `{name}` is the same ({means[name]:g}) in all training "
                f"{'basins' if name in static else 'days'}; it tells a model nothing, leave it out "
                f"of data.{'attributes' if name in static else 'forcing'}"
            )
    wide = qobs.astype(np.float64)
    return Scaler(
        means=means, stds=stds, qobs_mean=float(np.nanmean(wide)), qobs_std=float(np.nanstd(wide))
    )


def stack_scaled(inputs: Mapping[str, np.ndarray], scaler: Scaler, *shape: int) -> np.ndarray:
    """All inputs standardised, side by side on a last axis.

    Args:
        inputs: Name -> values of `shape`; a gap (NaN) becomes 0, the mean.
        scaler: Knows every name.
        shape: Of each input; needed where there is none.

    Returns:
        (*shape, input) float32
    """
    result = np.empty((*shape, len(inputs)), np.float32)
    for i, (name, values) in enumerate(inputs.items()):
        result[..., i] = np.nan_to_num(scaler.scale(name, values), nan=0.0)
    return result


def subset(scaler: Scaler, names: Sequence[str]) -> Scaler:
    """The part of a scaler that a model with these inputs needs."""
    return Scaler(
        means={n: scaler.means[n] for n in names},
        stds={n: scaler.stds[n] for n in names},
        qobs_mean=scaler.qobs_mean,
        qobs_std=scaler.qobs_std,
    )
