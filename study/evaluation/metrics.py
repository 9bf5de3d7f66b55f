"""Measures of fit between simulated and observed discharge, for all basins in one call.

Every metric takes `sim` and `obs` of shape (..., time), whose leading axes broadcast, for
instance (seed, basin, time) with (basin, time). It reduces the last axis, works in float64, and
treats gaps in the same way:

* Days without an observation (NaN) are ignored.
* A simulation that is NaN or infinite on a scored day makes the metric NaN for that series: it
  has failed, and no average over its other days hides that.
* The metric is NaN where it is undefined: no scored day, constant observations, zero divisor.

Symbols: s and o are simulated and observed discharge in mm/d on the scored days, mean_x and
std_x their means and standard deviations (population, without Bessel's correction).
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.evaluation.peaks import absolute_lags, prominent_peaks

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

MIN_FLOW = 1e-6
"""mm/d that stand in for a dry day before a logarithm is taken, as in the published code."""


class Metric(Protocol):
    """What every metric looks like from outside."""

    def __call__(self, *, sim: ArrayLike, obs: ArrayLike) -> FloatArray: ...


class _Pair:
    """Simulated and observed flows, and what several metrics need of them, computed once.

    Values of days that are not scored are 0 in `sim` and `obs`, so that sums need no mask.
    `obs`, and all that follows from it alone, keeps its own leading axes.
    """

    def __init__(self, *, sim: ArrayLike, obs: ArrayLike) -> None:
        sim, obs = np.asarray(sim, dtype=np.float64), np.asarray(obs, dtype=np.float64)
        if sim.ndim == 0 or obs.ndim == 0 or sim.shape[-1] != obs.shape[-1]:
            raise ValueError(
                "`sim` and `obs` must have the same days on their last axis, but got shapes "
                f"{sim.shape} and {obs.shape}."
            )
        self.shape = np.broadcast_shapes(sim.shape, obs.shape)
        self.scored: BoolArray = ~np.isnan(obs)
        self.days: IntArray = self.scored.sum(axis=-1)
        self.obs: FloatArray = np.where(self.scored, obs, 0)
        self.sim: FloatArray = np.where(self.scored, sim, 0)
        self.complete: BoolArray = np.asarray(np.isfinite(self.sim).all(axis=-1))

    @cached_property
    def obs_spread(self) -> "_Spread":
        return _Spread(self.obs, self.scored)

    @cached_property
    def sim_spread(self) -> "_Spread":
        return _Spread(self.sim, self.scored)

    @cached_property
    def obs_curve(self) -> FloatArray:
        return _duration_curve(self.obs, self.scored)

    @cached_property
    def sim_curve(self) -> FloatArray:
        return _duration_curve(self.sim, self.scored)


def _sum_of_products(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return sum(a b) over the last axis without a temporary array."""
    total: FloatArray = np.vecdot(a, b)
    return total


class _Spread:
    """Mean of the scored values and their deviations from it.

    The values are counted from the first scored one, so that a constant series has deviations of
    exactly zero, and not of the rounding error of its mean.
    """

    def __init__(self, values: FloatArray, scored: BoolArray) -> None:
        scored = np.broadcast_to(scored, values.shape)
        first_day = scored.argmax(axis=-1)[..., np.newaxis]
        first = np.take_along_axis(values, first_day, axis=-1)
        days = scored.sum(axis=-1, keepdims=True)
        above_first = np.where(scored, values - first, 0)
        mean_above_first = above_first.sum(axis=-1, keepdims=True) / days
        self.mean: FloatArray = (first + mean_above_first)[..., 0]
        self.deviations: FloatArray = np.where(scored, above_first - mean_above_first, 0)
        self.sum_of_squares: FloatArray = _sum_of_products(self.deviations, self.deviations)
        self.std: FloatArray = np.sqrt(self.sum_of_squares / days[..., 0])


_FORMULAS: dict[str, Callable[[_Pair], FloatArray]] = {}
"""Every metric by name, as a function of the shared quantities; `_metric` fills it."""


def _metric(formula: Callable[[_Pair], FloatArray]) -> Metric:
    """Turn a formula into a public metric of arrays that obeys the rules of this module."""

    def metric(*, sim: ArrayLike, obs: ArrayLike) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return _evaluate(formula, _Pair(sim=sim, obs=obs))

    metric.__name__ = metric.__qualname__ = formula.__name__
    metric.__doc__ = formula.__doc__
    _FORMULAS[formula.__name__] = formula
    return metric


def _evaluate(formula: Callable[[_Pair], FloatArray], pair: _Pair) -> FloatArray:
    value = formula(pair)
    return np.where(pair.complete & np.isfinite(value), value, np.nan)


