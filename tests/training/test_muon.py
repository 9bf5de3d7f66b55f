"""Muon's steps have the lengths and directions that its papers say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from study import native
from study.native.threads import subnormals_are_zero
from study.training import muon
from study.training.muon import Muon, orthogonalised


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(64, 64), (64, 5), (3, 27)])
def test_directions_are_kept_and_made_equal(shape: tuple[int, int]) -> None:
    """Beside the exact orthogonal factor, from a singular value decomposition."""
    matrices = seeded(4, *shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    assert (values[:, 0] / values[:, -1]).min() > 1.2, "they were equal already"
    strengths = left.mT @ orthogonalised(matrices) @ right.mT
    kept = torch.diagonal(strengths, dim1=1, dim2=2)
    strong = values > 0.01 * torch.linalg.matrix_norm(matrices)[:, None]
    assert ((kept > 0.65) & (kept < 1.25))[strong].all()
    torch.testing.assert_close(strengths, torch.diag_embed(kept), atol=1e-4, rtol=0)


def test_no_gradient_no_step() -> None:
    assert (orthogonalised(torch.zeros(1, 4, 4)) == 0).all()


def test_every_gate_has_its_own_step() -> None:
    """The gradient at one gate does not change the step of another."""

    def step(second: float) -> Tensor:
        weight = torch.zeros(16, 8, requires_grad=True)
        weight.grad = torch.cat([seeded(8, 8), second * seeded(8, 8)])
        Muon([weight], hidden_size=8).step()
        return weight.detach()

    torch.testing.assert_close(step(1)[:8], step(1000)[:8])
    torch.testing.assert_close(step(1)[8:], step(1000)[8:])


def test_steps_are_as_long_as_adams() -> None:
    """Root mean square 0.2 learning rates, for any size of the gradient."""
    for size, scale in ((16, 1e-3), (64, 1e3)):
        weight = torch.zeros(4 * size, size, requires_grad=True)
        weight.grad = scale * seeded(4 * size, size)
        optimizer = Muon([weight], hidden_size=size)
        optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
        assert weight.detach().square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_what_is_no_gate_takes_adams_steps() -> None:
    """torch's AdamW, with decay; a bias and the head's one row."""
    for shape in ((8,), (1, 8)):
        ours, theirs = (seeded(*shape).requires_grad_() for _ in range(2))
        muon = Muon([ours], hidden_size=4, weight_decay=0.1)
        adam = torch.optim.AdamW([theirs], weight_decay=0.1)
        for number in range(5):
            ours.grad = theirs.grad = seeded(*shape) * (number + 1)
            muon.step()
            adam.step()
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 64, 64), (4, 64, 32), (3, 21, 5), (1, 3, 40), (4, 130, 130)])
@pytest.mark.parametrize("scale", [1.0, 1e-38])
def test_compiled_steps_are_those_of_torch(
    shape: tuple[int, int, int], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of sizes that fill no vector; and threads change no bit, of however small numbers."""
    if native.library() is None:
        pytest.skip("there is no C compiler on this machine")
    monkeypatch.setattr(muon, "WORTH_A_THREAD", 0)
    number, rows, columns = shape
    grads = [seeded(*shape) * factor for factor in (1.0, 2.0, -0.5)]
    for grad in grads:
        grad[:, : rows // 2] *= scale

    def steps(**how: Any) -> list[Tensor]:
        """The weight and its momentum after three steps from zero."""
        weight = torch.zeros(number * rows, columns, requires_grad=True)
        optimizer = Muon([weight], hidden_size=rows, **how)
        with subnormals_are_zero():
            for grad in grads:
                weight.grad = grad.reshape(weight.shape)
                optimizer.step()
        return [weight.detach(), optimizer.state[weight]["momentum"]]

    found = steps(compiled=True)
    for a, b in zip(found, steps(compiled=False), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    for threads in (2, 3):
        again = steps(compiled=True, threads=threads)
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_double_precision_is_left_to_torch() -> None:
    weight = seeded(16, 8).double().requires_grad_()
    weight.grad = seeded(16, 8).double()
    before = weight.detach().clone()
    Muon([weight], hidden_size=8).step()
    assert not torch.equal(weight, before)
