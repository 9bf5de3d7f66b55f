"""The sampler is a pure function of the spec, the index and closed cohorts."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import small_spec

from study.experiment.arms import Arm, compared, expand
from study.experiment.search import Hyperparameters, Outcome, Sampler, typical
from study.spec import SearchSpec, TrainingSpec

LSTM, EALSTM = expand(small_spec(factors={"model": ["lstm", "ealstm"]}))
SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "hidden_size": {"low": 8, "high": 64, "log": True},
    "batch_size": {"low": 1, "high": 4},
    "loss": ["nse", "mse"],
    "weight_decay": [0.0, 1e-4, 1e-3],
}


def search(space: Mapping[str, Any] = SPACE, **changes: Any) -> SearchSpec:
    return SearchSpec.model_validate({"space": space, "cohort_size": 8} | changes)


def sample(spec: SearchSpec, arm: Arm, index: int, history: list[Outcome]) -> Hyperparameters:
    return Sampler(spec, arm, history).draw(index)


def past(spec: SearchSpec, arm: Arm = LSTM, number: int = 8) -> list[Outcome]:
    """A closed cohort in which a low dropout is good."""
    drawn = [sample(spec, arm, i, []) for i in range(number)]
    return [
        Outcome(hyperparameters=h, scores={3: 0.5 - h["dropout"], 9: 0.6 - h["dropout"]},
                complete=i % 2 == 0)
        for i, h in enumerate(drawn)
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["random", "quasirandom", "tpe"])
def test_arms_share_their_first_draws(sampler: str) -> None:
    """Common random numbers: arms then differ by what they are, not by luck."""
    spec = search(sampler=sampler)
    for index in range(16):
        assert sample(spec, LSTM, index, []) == sample(spec, EALSTM, index, [])


@pytest.mark.parametrize("sampler", ["random", "quasirandom", "tpe"])
def test_a_further_parameter_shifts_nobody(sampler: str) -> None:
    narrow = {name: SPACE[name] for name in ("dropout", "hidden_size", "loss")}
    reordered = dict(sorted(SPACE.items()))
    for index in range(16):
        few = sample(search(narrow, sampler=sampler), LSTM, index, [])
        many = sample(search(reordered, sampler=sampler), LSTM, index, [])
        assert few.items() <= many.items()


@pytest.mark.parametrize("sampler", ["random", "quasirandom"])
def test_draws_depend_on_seed_and_index(sampler: str) -> None:
    drawn = [
        sample(search(sampler=sampler, seed=seed), LSTM, index, [])["learning_rate"]
        for seed in (1, 2)
        for index in range(50)
    ]
    assert len(set(drawn)) == 100


@pytest.mark.parametrize("sampler", ["random", "quasirandom", "tpe"])
def test_values_lie_in_the_space_and_are_what_training_takes(sampler: str) -> None:
    spec = search(sampler=sampler)
    history = past(spec) if sampler == "tpe" else []
    for index in range(8, 40):
        drawn = sample(spec, LSTM, index, history)
        assert set(drawn) == set(SPACE)
        assert drawn == json.loads(json.dumps(drawn))  # as the event log gives it back
        for name in ("hidden_size", "batch_size"):
            assert type(drawn[name]) is int
            assert SPACE[name]["low"] <= drawn[name] <= SPACE[name]["high"]
        assert 1e-4 <= drawn["learning_rate"] <= 1e-1
        assert drawn["loss"] in ("nse", "mse")
        TrainingSpec.model_validate(drawn)


def test_quasirandom_fills_every_stratum_of_a_cohort() -> None:
    spec = search(sampler="quasirandom", cohort_size=9)
    for cohort in range(3):
        drawn = [sample(spec, LSTM, 9 * cohort + i, []) for i in range(9)]
        shares = [math.log(d["learning_rate"] / 1e-4) / math.log(1e3) for d in drawn]
        assert sorted(int(9 * share) for share in shares) == list(range(9))
        decays = [d["weight_decay"] for d in drawn]
        assert {decays.count(v) for v in (0.0, 1e-4, 1e-3)} == {3}


def test_random_covers_the_space() -> None:
    spec = search(sampler="random")
    drawn = [sample(spec, LSTM, i, []) for i in range(2000)]
    rates = np.log10([d["learning_rate"] for d in drawn])
    counts, _ = np.histogram(rates, bins=6, range=(-4, -1))
    assert counts.min() > 2000 / 6 * 0.8
    sizes = [d["batch_size"] for d in drawn]
    assert all(0.2 < sizes.count(n) / 2000 < 0.3 for n in (1, 2, 3, 4))  # both ends as often
    rates_and_dropout = np.corrcoef(rates, [d["dropout"] for d in drawn])[0, 1]
    assert abs(rates_and_dropout) < 0.08


def test_tpe_learns_from_closed_cohorts() -> None:
    spec = search()
    history = past(spec, number=24)
    drawn = [sample(spec, LSTM, i, history)["dropout"] for i in range(24, 64)]
    assert np.median(drawn) < 0.15  # uniform draws: 0.25


def test_draws_leave_no_trace() -> None:
    """A sampler serves a whole cohort; after a restart a new one goes on in its midst."""
    spec = search()
    one, draws = Sampler(spec, LSTM, past(spec)), (8, 9, 10, 11)
    assert [one.draw(i) for i in draws] == [sample(spec, LSTM, i, past(spec)) for i in draws]
    assert [one.draw(i) for i in reversed(draws)] == [one.draw(i) for i in draws][::-1]


@pytest.mark.parametrize(
    "bad",
    [
        {"scores": {}, "complete": False},  # failed before the first rung
        {"scores": {3: -math.inf}, "complete": False},  # no number there
        {"scores": {3: 0.1, 9: -math.inf}, "complete": True},
    ],
)
def test_tpe_takes_failures(bad: dict[str, Any]) -> None:
    spec = search()
    failed = [Outcome(hyperparameters=o.hyperparameters, **bad) for o in past(spec)]
    sample(spec, LSTM, 8, failed)
    sample(spec, LSTM, 8, past(spec)[:4] + failed[4:])


REPRODUCE = """
import json
from test_search import LSTM, past, sample, search
print(json.dumps([hash("dropout"), [sample(search(), LSTM, i, past(search())) for i in (8, 9)]]))
"""


def test_tpe_is_the_same_in_every_process() -> None:
    """Python's string hashes differ between processes, so an order taken from a set would too."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = f"{here}{os.pathsep}{here.parent}"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", REPRODUCE], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(3)
    ]
    answers = [json.loads(process.communicate()[0]) for process in running]
    assert len({answer[0] for answer in answers}) == 3, "the processes are alike: proves nothing"
    drawn = [sample(search(), LSTM, i, past(search())) for i in (8, 9)]
    assert all(answer[1] == drawn for answer in answers)


