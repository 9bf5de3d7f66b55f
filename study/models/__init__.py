"""Architectures: pure torch, one file each.

A new one is a file and a line in `ARCHITECTURES`, or an entry point `study.models` of another
package (`study.plugins`).
"""

from typing import Protocol

import torch

from study import plugins
from study.models.base import (
    KERNELS,
    OUTPUTS,
    RECURRENT_INITS,
    LstmWeights,
    NetworkConfig,
    RunoffModel,
)
from study.models.ealstm import EALSTM
from study.models.lstm import LSTM

__all__ = [
    "ARCHITECTURES",
    "KERNELS",
    "OUTPUTS",
    "RECURRENT_INITS",
    "Architecture",
    "LstmWeights",
    "NetworkConfig",
    "RunoffModel",
    "build",
    "known",
]


class Architecture(Protocol):
    """The constructor of every architecture."""

    def __call__(self, config: NetworkConfig, *, generator: torch.Generator) -> RunoffModel: ...


ARCHITECTURES: dict[str, Architecture] = {
    "lstm": LSTM,
    "ealstm": EALSTM,
}


def known() -> list[str]:
    """Names of all architectures, those of other packages among them."""
    return sorted({*ARCHITECTURES, *plugins.names(plugins.MODELS)})


def build(name: str, config: NetworkConfig, *, generator: torch.Generator) -> RunoffModel:
    """Build a freshly initialised model; same arguments and generator state, same bits.

    Args:
        name: One of `known()`.
        config: Sizes and settings.
        generator: CPU generator that every initial parameter is drawn from.

    Raises:
        ValueError: There is no such architecture, or it cannot be of this kind.
        PluginError: It is another package's, which cannot be loaded.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name](config, generator=generator)
    if name not in plugins.names(plugins.MODELS):
        raise ValueError(f"`name` must be one of {known()}, but got {name!r}.")
    model: RunoffModel = plugins.load(plugins.MODELS, name)(config, generator=generator)
    return model
