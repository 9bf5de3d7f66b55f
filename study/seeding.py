"""Independent random streams, each named by what it is for; there is no global generator."""

import hashlib

import numpy as np


def derive(*name: int | str) -> int:
    """A seed in [0, 2**63) that depends on every part of the name and on nothing else."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in name)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*name: int | str) -> np.random.Generator:
    """A numpy generator for this stream."""
    return np.random.default_rng(derive(*name))