def all_metrics(*, sim: ArrayLike, obs: ArrayLike) -> dict[str, FloatArray]:
    """Compute every metric of this module by name, sharing sums and sorting."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pair = _Pair(sim=sim, obs=obs)
        return {name: _evaluate(formula, pair) for name, formula in _FORMULAS.items()}


def share_below_zero(nse: ArrayLike) -> FloatArray:
    """Return the share of basins (last axis) with NSE < 0, among those whose NSE is defined.

    Below zero a basin is served better by its own mean. NaN where no basin has an NSE.
    """
    nse = np.asarray(nse, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray((nse < 0).sum(axis=-1) / (~np.isnan(nse)).sum(axis=-1))


# --- Errors of the whole series --------------------------------------------------------------


@_metric
def nse(pair: _Pair) -> FloatArray:
    """Nash–Sutcliffe efficiency: 1 is perfect, 0 as good as the observed mean.

        NSE = 1 - sum((s - o)^2) / sum((o - mean_o)^2)

    References:
        Nash and Sutcliffe (1970), https://doi.org/10.1016/0022-1694(70)90255-6
    """
    errors = pair.sim - pair.obs
    return 1 - _sum_of_products(errors, errors) / pair.obs_spread.sum_of_squares


@_metric
def log_nse(pair: _Pair) -> FloatArray:
    """NSE of log(s + e) and log(o + e), e = mean_o / 100: weighs low flows.

    Simulated flows below zero are read as zero. e keeps the logarithm of dry days finite and
    scales with the basin, so that the metric does not depend on the unit.

    References:
        Pushpalatha et al. (2012), https://doi.org/10.1016/j.jhydrol.2011.11.055
    """
    epsilon = (pair.obs_spread.mean / 100)[..., np.newaxis]
    log_obs = np.log(pair.obs + epsilon)
    log_sim = np.log(np.maximum(pair.sim, 0) + epsilon)
    errors = np.where(pair.scored, log_sim - log_obs, 0)
    return 1 - _sum_of_products(errors, errors) / _Spread(log_obs, pair.scored).sum_of_squares


@_metric
def kge(pair: _Pair) -> FloatArray:
    """Kling–Gupta efficiency: the distance from a perfect fit in three components.

        KGE = 1 - sqrt((r - 1)^2 + (alpha - 1)^2 + (beta - 1)^2)

    1 is perfect; the components are those of `kge_components`. NaN for a constant simulation,
    which has no correlation.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    r, alpha, beta = _components(pair)
    return 1 - np.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)


class KGEComponents(NamedTuple):
    """What the Kling–Gupta efficiency is made of; each is 1 for a perfect fit."""

    r: FloatArray
    """Linear correlation of s and o: timing and shape."""

    alpha: FloatArray
    """std_s / std_o: variability."""

    beta: FloatArray
    """mean_s / mean_o: water balance."""


def kge_components(*, sim: ArrayLike, obs: ArrayLike) -> KGEComponents:
    """Return r, alpha and beta of the Kling–Gupta efficiency.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    return KGEComponents(
        r=pearson_r(sim=sim, obs=obs),
        alpha=alpha_nse(sim=sim, obs=obs),
        beta=beta_kge(sim=sim, obs=obs),
    )


def _components(pair: _Pair) -> KGEComponents:
    o, s = pair.obs_spread, pair.sim_spread
    covariance = _sum_of_products(s.deviations, o.deviations) / pair.days
    return KGEComponents(r=covariance / (s.std * o.std), alpha=s.std / o.std, beta=s.mean / o.mean)


@_metric
def pearson_r(pair: _Pair) -> FloatArray:
    """Linear correlation of s and o, the r of `kge_components`.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    return _components(pair).r


@_metric
def alpha_nse(pair: _Pair) -> FloatArray:
    """Ratio of standard deviations, std_s / std_o: below 1 the simulation varies too little.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    return _components(pair).alpha


@_metric
def beta_kge(pair: _Pair) -> FloatArray:
    """Ratio of means, mean_s / mean_o: above 1 the simulation has too much water.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    return _components(pair).beta


@_metric
def beta_nse(pair: _Pair) -> FloatArray:
    """Bias in units of the observed variability, (mean_s - mean_o) / std_o: 0 is perfect.

    References:
        Gupta et al. (2009), https://doi.org/10.1016/j.jhydrol.2009.08.003
    """
    return (pair.sim_spread.mean - pair.obs_spread.mean) / pair.obs_spread.std


# --- Parts of the flow duration curve --------------------------------------------------------
#
# A flow duration curve holds the flows of the n scored days in descending order; rank 0 is the
# highest. A fraction p of the curve ends before rank round(p n), halves to the even rank. Where
# Yilmaz et al. (2008), https://doi.org/10.1029/2007WR006716, leave the details open they follow
# the code published with Kratzert et al. (2019), https://doi.org/10.5194/hess-23-5089-2019: no
# flow, or a negative one, counts as MIN_FLOW, and MIN_FLOW is added under every logarithm.
# That code also adds 1e-6 to divisors; here a divisor of zero gives NaN instead.


