"""A bundle's `torch.export` programs. Loading one can run code: signed bundles only."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np
import torch

from study.errors import BundleError
from study.export.backends import Network, State, does_not_fit
from study.export.backends.torch import TorchNetwork
from study.export.bundle import Bundle
from study.export.program import pickles_in


class ExportedNetwork:
    concurrent = False

    def __init__(self, programs: Mapping[int, torch.nn.Module]):
        self._programs = {days: TorchNetwork(program) for days, program in programs.items()}

    def advance(
        self,
        forcing: np.ndarray,
        attributes: np.ndarray,
        baseline: np.ndarray | None,
        state: State,
    ) -> tuple[np.ndarray, State]:
        pieces, done, num_days = [], 0, forcing.shape[1]
        while done < num_days:
            days = max(d for d in self._programs if d <= num_days - done)
            span = slice(done, done + days)
            qsim, state = self._programs[days].advance(
                forcing[:, span],
                attributes,
                None if baseline is None else baseline[:, span],
                state,
            )
            pieces.append(qsim)
            done += days
        return np.concatenate(pieces, axis=1), state


def load(bundle: Bundle) -> list[Network]:
    if not bundle.signed:
        raise BundleError(
            f"{bundle.uri}: loading a torch.export program can run code, so the bundle must be "
            "signed by somebody you trust; give --key with their public key, or use another "
            "--backend"
        )
    networks: list[Network] = []
    for files in bundle.manifest.program_files:
        programs = {}
        for days, name in files.items():
            if name not in bundle.files:
                raise BundleError(
                    f"{bundle.uri}: has no torch.export programs; use another --backend"
                )
            try:
                programs[days] = _program(bundle.files[name])
            except Exception as error:  # whatever torch makes of a file that is no program
                raise does_not_fit(bundle, name, error) from None
        networks.append(ExportedNetwork(programs))
    return networks


def _program(content: bytes) -> torch.nn.Module:
    pickles = pickles_in(content)
    if pickles:
        raise ValueError(f"the program holds a pickle ({pickles[0]})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reader about itself
        module: torch.nn.Module = torch.export.load(io.BytesIO(content)).module()
    return module