def test_typical_is_inside() -> None:
    middle = typical(search(), LSTM)
    assert middle["learning_rate"] == pytest.approx(10**-2.5)
    TrainingSpec.model_validate(middle)


def test_no_space_is_no_hyperparameters() -> None:
    outcome = Outcome(hyperparameters={}, scores={3: 0.5}, complete=True)
    assert sample(search({}), LSTM, 9, [outcome]) == {}


CONDITIONAL = {
    **SPACE,
    "forget_bias": {"low": 0.0, "high": 5.0, "when": {"model": "lstm"}},
    "optimizer": {"choices": ["adam", "adamw"], "when": {"model": ["ealstm"]}},
}


@pytest.mark.parametrize("sampler", ["random", "quasirandom", "tpe"])
def test_a_parameter_of_some_arms_shifts_nobodys_draws(sampler: str) -> None:
    plain, conditional = search(sampler=sampler), search(CONDITIONAL, sampler=sampler)
    for index in range(8):
        shared = sample(plain, LSTM, index, [])
        for arm, own in ((LSTM, "forget_bias"), (EALSTM, "optimizer")):
            drawn = sample(conditional, arm, index, [])
            assert {k: v for k, v in drawn.items() if k != own} == shared
            assert set(drawn) - set(shared) == {own}


def test_tpe_learns_an_arms_own_space() -> None:
    spec = search(CONDITIONAL)
    for arm, own in ((LSTM, "forget_bias"), (EALSTM, "optimizer")):
        assert set(sample(spec, arm, 8, past(spec, arm))) == {*SPACE, own}
        assert set(typical(spec, arm)) == {*SPACE, own}


def test_a_repeat_draws_anew_and_the_study_itself_as_before() -> None:
    levels = {"model": ["lstm", "ealstm"]}
    arms = expand(small_spec(factors=levels, search__repeats=2))
    assert [arm.name for arm in arms] == ["lstm", "ealstm", "lstm~1", "ealstm~1"]
    assert compared(arms) == (LSTM, EALSTM)
    lstm, ealstm, again, other = (sample(search(), arm, 3, []) for arm in arms)
    assert lstm == ealstm == sample(search(), LSTM, 3, [])
    assert again == other and all(again[n] != lstm[n] for n in ("learning_rate", "dropout"))
