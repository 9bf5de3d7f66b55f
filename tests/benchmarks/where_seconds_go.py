"""Where the seconds of a pass, of a job and of a study go.

    python -m tests.benchmarks.where_seconds_go job search_spaces/camels_us_531.yaml us531.zarr
    python -m tests.benchmarks.where_seconds_go study results/snow

Of a job: processor time of one thread, from the opened store to the checkpoint, and of one
pass more. Of a study that is over: wall time, by its event log.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from study import native
from study.data.arrays import assemble
from study.data.store import open_store
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.experiment.arms import expand
from study.experiment.eventlog import EventLog
from study.experiment.storage import open_storage
from study.models import recurrence
from study.spec import load_spec
from study.training import checkpoint
from study.training.loop import DeviceData, Trainer


class Stopwatch:
    """Processor seconds of this thread by name; what is timed within another is not the other's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._names: list[str] = []
        self._since = time.thread_time()

    @contextmanager
    def of(self, name: str) -> Any:
        self._turn()
        self._names.append(name)
        yield
        self._turn()
        self._names.pop()

    def _turn(self) -> None:
        now = time.thread_time()
        if self._names:
            self.seconds[self._names[-1]] += now - self._since
        self._since = now

    def times(self, name: str | Callable[..., str], owner: Any, function: str) -> Any:
        """A patch that times a function under a name, or under one made from its arguments."""
        original = getattr(owner, function)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.of(name if isinstance(name, str) else name(*arguments)):
                return original(*arguments, **keywords)

        return patch.object(owner, function, timed)

    def tell(self, title: str) -> None:
        total = sum(self.seconds.values())
        print(f"\n{title}: {total:.2f} s")
        for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            print(f"  {name:48} {seconds:9.3f} {seconds / total:6.1%}")


def job(spec_path: str, store_path: str, arm_name: str, settings: list[str]) -> None:
    torch.set_num_threads(1)
    spec, store = load_spec(spec_path, settings), open_store(store_path)
    arm = {arm.name: arm for arm in expand(spec)}[arm_name]
    config = arm.training(spec.training, {})
    of_job = Stopwatch()
    with of_job.of("series read from the store and scaled"):
        data = DeviceData(assemble(store, spec, arm.inputs))
    with of_job.of("network and optimiser made"):
        trainer = Trainer(data, model=arm.model, inputs=arm.inputs, config=config, seed=1)
    for _ in range(config.epochs):
        with of_job.of("passes"):
            trainer.run_epoch()
    with of_job.of("validation period simulated"):
        sim = simulate_period(trainer.model, data, arm.inputs, config, "validation")
    with of_job.of("scored"):
        nse(sim=sim, obs=data.arrays.observed("validation"))
    with of_job.of("checkpoint"):
        checkpoint.dump(trainer)
    of_job.tell(f"a job of {config.epochs} passes, validated once")
    of_pass = one_pass(trainer)
    of_pass.tell(f"one more pass, {config.hidden_size} units")


def one_pass(trainer: Trainer) -> Stopwatch:
    watch = Stopwatch()
    with (
        watch.times("windows drawn, their targets taken out", trainer, "_draw_batches"),
        watch.times("inputs taken out", trainer, "_inputs_of"),
        watch.times(lambda name, *_: f"in C: {name}", native, "call"),
        watch.times("gradients by head, biases and loss", torch.autograd, "grad"),
        watch.times("room for the recurrence", recurrence._Share, "__init__"),
        watch.times("gradient as one vector, clipped", trainer, "_set_gradients"),
        watch.times("optimiser", trainer.optimizer, "step"),
        watch.times("head, dropout, loss, graph", trainer, "_batch_loss"),
        watch.of("what is around a step"),
    ):
        trainer.run_epoch()
    return watch


def study(results: str) -> None:
    """By its event log. One of before these were written does not tell how old the command was
    at the launch, nor how long its end took."""
    events = EventLog(open_storage(results)).events
    reports = [event for event in events if event["event"] == "reported"]
    launch = next(event for event in events if event["event"] == "launch")
    launched, age = launch["time"], launch.get("seconds") or 0.0
    asked = next(event["time"] for event in events if event["event"] == "asked")
    scored = [event["time"] for event in events if event["event"] == "evaluated"]
    shown = next((event["seconds"] for event in events if event["event"] == "shown"), {})
    trained, ended = reports[-1]["time"], scored[-1]
    steps = sum(event["seconds"] for event in reports)
    whole = age + ended - launched + sum(shown.values())
    print(f"\n{Path(results).name}: {whole:.1f} s, {len(reports)} epochs")
    for name, seconds, more in (
        ("from the command to the launch", age, ""),
        ("until the first trial is asked", asked - launched, ""),
        ("jobs", trained - asked, f"{steps / (trained - asked):.2f} steps at a time"),
        ("test period", ended - trained, ""),
        *((f"the end: {name}", seconds, "") for name, seconds in shown.items()),
    ):
        print(f"  {name:48} {seconds:9.1f} {more}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    of_job = commands.add_parser("job")
    of_job.add_argument("spec")
    of_job.add_argument("store")
    of_job.add_argument("--arm", default="lstm")
    of_job.add_argument("--set", action="append", default=[])
    commands.add_parser("study").add_argument("results")
    given = parser.parse_args()
    if given.command == "job":
        job(given.spec, given.store, given.arm, given.set)
    else:
        study(given.results)


if __name__ == "__main__":
    main()
