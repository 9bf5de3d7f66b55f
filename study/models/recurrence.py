"""The recurrence of `study.native` for torch: differentiable by weights, attributes and biases.

Shape suffixes: B basins (or windows) of a batch, T days, D daily inputs, H hidden size, P hidden
size as it pads it, N gates that see the daily inputs (four, or three of the EA-LSTM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from study import native
from study.native.threads import equal_parts, shared_out

State: TypeAlias = tuple[Tensor, Tensor]
"""Hidden and cell values after the last day seen, [B, H] each."""


class _Room:
    """Memory that a training step leaves to the next one.

    Asked for anew each time, tens of megabytes come from the system page by page, which takes
    as long as computing what they hold. Threads share it; at worst, some of it is lost.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, ...], list[Tensor]] = {}

    def take(self, *shape: int) -> Tensor:
        try:
            return self._free[shape].pop()
        except (KeyError, IndexError):
            return torch.empty(shape)

    def give(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            if len(self._free) > 16:  # shapes of jobs that are over
                self._free.clear()
            self._free.setdefault(tuple(tensor.shape), []).append(tensor)


_room = _Room()


def usable(dynamic_TBD: Tensor, state: State | None) -> bool:
    """Whether `recurrence` can take these inputs: on the CPU, single precision, no gradient."""
    tensors = (dynamic_TBD, *(state or ()))
    plain = all(
        t.device.type == "cpu" and t.dtype == torch.float32 and not t.requires_grad for t in tensors
    )
    return plain and len(dynamic_TBD) > 0 and native.library() is not None


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a model's gates are computed with, in the order i, f, g, o."""

    weight_x: Tensor
    """[N*H, D], without i if `input_gate` is given"""
    weight_h: Tensor
    """[N*H, H]"""
    bias: Tensor
    """[B, N*H], all that a window adds to its gates every day: biases and attributes"""
    input_gate: Tensor | None = None
    """[B, H], the EA-LSTM's, after its activation"""


def recurrence(
    dynamic_TBD: Tensor,
    gates: Gates,
    *,
    state: State | None = None,
    warmup: int = 0,
    carried: int = 0,
    threads: int = 1,
) -> tuple[Tensor, State]:
    """Hidden values of the days after the warm-up [T - warmup, B, H], and the state after the last.

    Args:
        dynamic_TBD: Daily inputs.
        gates: Gradients flow to all of them.
        state: Hidden and cell values before the first day; zeros when absent. They get no gradient.
        warmup: Days whose hidden values nobody asks for.
        carried: The first of these, through which no gradient flows back: nothing is kept of them.
        threads: Share out the windows. They change no output; gradients by the weights are added up
            in their order.
    """
    if state is None:
        zeros = dynamic_TBD.new_zeros(dynamic_TBD.shape[1], gates.weight_h.shape[1])
        state = (zeros, zeros)
    of_gates = (gates.weight_x, gates.weight_h, gates.bias, gates.input_gate)
    kept = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in of_gates)
    hidden, h, c = _Recurrence.apply(  # type: ignore[no-untyped-call]
        dynamic_TBD, *of_gates, *state, warmup, carried if kept else 0, threads, kept
    )
    return hidden, (h, c)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_x: Tensor,
        weight_h: Tensor,
        bias: Tensor,
        input_gate: Tensor | None,
        h0: Tensor,
        c0: Tensor,
        warmup: int,
        carried: int,
        threads: int,
        kept: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = weight_x.contiguous(), weight_h.contiguous()
        shares = []
        for part in equal_parts(x.shape[1], threads):
            gate = None if input_gate is None else input_gate[part]
            state = (h0[part], c0[part])
            share = _Share(x[:, part], weights, bias[part], gate, state,
                           warmup=warmup, carried=carried, kept=kept)  # fmt: skip
            shares.append(share)
        shared_out(_Share.forward, shares)
        outputs = [share.outputs() for share in shares]
        hidden, h_last, c_last = (
            torch.cat(of_shares, dim=-2) if len(of_shares) > 1 else of_shares[0]
            for of_shares in zip(*outputs, strict=True)
        )
        ctx.save_for_backward(weight_h)
        ctx.shares = shares if kept else None
        ctx.mark_non_differentiable(h_last, c_last)
        return hidden, h_last, c_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018, torch refuses weights that were changed since
        shares, ctx.shares = ctx.shares, None
        if shares is None:
            raise RuntimeError("a gradient by the recurrence can be computed once: it takes over "
                               "the memory of what it is computed from")  # fmt: skip
        parts = torch.split(dhidden, [share.batch for share in shares], dim=1)
        for share, part in zip(shares, parts, strict=True):
            share.prepare_gradient(part)
        shared_out(_Share.backward, shares)
        dweight_x, dweight_h, dbias, dgate = zip(*(s.gradients() for s in shares), strict=True)
        return (
            None,
            sum(dweight_x[1:], dweight_x[0]),
            sum(dweight_h[1:], dweight_h[0]),
            torch.cat(dbias),
            None if dgate[0] is None else torch.cat(dgate),
            *(None, None, None, None, None, None),
        )


