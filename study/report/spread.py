"""How far an estimate over seeds and basins may be off: its variance by parts, and its interval.

The standard error is built from three bootstraps, joined as in multiway clustering (Cameron,
Gelbach and Miller 2011, "Robust Inference With Multiway Clustering", J. Bus. Econ. Stat. 29):

    variance = basins in regional blocks + seeds - seed x basin cells

The noise of a single (seed, basin) cell is seen by both of the first two, hence the third.
Resampling seeds and basins at once would count it three times (Owen 2007, "The pigeonhole
bootstrap", Ann. Appl. Stat. 1). Resampled seeds vary too little, by (S - 1) / S, and a few
seeds know their own spread badly: variances are inflated, and the interval is
`value ± t * standard error` with the degrees of freedom of Satterthwaite (1946, "An
Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2). A
percentile interval does neither and misses the truth too often. `make calibration` shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = npt.NDArray[np.str_]
Weights: TypeAlias = npt.NDArray[np.int64]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of the variance of an estimate, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom; 0 when there is one seed or one basin, and nothing is known."""

    @classmethod
    def of_seeds(cls, bootstrapped: float, seeds: int) -> Component:
        """From the variance between bootstrap samples of so many seeds."""
        inflation = seeds / (seeds - 1) if seeds > 1 else 1.0
        return cls(variance=bootstrapped * inflation, freedom=seeds - 1)

    @classmethod
    def of_basins(cls, drawn: Floats, regions: Names) -> Component:
        """From bootstrap samples of regional blocks.

        Unequal blocks know less than their number says: `(sum n)² / sum n²` of them count.
        """
        _, sizes = _block_sizes(regions)
        if sizes.size == 1:
            return cls(variance=0.0, freedom=0)
        effective = sizes.sum() ** 2 / np.square(sizes).sum()
        return cls(
            variance=float(np.var(drawn)) * sizes.size / (sizes.size - 1),
            freedom=max(1.0, float(effective) - 1),
        )


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The variance of an estimate by parts."""

    basins: Component
    seeds: tuple[Component, ...]
    """One an arm."""
    cells: float = 0.0
    """Variance that basins and seeds have both counted."""

    def interval(self, value: float) -> tuple[float, float]:
        """The 95 % interval around an estimate; NaN where a part is unknown."""
        parts = (self.basins, *self.seeds)
        if any(part.freedom == 0 for part in parts):
            return float("nan"), float("nan")
        variances = [part.variance for part in parts]
        total = sum(variances)
        if total == 0:
            return value, value
        freedom = total**2 / sum(part.variance**2 / part.freedom for part in parts)
        # Estimated apart, the parts need not agree: the whole is never below its largest part.
        error = max(total - self.cells, *variances) ** 0.5
        reach = _student((1 + CONFIDENCE) / 2, freedom) * error
        return value - reach, value + reach

    def with_seeds(self, factor: float) -> Spread:
        """What it would be with this many times as many seeds in every arm.

        Seeds and cells shrink with their number; what basins differ by stays.
        """
        cells = self.cells / factor
        lasting = max(self.basins.variance - self.cells, 0.0)
        return Spread(
            basins=replace(self.basins, variance=lasting + cells),
            seeds=tuple(
                Component(variance=s.variance / factor, freedom=(s.freedom + 1) * factor - 1)
                for s in self.seeds
            ),
            cells=cells,
        )


def spread_of(
    tables: Sequence[Floats],
    weights: Sequence[float],
    *,
    regions: Names,
    repetitions: int,
    rng: np.random.Generator,
) -> Spread:
    """Spread of the median over basins of a weighted sum of arms' seed means.

    Args:
        tables: `(seed, basin)` scores of every arm, without NaN.
        weights: One for every arm; `(1, -1)` is a paired difference.
        regions: `(basin,)` regional block of each basin.
        repetitions: Bootstrap samples of each part.
        rng: Source of the samples.
    """
    combined = np.sum([w * t.mean(axis=0) for w, t in zip(weights, tables, strict=True)], axis=0)
    drawn = weighted_medians(combined, resampled_blocks(regions, repetitions, rng))
    basins = Component.of_basins(drawn, regions)
    seeds = []
    for scores, weight in zip(tables, weights, strict=True):
        shifts = weight * _resampled_shifts(scores, repetitions, rng)
        medians = np.median(combined + shifts, axis=1)
        seeds.append(Component.of_seeds(float(np.var(medians)), len(scores)))
    noise = np.sqrt(
        np.sum([w**2 * _cell_variance(t) for w, t in zip(weights, tables, strict=True)], axis=0)
    )
    noisy = np.median(combined + noise * rng.standard_normal((repetitions, noise.size)), axis=1)
    return Spread(basins=basins, seeds=tuple(seeds), cells=float(np.var(noisy)))


def resampled_blocks(regions: Names, repetitions: int, rng: np.random.Generator) -> Weights:
    """How often each basin is drawn, `(repetition, basin)`, when whole blocks are drawn."""
    block, sizes = _block_sizes(regions)
    drawn = rng.multinomial(sizes.size, np.full(sizes.size, 1 / sizes.size), size=repetitions)
    return drawn[:, block]


def weighted_medians(values: Floats, weights: Weights) -> Floats:
    """Median of values (basin,) repeated weights[r] times, for every row r of weights."""
    order = np.argsort(values)
    ordered = values[order]
    twice_the_rank = 2 * np.cumsum(weights[:, order], axis=1)
    half = twice_the_rank[:, -1:] // 2
    below = ordered[np.argmax(twice_the_rank >= half, axis=1)]
    above = ordered[np.argmax(twice_the_rank > half, axis=1)]
    return np.asarray((below + above) / 2)


def _block_sizes(regions: Names) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Block of each basin, and size of each block.

    A single region cannot be resampled: then every basin is a block of its own.
    """
    _, block, sizes = np.unique(regions, return_inverse=True, return_counts=True)
    if sizes.size > 1:
        return block, sizes
    return np.arange(regions.size), np.ones(regions.size, dtype=np.intp)


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


def _student(probability: float, freedom: float) -> float:
    """Quantile of Student's t."""
    from scipy.stats import t  # a second, which processes that draw need not spend

    return float(t.ppf(probability, freedom))
