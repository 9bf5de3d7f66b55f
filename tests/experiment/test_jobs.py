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
    `TrainingSpec` was added, older studies cannot be resumed: name it in `LATER_FIELDS`."""
    assert training_seed(small_spec(), KEY) == 7102636754512472557
    assert identity(small_spec(), KEY, CONFIG) == "a049cb94f487221cc419815f"


@pytest.mark.parametrize(
    "other",
    [
        {"key": KEY._replace(arm="lstm")},
        {"key": KEY._replace(stage="candidate")},
        {"key": KEY._replace(trial=4)},
        {"key": KEY._replace(seed=1)},
        {"config": CONFIG.model_copy(update={"learning_rate": 0.02})},
        {"config": CONFIG.model_copy(update={"epochs": 5})},
        {"config": CONFIG.model_copy(update={"output": "sinh"})},
        {"config": CONFIG.model_copy(update={"discharge_scale": "basin"})},
        {"config": CONFIG.model_copy(update={"gradient_warmup": 0})},
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


def test_every_job_has_random_streams_of_its_own() -> None:
    """Intervals take the seeds of two arms for independent draws, and what was selected is
    confirmed with fresh ones."""
    spec = small_spec()
    stages: tuple[Stage, ...] = ("search", "candidate", "replicate")
    keys = [
        JobKey(arm, stage, trial, seed)
        for arm in ("lstm", "lstm-snow")
        for stage in stages
        for trial in range(3)
        for seed in range(3)
    ]
    assert len({training_seed(spec, key) for key in keys}) == len(keys)


def test_a_key_is_read_back() -> None:
    assert JobKey.parse(str(KEY)) == KEY


def test_scores_are_asked_for_at_every_rung_and_at_the_cap() -> None:
    spec = small_spec(training__epochs=60, search__rungs=[7, 20])
    assert validation_epochs(spec) >= {7, 20, 60}
    assert len(validation_epochs(spec)) <= 12
    assert validation_epochs(small_spec()) == {1, 2, 3, 4}
