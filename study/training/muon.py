"""Muon: steps of the same length in every direction of a weight matrix.

Jordan, K., et al. (2024): Muon, an optimizer for hidden layers in neural networks,
https://kellerjordan.github.io/posts/muon/. Length of the steps: Liu, J., et al. (2025): Muon is
scalable for LLM training, https://arxiv.org/abs/2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

from study import native
from study.native.threads import equal_parts, shared_out
from study.training.optimizers import Uncompiled

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


class Muon(Uncompiled):
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
        # `fused` keeps Adam's counters where the parameters are, also when a state is loaded.
        super().__init__(parameters, {"lr": 1e-3, "weight_decay": weight_decay, "fused": True})
        self._hidden_size, self._compiled, self._threads = hidden_size, compiled, threads

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: no caller has one
        for group in self.param_groups:
            rate, others = group["lr"], {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["weight_decay"]:
                    weight.mul_(1 - rate * group["weight_decay"])
                if weight.ndim == 2 and weight.shape[0] % self._hidden_size == 0:
                    self._step_matrix(weight, weight.grad, rate)
                else:
                    others[weight] = weight.grad
            self._step_adam(others, rate)

    def _step_matrix(self, weight: Tensor, grad: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        gates, grads, momenta = (
            tensor.view(-1, self._hidden_size, weight.shape[1])
            for tensor in (weight, grad, state["momentum"])
        )
        length = rate * ADAM_LIKE * max(gates.shape[1:]) ** 0.5
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        if self._compiled and plain and native.library() is not None:
            _step_natively(gates, grads, momenta, length, self._threads)
            return
        momenta.lerp_(grads, 1 - MOMENTUM)
        ahead = grads.lerp(momenta, MOMENTUM)  # Nesterov's look ahead
        gates.sub_(orthogonalised(ahead), alpha=length)

    def _step_adam(self, gradients: dict[Tensor, Tensor], rate: float) -> None:
        for weight in gradients:
            if not self.state[weight]:
                self.state[weight] = {
                    "step": torch.zeros((), device=weight.device),
                    "mean": torch.zeros_like(weight),
                    "square": torch.zeros_like(weight),
                }
        states = [self.state[weight] for weight in gradients]
        steps, means, squares = ([s[n] for s in states] for n in ("step", "mean", "square"))
        adam(list(gradients), list(gradients.values()), means, squares, [], steps, fused=True,
             amsgrad=False, beta1=MOMENTUM, beta2=SQUARES, lr=rate, weight_decay=0.0, eps=TINY,
             maximize=False)  # fmt: skip


def _step_natively(
    gates: Tensor, grads: Tensor, momenta: Tensor, length: float, threads: int
) -> None:
    """The step of a weight's gates (gate, row, column) by `study.native`, shared among threads."""
    number, rows, columns = gates.shape
    short, long = sorted((native.padded(rows), native.padded(columns)))
    settings = torch.tensor([1 - MOMENTUM, length, TINY, *QUINTIC])

    def run(part: slice) -> None:
        room = torch.empty(2 * short * (short + long) + long * native.padded(1))
        native.call("muon_step", part.stop - part.start, rows, columns, ROUNDS, settings,
                    grads[part], momenta[part], gates[part], room)  # fmt: skip

    shared_out(run, equal_parts(number, threads if short * long >= WORTH_A_THREAD else 1))


def orthogonalised(matrices: Tensor) -> Tensor:
    """The orthogonal matrices nearest to these, roughly: singular values between 0.7 and 1.2.

    Args:
        matrices: (matrix, row, column)
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + TINY)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
