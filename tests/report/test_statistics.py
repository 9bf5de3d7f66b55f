"""Statistics of arms and contrasts: hand arithmetic, limit cases, and coverage by simulation."""

from typing import Any

import numpy as np
import pytest

from study.report.spread import Component, Spread, weighted_medians
from study.report.statistics import (
    arm_interval,
    cohens_d,
    combined_effect,
    holm,
    paired_effect,
    seeds_to_decide,
    verdict,
)


def regions_of(basins: int, *, blocks: int) -> np.ndarray[Any, np.dtype[np.str_]]:
    return np.array([f"{1 + basin % blocks:02d}" for basin in range(basins)])


def random_scores(
    rng: np.random.Generator, *, seeds: int, shift_sd: float, basins: int = 12
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of an arm whose seeds move all basins together, on basins all alike."""
    shift = rng.normal(0, shift_sd, (seeds, 1))
    return 0.7 + shift + rng.normal(0, 0.005, (seeds, basins))


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (0.001, 0.020, 8, "better"),
        (0.012, 0.020, 8, "better"),
        (-0.020, -0.001, 8, "worse"),
        (-0.020, -0.012, 8, "worse"),
        (0.001, 0.008, 8, "equivalent"),  # surely positive, surely negligible
        (-0.008, -0.001, 8, "equivalent"),
        (-0.005, 0.005, 8, "equivalent"),
        (0.0, 0.0, 8, "equivalent"),
        (-0.001, 0.020, 8, "undecided"),
        (-0.020, 0.001, 8, "undecided"),
        (-0.020, 0.020, 8, "undecided"),
        (0.0, 0.020, 8, "undecided"),  # touches zero
        (0.001, 0.010, 8, "undecided"),  # touches the edge of the region
        (float("nan"), float("nan"), 8, "undecided"),
        (0.012, 0.020, 5, "better"),
        (0.012, 0.020, 4, "too few seeds"),
        (-0.005, 0.005, 1, "too few seeds"),
    ],
)
def test_verdict(low: float, high: float, seeds: int, expected: str) -> None:
    assert verdict(low, high, margin=0.01, seeds=seeds) == expected


def test_difference_is_the_median_over_basins_of_seed_means() -> None:
    a = np.array([[0.5, 0.6, 0.9], [0.7, 0.6, 0.5]])
    b = np.array([[0.5, 0.5, 0.1]])
    # Seed means of a are 0.6, 0.6, 0.7: differences 0.1, 0.1, 0.6.
    effect = paired_effect(a, b, regions=np.array(["01", "01", "02"]), seed=0)
    assert effect.difference == pytest.approx(0.1)
    assert effect.p_superiority == 1.0
    assert (effect.seeds, effect.basins, effect.verdict) == (1, 3, "too few seeds")
    assert np.isnan([effect.low, effect.high]).all()  # one seed of b has no spread


def test_superiority_counts_a_tie_half() -> None:
    a = np.tile([0.5, 0.6, 0.7, 0.8], (5, 1))
    b = np.tile([0.5, 0.5, 0.5, 0.9], (5, 1))
    effect = paired_effect(a, b, regions=regions_of(4, blocks=2), seed=0)
    assert effect.p_superiority == (2 + 0.5) / 4


def test_an_arm_is_equivalent_to_itself() -> None:
    scores = np.tile(np.linspace(0.2, 0.9, 12), (5, 1))
    effect = paired_effect(scores, scores, regions=regions_of(12, blocks=6), seed=0)
    assert (effect.difference, effect.low, effect.high) == (0, 0, 0)
    assert effect.verdict == "equivalent"
    assert (effect.p_wilcoxon, effect.cohens_d, effect.p_superiority) == (1.0, 0.0, 0.5)


def test_swapping_the_arms_mirrors_the_effect() -> None:
    rng = np.random.default_rng(0)
    a, b = (random_scores(rng, seeds=8, shift_sd=0.01, basins=40) for _ in range(2))
    a += 0.05
    regions = regions_of(40, blocks=10)
    gain = paired_effect(a, b, regions=regions, seed=3)
    loss = paired_effect(b, a, regions=regions, seed=3)
    assert (gain.verdict, loss.verdict) == ("better", "worse")
    assert loss.difference == -gain.difference
    assert [loss.low, loss.high] == pytest.approx([-gain.high, -gain.low], abs=0.002)


def test_same_seed_same_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = (random_scores(rng, seeds=5, shift_sd=0.01) for _ in range(2))
    regions = regions_of(12, blocks=6)
    assert paired_effect(a, b, regions=regions, seed=1) == paired_effect(
        a, b, regions=regions, seed=1
    )
    assert paired_effect(a, b, regions=regions, seed=1) != paired_effect(
        a, b, regions=regions, seed=2
    )


def test_basins_without_scores_are_left_out_of_both_arms() -> None:
    rng = np.random.default_rng(0)
    a, b = (random_scores(rng, seeds=5, shift_sd=0.01) for _ in range(2))
    regions = regions_of(12, blocks=6)
    a_gap, b_gap = a.copy(), b.copy()
    a_gap[:, 0] = np.nan
    b_gap[2, 1] = np.nan
    with_gaps = paired_effect(a_gap, b_gap, regions=regions, seed=0)
    without = paired_effect(a[:, 2:], b[:, 2:], regions=regions[2:], seed=0)
    assert with_gaps == without
    assert with_gaps.basins == 10


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of 3 basins"):
        arm_interval(np.full((2, 3), np.nan), regions=regions_of(3, blocks=2), seed=0)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        arm_interval(np.zeros((2, 3)), regions=regions_of(4, blocks=2), seed=0)


def test_basins_of_one_region_are_their_own_blocks() -> None:
    rng = np.random.default_rng(0)
    a, b = (random_scores(rng, seeds=5, shift_sd=0.01) for _ in range(2))
    together = paired_effect(a, b, regions=regions_of(12, blocks=1), seed=0)
    apart = paired_effect(a, b, regions=regions_of(12, blocks=12), seed=0)
    assert together == apart


def test_regional_effects_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    regions = regions_of(60, blocks=6)
    regional = rng.normal(0, 0.05, 6)[np.arange(60) % 6]
    a, b = (random_scores(rng, seeds=8, shift_sd=0.0, basins=60) for _ in range(2))
    blocked = paired_effect(a + regional, b, regions=regions, seed=0)
    scattered = paired_effect(a + regional, b, regions=rng.permutation(regions), seed=0)
    assert blocked.high - blocked.low > 1.5 * (scattered.high - scattered.low)


def test_arm_interval_is_the_mean_over_seeds_of_medians() -> None:
    scores = np.array([[0.1, 0.5, 0.9], [0.2, 0.7, 0.8]])
    estimate = arm_interval(scores, regions=np.array(["01", "02", "03"]), seed=0)
    assert estimate.value == pytest.approx((0.5 + 0.7) / 2)
    assert estimate.low < estimate.value < estimate.high


def test_one_seed_has_no_interval() -> None:
    estimate = arm_interval(np.array([[0.1, 0.5, 0.9]]), regions=regions_of(3, blocks=3), seed=0)
    assert estimate.value == 0.5
    assert np.isnan([estimate.low, estimate.high]).all()


def testweighted_medians_are_medians_of_repeated_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=9)
    weights = rng.integers(0, 4, size=(50, 9))
    expected = [np.median(np.repeat(values, times)) for times in weights]
    assert weighted_medians(values, weights) == pytest.approx(expected)


def test_cohens_d() -> None:
    # Means 2 and 1; variances 1 and 3: pooled (1 + 3) / 2.
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 3.0])
    assert cohens_d(a, b) == pytest.approx((2 - 1) / np.sqrt((1 + 3) / 2))
    assert cohens_d(a, a) == 0.0
    assert np.isnan(cohens_d(np.ones(3), np.zeros(3)))


def test_holm() -> None:
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1: 0.03, 0.06, 0.04, and never falling.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_combined_effect_is_the_weighted_sum_of_arms() -> None:
    # Seed means: a 0.5 and 0.7, b 0.4 and 0.4, c 0.3 and 0.2, d 0.3 and 0.1.
    a, b, c, d = (np.array([v, v]) for v in ([0.5, 0.7], [0.4, 0.4], [0.3, 0.2], [0.3, 0.1]))
    regions = np.array(["01", "02"])
    mean = combined_effect([a, b, c, d], [0.5, -0.5, 0.5, -0.5], regions=regions, seed=0)
    assert mean.difference == pytest.approx(np.median([(0.1 + 0.0) / 2, (0.3 + 0.1) / 2]))
    squared = combined_effect([a, b, c, d], [1, -1, -1, 1], regions=regions, seed=0)
    assert squared.difference == pytest.approx(np.median([0.1 - 0.0, 0.3 - 0.1]))


def test_an_effect_and_its_mean_over_two_equal_pairs_are_one() -> None:
    """Half the variance of seeds: each pair has seeds of its own."""
    rng = np.random.default_rng(0)
    a, b, c, d = (random_scores(rng, seeds=8, shift_sd=0.02, basins=30) for _ in range(4))
    regions = regions_of(30, blocks=10)
    one = paired_effect(a, b, regions=regions, seed=0)
    two = combined_effect([a, b, c, d], [0.5, -0.5, 0.5, -0.5], regions=regions, seed=0)
    ratio = (two.high - two.low) / (one.high - one.low)
    assert 0.5 < ratio < 0.95


def spread(*, basins: float, seeds: float, cells: float = 0.0) -> Spread:
    return Spread(
        basins=Component(variance=basins, freedom=17),
        seeds=(Component(variance=seeds / 2, freedom=7),) * 2,
        cells=cells,
    )


def test_seeds_to_decide() -> None:
    by_seeds = spread(basins=0.001**2, seeds=0.01**2)
    enough = seeds_to_decide(0.012, by_seeds, margin=0.01, seeds=8)
    assert enough is not None and 8 < enough < 60
    low, high = by_seeds.with_seeds(enough / 8).interval(0.012)
    assert low > 0 and high > 0.01
    before, _ = by_seeds.with_seeds((enough - 1) / 8).interval(0.012)
    assert before <= 0
    by_basins = spread(basins=0.01**2, seeds=0.001**2)
    assert seeds_to_decide(0.012, by_basins, margin=0.01, seeds=8) is None


def test_more_seeds_leave_what_basins_differ_by() -> None:
    wide = spread(basins=0.004, seeds=0.002, cells=0.001)
    many = wide.with_seeds(1e6)
    assert many.basins.variance == pytest.approx(0.003, rel=1e-3)
    assert sum(part.variance for part in many.seeds) == pytest.approx(0, abs=1e-8)
    assert wide.with_seeds(1) == wide


def test_only_what_has_no_verdict_is_told_how_many_seeds_it_lacks() -> None:
    rng = np.random.default_rng(1)
    a, b = (random_scores(rng, seeds=6, shift_sd=0.02) for _ in range(2))
    regions = regions_of(12, blocks=6)
    before = paired_effect(a, b, regions=regions, seed=0)
    reach = (before.high - before.low) / 2
    shifted = a - before.difference + 0.8 * reach  # 0 is just inside the interval
    open_question = paired_effect(shifted, b, regions=regions, seed=0)
    assert open_question.verdict == "undecided"
    assert open_question.seeds_to_decide is not None and open_question.seeds_to_decide > 6
    settled = paired_effect(a + 0.5, b, regions=regions, seed=0)
    assert (settled.verdict, settled.seeds_to_decide) == ("better", None)


def test_intervals_of_few_seeds_cover_where_percentiles_do_not() -> None:
    """Five seeds that shift all basins: nominal 95 %, and the truth is 0."""
    rng = np.random.default_rng(20)
    regions, repetitions, studies = regions_of(12, blocks=6), 300, 300
    ours = naive = 0
    for study in range(studies):
        a, b = (random_scores(rng, seeds=5, shift_sd=0.02) for _ in range(2))
        effect = paired_effect(a, b, regions=regions, repetitions=repetitions, seed=study)
        ours += effect.low <= 0 <= effect.high

        drawn_a, drawn_b = (
            rng.multinomial(5, np.full(5, 1 / 5), size=repetitions) / 5 @ x for x in (a, b)
        )
        low, high = np.quantile(np.median(drawn_a - drawn_b, axis=1), [0.025, 0.975])
        naive += low <= 0 <= high
    assert 0.925 <= ours / studies <= 0.98
    assert naive / studies < 0.9
