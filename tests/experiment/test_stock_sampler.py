"""Ray's Optuna searcher, to which the arm is one more parameter, beside ours on one search."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from ray.tune.search.optuna import OptunaSearch
from simulator import Conditions, drive
from small import small_spec

from study.experiment.jobs import JobKey
from study.experiment.storage import LocalStorage

TRIALS = 60
ARMS = ("lstm", "lstm-snow")


def objective(arm: str, learning_rate: float) -> float:
    """Best near a learning rate of 0.01, and hardly different between the arms."""
    return 0.8 - 0.5 * abs(math.log10(learning_rate) + 2) + 0.02 * (arm == ARMS[1])


def stock_counts(seed: int) -> Counter[str]:
    """Trials of each arm when the arm is one more parameter of Ray's Optuna searcher."""
    space = {
        "arm": CategoricalDistribution(ARMS),
        "learning_rate": FloatDistribution(0.003, 0.03, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
    }
    searcher = OptunaSearch(space=space, metric="score", mode="max", seed=seed)
    counts: Counter[str] = Counter()
    for trial in map(str, range(TRIALS)):
        point = searcher.suggest(trial)
        assert point is not None
        counts[point["arm"]] += 1
        score = objective(point["arm"], point["learning_rate"])
        searcher.on_trial_complete(trial, {"score": score, "training_iteration": 1})
    return counts


def our_counts(seed: int, folder: Path) -> Counter[str]:
    """Trials of each arm in a study of as many."""

    def score(key: JobKey, hyperparameters: Mapping[str, Any], epoch: int) -> float:
        return objective(key.arm, hyperparameters["learning_rate"])

    size = 6
    cohorts = TRIALS // len(ARMS) // size
    spec = small_spec(search__cohorts=cohorts, search__cohort_size=size, search__seed=seed)
    book = drive(spec, LocalStorage(folder), Conditions(workers=2, seed=seed), score=score)
    return Counter(key.arm for key in book.jobs if key.stage == "search")


@pytest.mark.parametrize("seed", range(3))
def test_no_arm_is_starved(seed: int, tmp_path: Path) -> None:
    """One sampler soon draws nearly all trials in the arm that was lucky at first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    counts = stock_counts(seed)
    assert sum(counts.values()) == TRIALS and min(counts.values()) < TRIALS // 2 - 5
    assert our_counts(seed, tmp_path) == dict.fromkeys(ARMS, TRIALS // 2)
