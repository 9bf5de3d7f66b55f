"""Metrics against loops over basins, limit cases, gaps and sums done by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks

from study.evaluation import metrics
from study.evaluation.metrics import Metric, all_metrics, kge_components, share_below_zero
from study.evaluation.peaks import MIN_DISTANCE, NO_PEAK, WINDOW, prominent_peaks

Array = NDArray[np.float64]

ONE_IS_PERFECT = ("nse", "log_nse", "kge", "pearson_r", "alpha_nse", "beta_kge")
ZERO_IS_PERFECT = ("beta_nse", "fhv", "flv", "fms", "peak_timing")
PERFECT = dict.fromkeys(ONE_IS_PERFECT, 1.0) | dict.fromkeys(ZERO_IS_PERFECT, 0.0)
METRICS: dict[str, Metric] = {name: getattr(metrics, name) for name in PERFECT}

every_metric = pytest.mark.parametrize("name", METRICS)


def synthetic_flows(num_basins: int = 6, num_days: int = 1100) -> tuple[Array, Array]:
    """Two leaky buckets under the same rain, that of `obs` with gaps of one and many days."""
    draws = np.random.default_rng(11)
    rain = draws.exponential(9.0, (num_basins, num_days)) ** 2 / 20
    rain *= draws.random((num_basins, num_days)) < 0.25
    obs, sim = np.zeros_like(rain), np.zeros_like(rain)
    for day in range(1, num_days):
        obs[:, day] = 0.8 * obs[:, day - 1] + 0.2 * rain[:, day]
        sim[:, day] = 0.85 * sim[:, day - 1] + 0.1 * rain[:, day] + 0.05 * rain[:, day - 1]
    obs[draws.random(obs.shape) < 0.02] = np.nan
    obs[1, 300:420] = np.nan
    obs[2, :50] = np.nan
    return sim, obs


# --- brute force: one basin at a time, as one would write it down -----------------------------


def brute_nse(s: Array, o: Array) -> float:
    return float(1 - sum((s - o) ** 2) / sum((o - o.mean()) ** 2))


def brute_log_nse(s: Array, o: Array) -> float:
    epsilon = 0.01 * o.mean()
    return brute_nse(np.log(s.clip(0) + epsilon), np.log(o + epsilon))


def brute_kge(s: Array, o: Array) -> float:
    r = np.corrcoef(s, o)[0, 1]
    return float(1 - math.hypot(r - 1, s.std() / o.std() - 1, s.mean() / o.mean() - 1))


def descending(flow: Array) -> list[float]:
    return sorted(flow.tolist(), reverse=True)


def log_flow(flow: float) -> float:
    return math.log((flow if flow > 0 else 1e-6) + 1e-6)


def brute_fhv(s: Array, o: Array) -> float:
    top = round(0.02 * len(o))
    return 100 * (sum(descending(s)[:top]) / sum(descending(o)[:top]) - 1)


def brute_flv(s: Array, o: Array) -> float:
    def volume(flow: Array) -> float:
        low = [log_flow(q) for q in descending(flow)[round(0.7 * len(flow)) :]]
        return sum(q - min(low) for q in low)

    return -100 * (volume(s) / volume(o) - 1)


def brute_fms(s: Array, o: Array) -> float:
    def slope(flow: Array) -> float:
        curve = [log_flow(q) for q in descending(flow)]
        return curve[round(0.2 * len(flow))] - curve[round(0.7 * len(flow))]

    return 100 * (slope(s) / slope(o) - 1)


BRUTE: dict[str, Callable[[Array, Array], float]] = {
    "nse": brute_nse,
    "log_nse": brute_log_nse,
    "kge": brute_kge,
    "pearson_r": lambda s, o: float(np.corrcoef(s, o)[0, 1]),
    "alpha_nse": lambda s, o: float(s.std() / o.std()),
    "beta_kge": lambda s, o: float(s.mean() / o.mean()),
    "beta_nse": lambda s, o: float((s.mean() - o.mean()) / o.std()),
    "fhv": brute_fhv,
    "flv": brute_flv,
    "fms": brute_fms,
}


@pytest.mark.parametrize("name", BRUTE)
def test_against_brute_force(name: str) -> None:
    sim, obs = synthetic_flows()
    sim[0, ::7] *= -0.01  # some networks predict slightly negative flows
    expected = [
        BRUTE[name](s[~np.isnan(o)], o[~np.isnan(o)]) for s, o in zip(sim, obs, strict=True)
    ]
    np.testing.assert_allclose(METRICS[name](sim=sim, obs=obs), expected, rtol=1e-10)


# --- one call for everything ------------------------------------------------------------------


def test_all_metrics_holds_each_metric() -> None:
    sim, obs = synthetic_flows()
    together = all_metrics(sim=sim, obs=obs)
    assert set(together) == set(METRICS)
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(together[name], metric(sim=sim, obs=obs))


@every_metric
def test_many_basins_equal_one_by_one(name: str) -> None:
    sim, obs = synthetic_flows()
    expected = [METRICS[name](sim=s, obs=o) for s, o in zip(sim, obs, strict=True)]
    np.testing.assert_allclose(METRICS[name](sim=sim, obs=obs), expected, rtol=1e-12)


@every_metric
def test_leading_axes_broadcast(name: str) -> None:
    metric = METRICS[name]
    sim, obs = synthetic_flows()
    seeds = np.stack([sim, 1.1 * sim, np.roll(sim, 1, axis=-1)])
    expected = np.stack([metric(sim=member, obs=obs) for member in seeds])
    assert metric(sim=seeds, obs=obs).shape == (3, len(obs))
    np.testing.assert_allclose(metric(sim=seeds, obs=obs), expected, rtol=1e-12)
    # The other way round: one simulation, three versions of the observations.
    versions = np.stack([obs, 1.1 * obs, np.roll(obs, 1, axis=-1)])
    expected = np.stack([metric(sim=sim, obs=version) for version in versions])
    np.testing.assert_allclose(metric(sim=sim, obs=versions), expected, rtol=1e-12)


@every_metric
def test_float32_is_computed_in_float64(name: str) -> None:
    sim, obs = (flow.astype(np.float32) for flow in synthetic_flows())
    found = METRICS[name](sim=sim, obs=obs)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(
        found, METRICS[name](sim=sim.astype(float), obs=obs.astype(float))
    )


@every_metric
def test_arguments_are_not_changed(name: str) -> None:
    sim, obs = synthetic_flows()
    sim_before, obs_before = sim.copy(), obs.copy()
    METRICS[name](sim=sim, obs=obs)
    np.testing.assert_array_equal(sim, sim_before)
    np.testing.assert_array_equal(obs, obs_before)


def test_metrics_document_themselves() -> None:
    for name, metric in METRICS.items():
        assert getattr(metric, "__name__", None) == name
        assert "https://doi.org/" in (metric.__doc__ or "")


def test_days_must_match() -> None:
    with pytest.raises(ValueError, match=r"same days.*got shapes \(2, 5\) and \(2, 6\)"):
        metrics.nse(sim=np.ones((2, 5)), obs=np.ones((2, 6)))


# --- limit cases ------------------------------------------------------------------------------


@every_metric
def test_perfect_simulation(name: str) -> None:
    _, obs = synthetic_flows()
    np.testing.assert_allclose(METRICS[name](sim=obs, obs=obs), PERFECT[name], atol=1e-12)


def test_the_mean_as_simulation() -> None:
    _, obs = synthetic_flows()
    found = all_metrics(sim=np.nanmean(obs, axis=1, keepdims=True) + 0 * obs, obs=obs)
    for name, expected in {"nse": 0, "alpha_nse": 0, "beta_nse": 0, "beta_kge": 1}.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-12)
    assert np.isnan(found["kge"]).all()  # a constant has no correlation with anything


@every_metric
def test_no_scored_day(name: str) -> None:
    sim, obs = synthetic_flows()
    obs[3] = np.nan
    found = METRICS[name](sim=sim, obs=obs)
    assert np.isnan(found).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"beta_kge", "fhv"}))
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_constant_observations(name: str, value: float) -> None:
    # The mean of 700 times 0.1 is not 0.1 in floating point: the variance must still be zero.
    sim, _ = synthetic_flows(num_days=700)
    assert np.isnan(METRICS[name](sim=sim, obs=np.full_like(sim, value))).all()


def test_constant_observations_have_a_volume() -> None:
    sim = np.full((2, 100), 3.0)
    obs = np.repeat([[2.0], [0.0]], 100, axis=1)
    np.testing.assert_allclose(metrics.beta_kge(sim=sim, obs=obs), [1.5, np.nan])
    np.testing.assert_allclose(metrics.fhv(sim=sim, obs=obs), [50.0, np.nan])


@every_metric
def test_very_short_series(name: str) -> None:
    # Nothing to divide by, or no rank to look at, must be NaN or a number, never an error.
    for num_days in (1, 2, 3, 10):
        flows = np.arange(num_days, dtype=float) + 1
        assert METRICS[name](sim=flows + 1, obs=flows).shape == ()


# --- gaps -------------------------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_unscored_days_of_the_simulation_do_not_matter(name: str, value: float) -> None:
    sim, obs = synthetic_flows()
    expected = METRICS[name](sim=sim, obs=obs)
    sim[np.isnan(obs)] = value
    np.testing.assert_array_equal(METRICS[name](sim=sim, obs=obs), expected)


@every_metric
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_failed_simulation_is_nan_for_its_basin_only(name: str, value: float) -> None:
    sim, obs = synthetic_flows()
    expected = METRICS[name](sim=sim, obs=obs)
    assert not np.isnan(obs[4, 700])
    sim[4, 700] = value
    expected[4] = np.nan
    np.testing.assert_array_equal(METRICS[name](sim=sim, obs=obs), expected)


@pytest.mark.parametrize("name", BRUTE)
def test_gaps_are_as_good_as_absent(name: str) -> None:
    sim, obs = synthetic_flows()
    days = ~np.isnan(obs[1])
    np.testing.assert_allclose(
        METRICS[name](sim=sim, obs=obs)[1],
        METRICS[name](sim=sim[1, days], obs=obs[1, days]),
        rtol=1e-12,
    )


# --- by hand ----------------------------------------------------------------------------------


def test_moments_by_hand() -> None:
    obs, sim = [1.0, 2.0, np.nan, 3.0], [2.0, 2.0, 9.0, 5.0]
    # Scored days: o = 1, 2, 3 and s = 2, 2, 5. mean_o = 2, mean_s = 3.
    # Deviations of o: -1, 0, 1, squares 2; of s: -1, -1, 2, squares 6.
    # Errors: 1, 0, 2, squares 5. Products of the deviations: 1 + 0 + 2 = 3.
    found = all_metrics(sim=sim, obs=obs)
    r, alpha, beta = 3 / math.sqrt(2 * 6), math.sqrt(6 / 2), 3 / 2
    assert found["nse"] == pytest.approx(1 - 5 / 2)
    assert found["pearson_r"] == pytest.approx(r)
    assert found["alpha_nse"] == pytest.approx(alpha)
    assert found["beta_kge"] == pytest.approx(beta)
    assert found["beta_nse"] == pytest.approx((3 - 2) / math.sqrt(2 / 3))
    kge = 1 - math.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)
    assert found["kge"] == pytest.approx(kge)
    assert kge_components(sim=sim, obs=obs) == pytest.approx((r, alpha, beta))


def test_log_nse_by_hand() -> None:
    # mean_o = 100, so e = 1. With L = log 201: log(o + 1) = 0, L; log(s + 1) = L / 2, L.
    # Squared errors: L^2 / 4. Deviations of log(o + 1) from L / 2: -L / 2, L / 2, squares L^2 / 2.
    obs, sim = np.array([0.0, 200.0]), np.array([math.sqrt(201) - 1, 200.0])
    expected = 1 - (1 / 4) / (1 / 2)
    assert metrics.log_nse(sim=sim, obs=obs) == pytest.approx(expected)
    assert metrics.log_nse(sim=7 * sim, obs=7 * obs) == pytest.approx(expected)  # e = 7


def test_duration_curve_by_hand() -> None:
    # o = 100, 99, ..., 1. Top 2 %: 100 + 99 = 199. Bottom 30 %: 30, ..., 1.
    # Ranks 20 and 70 hold 80 and 30.
    obs = np.arange(1.0, 101.0)
    doubled = all_metrics(sim=2 * obs[::-1], obs=obs)  # the curve does not know the order of days
    assert doubled["fhv"] == pytest.approx(100 * (2 * 199 - 199) / 199)
    # A factor moves every logarithm by the same amount: no bias of shape, but for the 1e-6.
    assert doubled["flv"] == pytest.approx(0, abs=1e-4)
    assert doubled["fms"] == pytest.approx(0, abs=1e-4)
    # Squaring doubles every logarithm: twice the slope (+100 %), twice the volume (-100 %).
    squared = all_metrics(sim=obs**2, obs=obs)
    assert squared["fhv"] == pytest.approx(100 * (100**2 + 99**2 - 199) / 199)
    assert squared["fms"] == pytest.approx(100, abs=1e-4)
    assert squared["flv"] == pytest.approx(-100, abs=1e-4)


def test_dry_days_count_as_the_smallest_flow() -> None:
    # n = 10: the lowest 30 % are ranks 7, 8, 9: o = 3, 2, 1 and s = 3, 0, -1.
    obs = np.arange(1.0, 11.0)
    sim = np.where(obs > 2, obs, obs - 2)
    dry = math.log(2e-6)
    volume_obs = math.log(3) + math.log(2)
    volume_sim = math.log(3) - dry
    expected = -100 * (volume_sim - volume_obs) / volume_obs
    assert metrics.flv(sim=sim, obs=obs) == pytest.approx(expected, rel=1e-5)


def test_share_below_zero() -> None:
    nse = np.array([[-1.0, 0.0, 0.5, np.nan], [np.nan, -0.1, -2.0, np.nan], [np.nan] * 4])
    np.testing.assert_allclose(share_below_zero(nse), [1 / 3, 1.0, np.nan])
    assert share_below_zero([0.1, -0.1]) == 0.5


# --- floods -----------------------------------------------------------------------------------


def triangle(day: int, num_days: int = 400, height: float = 10.0) -> Array:
    return np.maximum(height - np.abs(np.arange(num_days) - day), 0.0)


@pytest.mark.parametrize(
    ("sim_day", "lag"), [(200, 0), (201, 1), (198, 2), (203, 3), (197, 3), (230, 3)]
)
def test_lag_of_one_flood(sim_day: int, lag: int) -> None:
    # 30 days late, the simulation is still zero around the flood: argmax takes the first day.
    assert metrics.peak_timing(sim=triangle(sim_day), obs=triangle(200)) == lag


def test_lag_is_the_mean_over_floods() -> None:
    obs = triangle(50) + triangle(200, height=14) + triangle(320, height=12)
    sim = triangle(50) + triangle(202, height=14) + triangle(319, height=12)
    assert metrics.peak_timing(sim=sim, obs=obs) == pytest.approx((0 + 2 + 1) / 3)


def test_a_simulated_peak_on_the_day_counts_even_beside_a_higher_one() -> None:
    sim = triangle(200)
    sim[202] = 20.0
    assert metrics.peak_timing(sim=sim, obs=triangle(200)) == 0


def test_close_floods_count_once_and_small_ones_never() -> None:
    obs = triangle(100, height=14) + triangle(100 + MIN_DISTANCE - 1) + triangle(300, height=2)
    assert prominent_peaks(obs[np.newaxis], np.array([5.0])).tolist() == [[100]]
    obs = triangle(100, height=14) + triangle(100 + MIN_DISTANCE)
    assert prominent_peaks(obs[np.newaxis], np.array([5.0])).tolist() == [[100, 200]]


def test_a_flat_top_is_one_peak_and_a_step_is_none() -> None:
    flat = np.minimum(triangle(100), 8.0)  # days 98 to 102
    step = np.maximum(flat, triangle(104))  # the flood goes on to rise
    peaks = prominent_peaks(np.stack([flat, step]), np.array([5.0, 5.0]))
    assert peaks.tolist() == [[98], [104]]


@pytest.mark.parametrize("offset", [-WINDOW, -1, 1, WINDOW])
def test_floods_beside_a_gap_are_left_out(offset: int) -> None:
    obs = triangle(200)
    obs[200 + offset] = np.nan
    assert np.isnan(metrics.peak_timing(sim=triangle(200), obs=obs))


def test_a_gap_further_off_is_passed_over() -> None:
    obs = triangle(200)
    obs[204:207] = np.nan  # the flow falls to 5 behind the gap only
    assert prominent_peaks(obs[np.newaxis], np.array([6.0])).tolist() == [[200]]


def test_floods_at_the_ends_are_left_out() -> None:
    obs = triangle(1) + triangle(200) + triangle(397)
    assert (prominent_peaks(obs[np.newaxis], np.array([0.5])) != NO_PEAK).sum() == 1


def test_peaks_against_scipy() -> None:
    _, obs = synthetic_flows(num_basins=20, num_days=3000)
    obs = np.where(np.isnan(obs), 0.0, obs)
    obs += 1e-9 * np.random.default_rng(12).random(obs.shape)  # no ties
    prominence = obs.std(axis=1)
    for flow, found, rise in zip(obs, prominent_peaks(obs, prominence), prominence, strict=True):
        candidates, _ = find_peaks(flow, prominence=rise)
        kept: list[int] = []
        for day in sorted(candidates.tolist(), key=lambda day: -flow[day]):
            if all(abs(day - other) >= MIN_DISTANCE for other in kept):
                kept.append(day)
        whole = [day for day in kept if WINDOW <= day < len(flow) - WINDOW]
        assert len(whole) > 10
        assert found[found != NO_PEAK].tolist() == whole
