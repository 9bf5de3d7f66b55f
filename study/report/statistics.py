"""Differences between arms, with intervals that know how few the seeds are.

A score table is an array `(seed, basin)`: one score (NSE) for every replicate of one arm. Two
things in it are samples: the seeds, of all the networks the same configuration could have
become, and the basins, of all the catchments the question is about, which come in regional
blocks because neighbours share climate and therefore errors. The intervals (`spread`) speak about
both populations: another set of seeds *and* another set of basins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from study.report.spread import (
    Component,
    Floats,
    Names,
    Spread,
    resampled_blocks,
    spread_of,
    weighted_medians,
)

Verdict = Literal["better", "worse", "equivalent", "undecided", "too few seeds"]

SEEDS_FOR_A_VERDICT = 5
MOST_SEEDS = 100
"""Nobody trains more replicates to settle one contrast."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval; the interval is NaN where it cannot be estimated."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What arm a gains over arm b, basin by basin."""

    difference: float
    """Median over basins of the paired difference of the seed means, a - b."""
    low: float
    high: float
    """95 % interval; NaN with one seed or one basin, where there is no spread to learn from."""
    verdict: Verdict
    p_wilcoxon: float
    """Two-sided signed-rank test on the paired differences; knows nothing of seeds or regions."""
    cohens_d: float
    """Difference of the means over basins in units of the arms' pooled standard deviation."""
    p_superiority: float
    """Share of basins where a beats b; a tie counts half."""
    seeds: int
    """Replicates of the arm that has fewer."""
    basins: int
    """Basins scored in both arms."""
    seeds_to_decide: int | None = None
    """Replicates an arm that would bring a verdict if the difference stayed where it is; None if
    there is one already, or none would come with as many as `MOST_SEEDS`."""


def arm_interval(scores: Floats, *, regions: Names, repetitions: int = 2000, seed: int) -> Estimate:
    """Score of one arm: mean over seeds of the median over basins, with its 95 % interval.

    The cell noise is left counted twice: beside the spread of scores between basins it is small.

    Args:
        scores: `(seed, basin)`; basins with a NaN are left out.
        regions: `(basin,)` regional block of each basin.
        repetitions: Bootstrap samples of the basins.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If no basin is scored, or the shapes do not fit.
    """
    (scores,), regions = _scored_basins([scores], regions)
    rng = np.random.default_rng(seed)
    medians = np.median(scores, axis=1)
    weights = resampled_blocks(regions, repetitions, rng)
    drawn = np.mean([weighted_medians(of_seed, weights) for of_seed in scores], axis=0)
    seeds = Component.of_seeds(float(np.var(medians)) / len(medians), len(medians))
    spread = Spread(basins=Component.of_basins(drawn, regions), seeds=(seeds,))
    low, high = spread.interval(float(medians.mean()))
    return Estimate(value=float(medians.mean()), low=low, high=high)


def paired_effect(
    a: Floats,
    b: Floats,
    *,
    regions: Names,
    margin: float = 0.01,
    repetitions: int = 2000,
    seed: int,
) -> Effect:
    """Compare two arms on the basins that both have scores for: `combined_effect` with a - b."""
    return combined_effect(
        [a, b], [1, -1], regions=regions, margin=margin, repetitions=repetitions, seed=seed
    )


