"""Names and seeds of jobs: stable for ever, and different for different jobs."""

from __future__ import annotations

from typing import Any

import pytest
from small import small_spec

from study.experiment.jobs import JobKey, Stage, identity, training_seed, validation_epochs
from study.spec import TrainingSpec

KEY = JobKey("lstm-snow", "search", 3, 0)
CONFIG = TrainingSpec(epochs=4, warmup=20, targets_per_window=100, learning_rate=0.01)


def test_identity_is_the_same_for_ever() -> None:
    """A study's checkpoints and MLflow runs are found by it. If this fails because a field of
    `TrainingSpec` was added, older studies can no longer be resumed: say so in the changelog."""
    assert training_seed(small_spec(), KEY) == 5075831513765687708
    assert identity(small_spec(), KEY, CONFIG) == "bec865988b7487c0c39d3707"


@pytest.mark.parametrize(
    "other",
    [
        {"key": KEY._replace(arm="lstm")},
        {"key": KEY._replace(stage="candidate")},
        {"key": KEY._replace(trial=4)},
        {"key": KEY._replace(seed=1)},
        {"config": CONFIG.model_copy(update={"learning_rate": 0.02})},
        {"config": CONFIG.model_copy(update={"epochs": 5})},
        {"spec": small_spec(search__seed=2)},
        {"spec": small_spec(name="another")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_identity_differs_by_all_that_makes_a_job(other: dict[str, Any]) -> None:
    base = {"spec": small_spec(), "key": KEY, "config": CONFIG}
    assert identity(**base) != identity(**base | other)


@pytest.mark.parametrize(
    "same",
    [
        {"search__cohorts": 5},
        {"confirmation__seeds": 9},
        {"resources": {"cpus": 2, "checkpoint_seconds": 1}},
        {"question": "another"},
        {"factors__model": ["lstm", "ealstm"]},
    ],
)
def test_identity_outlives_growth(same: dict[str, Any]) -> None:
    assert identity(small_spec(**same), KEY, CONFIG) == identity(small_spec(), KEY, CONFIG)


def test_arms_share_their_seeds_and_stages_do_not() -> None:
    """Arms then differ by what they are; and what was selected is confirmed with fresh seeds."""
    spec = small_spec()

    def seed(arm: str, stage: Stage, trial: int, number: int) -> int:
        return training_seed(spec, JobKey(arm, stage, trial, number))

    assert seed("lstm", "search", 2, 0) == seed("lstm-snow", "search", 2, 0)
    for stage in ("candidate", "replicate"):  # whichever trial won
        assert seed("lstm", stage, 2, 1) == seed("lstm-snow", stage, 5, 1)
    seeds = {seed("lstm", "search", i, 0) for i in range(5)}
    seeds |= {seed("lstm", s, 2, i) for s in ("candidate", "replicate") for i in range(5)}
    assert len(seeds) == 15


def test_a_key_is_read_back() -> None:
    assert JobKey.parse(str(KEY)) == KEY


def test_scores_are_asked_for_at_every_rung_and_at_the_cap() -> None:
    spec = small_spec(training__epochs=60, search__rungs=[7, 20])
    assert validation_epochs(spec) >= {7, 20, 60}
    assert len(validation_epochs(spec)) <= 12
    assert validation_epochs(small_spec()) == {1, 2, 3, 4}