@_metric
def fhv(pair: _Pair) -> FloatArray:
    """Bias of the highest 2 % of the flow duration curve, in percent: 0 is perfect.

        FHV = 100 sum(s_j - o_j) / sum(o_j)         over ranks j < round(0.02 n)

    Negative when floods are underestimated. NaN with 25 scored days or fewer.

    References:
        Yilmaz et al. (2008), https://doi.org/10.1029/2007WR006716
    """
    end = _rank(0.02, pair)
    longest = end.max(initial=0)
    inside = np.arange(longest) < end[..., np.newaxis]
    obs_volume, sim_volume = (
        np.where(inside, curve[..., :longest], 0).sum(axis=-1)
        for curve in (pair.obs_curve, pair.sim_curve)
    )
    return np.asarray(100 * (sim_volume - obs_volume) / obs_volume)


@_metric
def flv(pair: _Pair) -> FloatArray:
    """Bias of the lowest 30 % of the flow duration curve, in percent: 0 is perfect.

        FLV = -100 (V_s - V_o) / V_o
        V_q = sum(log q_j - log q_min)               over ranks j >= round(0.7 n)

    V measures how far low flows lie above the lowest one; positive FLV means that they recede
    too little. NaN where the observed low flows are all equal, as in basins that run dry for
    30 % of the time.

    References:
        Yilmaz et al. (2008), https://doi.org/10.1029/2007WR006716
    """
    obs_volume, sim_volume = _low_volume(pair.obs_curve, pair), _low_volume(pair.sim_curve, pair)
    return -100 * (sim_volume - obs_volume) / obs_volume


@_metric
def fms(pair: _Pair) -> FloatArray:
    """Bias of the slope of the flow duration curve from 20 to 70 %, in percent: 0 is perfect.

        FMS = 100 (S_s - S_o) / S_o
        S_q = log q_a - log q_b                      at ranks a, b = round(0.2 n), round(0.7 n)

    Positive when the simulation is too flashy. NaN where the observed curve is flat.

    References:
        Yilmaz et al. (2008), https://doi.org/10.1029/2007WR006716
    """
    obs_slope, sim_slope = _middle_slope(pair.obs_curve, pair), _middle_slope(pair.sim_curve, pair)
    return 100 * (sim_slope - obs_slope) / obs_slope


def _duration_curve(flow: FloatArray, scored: BoolArray) -> FloatArray:
    """Sort the scored flows in descending order; NaN stands behind them."""
    return -np.sort(np.where(scored, -flow, np.nan), axis=-1)


def _rank(fraction: float, pair: _Pair) -> IntArray:
    return np.round(fraction * pair.days).astype(np.intp)


def _log_flow(flow: FloatArray) -> FloatArray:
    return np.log(np.where(flow <= 0, MIN_FLOW, flow) + MIN_FLOW)


def _at_rank(curve: FloatArray, rank: IntArray) -> FloatArray:
    rank = np.broadcast_to(rank, curve.shape[:-1])[..., np.newaxis]
    return np.take_along_axis(curve, rank.clip(0, curve.shape[-1] - 1), axis=-1)


def _low_volume(curve: FloatArray, pair: _Pair) -> FloatArray:
    start = _rank(0.7, pair)
    lowest = start.min(initial=curve.shape[-1])  # only the tail needs logarithms
    ranks = np.arange(lowest, curve.shape[-1])
    inside = (ranks >= start[..., np.newaxis]) & (ranks < pair.days[..., np.newaxis])
    above_minimum = _log_flow(curve[..., lowest:]) - _log_flow(_at_rank(curve, pair.days - 1))
    volume: FloatArray = np.where(inside, above_minimum, 0).sum(axis=-1)
    return volume


def _middle_slope(curve: FloatArray, pair: _Pair) -> FloatArray:
    upper, lower = (_log_flow(_at_rank(curve, _rank(p, pair))) for p in (0.2, 0.7))
    return (upper - lower)[..., 0]


# --- Floods ----------------------------------------------------------------------------------


@_metric
def peak_timing(pair: _Pair) -> FloatArray:
    """Mean absolute lag, in days, of the simulated behind or before the observed flood peaks.

    Observed peaks are those whose prominence is at least std_o, at least 100 days apart; the
    simulated peak is looked for within 3 days, so that the metric lies between 0 and 3.
    `prominent_peaks` and `absolute_lags` in `study.evaluation.peaks` state the rules. NaN for
    a basin without such a peak.

    References:
        Kratzert et al. (2021), appendix, https://doi.org/10.5194/hess-25-2685-2021
    """
    num_days = pair.shape[-1]
    observed = np.where(pair.scored, pair.obs, np.nan).reshape(-1, num_days)
    peaks = prominent_peaks(observed, pair.obs_spread.std.ravel())
    # Simulations of one basin, say with several seeds, share its table of peaks.
    basin = np.arange(len(observed)).reshape(pair.obs.shape[:-1])
    peaks = peaks[np.broadcast_to(basin, pair.shape[:-1]).ravel()]
    lags = absolute_lags(np.broadcast_to(pair.sim, pair.shape).reshape(-1, num_days), peaks)
    mean_lag: FloatArray = np.nansum(lags, axis=-1) / (~np.isnan(lags)).sum(axis=-1)
    return mean_lag.reshape(pair.shape[:-1])
