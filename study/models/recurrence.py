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


def recurrence(
    dynamic_TBD: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    *,
    input_gate_BH: Tensor | None,
    state: State | None,
    warmup: int,
    threads: int = 1,
) -> tuple[Tensor, State]:
    """Hidden values of the days after the warm-up [T - warmup, B, H], and the state after the last.

    Args:
        dynamic_TBD: Daily inputs.
        weight_x: [N*H, D], gates in the order i, f, g, o; without i if `input_gate_BH` is given.
        weight_h: [N*H, H].
        bias: [B, N*H], all that a window adds to its gates every day: biases and attributes.
        input_gate_BH: The EA-LSTM's input gate, after its activation.
        state: Hidden and cell values before the first day; zeros when absent. They get no gradient.
        warmup: Days whose hidden values nobody asks for.
        threads: Share out the windows. They change no output; gradients by the weights are added up
            in their order.
    """
    size = weight_h.shape[1]
    if state is None:
        zeros = dynamic_TBD.new_zeros(dynamic_TBD.shape[1], size)
        state = (zeros, zeros)
    wanted = [t for t in (weight_x, weight_h, bias, input_gate_BH) if t is not None]
    kept = torch.is_grad_enabled() and any(t.requires_grad for t in wanted)
    hidden, h, c = _Recurrence.apply(  # type: ignore[no-untyped-call]
        dynamic_TBD, weight_x, weight_h, bias, input_gate_BH, *state, warmup, threads, kept
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
        threads: int,
        kept: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight_x, weight_h = weight_x.contiguous(), weight_h.contiguous()

        def run(part: slice) -> tuple[_Part | None, Tensor, Tensor, Tensor]:
            gate = None if input_gate is None else input_gate[part]
            return _forward(x[:, part].contiguous(), weight_x, weight_h, bias[part], gate, h0[part],
                            c0[part], warmup=warmup, kept=kept)  # fmt: skip

        found = shared_out(run, equal_parts(x.shape[1], threads))
        ctx.save_for_backward(weight_h)
        ctx.parts = [part for part, *_ in found]
        hidden, h_last, c_last = (
            torch.cat(of_parts, dim=-2) if len(of_parts) > 1 else of_parts[0]
            for of_parts in zip(*(outputs for _, *outputs in found), strict=True)
        )
        ctx.mark_non_differentiable(h_last, c_last)
        return hidden, h_last, c_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (weight_h,) = ctx.saved_tensors
        kept, ctx.parts = ctx.parts, None
        if kept is None:
            raise RuntimeError("a gradient by the recurrence can be computed once: it takes over "
                               "the memory of what it is computed from")  # fmt: skip
        shares = torch.split(dhidden, [part.batch for part in kept], dim=1)
        tasks = list(zip(kept, shares, strict=True))
        found = shared_out(lambda task: _backward(*task, weight_h), tasks)
        dweight_x, dweight_h, dbias, dgate = zip(*found, strict=True)
        return (
            None,
            sum(dweight_x[1:], dweight_x[0]),
            sum(dweight_h[1:], dweight_h[0]),
            torch.cat(dbias),
            None if dgate[0] is None else torch.cat(dgate),
            *(None, None, None, None, None),
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What the gradient needs of some windows of a batch; T days and a state before the first."""

    x: Tensor
    gate: Tensor | None
    h: Tensor
    c: Tensor
    gates: Tensor
    warmup: int

    @property
    def batch(self) -> int:
        return self.x.shape[1]


def _forward(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    input_gate: Tensor | None,
    h0: Tensor,
    c0: Tensor,
    *,
    warmup: int,
    kept: bool,
) -> tuple[_Part | None, Tensor, Tensor, Tensor]:
    """As `recurrence`; and what `_backward` needs, if it is to be kept."""
    (days, batch, inputs), size = x.shape, weight_h.shape[1]
    num_gates, width = len(weight_h) // size, native.padded(size)
    bias = native.widened(bias.reshape(batch, num_gates, size), width)
    gate = None if input_gate is None else native.widened(input_gate, width)
    packed = _room.take(width * num_gates * (inputs + size))
    h = torch.empty(days + 1, batch, width) if not kept else _room.take(days + 1, batch, width)
    c = _room.take(days + 1 if kept else 2, batch, width)
    h[0], c[0] = native.widened(h0, width), native.widened(c0, width)
    gates = _room.take(days, batch, num_gates, width) if kept else None
    native.call("forward", days, batch, inputs, size, num_gates, weight_x, weight_h,
                x, bias, gate, packed, h, c, gates)  # fmt: skip
    last = c[days if kept else days % 2, :, :size].clone()
    hidden = h[1 + warmup :, :, :size].clone() if kept else h[1 + warmup :, :, :size]
    h_last = h[days, :, :size].clone()
    _room.give(packed)
    if gates is None:
        _room.give(c)
        return None, hidden, h_last, last
    part = _Part(x=x, gate=gate, h=h, c=c, gates=gates, warmup=warmup)
    return part, hidden, h_last, last


def _backward(
    part: _Part, dhidden: Tensor, weight_h: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients by weight_x, weight_h, bias and input gate, of `_forward`'s shapes."""
    (days, batch, inputs), size = part.x.shape, weight_h.shape[1]
    num_gates, width = part.gates.shape[2:]
    packed = _room.take(width * num_gates * width)
    dweight_x, dweight_h = (torch.empty(n, num_gates, width) for n in (inputs, width))
    dbias = torch.empty(batch, num_gates, width)
    dgate, dh, dc = (torch.empty(batch, width) for _ in range(3))
    dhidden = native.widened(dhidden, width)
    native.call("backward", days, part.warmup, batch, inputs, size, num_gates, weight_h,
                part.x, dhidden, part.h, part.c, part.gate, packed, part.gates,
                dweight_x, dweight_h, dbias, dgate, dh, dc)  # fmt: skip
    _room.give(packed, part.h, part.c, part.gates)
    return (
        dweight_x[..., :size].reshape(inputs, num_gates * size).T,
        dweight_h[:size, :, :size].reshape(size, num_gates * size).T,
        dbias[..., :size].reshape(batch, num_gates * size),
        None if part.gate is None else dgate[:, :size],
    )
