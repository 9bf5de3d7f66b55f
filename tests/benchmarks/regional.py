"""Accuracy over time of one arm of a study, from the opened store to the score.

    python -m tests.benchmarks.regional search_spaces/camels_us_531.yaml us531.zarr --arm lstm
    python -m tests.benchmarks.regional ... --members 8 --set training.epochs=20
    python -m tests.benchmarks.regional ... --members 4 --other training.hidden_size=64

Prints a line of JSON for each scored pass, with all seconds so far: reading the store, training,
simulating the validation period; those that begin with `train` are of the passes alone. One
network shares every batch among the threads; of several, each thread trains its own, and a line
with `members` is the score of the mean discharge of so many. `--other` says how the second half of
them differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

import numpy as np
import torch

from study.data.arrays import assemble
from study.data.store import open_store
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.experiment.arms import Arm, expand
from study.native.threads import pool
from study.spec import TrainingSpec, load_spec
from study.training.loop import DeviceData, Trainer


class Clock:
    """Wall and processor seconds since the store was opened."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def say(self, **facts: Any) -> None:
        seconds = round(time.perf_counter() - self._wall, 2)
        processor = round(time.process_time() - self._processor, 2)
        print(json.dumps({"seconds": seconds, "processor_seconds": processor} | facts), flush=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What all networks of one call have in common."""

    arm: Arm
    data: DeviceData
    clock: Clock
    every: int
    """Passes from one score to the next; 0: the last one only."""

    def train(self, config: TrainingSpec, seed: int, threads: int) -> np.ndarray:
        """Train one network; returns its discharge of the validation period."""
        trainer = Trainer(self.data, model=self.arm.model, inputs=self.arm.inputs, config=config,
                          seed=seed, threads=threads)  # fmt: skip
        training = processor = 0.0
        for epoch in range(1, config.epochs + 1):
            started, used = time.perf_counter(), time.process_time()
            loss = trainer.run_epoch()
            training += time.perf_counter() - started
            processor += time.process_time() - used
            if epoch == config.epochs or (self.every and epoch % self.every == 0):
                sim = simulate_period(trainer.model, self.data, self.arm.inputs, config,
                                      "validation", threads=threads)  # fmt: skip
                facts = {"seed": seed, "epoch": epoch, "loss": round(loss, 4)}
                facts |= {"train_seconds": round(training, 2)}
                self.score(sim, **facts, train_processor_seconds=round(processor, 2))
        return sim

    def score(self, sim: np.ndarray, **facts: Any) -> None:
        scores = nse(sim=sim, obs=self.data.arrays.observed("validation"))
        found = {"nse": np.nanmedian(scores), "nse_mean": np.nanmean(scores)}
        days = int(np.isfinite(self.data.arrays.observed("train")).sum())
        found = {name: round(float(value), 4) for name, value in found.items()}
        self.clock.say(**facts, scored_days=days, **found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("store")
    parser.add_argument("--arm", default="lstm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--other", action="append", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    spec, store = load_spec(given.spec, given.set), open_store(given.store)
    other = load_spec(given.spec, [*given.set, *given.other])
    arm = {arm.name: arm for arm in expand(spec)}[given.arm]
    clock = Clock()
    data = DeviceData(assemble(store, spec, arm.inputs))
    run = Run(arm=arm, data=data, clock=clock, every=given.every)
    config, other_config = (arm.training(s.training, {}) for s in (spec, other))
    if given.members == 1:
        run.train(config, given.seed, given.threads)
        return
    later = given.members // 2
    configs = [config] * (given.members - later) + [other_config] * later
    seeds = range(given.seed, given.seed + given.members)
    total = np.zeros_like(data.arrays.observed("validation"))
    with pool(given.threads) as workers:
        sims = workers.map(lambda config, seed: run.train(config, seed, 1), configs, seeds)
        for members, sim in enumerate(sims, start=1):
            total += sim
            run.score(total / members, members=members)


if __name__ == "__main__":
    main()
