"""Invented studies: how often an interval misses the truth, and how often it finds what is not."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats

from calibration.worlds import BENCHMARK, Floats, World
from study.report.statistics import combined_effect, paired_effect

SEEDS = (5, 8, 16)
STUDIES = 1200
FEW = 150
"""Studies of a case in `make slow`, where one number of seeds stands for all."""
BOOTSTRAP = 300
"""Repetitions in each study: fewer than a report has, for their number moves no interval's mean."""
BOUNDS = (0.93, 0.97)
PROCESSES = 2

NULLS = {
    "nothing differs": World(region=0, basin=0),
    "basins and regions differ, the median does not": World(),
    "the same, 531 basins": World(sizes=BENCHMARK),
}
EFFECTS = {
    "+0.02, heavy tails": World(difference=0.02),
    "+0.02, skewed": World(difference=0.02, shape="skewed"),
    "-0.03, between regions mostly": World(difference=-0.03, region=0.05, basin=0.02),
    "+0.005, by seeds mostly": World(difference=0.005, region=0.005, basin=0.01, shift=0.01),
    "+0.01, 531 basins": World(sizes=BENCHMARK, difference=0.01),
    "+0.005, by seeds alone": World(
        difference=0.005, region=0, basin=0.004, shift=0.02, regional_shift=0, cell=0.004
    ),
}

Interval = tuple[float, float]
Method = Callable[[Floats, Floats, "World", int], Interval]


def ours(a: Floats, b: Floats, world: World, seed: int) -> Interval:
    effect = paired_effect(a, b, regions=world.regions, repetitions=BOOTSTRAP, seed=seed)
    return effect.low, effect.high


def percentile(a: Floats, b: Floats, world: World, seed: int) -> Interval:
    """What is usual: seeds and basins drawn again, and the quantiles of what comes of it."""
    draws = np.random.default_rng(seed)
    medians = []
    for _ in range(BOOTSTRAP):
        means = [t[draws.integers(0, len(t), len(t))].mean(axis=0) for t in (a, b)]
        basins = draws.integers(0, a.shape[1], a.shape[1])
        medians.append(np.median((means[0] - means[1])[basins]))
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def covered(method: Method, world: World, seeds: int, truth: float, studies: range) -> int:
    """In how many of these studies the interval holds the truth."""
    hits = 0
    for study in studies:
        a, b = world.draw(np.random.default_rng([seeds, study]), seeds)
        low, high = method(a, b, world, study)
        hits += low <= truth <= high
    return hits


def coverage(pool: Executor, method: Method, world: World, seeds: int, studies: int) -> float:
    shares = [range(first, studies, PROCESSES) for first in range(PROCESSES)]
    hits = pool.map(partial(covered, method, world, seeds, world.truth), shares)
    return sum(hits) / studies


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as executor:
        yield executor


def cases(names: Iterable[str], seeds: int) -> list[Any]:
    """All of them with every number of seeds, and all once more with few studies."""
    whole = [
        pytest.param(n, s, STUDIES, marks=pytest.mark.calibration) for n in names for s in SEEDS
    ]
    return whole + [pytest.param(n, seeds, FEW, marks=pytest.mark.slow) for n in names]


def bounds(studies: int) -> tuple[float, float]:
    """Of the coverage: wider for few studies, by what chance does to 95 %."""
    if studies == STUDIES:
        return BOUNDS
    low, high = (float(stats.binom.ppf(q, studies, 0.95)) / studies for q in (0.005, 0.995))
    return low, high


def most_by_chance(share: float, studies: int) -> float:
    """The share that so many studies exceed in one of forty cases, if this is the true one."""
    return float(stats.binom.ppf(0.975, studies, share)) / studies


@pytest.mark.parametrize(("name", "seeds", "studies"), cases(NULLS, 5))
def test_false_positives(name: str, seeds: int, studies: int, pool: Executor) -> None:
    world = NULLS[name]
    share = 1 - coverage(pool, ours, world, seeds, studies)
    most = most_by_chance(0.05, studies)
    print(f"\nfalse positives  {name:48} S={seeds:2}  {share:6.1%}  (at most {most:.1%})")
    assert share <= most


@pytest.mark.parametrize(("name", "seeds", "studies"), cases(EFFECTS, 8))
def test_coverage(name: str, seeds: int, studies: int, pool: Executor) -> None:
    share = coverage(pool, ours, EFFECTS[name], seeds, studies)
    low, high = bounds(studies)
    print(f"\ncoverage         {name:48} S={seeds:2}  {share:6.1%}  ({low:.0%}-{high:.0%})")
    assert low <= share <= high


def interaction_covered(seeds: int, studies: range) -> int:
    """A difference of differences of four arms; truth 0.02."""
    snowy, plain = World(difference=0.02), World()
    hits = 0
    for study in studies:
        draws = np.random.default_rng([seeds, study, 4])
        tables = [*snowy.draw(draws, seeds), *plain.draw(draws, seeds)]
        effect = combined_effect(
            tables, (1, -1, -1, 1), regions=plain.regions, repetitions=BOOTSTRAP, seed=study
        )
        hits += effect.low <= 0.02 <= effect.high
    return hits


@pytest.mark.parametrize(
    ("name", "seeds", "studies"), cases(["interaction of +0.02, four arms"], 5)
)
def test_coverage_of_an_interaction(name: str, seeds: int, studies: int, pool: Executor) -> None:
    parts = [range(first, studies, PROCESSES) for first in range(PROCESSES)]
    share = sum(pool.map(partial(interaction_covered, seeds), parts)) / studies
    low, high = bounds(studies)
    print(f"\ncoverage         {name:48} S={seeds:2}  {share:6.1%}  ({low:.0%}-{high:.0%})")
    assert low <= share <= high


@pytest.mark.parametrize(
    "studies",
    [
        pytest.param(STUDIES, marks=pytest.mark.calibration),
        pytest.param(FEW, marks=pytest.mark.slow),
    ],
)
def test_the_usual_method_is_refused_by_these_bounds(studies: int, pool: Executor) -> None:
    """So that the bounds are seen to refuse something."""
    name = "+0.005, by seeds alone"
    share = coverage(pool, percentile, EFFECTS[name], 5, studies)
    print(f"\ncoverage         {name + ', percentile bootstrap':48} S= 5  {share:6.1%}")
    assert share < bounds(studies)[0]
