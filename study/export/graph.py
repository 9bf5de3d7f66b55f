"""A network as one ONNX graph: physical units in, discharge out, the state handed on.

torch's exporters fix the number of days in silence, so the graph is written by hand around ONNX's
own LSTM operator: any number of basins, any number of days.

    forcing     float  (basin, day, input)   in the manifest's units and order
    attributes  double (basin, attribute)    likewise; absent without any. Where basins have a unit
                                             of discharge of their own, it is the last, in mm/d
    baseline    float  (basin, day)          mm/d; only where the network corrects a discharge
    h0, c0      float  (basin, hidden)       zeros to begin with
    qsim        float  (basin, day)          mm/d, never negative
    hn, cn      float  (basin, hidden)       to go on with

Attributes are doubles because they are standardised as doubles in training: some vary by a
hundredth of their mean only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from study.export.manifest import InputEntry, Manifest
from study.models import RunoffModel

OPSET = 17
IR_VERSION = 9
"""Old enough for every onnxruntime since 1.15, which has all that the graph uses."""


def build_graph(manifest: Manifest, model: RunoffModel) -> bytes | None:
    """The ONNX file of one member; None of an architecture that is no LSTM (`as_lstm`)."""
    layer = model.as_lstm()
    if layer is None:
        return None
    size = manifest.hidden_size
    graph = _Graph()
    forcing = _standardised(graph, "forcing", manifest.dynamic_inputs, np.float32)
    days_first = graph.add("Transpose", forcing, perm=[1, 0, 2])
    if manifest.static_inputs:
        static = _columns(graph, "attributes", 0, len(manifest.static_inputs))
        scaled = _standardised(graph, static, manifest.static_inputs, np.float64)
        repeated = _repeated(graph, graph.add("Cast", scaled, to=TensorProto.FLOAT), days_first)
        days_first = graph.add("Concat", days_first, repeated, axis=-1)
    states = [graph.add("Unsqueeze", name, graph.constant([0])) for name in ("h0", "c0")]
    hidden, h, c = graph.add_many(
        "LSTM",
        [
            days_first,
            graph.constant(_onnx_gates(layer.input_GX)[None]),
            graph.constant(_onnx_gates(layer.recurrent_GH)[None]),
            graph.constant(
                np.concatenate([_onnx_gates(layer.bias_G), np.zeros(4 * size, np.float32)])[None]
            ),
            "",
            *states,
        ],
        outputs=3,
        hidden_size=size,
    )
    by_day = graph.add("Squeeze", hidden, graph.constant([1]))
    head, head_bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    product = graph.add("MatMul", by_day, graph.constant(head.T))
    y = graph.add("Squeeze", product, graph.constant([2]))
    y = graph.add("Add", y, graph.constant(head_bias[0]))
    if manifest.output == "sinh":
        y = graph.add("Sinh", y)
    _discharge(graph, manifest, graph.add("Transpose", y, perm=[1, 0]))
    for state, name in ((h, "hn"), (c, "cn")):
        graph.add("Squeeze", state, graph.constant([0]), output=name)
    return _model(manifest, graph)


def _onnx_gates(values: Tensor) -> np.ndarray:
    """torch's order i, f, g, o as ONNX's i, o, f, g."""
    i, f, g, o = np.split(values.detach().numpy(), 4)
    return np.concatenate([i, o, f, g])


@dataclass
class _Graph:
    """Nodes and constants as they come."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, values: np.ndarray | Sequence[int] | np.floating) -> str:
        """A tensor kept in the graph; plain integers are shapes and axes."""
        array = np.asarray(values, np.int64) if isinstance(values, list) else np.asarray(values)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        name = output or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def add_many(
        self, kind: str, inputs: Sequence[str], *, outputs: int, **attributes: Any
    ) -> list[str]:
        """A node with several outputs."""
        names = [f"{kind}{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names


def _standardised(
    graph: _Graph, name: str, entries: Sequence[InputEntry], dtype: type[np.floating]
) -> str:
    means = np.array([e.mean for e in entries], dtype)
    stds = np.array([e.std for e in entries], dtype)
    centred = graph.add("Sub", name, graph.constant(means))
    return graph.add("Div", centred, graph.constant(stds))


def _columns(graph: _Graph, attributes: str, start: int, stop: int) -> str:
    first, last, axis = (graph.constant([value]) for value in (start, stop, 1))
    return graph.add("Slice", attributes, first, last, axis)


def _repeated(graph: _Graph, attributes: str, days_first: str) -> str:
    """Attributes beside each day's forcing: (day, basin, attribute)."""
    num_days = graph.add("Shape", days_first, start=0, end=1)
    shape = graph.add("Concat", num_days, graph.constant([1, 1]), axis=0)
    return graph.add("Expand", attributes, shape)


def _discharge(graph: _Graph, manifest: Manifest, y: str) -> None:
    """The network's output as `qsim`."""
    zero = graph.constant(np.float32(0))
    if manifest.discharge_scale == "basin":
        last = len(manifest.attributes)
        scale = _columns(graph, "attributes", last - 1, last)
        flow = graph.add("Mul", y, graph.add("Cast", scale, to=TensorProto.FLOAT))
        flow = flow if manifest.baseline is None else graph.add("Add", flow, "baseline")
        graph.add("Max", flow, zero, output="qsim")
        return
    mean, std = (graph.constant(np.float32(v)) for v in (manifest.target.mean, manifest.target.std))
    if manifest.baseline is not None:
        scaled = graph.add("Div", graph.add("Sub", "baseline", mean), std)
        y = graph.add("Add", y, scaled)
    flow = graph.add("Add", graph.add("Mul", y, std), mean)
    graph.add("Max", flow, zero, output="qsim")


def _model(manifest: Manifest, graph: _Graph) -> bytes:
    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    size, single = manifest.hidden_size, TensorProto.FLOAT
    inputs = [value("forcing", single, "basin", "day", len(manifest.dynamic_inputs))]
    if manifest.attributes:
        num_attributes = len(manifest.attributes)
        inputs.append(value("attributes", TensorProto.DOUBLE, "basin", num_attributes))
    if manifest.baseline is not None:
        inputs.append(value("baseline", single, "basin", "day"))
    inputs += [value(name, single, "basin", size) for name in ("h0", "c0")]
    outputs = [value("qsim", single, "basin", "day")]
    outputs += [value(name, single, "basin", size) for name in ("hn", "cn")]
    model = helper.make_model(
        helper.make_graph(graph.nodes, manifest.model, inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="study",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
