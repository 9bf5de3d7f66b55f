"""What makes a hydrograph look like one: signatures of each basin of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

EXCEEDANCE = np.array([1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95])
"""Percent of the days on which a flow is exceeded."""
LAGS = np.array([1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90])
"""Days."""


@dataclass(frozen=True, kw_only=True)
class Signatures:
    duration: np.ndarray
    """(basin, exceedance): flow duration curve over the mean flow"""
    regime: np.ndarray
    """(basin, month): mean flow of each calendar month over the mean flow"""
    memory: np.ndarray
    """(basin, lag): autocorrelation"""
    water: np.ndarray
    """(basin,): discharge over precipitation"""
    frac_snow: np.ndarray
    """(basin,): share of precipitation that falls as snow"""

    def table(self) -> dict[str, np.ndarray]:
        """One number per basin for each signature that can be named."""
        flows = {f"flow exceeded on {e} % of days": self.duration[:, i]
                 for i, e in enumerate(EXCEEDANCE) if e in (1, 10, 30, 50, 70, 90)}  # fmt: skip
        memory = {f"autocorrelation at {lag} d": self.memory[:, i]
                  for i, lag in enumerate(LAGS) if lag in (1, 7, 30)}  # fmt: skip
        return {
            **flows,
            "wettest month": self.regime.max(axis=1),
            "driest month": self.regime.min(axis=1),
            "seasonality": self.seasonality(),
            **memory,
            "runoff ratio": self.water,
        }

    def seasonality(self) -> np.ndarray:
        """Relative amplitude of the annual harmonic of the regime: 0 is the same all year."""
        angle = 2 * np.pi * np.arange(12) / 12
        amplitude: np.ndarray = 2 * np.abs((self.regime * np.exp(1j * angle)).mean(axis=1))
        return amplitude


def signatures(store: xr.Dataset) -> Signatures:
    qobs = store["qobs"].values.astype(np.float64)
    relative = qobs / np.nanmean(qobs, axis=1, keepdims=True)
    month = pd.DatetimeIndex(store["time"].values).month
    regime = [np.nanmean(relative[:, month == m], axis=1) for m in range(1, 13)]
    precipitation = np.where(np.isnan(qobs), np.nan, store["prcp"].values)
    return Signatures(
        duration=np.nanpercentile(relative, 100 - EXCEEDANCE, axis=1).T,
        regime=np.stack(regime, axis=1),
        memory=np.stack([_autocorrelation(qobs, lag) for lag in LAGS], axis=1),
        water=np.nanmean(qobs, axis=1) / np.nanmean(precipitation, axis=1),
        frac_snow=store["frac_snow"].values,
    )


def _autocorrelation(flow: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of the days that both have a flow with those `lag` days later."""
    early, late = flow[:, :-lag], flow[:, lag:]
    both = np.isfinite(early) & np.isfinite(late)
    pairs = zip(early, late, both, strict=True)
    return np.array([np.corrcoef(x[there], y[there])[0, 1] for x, y, there in pairs])
