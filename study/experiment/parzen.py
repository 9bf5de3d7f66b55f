"""The tree-structured Parzen estimator (Bergstra et al. 2011), fitted once for many draws.

Optuna's sampler, whose densities these are, copies, ranks and fits its whole history at every draw,
and a draw then takes the longer the more there is to learn from. What is fitted is a function of
the history alone; only the last step needs a draw's seed. The draws are bit by bit those of
`optuna.samplers.TPESampler(n_startup_trials=1)` with the same seed and history, to which the tests
hold them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler

from study.experiment.mixture import Array, Mixture

CANDIDATES = 24
"""Points drawn where good trials lie; the one least like the others is taken."""
MOST_GOOD = 25
"""A tenth of the trials are good, never more than these."""
NEAR = 1e-6
"""Gains that differ by less are compared by all of Optuna's digits."""

Rank = tuple[int, int, float]
"""The least is the best."""


class Densities:
    """Where good trials lie, and where the others do, as Optuna has fitted them."""

    def __init__(self, good: Any, others: Any):
        self.good, self._others = good, others
        self._mixtures = Mixture(good), Mixture(others)

    def gains(self, points: Array) -> Array:
        """How much more like good trials points are, to about ten digits."""
        good, others = self._mixtures
        return good.log_density(points) - others.log_density(points)

    def best(self, candidates: Mapping[str, Array], gains: Array) -> int:
        """The first with the greatest gain; Optuna decides where that is not clear."""
        if np.count_nonzero(gains > gains.max() - NEAR) == 1:
            return int(gains.argmax())
        exact = self.good.log_pdf(candidates) - self._others.log_pdf(candidates)
        return int(exact.argmax())


class Parzen:
    """Densities of good trials and of the others, from which points are drawn."""

    def __init__(
        self,
        points: Sequence[Mapping[str, Any]],
        ranks: Sequence[Rank],
        space: Mapping[str, BaseDistribution],
    ):
        """Fit.

        Args:
            points: Hyperparameters of at least one trial, in the order in which they were asked.
            ranks: Of each trial.
            space: Hyperparameter -> its distribution.
        """
        self._space = space
        self._free = {name: space[name] for name in sorted(space) if not space[name].single()}
        order = sorted(range(len(points)), key=ranks.__getitem__)
        good = min(math.ceil(0.1 * len(points)), MOST_GOOD)
        self._parts = [sorted(order[:good]), sorted(order[good:])]
        self._values = {
            name: np.asarray([distribution.to_internal_repr(point[name]) for point in points])
            for name, distribution in self._free.items()
        }
        self._densities = self._fit(self._free) if self._free else None

    def draw(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """A point of the space for each seed: the same as for that seed alone."""
        generators = [np.random.RandomState(seed) for seed in seeds]
        if self._densities is None:
            drawn: list[dict[str, Any]] = [{} for _ in seeds]
        else:
            drawn = self._best(self._densities, self._free, generators)
        return [self._inside(*of_one) for of_one in zip(drawn, generators, strict=True)]

    def _inside(self, drawn: dict[str, Any], generator: np.random.RandomState) -> dict[str, Any]:
        """A point in the order of the space, with what has one value only."""
        point = {}
        for name, distribution in self._space.items():
            if distribution.single():
                point[name] = _only(distribution)
            elif distribution._contains(distribution.to_internal_repr(drawn[name])):
                point[name] = drawn[name]
            else:  # rounded out of a range of hardly more than one number
                alone = {name: distribution}
                point |= self._best(self._fit(alone), alone, [generator])[0]
        return point

    def _fit(self, space: Mapping[str, BaseDistribution]) -> Densities:
        """Densities over a part of the space."""
        # Private to Optuna, like `_contains` above: its sampler offers no way to fit once. Held by
        # `optuna<6`, and by the tests' comparison with draws of the sampler itself.
        optuna = TPESampler()
        good, others = (
            optuna._parzen_estimator_cls(
                {name: self._values[name][part] for name in space},
                dict(space),
                optuna._parzen_estimator_parameters,
            )
            for part in self._parts
        )
        return Densities(good, others)

    @staticmethod
    def _best(
        densities: Densities,
        space: Mapping[str, BaseDistribution],
        generators: Sequence[np.random.RandomState],
    ) -> list[dict[str, Any]]:
        """For each generator, that of its candidates which is most like the good trials."""
        drawn = [densities.good.sample(generator, CANDIDATES) for generator in generators]
        points = [np.column_stack([candidates[name] for name in space]) for candidates in drawn]
        gains = np.split(densities.gains(np.concatenate(points)), len(generators))
        chosen = map(densities.best, drawn, gains)
        return [
            {name: d.to_external_repr(candidates[name][best].item()) for name, d in space.items()}
            for candidates, best in zip(drawn, chosen, strict=True)
        ]


def _only(distribution: BaseDistribution) -> Any:
    """The value of a distribution that has one: its lowest, or its first choice."""
    first = getattr(distribution, "low", 0)
    return distribution.to_external_repr(first)
