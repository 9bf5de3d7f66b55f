"""What a training step costs beyond the recurrence that it cannot do without."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.scaling import Scaler
from study.models import recurrence
from study.spec import KRATZERT_2019, TrainingSpec
from study.training.loop import DeviceData, Trainer

from .conftest import Bench, processor_seconds

WARMUP = TARGETS = 365
HIDDEN_SIZE = 64
WINDOWS = 256
"""In a pass: 4 windows of each of 64 basins, whose training period is 3 windows long."""
INPUTS = Inputs(dynamic=("prcp", "srad", "tmax", "tmin", "vp"), static=KRATZERT_2019)
ROUNDS = 11


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> DeviceData:
    """Random series: what is learnt from them does not change what a step costs."""
    draws = np.random.default_rng(1)
    basins, days = WINDOWS // 4, WARMUP + 3 * TARGETS
    qobs = draws.gamma(0.5, 2.0, (basins, days)).astype(np.float32)
    qobs[draws.random(qobs.shape) < 0.02] = np.nan
    arrays = StudyArrays(
        basins=tuple(f"{i:08d}" for i in range(basins)),
        first_day=datetime.date(1998, 10, 1),
        inputs=INPUTS,
        dynamic=draws.normal(size=(basins, days, len(INPUTS.dynamic))).astype(np.float32),
        static=draws.normal(size=(basins, len(INPUTS.static))).astype(np.float32),
        qobs=qobs,
        periods={"train": slice(WARMUP, days)},
        scaler=Scaler(means={}, stds={}, qobs_mean=1.0, qobs_std=1.4),
        qobs_std=np.full(basins, 1.4, np.float32),
    )
    return DeviceData(arrays)


def make_trainer(data: DeviceData, model: str, batch_size: int) -> Trainer:
    config = TrainingSpec(
        warmup=WARMUP,
        targets_per_window=TARGETS,
        batch_size=batch_size,
        hidden_size=HIDDEN_SIZE,
        dropout=0.2,
    )
    return Trainer(data, model=model, inputs=INPUTS, config=config, seed=1)


def ours(data: DeviceData, model: str, batch_size: int) -> Callable[[], object]:
    """One pass of the trainer: drawing, gathering, model, loss, clipping, Adam."""
    return make_trainer(data, model, batch_size).run_epoch


def bare(batch_size: int) -> Callable[[], object]:
    """As many steps of a bare LSTM, time-major, on one batch that is there already.

    It starts with the trainer's forget bias. With torch's own, zero, the gradients fade into
    subnormal numbers over the warm-up, and the loop is three times slower than it need be.
    """
    generator = torch.Generator().manual_seed(1)
    width = len(INPUTS.dynamic) + len(INPUTS.static)
    x = torch.randn(WARMUP + TARGETS, batch_size, width, generator=generator)
    target = torch.randn(TARGETS, batch_size, 1, generator=generator)
    lstm, head = nn.LSTM(width, HIDDEN_SIZE), nn.Linear(HIDDEN_SIZE, 1)
    with torch.no_grad():
        lstm.bias_ih_l0[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = TrainingSpec().forget_bias
    optimizer = torch.optim.Adam([*lstm.parameters(), *head.parameters()], fused=True)

    def steps() -> None:
        for _ in range(WINDOWS // batch_size):
            optimizer.zero_grad()
            hidden, _ = lstm(x)
            (head(hidden[WARMUP:]) - target).square().mean().backward()
            optimizer.step()

    return steps


def interleaved(
    first: Callable[[], object], second: Callable[[], object]
) -> tuple[float, float, float]:
    """Median processor seconds of either, and the median ratio of neighbours.

    Neighbours in time share the state of caches and clocks.
    """
    rounds = [[processor_seconds(first), processor_seconds(second)] for _ in range(ROUNDS + 1)]
    seconds = np.array(rounds[1:])  # the first warms up
    a, b = np.median(seconds, axis=0)
    return float(a), float(b), float(np.median(seconds[:, 0] / seconds[:, 1]))


@pytest.mark.benchmark
@pytest.mark.parametrize("batch_size", [16, 64])
def test_lstm_step(bench: Bench, data: DeviceData, batch_size: int) -> None:
    a, b, ratio = interleaved(ours(data, "lstm", batch_size), bare(batch_size))
    steps = WINDOWS // batch_size
    bench.add(
        f"LSTM step, batch {batch_size}, against a bare loop (s)",
        ours=a / steps,
        reference=b / steps,
        ratio=ratio,
        target=1.10,
    )


@pytest.mark.benchmark
@pytest.mark.parametrize("batch_size", [16, 64])
def test_ealstm_step(bench: Bench, data: DeviceData, batch_size: int) -> None:
    a, b, ratio = interleaved(ours(data, "ealstm", batch_size), ours(data, "lstm", batch_size))
    steps = WINDOWS // batch_size
    bench.add(
        f"EA-LSTM step, batch {batch_size}, against LSTM (s)",
        ours=a / steps,
        reference=b / steps,
        ratio=ratio,
        target=1.10,
    )


@pytest.mark.benchmark
@pytest.mark.parametrize("model", ["lstm", "ealstm"])
def test_pass_over_its_kernels(
    bench: Bench, data: DeviceData, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole pass beside what its calls of the recurrence and of the optimiser take."""
    trainer = make_trainer(data, model, batch_size=16)
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **keywords)
            finally:
                spent.append(time.thread_time() - started)

        return call

    for name in ("forward", "backward"):
        function = timed(getattr(recurrence._Recurrence, name))
        monkeypatch.setattr(recurrence._Recurrence, name, staticmethod(function))
    monkeypatch.setattr(trainer.optimizer, "step", timed(trainer.optimizer.step))
    whole, kernels = [], []
    for _ in range(ROUNDS):
        spent.clear()
        whole.append(processor_seconds(trainer.run_epoch))
        kernels.append(sum(spent))
    assert len(spent) == 3 * WINDOWS // 16, "the pass did not use the compiled recurrence"
    bench.add(
        f"{model} pass over its kernels' calls (s)",
        ours=float(np.median(whole)),
        reference=float(np.median(kernels)),
        ratio=float(np.median(np.array(whole) / kernels)),
        target=1.05,
    )
