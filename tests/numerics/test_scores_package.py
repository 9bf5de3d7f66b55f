"""Our metrics against those of the package `scores`, which shares no code with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from parity import Parity
from scores.continuous import additive_bias, kge, multiplicative_bias, nse, pbias
from scores.continuous.correlation import pearsonr

from study.evaluation import metrics

BASINS, DAYS = 40, 1500
TOLERANCE = 1e-12  # both sides compute in float64, in a different order


@pytest.fixture(scope="module")
def flows() -> tuple[np.ndarray, np.ndarray]:
    """Skewed simulated and observed discharge in mm/d; a tenth of the observations is missing."""
    draws = np.random.default_rng(20)
    obs = draws.gamma(0.4, 3.0, (BASINS, DAYS)) * draws.uniform(0.1, 5.0, (BASINS, 1))
    sim = obs * draws.lognormal(0.0, 0.4, obs.shape) + draws.normal(0.0, 0.1, obs.shape)
    obs[draws.random(obs.shape) < 0.1] = np.nan
    return sim, obs


def by_basin(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("basin", "time"))


def peer_kge(sim: xr.DataArray, obs: xr.DataArray) -> xr.Dataset:
    return kge(sim, obs, preserve_dims="basin", include_components=True)


def peer_log_nse(sim: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
    epsilon = obs.mean("time") / 100
    return nse(np.log(sim.clip(min=0) + epsilon), np.log(obs + epsilon), preserve_dims="basin")


PEERS: dict[str, Callable[[xr.DataArray, xr.DataArray], xr.DataArray]] = {
    "nse": lambda sim, obs: nse(sim, obs, preserve_dims="basin"),
    "log_nse": peer_log_nse,
    "kge": lambda sim, obs: peer_kge(sim, obs)["kge"],
    "pearson_r": lambda sim, obs: pearsonr(sim, obs, preserve_dims="basin"),
    "alpha_nse": lambda sim, obs: peer_kge(sim, obs)["alpha"],
    "beta_kge": lambda sim, obs: multiplicative_bias(sim, obs, preserve_dims="basin"),
    "beta_nse": lambda sim, obs: additive_bias(sim, obs, preserve_dims="basin") / obs.std("time"),
}
"""Our metric -> what `scores` says of the same flows. It has no flow duration curve or timing."""


@pytest.mark.parametrize("name", PEERS)
def test_metric_equals_the_package(
    name: str, flows: tuple[np.ndarray, np.ndarray], parity: Parity
) -> None:
    sim, obs = flows
    ours = metrics.all_metrics(sim=sim, obs=obs)[name]
    theirs = PEERS[name](by_basin(sim), by_basin(obs)).to_numpy()
    assert np.isfinite(ours).all()
    parity.check("scores", name, ours, theirs, tolerance=TOLERANCE)


def test_components_equal_the_package(flows: tuple[np.ndarray, np.ndarray], parity: Parity) -> None:
    sim, obs = flows
    ours = metrics.kge_components(sim=sim, obs=obs)
    theirs = peer_kge(by_basin(sim), by_basin(obs))
    for name, peer in (("r", "rho"), ("alpha", "alpha"), ("beta", "beta")):
        parity.check(
            "scores",
            f"kge_components.{name}",
            getattr(ours, name),
            theirs[peer],
            tolerance=TOLERANCE,
        )
    percent = pbias(by_basin(sim), by_basin(obs), preserve_dims="basin")
    parity.check("scores", "100 (beta - 1)", 100 * (ours.beta - 1), percent, tolerance=TOLERANCE)


def test_a_failed_simulation_is_where_we_part() -> None:
    """The package leaves out days without a simulation; to us the simulation has failed."""
    obs = np.array([[1.0, 2.0, 4.0, 3.0]])
    sim = np.array([[1.0, np.nan, 4.0, 3.0]])
    assert nse(by_basin(sim), by_basin(obs), preserve_dims="basin").item() == 1.0
    assert np.isnan(metrics.nse(sim=sim, obs=obs)).all()
