"""Losses against their plain formulas, and learning rates worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import small_config

from study.training.loss import LOSSES
from study.training.schedule import learning_rate


def sample_windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(1)
    y, target = draws.normal(size=(5, 7)), draws.normal(size=(5, 7))
    target[draws.random(target.shape) < 0.3] = np.nan
    target[2] = np.nan  # nothing to score
    return y, target, draws.uniform(0.1, 8.0, 5)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_its_formula(loss: str) -> None:
    y, target, qobs_std = sample_windows()
    total, count = 0.0, 0
    for window in range(5):
        errors = []
        for day in range(7):
            if not np.isnan(target[window, day]):
                error = (y[window, day] - target[window, day]) ** 2
                errors.append(error if loss == "mse" else error / (qobs_std[window] + 0.1) ** 2)
        if loss == "rsr" and errors:
            errors = [math.sqrt(sum(errors) / len(errors) + 1e-4)] * len(errors)
        total += sum(errors)
        count += len(errors)
    weights = LOSSES[loss].weights(torch.tensor(qobs_std))
    found = LOSSES[loss].mean(torch.tensor(y), torch.tensor(target), weights)
    assert float(found) == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_gaps_have_no_gradient(loss: str) -> None:
    y, target, _ = sample_windows()
    prediction = torch.tensor(y, requires_grad=True)
    ones = torch.ones(5, dtype=torch.float64)
    LOSSES[loss].mean(prediction, torch.tensor(target), ones).backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[torch.isnan(torch.tensor(target))] == 0).all()
    assert (prediction.grad[torch.isfinite(torch.tensor(target))] != 0).all()


def test_a_window_without_error_has_a_gradient() -> None:
    """Where the slope of a root is infinite."""
    y = torch.zeros((2, 3), requires_grad=True)
    LOSSES["rsr"].mean(y, torch.zeros((2, 3)), torch.ones(2)).backward()
    assert y.grad is not None and (y.grad == 0).all()


def test_one_cycle_by_hand() -> None:
    """Peak 0.01 at 30 % of 10 epochs, from a 25th of it, to a 10,000th of that."""
    config = small_config(epochs=10, learning_rate=0.01, schedule="one_cycle")

    def rate(progress: float) -> float:
        epoch, batch = divmod(round(progress * 100), 10)
        return learning_rate(config, epoch + 1, batch, 10)

    assert rate(0.0) == pytest.approx(0.0004)
    assert rate(0.15) == pytest.approx((0.0004 + 0.01) / 2)  # a cosine is halfway at its middle
    assert rate(0.3) == pytest.approx(0.01)
    assert rate(0.65) == pytest.approx((0.01 + 4e-8) / 2)
    assert learning_rate(config, 10, 999_999, 1_000_000) == pytest.approx(4e-8, abs=1e-9)
    rates = [rate(i / 100) for i in range(100)]
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)


def test_one_cycle_is_that_of_pytorch() -> None:
    config = small_config(epochs=10, learning_rate=0.01)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.01, total_steps=1001, pct_start=0.3, cycle_momentum=False
    )
    for step in range(1000):
        ours = learning_rate(config, step // 100 + 1, step % 100, 100)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=0.02, abs=2e-8)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("steps", "epoch", "share"),
    [
        ({11: 0.5, 21: 0.1}, 1, 1.0),
        ({11: 0.5, 21: 0.1}, 10, 1.0),
        ({11: 0.5, 21: 0.1}, 11, 0.5),
        ({11: 0.5, 21: 0.1}, 20, 0.5),
        ({11: 0.5, 21: 0.1}, 21, 0.1),
        ({11: 0.5, 21: 0.1}, 30, 0.1),
        ({21: 0.1, 11: 0.5}, 15, 0.5),  # the order they are written in is no matter
        ({}, 9, 1.0),
    ],
)
def test_steps(steps: dict[int, float], epoch: int, share: float) -> None:
    config = small_config(epochs=30, learning_rate=1e-3, schedule="steps", steps=steps)
    for batch in (0, 99):
        assert math.isclose(learning_rate(config, epoch, batch, 100), 1e-3 * share)


def test_constant() -> None:
    config = small_config(learning_rate=1e-3, schedule="constant")
    assert {learning_rate(config, e, b, 9) for e in (1, 4) for b in (0, 8)} == {1e-3}