def combined_effect(
    tables: Sequence[Floats],
    weights: Sequence[float],
    *,
    regions: Names,
    margin: float = 0.01,
    repetitions: int = 2000,
    seed: int,
) -> Effect:
    """Compare arms of positive weight with those of negative weight.

    The estimand is the median over the population of basins of each basin's expected
    difference, the expectation being over seeds. Basins are paired. Seeds are not, even where
    their numbers agree: the same number starts two different networks.

    Args:
        tables: `(seed, basin)` scores of every arm; basins with a NaN in any are left out.
        weights: `(1, -1)` is the difference of two arms, `(1/2, -1/2, 1/2, -1/2)` the mean of two
            differences, `(1, -1, -1, 1)` a difference of differences.
        regions: `(basin,)` regional block of each basin.
        margin: Half-width of the region of practical equivalence, in units of the score.
        repetitions: Bootstrap samples of each of the parts of the variance.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If no basin is scored in all arms, or the shapes do not fit.
    """
    tables, regions = _scored_basins(tables, regions)
    means = [weight * t.mean(axis=0) for weight, t in zip(weights, tables, strict=True)]
    a = np.sum([m for m, weight in zip(means, weights, strict=True) if weight > 0], axis=0)
    b = -np.sum([m for m, weight in zip(means, weights, strict=True) if weight < 0], axis=0)
    paired = a - b
    difference, seeds = float(np.median(paired)), min(map(len, tables))
    spread = spread_of(
        tables, weights, regions=regions, repetitions=repetitions, rng=np.random.default_rng(seed)
    )
    low, high = spread.interval(difference)
    told = verdict(low, high, margin=margin, seeds=seeds)
    return Effect(
        difference=difference,
        low=low,
        high=high,
        verdict=told,
        p_wilcoxon=_p_wilcoxon(paired),
        cohens_d=cohens_d(a, b),
        p_superiority=float(np.mean(paired > 0) + np.mean(paired == 0) / 2),
        seeds=seeds,
        basins=paired.size,
        seeds_to_decide=seeds_to_decide(difference, spread, margin=margin, seeds=seeds)
        if told in ("undecided", "too few seeds")
        else None,
    )


def seeds_to_decide(
    difference: float, spread: Spread, *, margin: float, seeds: int, most: int = MOST_SEEDS
) -> int | None:
    """Fewest seeds an arm with which the interval around this difference would have a verdict.

    The difference itself will move, too, so the odds of a verdict are about even. None if `most`
    would not do: then it is the basins that differ too much, and only other basins can tell.
    """
    for more in range(max(seeds + 1, SEEDS_FOR_A_VERDICT), most + 1):
        low, high = spread.with_seeds(more / seeds).interval(difference)
        if verdict(low, high, margin=margin, seeds=more) != "undecided":
            return more
    return None


def verdict(low: float, high: float, *, margin: float, seeds: int) -> Verdict:
    """What an interval says, given the region of practical equivalence (-margin, margin).

    Better means both surely positive and possibly relevant; a gain that is sure but surely
    negligible is equivalence.

        interval                            verdict
        inside the region                   equivalent
        above 0, reaching beyond margin     better
        below 0, reaching beyond -margin    worse
        anything else                       undecided
    """
    if seeds < SEEDS_FOR_A_VERDICT:
        return "too few seeds"
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0 and high > margin:
        return "better"
    if high < 0 and low < -margin:
        return "worse"
    return "undecided"


def cohens_d(a: Floats, b: Floats) -> float:
    """Difference of means in pooled standard deviations, `(mean a - mean b) / s`.

    `s² = (var a + var b) / 2` over the basins: the form used for CAMELS by Kratzert et al.
    2019 (doi:10.5194/hess-23-5089-2019), which ignores the pairing. NaN where neither arm
    varies but their means differ.
    """
    difference = float(np.mean(a) - np.mean(b))
    if difference == 0:
        return 0.0
    pooled = float(np.sqrt((_sample_variance(a) + _sample_variance(b)) / 2))
    return difference / pooled if pooled > 0 else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by step-down, in the order they came.

    The k-th smallest of m is multiplied by m - k + 1 and is at least as large as the one
    before (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J.
    Stat. 6).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _scored_basins(tables: Sequence[Floats], regions: Names) -> tuple[list[Floats], Names]:
    """Keep the basins without a NaN in any table."""
    for table in tables:
        if table.ndim != 2 or len(table) == 0 or table.shape[1:] != regions.shape:
            raise ValueError(
                f"scores must be (seed, basin) with one region a basin: "
                f"got {table.shape} and {regions.shape} regions"
            )
    scored = ~np.any([np.isnan(table).any(axis=0) for table in tables], axis=0)
    if not scored.any():
        raise ValueError(f"none of {scored.size} basins is scored by every seed compared")
    return [table[:, scored].astype(np.float64) for table in tables], regions[scored]


def _p_wilcoxon(paired: Floats) -> float:
    from scipy.stats import wilcoxon  # a second, which processes that draw need not spend

    return float(wilcoxon(paired).pvalue) if np.any(paired) else 1.0


def _sample_variance(values: Floats) -> float:
    return float(np.var(values, ddof=1)) if values.size > 1 else 0.0
