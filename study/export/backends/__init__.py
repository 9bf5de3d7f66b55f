"""What runs a bundle's networks. All give the same discharge; only `onnx` needs no torch.

========  =====================================================================================
onnx      onnxruntime on the ONNX graphs
torch     this platform's own models on the weights
exported  the `torch.export` programs; loading one can run code, so it must be signed
========  =====================================================================================
"""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

from study.errors import BundleError, InputError
from study.export.bundle import Bundle

BACKENDS = {"onnx": "onnxruntime", "torch": "torch", "exported": "torch"}
"""Name -> package it needs."""

State = tuple[np.ndarray, np.ndarray]
"""Hidden and cell values (basin, hidden) float32 after the last day seen."""


class NotInstalled(InputError):
    """A back end lacks a package, or an architecture, on this machine."""

    def __init__(self, what: str, message: str):
        super().__init__(message)
        self.what = what


class Network(Protocol):
    """One member of a bundle."""

    concurrent: bool
    """Whether calls from several threads at once are the way to use several cores."""

    def advance(
        self,
        forcing: np.ndarray,
        attributes: np.ndarray,
        baseline: np.ndarray | None,
        state: State,
    ) -> tuple[np.ndarray, State]:
        """Go through some days.

        Args:
            forcing: (basin, day, input) float32, physical units.
            attributes: (basin, attribute) float64, likewise.
            baseline: (basin, day) float32 mm/d, for a model that corrects a discharge.
            state: Before the first day.

        Returns:
            (basin, day) float32 mm/d, never negative, and the state after the last day.
        """


def load_networks(bundle: Bundle, backend: str) -> list[Network]:
    """A bundle's members, ready to run.

    Raises:
        InputError: There is no such backend.
        NotInstalled: Its package is not installed, or the networks' architecture is not.
        BundleError: A file is not the network that the manifest describes.
    """
    if backend not in BACKENDS:
        raise InputError(f"--backend {backend}: must be one of {', '.join(BACKENDS)}")
    try:
        module = importlib.import_module(f"study.export.backends.{backend}")
    except ImportError as error:
        extra = "predict" if backend == "onnx" else "torch"
        raise NotInstalled(
            str(error.name),
            f"--backend {backend} needs the package {error.name}, which is not installed; "
            f"pip install '.[{extra}]', or choose another --backend",
        ) from None
    networks: list[Network] = module.load(bundle)
    return networks


def does_not_fit(bundle: Bundle, name: str, error: Exception) -> BundleError:
    """A file that is not the network the manifest describes."""
    reason = " ".join(str(error).split())[:400]
    return BundleError(f"{bundle.uri}/{name}: does not fit the manifest's model: {reason}")
