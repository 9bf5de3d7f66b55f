"""Inner loops in C: built with the machine's own compiler at first use, kept for later ones.

`torch.nn.LSTM` on a processor repeats the attributes on every day, computes a gradient by the
inputs that nobody asked for, and reaches a third of the processor's arithmetic at the hidden and
batch sizes of hydrology. `recurrence.c` does neither and is two to three times as fast;
`muon.c` is what the optimiser Muon spends its time with. Where there is no C compiler, torch
computes both.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from study.native.building import Loaded, load


@cache
def loaded() -> Loaded:
    """The library, how it was built, or why there is none; looked for once a process."""
    return load()


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they cannot be built."""
    return loaded().library


def call(function: str, *arguments: int | Tensor | None) -> None:
    """Call a function of the library; tensors are float32, on the CPU and without gaps."""
    found = library()
    assert found is not None
    converted: list[ctypes.c_void_p | ctypes.c_int64 | None] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            if argument.dtype != torch.float32 or not argument.is_contiguous():
                raise TypeError(f"{function} takes float32 without gaps, but got {argument.dtype}")
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            converted.append(None if argument is None else ctypes.c_int64(argument))
    getattr(found, function)(*converted)


def padded(hidden_size: int) -> int:
    """`hidden_size` rounded up to the kernel's width; the surplus is padding."""
    found = library()
    assert found is not None
    return int(found.padded(hidden_size))


def widened(values: Tensor, width: int) -> Tensor:
    """Values with zeros in the columns that are padding."""
    missing = width - values.shape[-1]
    return (pad(values, (0, missing)) if missing else values).contiguous()
