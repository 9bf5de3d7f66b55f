"""onnxruntime on a bundle's ONNX graphs."""

from __future__ import annotations

import numpy as np
import onnxruntime

from study.errors import BundleError
from study.export.backends import Network, State, does_not_fit
from study.export.bundle import Bundle
from study.export.manifest import Manifest

EXTERNAL = b"\n\x08location"
"""How a graph that keeps a tensor in another file begins to say where. None of ours does; one that
does could make the reader open any file of the machine."""


class OnnxNetwork:
    concurrent = True  # one thread a call: onnxruntime's own pool spins more than it gains here

    def __init__(self, manifest: Manifest, content: bytes):
        if EXTERNAL in content:
            raise ValueError("the graph refers to other files")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self._check(manifest)

    def _check(self, manifest: Manifest) -> None:
        """Names, types and widths of all that goes in and comes out."""
        size, num_attributes = manifest.hidden_size, len(manifest.attributes)
        expected = {
            "forcing": ("tensor(float)", len(manifest.dynamic_inputs), 3),
            "attributes": ("tensor(double)", num_attributes, 2),
            "baseline": ("tensor(float)", "day", 2),
            "h0": ("tensor(float)", size, 2),
            "c0": ("tensor(float)", size, 2),
        }
        if not num_attributes:
            del expected["attributes"]
        if manifest.baseline is None:
            del expected["baseline"]
        found = {v.name: (v.type, v.shape[-1], len(v.shape)) for v in self._session.get_inputs()}
        if found != expected:
            raise ValueError(f"the graph takes {found}, the manifest's model {expected}")
        outputs = [v.name for v in self._session.get_outputs()]
        if outputs != ["qsim", "hn", "cn"]:
            raise ValueError(f"the graph gives {outputs}, a bundle's graph qsim, hn and cn")

    def advance(
        self,
        forcing: np.ndarray,
        attributes: np.ndarray,
        baseline: np.ndarray | None,
        state: State,
    ) -> tuple[np.ndarray, State]:
        feed = {"forcing": forcing, "h0": state[0], "c0": state[1]}
        if attributes.shape[1]:
            feed["attributes"] = attributes
        if baseline is not None:
            feed["baseline"] = baseline
        qsim, h, c = self._session.run(["qsim", "hn", "cn"], feed)
        return qsim, (h, c)


def load(bundle: Bundle) -> list[Network]:
    if not bundle.has_graphs:
        raise BundleError(
            f"{bundle.uri}: has no ONNX graphs (its model is {bundle.manifest.model}); use "
            "--backend torch"
        )
    networks: list[Network] = []
    for name in bundle.manifest.graph_files:
        try:
            networks.append(OnnxNetwork(bundle.manifest, bundle.files[name]))
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise does_not_fit(bundle, name, error) from None
    return networks
