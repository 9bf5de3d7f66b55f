"""Differences between arms, with intervals that know how few the seeds are.

A score table is an array `(seed, basin)`: one score (NSE) for every replicate of one arm. Two
things in it are samples: the seeds, of all the networks the same configuration could have
become, and the basins, of all the catchments the question is about, which come in regional
blocks because neighbours share climate and therefore errors. The intervals speak about both
populations: another set of seeds *and* another set of basins.

The standard error is built from three bootstraps, joined as in multiway clustering (Cameron,
Gelbach and Miller 2011, "Robust Inference With Multiway Clustering", J. Bus. Econ. Stat. 29):

    variance = basins in regional blocks + seeds - seed x basin cells

The noise of a single (seed, basin) cell is seen by both of the first two, hence the third.
Resampling seeds and basins at once would count it three times (Owen 2007, "The pigeonhole
bootstrap", Ann. Appl. Stat. 1). Resampled seeds vary too little, by (S - 1) / S, and a few
seeds know their own spread badly: variances are inflated, and the interval is
`value ± t * standard error` with the degrees of freedom of Satterthwaite (1946, "An
Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2). A
percentile interval does neither and misses the truth too often.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = npt.NDArray[np.str_]
Verdict = Literal["better", "worse", "equivalent", "undecided", "too few seeds"]

CONFIDENCE = 0.95
SEEDS_FOR_A_VERDICT = 5


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
    weights = _resampled_blocks(regions, repetitions, rng)
    drawn = np.mean([_weighted_medians(of_seed, weights) for of_seed in scores], axis=0)
    basins = _basin_variance(drawn, regions)
    seeds = _Component.of_seeds(float(np.var(medians)) / len(medians), len(medians))
    low, high = _interval(float(medians.mean()), [basins, seeds])
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
    """Compare two arms on the basins that both have scores for.

    The estimand is the median over the population of basins of each basin's expected
    difference, the expectation being over seeds. Basins are paired. Seeds are not, even where
    their numbers agree: the same number starts two different networks.

    Args:
        a: `(seed, basin)` scores of the arm on trial; basins with a NaN in a or b are left out.
        b: `(seed, basin)` scores of the arm it is compared with.
        regions: `(basin,)` regional block of each basin.
        margin: Half-width of the region of practical equivalence, in units of the score.
        repetitions: Bootstrap samples of each of the parts of the variance.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If no basin is scored in both arms, or the shapes do not fit.
    """
    (a, b), regions = _scored_basins([a, b], regions)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    paired = mean_a - mean_b
    low, high = _paired_interval(a, b, regions, repetitions, np.random.default_rng(seed))
    seeds = min(len(a), len(b))
    return Effect(
        difference=float(np.median(paired)),
        low=low,
        high=high,
        verdict=verdict(low, high, margin=margin, seeds=seeds),
        p_wilcoxon=float(stats.wilcoxon(paired).pvalue) if np.any(paired) else 1.0,
        cohens_d=cohens_d(mean_a, mean_b),
        p_superiority=float(np.mean(paired > 0) + np.mean(paired == 0) / 2),
        seeds=seeds,
        basins=paired.size,
    )


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


@dataclass(frozen=True, kw_only=True)
class _Component:
    """One part of the variance of an estimate, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom; 0 when there is one seed or one basin, and nothing is known."""

    @classmethod
    def of_seeds(cls, bootstrapped: float, seeds: int) -> "_Component":
        inflation = seeds / (seeds - 1) if seeds > 1 else 1.0
        return cls(variance=bootstrapped * inflation, freedom=seeds - 1)


def _paired_interval(
    a: Floats, b: Floats, regions: Names, repetitions: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Interval of the median paired difference, from the parts of its variance."""
    paired = a.mean(axis=0) - b.mean(axis=0)
    weights = _resampled_blocks(regions, repetitions, rng)
    components = [_basin_variance(_weighted_medians(paired, weights), regions)]
    for scores, sign in ((a, 1), (b, -1)):
        drawn = np.median(paired + sign * _resampled_shifts(scores, repetitions, rng), axis=1)
        components.append(_Component.of_seeds(float(np.var(drawn)), len(scores)))
    noise = np.sqrt(_cell_variance(a) + _cell_variance(b))
    drawn = np.median(paired + noise * rng.standard_normal((repetitions, noise.size)), axis=1)
    return _interval(float(np.median(paired)), components, counted_twice=float(np.var(drawn)))


def _interval(
    value: float, components: Sequence[_Component], *, counted_twice: float = 0.0
) -> tuple[float, float]:
    """`value ± t * standard error`; degrees of freedom by Satterthwaite."""
    if any(component.freedom == 0 for component in components):
        return float("nan"), float("nan")
    variances = [component.variance for component in components]
    total = sum(variances)
    if total == 0:
        return value, value
    freedom = total**2 / sum(part.variance**2 / part.freedom for part in components)
    # Estimated apart, the parts need not agree: the whole is never below its largest part.
    error = max(total - counted_twice, *variances) ** 0.5
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return value - reach, value + reach


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


def _block_sizes(regions: Names) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Block of each basin, and size of each block.

    A single region cannot be resampled: then every basin is a block of its own.
    """
    _, block, sizes = np.unique(regions, return_inverse=True, return_counts=True)
    if sizes.size > 1:
        return block, sizes
    return np.arange(regions.size), np.ones(regions.size, dtype=np.intp)


def _resampled_blocks(
    regions: Names, repetitions: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each basin is drawn, `(repetition, basin)`, when whole blocks are drawn."""
    block, sizes = _block_sizes(regions)
    drawn = rng.multinomial(sizes.size, np.full(sizes.size, 1 / sizes.size), size=repetitions)
    return drawn[:, block]


def _basin_variance(drawn: Floats, regions: Names) -> _Component:
    """Variance by bootstrapped blocks.

    Unequal blocks know less than their number says: `(sum n)² / sum n²` of them count.
    """
    _, sizes = _block_sizes(regions)
    if sizes.size == 1:
        return _Component(variance=0.0, freedom=0)
    effective = sizes.sum() ** 2 / np.square(sizes).sum()
    return _Component(
        variance=float(np.var(drawn)) * sizes.size / (sizes.size - 1),
        freedom=max(1.0, float(effective) - 1),
    )


def _weighted_medians(values: Floats, weights: npt.NDArray[np.int64]) -> Floats:
    """Median of values (basin,) repeated weights[r] times, for every row r of weights."""
    order = np.argsort(values)
    ordered = values[order]
    twice_the_rank = 2 * np.cumsum(weights[:, order], axis=1)
    half = twice_the_rank[:, -1:] // 2
    below = ordered[np.argmax(twice_the_rank >= half, axis=1)]
    above = ordered[np.argmax(twice_the_rank > half, axis=1)]
    return np.asarray((below + above) / 2)


def _resampled_shifts(scores: Floats, repetitions: int, rng: np.random.Generator) -> Floats:
    """Change of the seed mean, `(repetition, basin)`, when the seeds are drawn again."""
    seeds = len(scores)
    share = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=repetitions) / seeds
    return np.asarray(share @ (scores - scores.mean(axis=0)))


def _cell_variance(scores: Floats) -> Floats:
    """Variance of each basin's seed mean by what a seed does to that basin alone."""
    seeds = len(scores)
    residual = scores - scores.mean(axis=0)
    residual = residual - np.median(residual, axis=1, keepdims=True)
    return np.asarray(np.sum(residual**2, axis=0) / (max(seeds - 1, 1) * seeds))


def _sample_variance(values: Floats) -> float:
    return float(np.var(values, ddof=1)) if values.size > 1 else 0.0