class _Share:
    """Windows of a batch that one thread computes: the arrays of the C functions, named as there.

    Only `forward` and `backward` run beside other threads: they are the C functions and no more,
    because Python's interpreter lock lets one thread run at a time.

    Args:
        x: [T, B, D]; the other arrays as `recurrence` takes them.
        kept: Keep what `backward` needs, of the days after those that are carried.
    """

    def __init__(
        self,
        x: Tensor,
        weights: tuple[Tensor, Tensor],
        bias: Tensor,
        input_gate: Tensor | None,
        state: State,
        *,
        warmup: int,
        carried: int,
        kept: bool,
    ):
        self.x_carried, self.x = x[:carried].contiguous(), x[carried:].contiguous()
        self.weight_x, self.weight_h = weights
        (self.days, self.batch, self.inputs), self.size = self.x.shape, self.weight_h.shape[1]
        self.num_gates, self.width = len(self.weight_h) // self.size, native.padded(self.size)
        self.warmup, self.kept = warmup - carried, kept
        days, batch, num_gates, width = self.days, self.batch, self.num_gates, self.width
        self.bias = native.widened(bias.reshape(batch, num_gates, self.size), width)
        self.gate = None if input_gate is None else native.widened(input_gate, width)
        self.packed = _room.take(width * num_gates * (self.inputs + self.size))
        room = _room.take if kept else torch.empty
        self.h = room(days + 1, batch, width)
        self.c = room(days + 1 if kept else 2, batch, width)
        self.gates = _room.take(days, batch, num_gates, width) if kept else None
        self.h_carried = _room.take(carried + 1, batch, width)
        self.c_carried = torch.empty(2, batch, width)
        self.h_carried[0], self.c_carried[0] = (native.widened(v, width) for v in state)

    def forward(self) -> None:
        carried = len(self.x_carried)
        if carried:
            self._run(self.x_carried, self.h_carried, self.c_carried, None)
        self.h[0], self.c[0] = self.h_carried[carried], self.c_carried[carried % 2]
        self._run(self.x, self.h, self.c, self.gates)

    def _run(self, x: Tensor, h: Tensor, c: Tensor, gates: Tensor | None) -> None:
        native.call("forward", len(x), self.batch, self.inputs, self.size, self.num_gates,
                    self.weight_x, self.weight_h, x, self.bias, self.gate, self.packed,
                    h, c, gates)  # fmt: skip

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden values after the warm-up, hidden and cell values of the last day."""
        hidden = self.h[1 + self.warmup :, :, : self.size]
        last = self.c[self.days if self.kept else self.days % 2, :, : self.size].clone()
        _room.give(self.packed, self.h_carried)
        # What is kept becomes room for another step: it is no one else's.
        return hidden.clone() if self.kept else hidden, self.h[-1, :, : self.size].clone(), last

    def prepare_gradient(self, dhidden: Tensor) -> None:
        """Take the gradients by the hidden values, and room for all others."""
        self.dhidden = native.widened(dhidden, self.width)
        self.packed = _room.take(self.width * self.num_gates * self.width)
        self.dweight_x, self.dweight_h = (
            torch.empty(number, self.num_gates, self.width) for number in (self.inputs, self.width)
        )
        self.dbias = torch.empty(self.batch, self.num_gates, self.width)
        self.dgate, self.dh, self.dc = (torch.empty(self.batch, self.width) for _ in range(3))

    def backward(self) -> None:
        native.call("backward", self.days, self.warmup, self.batch, self.inputs, self.size,
                    self.num_gates, self.weight_h, self.x, self.dhidden, self.h, self.c, self.gate,
                    self.packed, self.gates, self.dweight_x, self.dweight_h, self.dbias, self.dgate,
                    self.dh, self.dc)  # fmt: skip

    def gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """By weight_x, weight_h, bias and input gate, in their shapes."""
        assert self.gates is not None
        _room.give(self.packed, self.h, self.c, self.gates)
        rows, size = self.num_gates * self.size, self.size
        return (
            self.dweight_x[..., :size].reshape(self.inputs, rows).T,
            self.dweight_h[:size, :, :size].reshape(size, rows).T,
            self.dbias[..., :size].reshape(self.batch, rows),
            None if self.gate is None else self.dgate[:, :size],
        )
