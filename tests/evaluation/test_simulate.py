"""Simulation of periods: one pass, chunk by chunk, or window by window as papers do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import INPUTS, small_arrays, small_config

from study import models
from study.evaluation import simulate as module
from study.evaluation.simulate import simulate, simulate_period, simulate_windows
from study.models import RunoffModel
from study.training.loop import DeviceData

BASINS, DAYS, WARMUP = 3, 400, 90

kinds = pytest.mark.parametrize("name", ["lstm", "ealstm"])


def network(name: str, *, num_dynamic: int = 2, num_static: int = 1) -> RunoffModel:
    return models.build(
        name,
        models.NetworkConfig(
            num_dynamic=num_dynamic,
            num_static=num_static,
            hidden_size=6,
            dropout=0.4,
            forget_bias=3.0,
            recurrent_init="orthogonal",
        ),
        generator=torch.Generator().manual_seed(1),
    )


def series() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(2)
    dynamic = torch.randn(BASINS, WARMUP + DAYS, 2, generator=draws)
    return dynamic, torch.randn(BASINS, 1, generator=draws)


@kinds
@pytest.mark.parametrize("warmup", [0, 1, WARMUP])
def test_a_simulation_is_one_pass(name: str, warmup: int) -> None:
    model, (dynamic, static) = network(name), series()
    found = simulate(model, dynamic, static, warmup=warmup)
    with torch.no_grad():  # as the simulation: with gradients some machines take another kernel
        expected, _ = model.eval()(dynamic, static)
    assert found.shape == (BASINS, dynamic.shape[1] - warmup)
    torch.testing.assert_close(found, expected[:, warmup:], rtol=1e-5, atol=1e-6)


@kinds
@pytest.mark.parametrize("days", [64, 90, 111])
def test_parts_change_nothing(name: str, days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up ends inside the first part of the days, with it, or inside the second."""
    model, (dynamic, static) = network(name), series()
    whole, _ = model.eval()(dynamic, static)
    monkeypatch.setattr(module, "CHUNK", days)
    monkeypatch.setattr(module, "GROUP", 2)
    for threads in (1, 2):
        found = simulate(model, dynamic, static, warmup=WARMUP, threads=threads)
        torch.testing.assert_close(found, whole[:, WARMUP:], rtol=1e-5, atol=1e-6)


@kinds
def test_threads_change_no_bit(name: str) -> None:
    model, draws = network(name), torch.Generator().manual_seed(2)
    dynamic = torch.randn(150, 300, 2, generator=draws)
    static = torch.randn(150, 1, generator=draws)
    one, three = (simulate(model, dynamic, static, warmup=90, threads=n) for n in (1, 3))
    assert torch.equal(one, three)


@kinds
@pytest.mark.parametrize("targets", [1, 7, 400])
def test_windows_are_those_of_the_papers(name: str, targets: int) -> None:
    """Each scored day comes from a window of its own that begins with an empty state."""
    model, (dynamic, static) = network(name), series()
    dynamic = dynamic[:, : WARMUP + 50]
    found = simulate_windows(model, dynamic, static, warmup=WARMUP, targets=targets)
    model.eval()
    expected = torch.empty(BASINS, 50)
    for day in range(50):
        first = day - day % targets  # day on which this day's window begins to score
        window = dynamic[:, first : WARMUP + day + 1]
        y, _ = model(window, static)
        expected[:, day] = y[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_no_dropout_and_no_gradient() -> None:
    model, (dynamic, static) = network("lstm").train(), series()
    first = simulate(model, dynamic, static, warmup=WARMUP)
    assert torch.equal(first, simulate(model.train(), dynamic, static, warmup=WARMUP))
    assert not first.requires_grad


@pytest.mark.parametrize("mode", ["continuous", "windows"])
def test_a_period_is_simulated_on_its_own_days(mode: str) -> None:
    arrays = small_arrays()
    data, config = DeviceData(arrays), small_config(simulation=mode)
    model = network("lstm")
    sim = simulate_period(model, data, INPUTS, config, "validation")
    span = arrays.periods["validation"]
    assert sim.dtype == np.float32
    assert sim.shape == arrays.observed("validation").shape

    late = small_arrays()  # what happens after the period, or before its warm-up, is no matter
    late.dynamic[:, : span.start - config.warmup] = 99.0
    assert np.array_equal(simulate_period(model, DeviceData(late), INPUTS, config, "validation"),
                          sim)  # fmt: skip
    late.dynamic[:, span.start - config.warmup] = 99.0  # the first day of the warm-up is fed
    changed = simulate_period(model, DeviceData(late), INPUTS, config, "validation")
    assert not np.array_equal(changed[:, 0], sim[:, 0])


def test_discharge_is_never_negative_and_in_mm_a_day() -> None:
    arrays = small_arrays()
    model, config = network("lstm"), small_config()
    with torch.no_grad():
        model.head.bias.fill_(-arrays.scaler.qobs_mean / arrays.scaler.qobs_std)
    sim = simulate_period(model, DeviceData(arrays), INPUTS, config, "train")
    span = arrays.periods["train"]
    dynamic = torch.from_numpy(arrays.dynamic[:, span.start - config.warmup : span.stop])
    y = simulate(model, dynamic, torch.from_numpy(arrays.static), warmup=config.warmup).numpy()
    expected = y * arrays.scaler.qobs_std + arrays.scaler.qobs_mean
    assert (expected < 0).any() and (expected > 0).any()
    np.testing.assert_allclose(sim, np.maximum(expected, 0), rtol=1e-5, atol=1e-6)
    assert sim.min() == 0
