"""Training jobs of a study: what identifies one, and what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from study.seeding import derive
from study.spec import StudySpec, TrainingSpec

Stage = Literal["search", "candidate", "replicate"]
Status = Literal["run", "wait", "stopped", "done", "failed"]
CLOSED: frozenset[Status] = frozenset({"stopped", "done", "failed"})


class JobKey(NamedTuple):
    """A job's place in its study. Written `arm/stage/trial/seed`."""

    arm: str
    stage: Stage
    """`search`: a trial; `candidate`: one of an arm's best trained again; `replicate`: the
    winner trained again for the confirmation."""
    trial: int
    """Number of the trial in its arm whose hyperparameters are used."""
    seed: int
    """Number of the seed; 0 in the search."""

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> JobKey:
        arm, stage, trial, seed = text.split("/")
        return cls(arm, stage, int(trial), int(seed))  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Job:
    """A training job and all that its study's log says of it."""

    key: JobKey
    hyperparameters: Mapping[str, Any]
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Epoch -> what the job reported after it."""
    scores: dict[int, float] = field(default_factory=dict)
    """Epoch -> median validation NSE, where it was asked for."""
    saved: int = 0
    """Last epoch with a checkpoint; 0: none."""
    losses: int = 0
    """Times in a row that its worker died under it before it had told of another epoch."""
    failure: str | None = None
    """Why it failed by its own doing."""
    status: Status = "run"
    """`wait`: for the rest of its cohort."""

    @property
    def epochs(self) -> int:
        return max(self.reports, default=0)

    @property
    def seconds(self) -> float:
        """Training time charged to the job."""
        return self.seconds_until(self.epochs)

    def seconds_until(self, epoch: int) -> float:
        """Training time of the epochs up to this one."""
        return float(sum(r["seconds"] for e, r in self.reports.items() if e <= epoch))


def training_seed(spec: StudySpec, key: JobKey) -> int:
    """The seed of a job's weights, windows and dropout.

    Seed s of two arms names two different streams: were they one, two arms with the same
    configuration would be one network, and intervals, which take the seeds of two arms for
    independent draws, would promise too much.
    """
    return derive("training", spec.search.seed, *key)


LATER_FIELDS = ("output", "discharge_scale", "gradient_warmup")
"""Of `TrainingSpec`, that came when there were studies already: while they have their defaults they
are no part of an identity, so that those studies go on."""


def identity(spec: StudySpec, key: JobKey, config: TrainingSpec) -> str:
    """A job's name for ever: the same in every launch, on every host, in the tracking server."""
    training = config.model_dump(mode="json")
    for name in LATER_FIELDS:
        if training[name] == TrainingSpec.model_fields[name].default:
            del training[name]
    content = [spec.name, list(key), training, training_seed(spec, key)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def checkpoint_key(job_identity: str, epoch: int) -> str:
    """Place of a checkpoint in the study's storage."""
    return f"trials/{job_identity}/epoch-{epoch:05d}.safetensors"


def validation_epochs(spec: StudySpec) -> frozenset[int]:
    """Epochs after which a job is scored: all rungs, and about ten for its learning curve."""
    cap = spec.training.epochs
    return frozenset({*spec.search.rungs, *range(cap, 0, -max(1, cap // 10))})


def rungs_of(spec: StudySpec) -> tuple[int, ...]:
    """Epochs at which a cohort is decided on; the last is the cap."""
    return (*spec.search.rungs, spec.training.epochs)
