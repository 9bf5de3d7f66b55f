"""The compiled recurrence is torch's: outputs, gradients, states; and models do without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from study import native
from study.models import RunoffModel
from study.models import recurrence as module

from .test_models import DYNAMIC, KINDS, every_kind, make_model, seeded

WARMUP = 15


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if native.library() is None:
        pytest.skip("there is no C compiler on this machine")


def series(kind: str, *, basins: int, days: int = 40) -> tuple[Tensor, Tensor]:
    draws = seeded(2)
    dynamic = torch.randn(basins, days, DYNAMIC, generator=draws)
    return dynamic, torch.randn(basins, KINDS[kind][1], generator=draws)


def both(model: RunoffModel, compute: Callable[[], list[Tensor]]) -> None:
    """What is computed either way is the same but for rounding, and not the same to the bit."""
    model.kernel = "torch"
    expected = compute()
    model.kernel = "auto"
    found = compute()
    assert any(not torch.equal(a, b) for a, b in zip(found, expected, strict=True)), "same kernel"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


@every_kind
@pytest.mark.parametrize("hidden_size", [1, 8, 16, 21, 64])
@pytest.mark.parametrize("basins", [1, 2, 3, 4, 11, 16])
def test_outputs_and_gradients_are_those_of_torch(kind: str, hidden_size: int, basins: int) -> None:
    """Sizes that fill the vectors and the tiles of windows, and others."""
    model = make_model(kind, hidden_size=hidden_size)
    dynamic, static = series(kind, basins=basins)
    target = torch.randn(basins, dynamic.shape[1] - WARMUP, generator=seeded(3))

    def step() -> list[Tensor]:
        y, _ = model.train()(dynamic, static, warmup=WARMUP)
        loss = (y - target).square().mean()
        return [y.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    both(model, step)


@every_kind
def test_a_run_goes_on_from_its_state(kind: str) -> None:
    model, (dynamic, static) = make_model(kind).eval(), series(kind, basins=5)
    whole, end = model(dynamic, static)
    with torch.no_grad():
        first, state = model(dynamic[:, :13], static)
        second, last = model(dynamic[:, 13:], static, state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-5, atol=1e-6)
    for a, b in zip(last, end, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

    def states() -> list[Tensor]:
        with torch.no_grad():
            return list(model(dynamic, static, state=state)[1])

    both(model, states)


def test_activations_are_near_the_exact_ones() -> None:
    """Read off the cells of one unit and one day, whose other gate is wide open."""
    x = torch.cat([torch.linspace(-30, 30, 20_001), torch.logspace(-8, 0, 1_000)])
    open_, shut = torch.full_like(x, 30.0), torch.full_like(x, -30.0)

    def cells(input_gate: Tensor, candidate: Tensor) -> Tensor:
        bias = torch.stack([input_gate, shut, candidate, open_], dim=1)
        zeros = torch.zeros(4, 1)
        gates = module.Gates(weight_x=zeros, weight_h=zeros, bias=bias)
        _, state = module.recurrence(torch.zeros(1, len(x), 1), gates)
        return state[1][:, 0].double()

    exact = x.double()
    torch.testing.assert_close(cells(open_, x), exact.tanh(), rtol=1e-6, atol=0)
    torch.testing.assert_close(cells(x, open_), exact.sigmoid(), rtol=0, atol=5e-7)
    assert (cells(open_, open_) == 1).all(), "open to the end"
    assert (cells(shut, open_) == 0).all(), "shut to the end"


@pytest.mark.parametrize("gates", [3, 4])
def test_a_window_does_not_depend_on_its_neighbours(gates: int) -> None:
    """To the bit: so threads may share a batch, and a basin may be simulated alone."""
    draws, size = seeded(2), 21
    weight_x, weight_h = (torch.randn(gates * size, n, generator=draws) for n in (DYNAMIC, size))
    dynamic = torch.randn(40, 16, DYNAMIC, generator=draws)
    bias = torch.randn(16, gates * size, generator=draws)
    gate = torch.rand(16, size, generator=draws)

    def hidden(number: int) -> Tensor:
        given = gate[:number] if gates == 3 else None
        some = module.Gates(
            weight_x=weight_x, weight_h=weight_h, bias=bias[:number], input_gate=given
        )
        return module.recurrence(dynamic[:, :number], some)[0]

    for number in (1, 2, 5, 7):
        assert torch.equal(hidden(number), hidden(16)[:, :number])


@every_kind
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_share_the_windows(kind: str, threads: int) -> None:
    """Outputs are the same to the bit; gradients are added up in another order."""
    model, (dynamic, static) = make_model(kind, hidden_size=21).train(), series(kind, basins=7)

    def step(threads: int) -> list[Tensor]:
        model.threads = threads
        y, _ = model(dynamic, static, warmup=WARMUP)
        return [y.detach(), *torch.autograd.grad(y.square().mean(), list(model.parameters()))]

    model.kernel = "auto"
    alone, shared, again = step(1), step(threads), step(threads)
    assert torch.equal(alone[0], shared[0])
    for a, b, c in zip(alone, shared, again, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)
        assert torch.equal(b, c)


def test_weights_that_are_not_finite_are_not_hidden() -> None:
    """A trial that diverges must be seen to diverge."""
    model, (dynamic, static) = make_model("lstm"), series("lstm", basins=3)
    for value in (torch.nan, torch.inf):
        with torch.no_grad():
            model.lstm.weight_hh_l0[0, 0] = value
            assert not torch.isfinite(model(dynamic, static)[0]).all()


@every_kind
def test_what_the_compiled_recurrence_cannot_take_is_left_to_torch(kind: str) -> None:
    """Double precision, and gradients by the inputs."""
    model, (dynamic, static) = make_model(kind), series(kind, basins=3)
    y, _ = model.double()(dynamic.double(), static.double())
    assert y.dtype == torch.float64
    dynamic.requires_grad_()
    model.float()(dynamic, static)[0].sum().backward()
    assert dynamic.grad is not None and (dynamic.grad != 0).any()


def test_without_gradients_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up that no gradient reaches, and a simulation, cost no memory of every gate."""
    model, (dynamic, static) = make_model("lstm"), series("lstm", basins=3)
    model.kernel = "auto"
    kept: list[bool] = []
    forward = module._Share.forward

    def watched(share: module._Share) -> None:
        kept.append(share.gates is not None)
        forward(share)

    monkeypatch.setattr(module._Share, "forward", watched)
    assert model(dynamic, static)[0].requires_grad
    with torch.no_grad():
        assert not model(dynamic, static)[0].requires_grad
    assert kept == [True, False]


def test_a_gradient_is_computed_once() -> None:
    """The second would be of memory that the first has written over."""
    model, (dynamic, static) = make_model("lstm"), series("lstm", basins=3)
    model.kernel = "auto"
    loss = model(dynamic, static)[0].sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be computed once"):
        loss.backward()


def test_weights_must_not_change_before_their_gradient() -> None:
    """It would be of neither the old ones nor the new."""
    model, (dynamic, static) = make_model("lstm"), series("lstm", basins=3)
    model.kernel = "auto"
    loss = model(dynamic, static)[0].sum()
    with torch.no_grad():
        model.lstm.weight_hh_l0 *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_room_is_bounded() -> None:
    """A worker trains models of many sizes."""
    for size in range(1, 40):
        model = make_model("lstm", hidden_size=size)
        dynamic, static = series("lstm", basins=size)
        model(dynamic, static)[0].sum().backward()
    assert len(module._room._free) < 20
