"""Architectures: pure torch, one file each. A new one is a file and a line in `ARCHITECTURES`."""

from typing import Protocol

import torch

from study.models.base import KERNELS, OUTPUTS, RECURRENT_INITS, LstmWeights, RunoffModel
from study.models.ealstm import EALSTM
from study.models.lstm import LSTM

__all__ = [
    "ARCHITECTURES",
    "KERNELS",
    "OUTPUTS",
    "RECURRENT_INITS",
    "Architecture",
    "LstmWeights",
    "RunoffModel",
    "build",
]


class Architecture(Protocol):
    """What the constructor of every architecture accepts."""

    def __call__(
        self,
        *,
        num_dynamic: int,
        num_static: int,
        hidden_size: int,
        dropout: float,
        forget_bias: float,
        recurrent_init: str,
        generator: torch.Generator,
    ) -> RunoffModel: ...


ARCHITECTURES: dict[str, Architecture] = {
    "lstm": LSTM,
    "ealstm": EALSTM,
}


def build(
    name: str,
    *,
    num_dynamic: int,
    num_static: int,
    hidden_size: int,
    dropout: float,
    forget_bias: float,
    recurrent_init: str,
    generator: torch.Generator,
    output: str = "linear",
    kernel: str = "auto",
) -> RunoffModel:
    """Build a freshly initialised model; same arguments and generator state, same bits.

    Args:
        name: One of `ARCHITECTURES`.
        num_dynamic: Daily inputs (forcing, snow and Shyft features).
        num_static: Static attributes; 0 is the LSTM without statics.
        hidden_size: Number of memory cells.
        dropout: Probability of dropping a hidden value before the head, in training.
        forget_bias: Initial bias of the forget gate; positive values let the cells start out
            remembering, which basins with snow and groundwater need.
        recurrent_init: One of `RECURRENT_INITS`, explained in `study.models.base`.
        generator: CPU generator that every initial parameter is drawn from.
        output: One of `OUTPUTS`, explained in `study.models.base`.
        kernel: One of `KERNELS`. `auto`: on a CPU, the recurrence of `study.native`, where
            a C compiler can build it, and torch's everywhere else; `torch`: always torch's.

    Raises:
        ValueError: If a value breaks a rule; the message states both.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"`name` must be one of {sorted(ARCHITECTURES)}, but got {name!r}.")
    if output not in OUTPUTS:
        raise ValueError(f"`output` must be one of {sorted(OUTPUTS)}, but got {output!r}.")
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {KERNELS}, but got {kernel!r}.")
    model = ARCHITECTURES[name](
        num_dynamic=num_dynamic,
        num_static=num_static,
        hidden_size=hidden_size,
        dropout=dropout,
        forget_bias=forget_bias,
        recurrent_init=recurrent_init,
        generator=generator,
    )
    model.output, model.kernel = output, kernel
    return model
