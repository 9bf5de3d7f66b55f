"""Points drawn are those of Optuna's own sampler, to the bit, with short histories and long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from small import small_spec

from study.experiment.arms import Arm, expand
from study.experiment.parzen import NEAR, Densities, Parzen
from study.experiment.search import Hyperparameters, Outcome, Sampler, distribution, seed_of
from study.seeding import derive
from study.spec import SearchSpec

ARMS = expand(small_spec(factors={"model": ["lstm", "ealstm"]}, search__repeats=2))
SPACES: dict[str, dict[str, Any]] = {
    "mixed": {
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "dropout": {"low": 0.0, "high": 0.5},
        "hidden_size": {"low": 8, "high": 64, "log": True},
        "batch_size": {"low": 1, "high": 4},
        "loss": ["nse", "mse"],
        "weight_decay": [0.0, 1e-4, 1e-3],
    },
    "snow": {
        "hidden_size": [48, 64],
        "learning_rate": {"low": 0.01, "high": 0.03, "log": True},
        "dropout": {"low": 0.3, "high": 0.5},
    },
    "choices": {"loss": ["nse", "mse"], "hidden_size": [8, 16, 32]},
    "conditional": {
        "dropout": {"low": 0.0, "high": 0.5},
        "forget_bias": {"low": 0.0, "high": 5.0, "when": {"model": "lstm"}},
        "optimizer": {"choices": ["adam", "adamw"], "when": {"model": ["ealstm"]}},
    },
    "one value": {"batch_size": {"low": 3, "high": 3.5}, "dropout": {"low": 0.0, "high": 0.5}},
    "only one value": {"batch_size": {"low": 3, "high": 3.5}},
}
NARROW = {
    "learning_rate": {"low": 0.003, "high": 0.003 * (1 + 2e-15), "log": True},
    "weight_decay": {"low": 0.1, "high": 0.2},
}
"""A logarithm and its exponential are rounded by more than the first range is wide."""


def by_optuna(
    spec: SearchSpec, arm: Arm, history: Sequence[Outcome], indices: Sequence[int]
) -> list[Hyperparameters]:
    """Points that its sampler draws when it is asked in the usual way."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {n: distribution(n, choice) for n, choice in spec.space_of(arm.levels).items()}
    learnt = optuna.create_study(direction="maximize")
    learnt.add_trials(
        create_trial(
            params=dict(outcome.hyperparameters),
            distributions=space,
            state=TrialState.COMPLETE if outcome.complete else TrialState.PRUNED,
            value=outcome.scores[max(outcome.scores)] if outcome.scores else None,
            intermediate_values=dict(outcome.scores),
        )
        for outcome in history
    )
    points = []
    for index in indices:
        seed = derive("tpe", seed_of(spec, arm), arm.name, index) % 2**32
        learnt.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        asked = learnt.ask(space)
        learnt.tell(asked, state=TrialState.FAIL)
        points.append(asked.params)
    return points


def history_of(spec: SearchSpec, arm: Arm, number: int, *, ties: bool) -> list[Outcome]:
    """Trials that failed, came to one rung or another, scored no number, or tie."""
    draws = np.random.default_rng(number)

    def outcome(index: int) -> Outcome:
        reached = (3, 9, 27)[: draws.integers(4)]
        scores = {rung: float(draws.random()) for rung in reached}
        if ties:
            scores = {rung: round(score, 1) for rung, score in scores.items()}
        if scores and draws.random() < 0.1:
            scores[max(scores)] = -math.inf
        return Outcome(
            hyperparameters=Sampler(spec, arm, []).draw(index), scores=scores, complete=27 in scores
        )

    return [outcome(index) for index in range(number)]


def search(space: Mapping[str, Any], number: int) -> SearchSpec:
    size = (1, 3, 6, 8, 25)[number % 5]
    return SearchSpec.model_validate({"space": space, "cohort_size": size, "seed": number})


def exact(points: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, str]]]:
    """With the order of the names, every bit of numbers, and their types."""
    return [[(name, repr(value)) for name, value in point.items()] for point in points]


@pytest.mark.parametrize("number", [1, 2, 5, 10, 11, 26, 60, 171, 1000])
@pytest.mark.parametrize("space", SPACES)
def test_draws_are_optunas(space: str, number: int) -> None:
    spec, arm = search(SPACES[space], number), ARMS[number % len(ARMS)]
    history = history_of(spec, arm, number, ties=number % 2 == 0)
    sampler, indices = Sampler(spec, arm, history), range(number, number + 9)
    drawn = {index: sampler.draw(index) for index in (number + 5, *indices)}
    points = [drawn[index] for index in indices]
    assert exact(points) == exact(by_optuna(spec, arm, history, indices))


def test_a_value_rounded_out_of_its_range_is_drawn_again_as_optuna_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[list[str]] = []
    fit = Parzen._fit

    def counted(self: Parzen, space: Mapping[str, Any]) -> tuple[Any, Any]:
        fitted.append(list(space))
        return fit(self, space)

    monkeypatch.setattr(Parzen, "_fit", counted)
    spec, arm, indices = search(NARROW, 5), ARMS[0], range(5, 45)
    history = history_of(spec, arm, 5, ties=False)
    sampler = Sampler(spec, arm, history)
    points = [sampler.draw(index) for index in indices]
    assert exact(points) == exact(by_optuna(spec, arm, history, indices))
    assert fitted[0] == [*NARROW] and 1 < fitted.count(["learning_rate"]) == len(fitted) - 1


def test_few_draws_need_all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is gained; a space of few choices has ties, which only they decide."""
    asked: list[int] = []
    best = Densities.best

    def counted(self: Densities, candidates: Mapping[str, Any], gains: Any) -> int:
        exact = self.good.log_pdf(candidates) - self._others.log_pdf(candidates)
        np.testing.assert_allclose(gains, exact, rtol=1e-9, atol=1e-9)
        asked.append(np.count_nonzero(gains > gains.max() - NEAR))
        return best(self, candidates, gains)

    monkeypatch.setattr(Densities, "best", counted)
    for name, unclear in (("mixed", 0), ("snow", 0), ("choices", 40)):
        spec = search(SPACES[name], 60)
        sampler = Sampler(spec, ARMS[0], history_of(spec, ARMS[0], 60, ties=False))
        asked.clear()
        for index in range(60, 100):
            sampler.draw(index)
        assert sum(number != 1 for number in asked) == unclear, name
