"""`manifest.json`: what a bundle's model is, what it is fed with, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from study.data.features import INPUT_UNITS, Inputs
from study.data.scaling import Scaler, subset
from study.spec import Period

FORMAT = 2
SCALE = "discharge_scale"
"""Column of a bundle's attributes with each basin's unit of discharge (mm/d), if it has its own."""
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ATTRIBUTES = "attributes.csv"
EXAMPLE = "example.csv"
EXPECTED = "example-expected.csv"
CARD = "README.md"
FIGURE = "figure.png"

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a bundle's file may be called: no folder, nothing hidden, no way out."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ManifestModel(BaseModel):
    """A part of a manifest: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputEntry(ManifestModel):
    """One input, in the order the network takes it."""

    name: str = Field(min_length=1)
    units: str | None = None
    """None: as the attribute's source gives it."""
    source: str | None = None
    """Data product it was read from."""
    mean: Finite
    std: float = Field(gt=0, allow_inf_nan=False)
    """Of the training days (or basins): an input enters as `(value - mean) / std`."""
    low: Finite | None = None
    high: Finite | None = None
    """The extremes the network was trained on, where they are known."""


class Simulation(ManifestModel):
    """How the network is run over a series."""

    mode: Literal["continuous", "windows"]
    """One pass with the state carried from day to day; or every `targets_per_window` days anew
    from an empty state and their own warm-up, as models of the sequence-to-one kind are run."""
    warmup: int = Field(ge=0, le=100_000)
    """Days fed before the first day that is predicted."""
    targets_per_window: int = Field(1, ge=1)


class Licence(ManifestModel):
    """Terms and source of a data set that the model learned from."""

    data: str
    terms: str
    citation: str


class Manifest(ManifestModel):
    """All that is known of a bundle, its files' checksums among it."""

    format: Literal[2]
    name: str
    """Study and arm, or the run that the model was imported from."""
    study: str | None
    arm: str | None
    factors: dict[str, str]
    model: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")
    """Name of the architecture; torch predicts with those that are installed."""
    hidden_size: int = Field(ge=1, le=65_536)
    output: Literal["linear", "sinh"] = "linear"
    """What turns the head's value into discharge."""
    discharge_scale: Literal["common", "basin"] = "common"
    """Unit of the networks' output: `target`'s standard deviation about its mean, or each basin's
    own above zero flow."""
    members: int = Field(ge=1, le=1000)
    """Networks of the ensemble, one for each confirmation seed."""
    simulation: Simulation
    training: dict[str, Any]
    """The whole configuration of training, for the record."""
    dynamic_inputs: tuple[InputEntry, ...] = Field(min_length=1)
    static_inputs: tuple[InputEntry, ...]
    attributes_source: Literal["published", "recomputed"]
    """`recomputed` from training days: then new basins cannot be predicted."""
    baseline: InputEntry | None = None
    """Simulated discharge that the networks' output is added to; scaled as the target is."""
    target: InputEntry
    periods: dict[str, str]
    """Name -> `first day:last day` of the days it was trained, selected and tested on."""
    basins: tuple[str, ...]
    """Basins of the study."""
    held_out: tuple[str, ...] = ()
    """Those of them that nothing was learned from."""
    metrics: dict[str, Any]
    """Period -> metric -> value, with `_low` and `_high` of its 95 % interval."""
    licences: tuple[Licence, ...]
    digests: dict[str, str]
    """Data group -> digest of the store that the model was trained on."""
    provenance: dict[str, Any]
    checksums: dict[str, Sha256]
    """File -> SHA-256 of every file of the bundle but this one and its signature."""

    @model_validator(mode="after")
    def _possible(self) -> Manifest:
        if self.model == "ealstm" and not self.static_inputs:
            raise ValueError("an ealstm has static inputs, but `static_inputs` is empty")
        for entries in (self.dynamic_inputs, self.static_inputs):
            names = [e.name for e in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"an input is listed twice: {', '.join(sorted(names))}")
        for name in self.checksums:
            if not FILE_NAME.fullmatch(name):
                raise ValueError(f"`checksums` names {name!r}, which is no plain file name")
        for text in self.periods.values():
            Period.model_validate(text)
        return self

    @property
    def inputs(self) -> Inputs:
        return Inputs(
            dynamic=tuple(i.name for i in self.dynamic_inputs),
            static=tuple(i.name for i in self.static_inputs),
            baseline=None if self.baseline is None else self.baseline.name,
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """What is told of a basin once: static inputs, and last its unit of discharge."""
        return (*self.inputs.static, *([SCALE] if self.discharge_scale == "basin" else []))

    @property
    def bound_to_basins(self) -> str | None:
        """Why it cannot predict basins that it was not trained on; None if it can."""
        if self.static_inputs and self.attributes_source == "recomputed":
            return "whose climate attributes were recomputed from its own training days"
        if self.discharge_scale == "basin":
            return "whose unit of discharge is each basin's own spread on its training days"
        return None

    @property
    def daily(self) -> dict[str, InputEntry]:
        """Every daily series that a prediction needs."""
        baseline = [] if self.baseline is None else [self.baseline]
        return {entry.name: entry for entry in (*baseline, *self.dynamic_inputs)}

    @property
    def scaler(self) -> Scaler:
        entries = (*self.dynamic_inputs, *self.static_inputs)
        return Scaler(
            means={i.name: i.mean for i in entries},
            stds={i.name: i.std for i in entries},
            qobs_mean=self.target.mean,
            qobs_std=self.target.std,
        )

    @property
    def weights_files(self) -> tuple[str, ...]:
        return tuple(f"weights-{i:03d}.safetensors" for i in range(self.members))

    @property
    def graph_files(self) -> tuple[str, ...]:
        return tuple(f"graph-{i:03d}.onnx" for i in range(self.members))

    @property
    def program_files(self) -> tuple[dict[int, str], ...]:
        """For each member: days that a program takes at once -> its file."""
        names = {1: "day", 32: "month"}
        return tuple(
            {days: f"program-{i:03d}-{name}.pt2" for days, name in names.items()}
            for i in range(self.members)
        )


def input_entries(
    names: Sequence[str],
    scaler: Scaler,
    *,
    sources: dict[str, str],
    ranges: dict[str, tuple[float, float]],
    units: dict[str, str],
) -> tuple[InputEntry, ...]:
    """Inputs with their units, sources, scaling and extremes."""
    part = subset(scaler, names)
    return tuple(
        InputEntry(
            name=n,
            units=units.get(n, INPUT_UNITS.get(n)),
            source=sources.get(n),
            mean=part.means[n],
            std=part.stds[n],
            low=ranges[n][0] if n in ranges else None,
            high=ranges[n][1] if n in ranges else None,
        )
        for n in names
    )
