"""What it costs to score a benchmark's worth of basins."""

from __future__ import annotations

import numpy as np
import pytest

from study.evaluation.metrics import all_metrics

from .conftest import Bench, processor_seconds

BASINS, YEARS = 531, 10


@pytest.mark.benchmark
def test_all_metrics(bench: Bench) -> None:
    draws = np.random.default_rng(1)
    season = 1 + np.sin(np.arange(YEARS * 365) * 2 * np.pi / 365)
    obs = draws.gamma(0.5, 2.0, (BASINS, YEARS * 365)) * season
    sim = obs * draws.lognormal(0.0, 0.3, obs.shape)
    obs[draws.random(obs.shape) < 0.02] = np.nan
    seconds = np.median(
        [processor_seconds(lambda: all_metrics(sim=sim, obs=obs)) for _ in range(5)]
    )
    bench.limit(f"all metrics, {BASINS} basins, {YEARS} years (s)", ours=float(seconds), limit=0.5)
