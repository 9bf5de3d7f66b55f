"""The recurrence of `native` as torch sees it: differentiable by weights, attributes and biases.

Shape suffixes: B basins (or windows) of a batch, T days, D daily inputs, H hidden size, P hidden
size as `native` pads it, N gates that see the daily inputs (four, or three of the EA-LSTM).
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from study.models import native

State: TypeAlias = tuple[Tensor, Tensor]
"""Hidden and cell values after the last day seen, [B, H] each."""


class _Room(threading.local):
    """Memory that a training step leaves to the next one of its thread.

    Asked for anew each time, tens of megabytes come from the system page by page, which takes
    as long as computing what they hold.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, ...], list[Tensor]] = {}

    def take(self, *shape: int) -> Tensor:
        free = self._free.get(shape)
        return free.pop() if free else torch.empty(shape)

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
    """
    size = weight_h.shape[1]
    if state is None:
        zeros = dynamic_TBD.new_zeros(dynamic_TBD.shape[1], size)
        state = (zeros, zeros)
    hidden, h, c = _Recurrence.apply(  # type: ignore[no-untyped-call]
        dynamic_TBD.contiguous(), weight_x, weight_h, bias, input_gate_BH, *state, warmup
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        (days, batch, inputs), size = x.shape, weight_h.shape[1]
        num_gates, width = len(weight_h) // size, native.padded(size)
        kept = any(ctx.needs_input_grad)
        weight_x, weight_h = weight_x.contiguous(), weight_h.contiguous()
        bias = _wide(bias.view(batch, num_gates, size), width)
        gate = None if input_gate is None else _wide(input_gate, width)
        packed = _room.take(width * num_gates * (inputs + size))
        h = torch.empty(days + 1, batch, width) if not kept else _room.take(days + 1, batch, width)
        c = _room.take(days + 1 if kept else 2, batch, width)
        h[0], c[0] = _wide(h0, width), _wide(c0, width)
        gates = _room.take(days, batch, num_gates, width) if kept else None
        native.call("forward", days, batch, inputs, size, num_gates, weight_x, weight_h,
                    x, bias, gate, packed, h, c, gates)  # fmt: skip
        last = c[days if kept else days % 2, :, :size].clone()
        hidden = h[1 + warmup :, :, :size].clone() if kept else h[1 + warmup :, :, :size]
        h_last = h[days, :, :size].clone()
        _room.give(packed)
        if kept:
            ctx.kept = (x, weight_h, gate, h, c, gates)
            ctx.warmup = warmup
        else:
            _room.give(c)
        ctx.mark_non_differentiable(h_last, last)
        return hidden, h_last, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhidden: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_h, gate, h, c, gates = ctx.kept
        del ctx.kept
        (days, batch, inputs), size = x.shape, weight_h.shape[1]
        num_gates, width = gates.shape[2:]
        packed = _room.take(width * num_gates * width)
        dweight_x = torch.empty(inputs, num_gates, width)
        dbias = torch.empty(batch, num_gates, width)
        dgate, dh, dc = (torch.empty(batch, width) for _ in range(3))
        native.call("backward", days, ctx.warmup, batch, inputs, size, num_gates, weight_h,
                    x, _wide(dhidden, width), c, gate, packed, gates,
                    dweight_x, dbias, dgate, dh, dc)  # fmt: skip
        steps = gates.view(days * batch, num_gates * width)
        dweight_h = steps.T @ h[:-1].view(days * batch, width)
        _room.give(packed, h, c, gates)
        return (
            None,
            dweight_x[..., :size].reshape(inputs, num_gates * size).T.contiguous(),
            dweight_h.view(num_gates, width, width)[:, :size, :size].reshape(-1, size),
            dbias[..., :size].reshape(batch, num_gates * size),
            None if gate is None else dgate[:, :size],
            None,
            None,
            None,
        )


def _wide(values: Tensor, width: int) -> Tensor:
    """With zeros for the units that are no one's."""
    missing = width - values.shape[-1]
    return (pad(values, (0, missing)) if missing else values).contiguous()
