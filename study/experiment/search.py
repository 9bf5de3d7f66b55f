"""Hyperparameters of one trial: a pure function of the spec, the arm, the index and closed cohorts.

The first cohort of every arm is a Latin hypercube whose draws are named by (study seed, cohort,
parameter): arms share them, and a parameter that only one arm has shifts nobody's stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from study.experiment.arms import Arm
from study.experiment.parzen import Parzen, Rank
from study.seeding import derive, generator
from study.spec import Choice, OptionsSpec, RangeSpec, SearchSpec, TrainingSpec

Hyperparameters = dict[str, Any]
AT_ONCE = 8
"""Trials that are drawn together: more would keep the driver from its workers for longer."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a sampler learns of one trial of a closed cohort."""

    hyperparameters: Mapping[str, Any]
    scores: Mapping[int, float]
    """Epoch of a rung -> median validation NSE; empty if the trial failed before the first."""
    complete: bool
    """Reached the epoch cap."""


class Sampler:
    """Draws the trials of an arm that learn from the same history, in any order."""

    def __init__(self, search: SearchSpec, arm: Arm, history: Sequence[Outcome]):
        """Learn.

        Args:
            search: Space, sampler and seed.
            arm: The arm.
            history: Trials of the arm's closed cohorts, in order of index.
        """
        self._search, self._arm = search, arm
        self._seed = seed_of(search, arm)
        self._choices = search.space_of(arm.levels)
        self._learnt: Parzen | None = None
        self._drawn: dict[int, Hyperparameters] = {}
        if search.sampler == "tpe" and history and self._choices:
            space = {name: distribution(name, c) for name, c in self._choices.items()}
            points = [outcome.hyperparameters for outcome in history]
            self._learnt = Parzen(points, [_rank(outcome) for outcome in history], space)

    def draw(self, index: int) -> Hyperparameters:
        """Hyperparameters of trial `index` of the arm."""
        if self._learnt is not None:
            if index not in self._drawn:
                self._draw_some(self._learnt, index)
            return dict(self._drawn[index])
        return {
            name: _at(name, choice, _share(self._search, self._seed, index, name))
            for name, choice in self._choices.items()
        }

    def _draw_some(self, learnt: Parzen, index: int) -> None:
        """Draw a trial with the next ones of its cohort, which takes less time than one by one."""
        size = self._search.cohort_size
        some = range(index, min(index + AT_ONCE, (index // size + 1) * size))
        seeds = [derive("tpe", self._seed, self._arm.name, i) % 2**32 for i in some]
        self._drawn |= zip(some, learnt.draw(seeds), strict=True)


def seed_of(search: SearchSpec, arm: Arm) -> int:
    """The seed of an arm's search; all arms of one repeat share it."""
    return search.seed if arm.repeat == 0 else derive("repeat", search.seed, arm.repeat)


def typical(search: SearchSpec, arm: Arm) -> Hyperparameters:
    """The middle of an arm's space, for estimates of cost."""
    return {name: _at(name, choice, 0.5) for name, choice in search.space_of(arm.levels).items()}


def _share(search: SearchSpec, seed: int, index: int, name: str) -> float:
    """A number in [0, 1) for one parameter of one trial."""
    if search.sampler == "random":
        return float(generator("draw", seed, index, name).random())
    cohort, member = divmod(index, search.cohort_size)
    stratified = generator("draw", seed, cohort, name)
    strata = stratified.permutation(search.cohort_size)
    return float((strata[member] + stratified.random(search.cohort_size)[member]) / len(strata))


def _at(name: str, choice: Choice, share: float) -> Any:
    if not isinstance(choice, RangeSpec):
        options = choice.choices if isinstance(choice, OptionsSpec) else choice
        return options[int(share * len(options))]
    low, high = choice.low, choice.high
    if _whole(name):
        high += 1
    value = low * (high / low) ** share if choice.log else low + (high - low) * share
    return min(int(value), int(choice.high)) if _whole(name) else float(value)


def _whole(name: str) -> bool:
    return TrainingSpec.model_fields[name].annotation in (int, int | None)


def distribution(name: str, choice: Choice) -> BaseDistribution:
    if not isinstance(choice, RangeSpec):
        return CategoricalDistribution(
            choice.choices if isinstance(choice, OptionsSpec) else choice
        )
    if _whole(name):
        return IntDistribution(int(choice.low), int(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)


def _rank(outcome: Outcome) -> Rank:
    """Trials that came to the cap by score; then the others, by how far they came, then by score;
    last those that failed before the first rung."""
    if not outcome.scores:
        return 2, 0, 0.0
    last = max(outcome.scores)
    score = outcome.scores[last]
    return (0, 0, -score) if outcome.complete else (1, -last, -score)
