"""This platform's own models on a bundle's weights."""

from __future__ import annotations

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from study.export.backends import Network, NotInstalled, State, does_not_fit
from study.export.bundle import Bundle
from study.export.program import Physical, build_model
from study.models import known


class TorchNetwork:
    concurrent = False  # torch's own threads are as many as the machine has cores

    def __init__(self, physical: torch.nn.Module):
        self._physical = physical

    @torch.no_grad()
    def advance(
        self,
        forcing: np.ndarray,
        attributes: np.ndarray,
        baseline: np.ndarray | None,
        state: State,
    ) -> tuple[np.ndarray, State]:
        qsim, h, c = self._physical(
            torch.from_numpy(np.ascontiguousarray(forcing)),
            torch.from_numpy(attributes),
            None if baseline is None else torch.from_numpy(np.ascontiguousarray(baseline)),
            torch.from_numpy(state[0]),
            torch.from_numpy(state[1]),
        )
        return np.asarray(qsim.numpy()), (h.numpy(), c.numpy())


def load(bundle: Bundle) -> list[Network]:
    architecture = bundle.manifest.model
    if architecture not in known():
        what = f"the architecture {architecture}"
        raise NotInstalled(
            what,
            f"{bundle.uri}: its networks are of {what}, which is not installed (there are "
            f"{', '.join(known())}); install the package that defines it",
        )
    networks: list[Network] = []
    for name in bundle.manifest.weights_files:
        try:
            model = build_model(bundle.manifest, load_tensors(bundle.files[name]))
        except (ValueError, RuntimeError, SafetensorError) as error:
            raise does_not_fit(bundle, name, error) from None
        networks.append(TorchNetwork(Physical(bundle.manifest, model)))
    return networks
