"""Arms: the combinations of factor levels that a study compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from study.data.features import Inputs, inputs_of, union
from study.spec import CANONICAL_FACTORS, StudySpec, TrainingSpec

SHORT_NAMES: Mapping[tuple[str, str], str] = {
    ("statics", "on"): "",
    ("statics", "off"): "nostatics",
    ("snow", "off"): "",
    ("snow", "simulated"): "simsnow",
    ("snow", "observed"): "snow",
    ("shyft", "off"): "",
    ("shyft", "input"): "shyft",
    ("shyft", "residual"): "residual",
    ("shyft", "both"): "shyft-residual",
}
"""What a level adds to an arm's name; levels of other factors add `factor.level`."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One combination of factor levels."""

    name: str
    """Unique in the study, made of letters, digits, `-` and `.`: `ealstm-snow`."""
    levels: Mapping[str, str]
    """Factor -> level."""
    inputs: Inputs
    repeat: int = 0
    """Number of the search: 0 is the study's own, others repeat it with other seeds."""

    @property
    def model(self) -> str:
        return self.levels["model"]

    def training(self, base: TrainingSpec, hyperparameters: Mapping[str, Any]) -> TrainingSpec:
        """The configuration of one of this arm's training jobs."""
        own = {f: level for f, level in self.levels.items() if f not in CANONICAL_FACTORS}
        return TrainingSpec.model_validate(base.model_dump() | own | dict(hyperparameters))


def expand(spec: StudySpec) -> tuple[Arm, ...]:
    """All arms of a study, in the order of its factors' levels; then their repeats."""
    return tuple(
        Arm(
            name=_name(spec, levels) + (f"~{repeat}" if repeat else ""),
            levels=levels,
            inputs=inputs_of(levels, spec.data),
            repeat=repeat,
        )
        for repeat in range(spec.search.repeats)
        for levels in spec.combinations()
    )


def compared(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """The arms that contrasts speak of: no repeats."""
    return tuple(arm for arm in arms if arm.repeat == 0)


def all_inputs(arms: tuple[Arm, ...]) -> Inputs:
    """What the arms see together; the common mask follows from it."""
    return union([arm.inputs for arm in arms])


def _name(spec: StudySpec, levels: Mapping[str, str]) -> str:
    parts = [levels["model"]]
    for factor, level in levels.items():
        if factor != "model":
            parts.append(SHORT_NAMES.get((factor, level), f"{factor}.{level}"))
    return "-".join(part for part in parts if part)
