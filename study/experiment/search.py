"""Hyperparameters of one trial: a pure function of the spec, the arm, the index and closed cohorts.

The first cohort of every arm is a Latin hypercube whose draws are named by (study seed, cohort,
parameter): arms share them, and a parameter that only one arm has shifts nobody's stream.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.experiment.arms import Arm
from study.seeding import derive, generator
from study.spec import Choice, OptionsSpec, RangeSpec, SearchSpec, TrainingSpec

Hyperparameters = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a sampler learns of one trial of a closed cohort."""

    hyperparameters: Mapping[str, Any]
    scores: Mapping[int, float]
    """Epoch of a rung -> median validation NSE; empty if the trial failed before the first."""
    complete: bool
    """Reached the epoch cap."""


class Sampler:
    """Draws the trials of an arm that learn from the same history, in any order.

    The history is told to the sampler's library once: that takes it longer than a draw.
    """

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
        self._space = {n: distribution(n, choice) for n, choice in self._choices.items()}
        self._learnt = None
        if search.sampler == "tpe" and history and self._space:
            self._learnt = _learn(history, self._space)

    def draw(self, index: int) -> Hyperparameters:
        """Hyperparameters of trial `index` of the arm."""
        if self._learnt is not None:
            return self._tpe(self._learnt, index)
        return {
            name: _at(name, choice, _share(self._search, self._seed, index, name))
            for name, choice in self._choices.items()
        }

    def _tpe(self, learnt: optuna.Study, index: int) -> Hyperparameters:
        """Tree-structured Parzen estimator (Bergstra et al. 2011) on the arm's own history."""
        seed = derive("tpe", self._seed, self._arm.name, index) % 2**32
        learnt.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            asked = learnt.ask(self._space)
        learnt.tell(asked, state=TrialState.FAIL)  # which the next draws do not see
        return dict(asked.params)


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


def _learn(history: Sequence[Outcome], space: Mapping[str, BaseDistribution]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials([_past(outcome, space) for outcome in history])
    return study


def _past(outcome: Outcome, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as the sampler's library keeps it; one that failed ranks below all others."""
    last = outcome.scores[max(outcome.scores)] if outcome.scores else None
    return create_trial(
        params=dict(outcome.hyperparameters),
        distributions=dict(space),
        state=TrialState.COMPLETE if outcome.complete else TrialState.PRUNED,
        value=last,
        intermediate_values=dict(outcome.scores),
    )
