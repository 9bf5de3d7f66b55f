"""What a study will do and what it will cost, before it does anything."""

from __future__ import annotations

import time
from typing import Any

import torch

from study.experiment.arms import declared_contrasts, expand
from study.experiment.engine import Prepared, accounts
from study.experiment.jobs import JobKey
from study.experiment.progress import most_epochs, planned_epochs, planned_jobs
from study.experiment.search import typical
from study.experiment.trial import make_trainer
from study.spec import StudySpec
from study.training.loop import DeviceData


def plan(spec: StudySpec) -> dict[str, Any]:
    """Arms, contrasts and budget: what `study check --json` prints."""
    arms = expand(spec)
    return {
        "study": spec.name,
        "arms": [{"arm": arm.name, "factors": dict(arm.levels)} for arm in arms],
        "contrasts": [contrast.name for contrast in declared_contrasts(spec, arms)],
        "trials_per_arm": spec.trials_per_arm(),
        "epochs_per_arm": planned_epochs(spec),
        "most_epochs_per_arm": most_epochs(spec),
        "jobs": planned_jobs(spec, len(arms)),
        "epochs": planned_epochs(spec) * len(arms),
    }


def features(prepared: Prepared) -> list[str]:
    """Where simulated inputs of the study come from, a sentence each."""
    return [
        f"{group}: {account['stack']}, calibrated on discharge of {account['train_period']}, "
        f"training days {'cross-fitted' if account['crossfit'] else 'not cross-fitted'}"
        for group, account in accounts(prepared).items()
        if "stack" in account
    ]


def timed_epoch(prepared: Prepared) -> float:
    """Seconds of one training epoch on this machine: mean over the arms, in the middle of the
    search space, with the threads that a worker would use."""
    spec = prepared.spec
    torch.set_num_threads(spec.resources.threads)
    data = DeviceData(prepared.arrays)
    started = time.perf_counter()
    for arm in prepared.arms:
        key = JobKey(arm.name, "search", 0, 0)
        make_trainer(spec, arm, data, key, typical(spec.search, arm)).run_epoch()
    return (time.perf_counter() - started) / len(prepared.arms)
