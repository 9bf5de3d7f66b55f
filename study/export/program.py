"""A network as a `torch.export` program: any number of basins, a fixed number of days, the state
handed on.

The exporter fixes the number of days (it refuses a dynamic one), so a bundle has a program for one
day and one for a month of 32. Both take and give what the ONNX graph does (`study.export.graph`).

torch's reader of such files falls back to unpickling, and evaluates expressions that it finds in
them. What is written here holds neither pickles nor expressions, but a file of a stranger may:
`study.export.backends.exported` loads programs of signed bundles only.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from study import models
from study.export.manifest import Manifest
from study.models import RunoffModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MOST_BASINS = 1_000_000


def build_model(manifest: Manifest, weights: Mapping[str, Tensor]) -> RunoffModel:
    """The network that a manifest describes.

    Raises:
        RuntimeError: The weights are not those of such a network.
    """
    model = models.build(
        manifest.model,
        models.NetworkConfig(
            num_dynamic=len(manifest.dynamic_inputs),
            num_static=len(manifest.static_inputs),
            hidden_size=manifest.hidden_size,
            output=manifest.output,
            kernel="torch",  # the one that a program can be traced from
        ),
        generator=torch.Generator(),  # what it draws is replaced
    )
    model.load_state_dict(dict(weights))
    return model.eval().requires_grad_(False)


class Physical(nn.Module):
    """A network between physical units: what all backends agree with."""

    dynamic_mean: Tensor
    dynamic_std: Tensor
    static_mean: Tensor
    static_std: Tensor

    def __init__(self, manifest: Manifest, model: RunoffModel):
        super().__init__()
        self.model = model
        self.mean, self.std = manifest.target.mean, manifest.target.std
        self.own_scale = manifest.discharge_scale == "basin"
        for name, entries, dtype in (
            ("dynamic", manifest.dynamic_inputs, torch.float32),
            ("static", manifest.static_inputs, torch.float64),
        ):
            for kind in ("mean", "std"):
                values = torch.tensor([getattr(e, kind) for e in entries], dtype=dtype)
                self.register_buffer(f"{name}_{kind}", values)

    def forward(
        self, forcing: Tensor, attributes: Tensor, baseline: Tensor | None, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dynamic = (forcing - self.dynamic_mean) / self.dynamic_std
        static = attributes[:, : len(self.static_mean)]
        static = ((static - self.static_mean) / self.static_std).to(torch.float32)
        y, (h, c) = self.model(dynamic, static, state=(h, c))
        if self.own_scale:
            flow = y * attributes[:, -1:].to(torch.float32)
            flow = flow if baseline is None else flow + baseline
        else:
            y = y if baseline is None else y + (baseline - self.mean) / self.std
            flow = y * self.std + self.mean
        return flow.clamp(min=0), h, c


def build_programs(
    manifest: Manifest, members: Sequence[Mapping[str, Tensor]], *, days: int
) -> list[bytes]:
    """The programs of all members, for so many days at once.

    Tracing takes seconds. It is done once: members differ by their weights alone.

    Raises:
        RuntimeError: A member's weights are not those of such a network.
    """
    networks = [build_model(manifest, weights) for weights in members]
    program = _traced(manifest, build_model(manifest, members[0]), days)
    return [_filled(program, network) for network in networks]


def _traced(manifest: Manifest, model: RunoffModel, days: int) -> torch.export.ExportedProgram:
    """A program that computes with the model's own tensors."""
    two, size = 2, manifest.hidden_size  # a batch of one would be fixed, too
    forcing = torch.zeros(two, days, len(manifest.dynamic_inputs))
    attributes = torch.zeros(two, len(manifest.attributes), dtype=torch.float64)
    baseline = None if manifest.baseline is None else torch.zeros(two, days)
    h, c = torch.zeros(two, size), torch.zeros(two, size)  # one for both would be one input
    basins = {0: torch.export.Dim("basins", min=1, max=MOST_BASINS)}
    shapes = (basins, basins, None if baseline is None else basins, basins, basins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.export.export(
            Physical(manifest, model),
            (forcing, attributes, baseline, h, c),
            dynamic_shapes=shapes,
        )
    program._example_inputs = None  # they would be kept as a pickle
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # drop paths of the build machine
    return program


def _filled(program: torch.export.ExportedProgram, network: RunoffModel) -> bytes:
    for name, tensor in network.state_dict().items():
        program.state_dict[f"model.{name}"].copy_(tensor)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer)
    return buffer.getvalue()


def pickles_in(content: bytes) -> list[str]:
    """Members of a program's file that torch would unpickle."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = [
            m.filename
            for m in archive.infolist()
            if "/data/sample_inputs/" in m.filename and m.file_size
        ]
        for name in archive.namelist():
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"]
                found += [f"{name}: {e}" for e, facts in entries.items() if facts["use_pickle"]]
    return found
