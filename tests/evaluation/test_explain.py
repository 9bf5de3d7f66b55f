"""Explanations of a network, held against networks whose explanation is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from study import models
from study.evaluation.explain import cell_states, input_gradients, integrated_gradients
from study.models import RunoffModel
from study.models.base import State

WINDOWS, DAYS, INPUTS, STATICS = 3, 12, 2, 4


class Linear(RunoffModel):
    """Discharge is a weighted sum of the inputs: every explanation of it is exact.

    The one cell is the sum, kept by `memory` from day to day.
    """

    weights, memory = torch.tensor([2.0, -0.5]), 0.8

    def __init__(self) -> None:
        config = models.NetworkConfig(
            num_dynamic=INPUTS, num_static=0, hidden_size=1, kernel="torch"
        )
        super().__init__(config, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            self.head.weight.fill_(1.0)
            self.head.bias.fill_(0.0)

    def _recur(
        self, dynamic_TBD: Tensor, static_BS: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        cell = dynamic_TBD.new_zeros(dynamic_TBD.shape[1], 1) if state is None else state[1]
        days = []
        for today_BD in dynamic_TBD:
            cell = self.memory * cell + (today_BD @ self.weights)[:, None]
            days.append(cell)
        return torch.stack(days), (cell, cell)


def network(name: str = "lstm") -> RunoffModel:
    return models.build(
        name,
        models.NetworkConfig(
            num_dynamic=INPUTS,
            num_static=STATICS,
            hidden_size=5,
            dropout=0.4,
            forget_bias=2.0,
            recurrent_init="orthogonal",
        ),
        generator=torch.Generator().manual_seed(3),
    )


@pytest.fixture
def dynamic() -> Tensor:
    return torch.randn(WINDOWS, DAYS, INPUTS, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def static() -> Tensor:
    return torch.randn(WINDOWS, STATICS, generator=torch.Generator().manual_seed(6))


NONE = torch.zeros(WINDOWS, 0)


def test_cells_of_a_leaky_sum_are_the_leaky_sum(dynamic: Tensor) -> None:
    cells = cell_states(Linear(), dynamic, NONE)
    assert cells.shape == (WINDOWS, DAYS, 1)
    expected = torch.zeros(WINDOWS)
    for day in range(DAYS):
        expected = 0.8 * expected + dynamic[:, day, 0] * 2.0 - dynamic[:, day, 1] * 0.5
        torch.testing.assert_close(cells[:, day, 0], expected)


@pytest.mark.parametrize("name", ["lstm", "ealstm"])
def test_the_last_cells_are_the_state_that_a_whole_pass_ends_with(
    name: str, dynamic: Tensor, static: Tensor
) -> None:
    model = network(name)
    cells = cell_states(model, dynamic, static)
    _, (_, last) = model.eval()(dynamic, static)
    torch.testing.assert_close(cells[:, -1], last)
    assert not cells.requires_grad


def test_gradients_of_a_leaky_sum_fade_with_its_memory(dynamic: Tensor) -> None:
    gradients = input_gradients(Linear(), dynamic, NONE)
    ages = torch.arange(DAYS - 1, -1, -1)
    expected = 0.8 ** ages[:, None] * Linear.weights
    torch.testing.assert_close(gradients, expected.expand(WINDOWS, -1, -1))


@pytest.mark.parametrize("name", ["lstm", "ealstm"])
def test_gradients_are_what_a_small_change_makes(
    name: str, dynamic: Tensor, static: Tensor
) -> None:
    model = network(name).double().train()  # dropout must not disturb an explanation
    dynamic, static = dynamic.double(), static.double()
    gradients = input_gradients(model, dynamic, static)
    step = 1e-6
    for day, column in ((0, 0), (7, 1), (DAYS - 1, 0)):
        change = torch.zeros_like(dynamic)
        change[:, day, column] = step
        with torch.no_grad():
            up, _ = model.eval()(dynamic + change, static)
            down, _ = model(dynamic - change, static)
        slope = (up[:, -1] - down[:, -1]) / (2 * step)
        torch.testing.assert_close(gradients[:, day, column], slope, rtol=1e-6, atol=1e-9)


def test_shares_of_a_linear_model_are_exact_in_one_step(dynamic: Tensor) -> None:
    baseline = torch.full_like(dynamic, -0.3)
    shares = integrated_gradients(Linear(), dynamic, NONE, baseline=baseline, steps=1)
    torch.testing.assert_close(
        shares, (dynamic - baseline) * input_gradients(Linear(), dynamic, NONE)
    )


@pytest.mark.parametrize("name", ["lstm", "ealstm"])
def test_shares_add_up_to_the_difference_that_the_inputs_make(
    name: str, dynamic: Tensor, static: Tensor
) -> None:
    model = network(name).double()
    dynamic, static = 2 * dynamic.double(), static.double()
    baseline = dynamic.clone()
    baseline[..., 0] = -1.0
    with torch.no_grad():
        made = (model.eval()(dynamic, static)[0] - model(baseline, static)[0])[:, -1]

    def error(steps: int) -> float:
        shares = integrated_gradients(model, dynamic, static, baseline=baseline, steps=steps)
        assert not shares[..., 1].any()  # an input that equals its baseline
        return float((shares.sum(dim=(1, 2)) - made).abs().max())

    assert error(200) < 1e-6
    assert error(200) < error(20) / 50 < error(2)  # the middle of a part: error ~ 1 / steps**2


def test_what_makes_no_sense_is_refused(dynamic: Tensor) -> None:
    with pytest.raises(ValueError, match=r"shape of `dynamic`, \(3, 12, 2\), but has \(1, 2\)"):
        integrated_gradients(Linear(), dynamic, NONE, baseline=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="`steps >= 1` must hold, but got 0"):
        integrated_gradients(Linear(), dynamic, NONE, baseline=dynamic, steps=0)
