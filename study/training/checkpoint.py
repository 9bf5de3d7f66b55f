"""Checkpoints as safetensors: named tensors only, nothing that could run code when loaded."""

from __future__ import annotations

from safetensors.torch import load, save
from torch import Tensor

from study.training.loop import Trainer


def dump(trainer: Trainer) -> bytes:
    """A training job after its last epoch; equal jobs give equal bytes."""
    return save({n: t.cpu().contiguous() for n, t in trainer.state().items()})


def restore(trainer: Trainer, content: bytes) -> None:
    """Let a fresh job of the same arguments go on where `dump` was called."""
    trainer.restore(load(content))


def weights(content: bytes) -> dict[str, Tensor]:
    """A checkpoint's model weights by parameter name."""
    return {
        name.removeprefix("model."): tensor
        for name, tensor in load(content).items()
        if name.startswith("model.")
    }
