"""Muon: steps of the same length in every direction of a weight matrix.

Jordan, K., et al. (2024): Muon, an optimizer for hidden layers in neural networks,
https://kellerjordan.github.io/posts/muon/. Length of the steps: Liu, J., et al. (2025): Muon is
scalable for LLM training, https://arxiv.org/abs/2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from study import native
from study.native.threads import equal_parts, shared_out

MOMENTUM = 0.9
SQUARES = 0.999
"""Adam's decay of squared gradients, for what is no matrix."""
TINY = 1e-8

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's polynomial a s + b s^3 + c s^5: five times over it brings singular values s between 0.01
and 1 to between 0.7 and 1.2."""
ROUNDS = 5

WORTH_A_THREAD = 128 * 128
"""Elements of a matrix below which waking a thread takes as long as what it would do."""

ADAM_LIKE = 0.2
"""Root mean square of a step over the learning rate, as Adam's steps have it, so that one rate
serves both."""


class Muon(torch.optim.Optimizer):
    """Muon for the gates' weight matrices, one gate at a time; Adam for biases and the head.

    A gradient's few strong directions (a wet basin's floods) do not drown the many weak ones. A
    recurrent network learns in half as many passes or fewer; weights decay as AdamW's.

    Args:
        parameters: The model's.
        hidden_size: Rows of a gate in a weight matrix; matrices with other rows are Adam's.
        weight_decay: Share of a weight that a step of learning rate 1 would take away.
        compiled: Compute with `study.native` where it is there.
        threads: Share out the gates of large matrices, if compiled. They change no bit.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        hidden_size: int,
        weight_decay: float = 0.0,
        compiled: bool = True,
        threads: int = 1,
    ):
        super().__init__(parameters, {"lr": 1e-3, "weight_decay": weight_decay})
        self._hidden_size, self._compiled, self._threads = hidden_size, compiled, threads

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: no caller has one
        for group in self.param_groups:
            rate = group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["weight_decay"]:
                    weight.mul_(1 - rate * group["weight_decay"])
                state = self.state[weight]
                if weight.ndim == 2 and weight.shape[0] % self._hidden_size == 0:
                    self._step_matrix(weight, weight.grad, state, rate)
                else:
                    _step_adam(weight, weight.grad, state, rate)

    def _step_matrix(
        self, weight: Tensor, grad: Tensor, state: dict[str, Any], rate: float
    ) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(grad, 1 - MOMENTUM)
        ahead = grad.lerp(momentum, MOMENTUM)  # Nesterov's look ahead
        gates = ahead.view(-1, self._hidden_size, weight.shape[1])
        length = ADAM_LIKE * max(gates.shape[1:]) ** 0.5
        directions = self._orthogonalised(gates).reshape(weight.shape)
        weight.sub_(directions, alpha=rate * length)

    def _orthogonalised(self, gates: Tensor) -> Tensor:
        plain = gates.device.type == "cpu" and gates.dtype == torch.float32
        if self._compiled and plain and native.library() is not None:
            return orthogonalised_by_native(gates, self._threads)
        return orthogonalised(gates)


def orthogonalised(matrices: Tensor) -> Tensor:
    """The orthogonal matrices nearest to these, roughly: singular values between 0.7 and 1.2.

    Args:
        matrices: (matrix, row, column)
    """
    x, tall = _wide(matrices)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def orthogonalised_by_native(matrices: Tensor, threads: int) -> Tensor:
    """As `orthogonalised`, on a CPU, the matrices shared out among threads."""
    x, tall = _wide(matrices)
    _, rows, columns = x.shape
    height, width = native.padded(rows), native.padded(columns)
    padded = x.new_zeros(len(x), height, width)
    padded[:, :rows, :columns] = x
    quintic = torch.tensor(QUINTIC)

    def run(part: slice) -> None:
        room = torch.empty(2 * height * height + height * width + width * native.padded(1))
        some = padded[part]
        native.call("orthogonalise", len(some), height, width, ROUNDS, quintic, some, room)

    wanted = threads if height * width >= WORTH_A_THREAD else 1
    shared_out(run, equal_parts(len(x), wanted))
    x = padded[:, :rows, :columns]
    return x.mT if tall else x


def _wide(matrices: Tensor) -> tuple[Tensor, bool]:
    """Matrices of length one with no more rows than columns, and whether they were turned."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    return x / (torch.linalg.matrix_norm(x, keepdim=True) + TINY), tall


def _step_adam(weight: Tensor, grad: Tensor, state: dict[str, Any], rate: float) -> None:
    """Kingma, D. P., and Ba, J. (2015), https://arxiv.org/abs/1412.6980, algorithm 1."""
    if not state:
        state["step"] = torch.zeros(())  # on the CPU, where reading it makes no GPU wait
        state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
    state["step"] += 1
    number = float(state["step"])
    mean = state["mean"].lerp_(grad, 1 - MOMENTUM)
    square = state["square"].mul_(SQUARES).addcmul_(grad, grad, value=1 - SQUARES)
    spread = (square / (1 - SQUARES**number)).sqrt_().add_(TINY)
    weight.addcdiv_(mean, spread, value=-rate / (1 - MOMENTUM**number))
