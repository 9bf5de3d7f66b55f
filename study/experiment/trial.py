"""One training job on a worker: epoch by epoch, scored and saved where its study asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from study import native
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.experiment.arms import Arm
from study.experiment.jobs import (
    JobKey,
    checkpoint_key,
    identity,
    rungs_of,
    training_seed,
    validation_epochs,
)
from study.experiment.limits import check_limits, ended_if_it_hangs, own_memory
from study.experiment.storage import Storage, read_result
from study.spec import StudySpec
from study.training import checkpoint
from study.training.loop import DeviceData, Trainer


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a worker keeps between jobs."""

    spec: StudySpec
    arms: Mapping[str, Arm]
    data: DeviceData
    storage: Storage


def make_trainer(
    spec: StudySpec, arm: Arm, data: DeviceData, key: JobKey, hyperparameters: Mapping[str, Any]
) -> Trainer:
    """The training job of a key, before its first epoch."""
    config = arm.training(spec.training, hyperparameters)
    return Trainer(
        data,
        model=arm.model,
        inputs=arm.inputs,
        config=config,
        seed=training_seed(spec, key),
        threads=spec.resources.threads,
        kernel=spec.resources.kernel,
    )


class RunningJob:
    """A job in the hands of a worker."""

    def __init__(
        self,
        worker: Worker,
        key: JobKey,
        hyperparameters: Mapping[str, Any],
        *,
        saved: int,
        spent: float = 0.0,
    ):
        """Begin a job, or go on with it after its checkpoint of epoch `saved` (0: none), until
        which it took `spent` seconds."""
        self.worker, self.key, self.spent = worker, key, spent
        spec, arm = worker.spec, worker.arms[key.arm]
        self.trainer = make_trainer(spec, arm, worker.data, key, hyperparameters)
        self.identity = identity(spec, key, self.trainer.config)
        if saved:
            content = read_result(worker.storage, checkpoint_key(self.identity, saved))
            checkpoint.restore(self.trainer, content)
        self.often = False
        """Save it after every epoch: its worker is about to leave."""
        self._last_save = time.monotonic()
        self._saved = [saved] if saved else []

    def kernel(self) -> dict[str, str]:
        """What computes its recurrence, on which the last bits depend: `name` (`native` or
        `torch`), `instructions`, and the `compiler` or torch's `version`. `failure`: why the C
        library is missing where it was wanted."""
        device = self.worker.data.device.type
        loaded = None
        if device == "cpu" and self.worker.spec.resources.kernel == "auto":
            loaded = native.loaded()
        if loaded and self.trainer.model.compiled:
            return {
                "name": "native",
                "compiler": str(loaded.compiler),
                "instructions": str(loaded.instructions),
            }
        facts = {"version": torch.__version__, "instructions": device}
        if device == "cpu":
            facts["instructions"] = torch.backends.cpu.get_cpu_capability().lower()
        if loaded and loaded.failure:
            facts["failure"] = loaded.failure
        return {"name": "torch", **facts}

    def step(self) -> dict[str, Any]:
        """Train one epoch; returns what `Book.report` takes.

        Raises:
            TrialError: The job diverged, or used more than it may.
        """
        with ended_if_it_hangs(self.worker.spec.resources, seconds=self.spent):
            result = self._step()
        self.spent += result["seconds"]
        check_limits(self.worker.spec.resources, seconds=self.spent, memory=own_memory())
        return result

    def _step(self) -> dict[str, Any]:
        started = time.perf_counter()
        result: dict[str, Any] = {"loss": self.trainer.run_epoch(), "epoch": self.trainer.epoch}
        spec = self.worker.spec
        if self.trainer.epoch in validation_epochs(spec):
            result["validation"] = self._validate()
        due = time.monotonic() - self._last_save > spec.resources.checkpoint_seconds
        if due or self.often or self.trainer.epoch in rungs_of(spec):
            self.save()
            result["saved"] = True
        result["seconds"] = round(time.perf_counter() - started, 4)
        return result

    def _validate(self) -> dict[str, float]:
        arm = self.worker.arms[self.key.arm]
        data, config = self.worker.data, self.trainer.config
        sim = simulate_period(
            self.trainer.model, data, arm.inputs, config, "validation", threads=self.trainer.threads
        )
        scores = nse(sim=sim, obs=data.arrays.observed("validation"))
        return {"nse_median": float(np.nanmedian(scores)), "nse_mean": float(np.nanmean(scores))}

    def save(self) -> int:
        """Leave a checkpoint; returns its epoch, 0 before the first one."""
        if self.trainer.epoch > max(self._saved, default=0):
            self._write_checkpoint()
        return self.trainer.epoch

    def _write_checkpoint(self) -> None:
        content = checkpoint.dump(self.trainer)
        self.worker.storage.write(checkpoint_key(self.identity, self.trainer.epoch), content)
        self._last_save = time.monotonic()
        self._saved.append(self.trainer.epoch)
        for epoch in self._saved[:-2]:  # the log may not know of the latest yet
            self.worker.storage.delete(checkpoint_key(self.identity, epoch))
        del self._saved[:-2]
