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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from study.export.manifest import InputEntry, Manifest

OPSET = 17
IR_VERSION = 9
"""Old enough for every onnxruntime since 1.15, which has all that the graph uses."""


@dataclass(frozen=True, kw_only=True)
class LstmWeights:
    """A standard LSTM layer and its head, gates in torch's order i, f, g, o.

    `input` [4H, D + S], `recurrent` [4H, H], `bias` [4H] (both of torch's, added), `head` [H],
    `head_bias` a number.
    """

    input: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    head: np.ndarray
    head_bias: float


def lstm_weights(model: str, weights: Mapping[str, np.ndarray]) -> LstmWeights:
    """The standard LSTM that a network of this platform is.

    Args:
        model: `lstm` or `ealstm`.
        weights: By parameter name.

    Raises:
        ValueError: The architecture is not one of these.
    """
    head = {"head": weights["head.weight"][0], "head_bias": float(weights["head.bias"][0])}
    if model == "lstm":
        return LstmWeights(
            input=weights["lstm.weight_ih_l0"],
            recurrent=weights["lstm.weight_hh_l0"],
            bias=weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"],
            **head,
        )
    if model != "ealstm":
        raise ValueError(f"`model` must be lstm or ealstm, but got {model!r}")
    of_day, of_basin = weights["weight_x"], weights["weight_s"]
    size, num_dynamic = of_basin.shape[0], of_day.shape[1]
    input_part = np.zeros((4 * size, num_dynamic + of_basin.shape[1]), np.float32)
    input_part[:size, num_dynamic:] = of_basin
    input_part[size:, :num_dynamic] = of_day
    recurrent = np.zeros((4 * size, size), np.float32)
    recurrent[size:] = weights["weight_h"]
    bias = np.concatenate([weights["bias_s"], weights["bias"]])
    return LstmWeights(input=input_part, recurrent=recurrent, bias=bias, **head)


def build_graph(manifest: Manifest, weights: Mapping[str, np.ndarray]) -> bytes:
    """The ONNX file of one member."""
    layer = lstm_weights(manifest.model, weights)
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
            graph.constant(_onnx_gates(layer.input)[None]),
            graph.constant(_onnx_gates(layer.recurrent)[None]),
            graph.constant(
                np.concatenate([_onnx_gates(layer.bias), np.zeros(4 * size, np.float32)])[None]
            ),
            "",
            *states,
        ],
        outputs=3,
        hidden_size=size,
    )
    by_day = graph.add("Squeeze", hidden, graph.constant([1]))
    product = graph.add("MatMul", by_day, graph.constant(layer.head[:, None]))
    y = graph.add("Squeeze", product, graph.constant([2]))
    y = graph.add("Add", y, graph.constant(np.float32(layer.head_bias)))
    if manifest.output == "sinh":
        y = graph.add("Sinh", y)
    _discharge(graph, manifest, graph.add("Transpose", y, perm=[1, 0]))
    for state, name in ((h, "hn"), (c, "cn")):
        graph.add("Squeeze", state, graph.constant([0]), output=name)
    return _model(manifest, graph)


def _onnx_gates(values: np.ndarray) -> np.ndarray:
    """torch's order i, f, g, o as ONNX's i, o, f, g."""
    i, f, g, o = np.split(values, 4)
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
