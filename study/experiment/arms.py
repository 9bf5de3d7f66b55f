"""Arms: the combinations of factor levels that a study compares, and its declared contrasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from study.data.arrays import union
from study.data.features import Inputs, inputs_of
from study.errors import SpecError
from study.spec import CANONICAL_FACTORS, ContrastSpec, StudySpec, TrainingSpec

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


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A declared comparison: arm `a` minus arm `b`."""

    name: str
    a: str
    b: str


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


def declared_contrasts(spec: StudySpec, arms: tuple[Arm, ...]) -> tuple[Contrast, ...]:
    """The contrasts a spec declares, each between two arms; a spec that declares none compares
    every factor's levels with its first.

    Raises:
        SpecError: A contrast names no arm.
    """
    arms = compared(arms)
    found: dict[tuple[str, str], Contrast] = {}
    for declared in spec.contrasts or _default_contrasts(spec, arms):
        if isinstance(declared.a, dict) and isinstance(declared.b, dict):
            a, b = _arm_with(arms, spec, declared.a), _arm_with(arms, spec, declared.b)
            pairs = [Contrast(name=f"{a.name} - {b.name}", a=a.name, b=b.name)]
        else:
            pairs = _pairs(arms, spec, str(declared.factor), str(declared.a), str(declared.b))
        for pair in pairs:
            found.setdefault((pair.a, pair.b), pair)
    return tuple(found.values())


def _default_contrasts(spec: StudySpec, arms: tuple[Arm, ...]) -> list[ContrastSpec]:
    return [
        ContrastSpec(factor=factor, a=level, b=levels[0])
        for factor, levels in spec.factors.items()
        for level in levels[1:]
        if any(arm.levels[factor] == level for arm in arms)
    ]


def _pairs(arms: tuple[Arm, ...], spec: StudySpec, factor: str, a: str, b: str) -> list[Contrast]:
    """Every two arms that differ in this factor alone."""
    by_levels = {tuple(arm.levels.items()): arm for arm in arms}
    pairs = []
    for arm in arms:
        if arm.levels[factor] != a:
            continue
        other = by_levels.get(tuple({**arm.levels, factor: b}.items()))
        if other is not None:
            same = [
                level if f == "model" else f"{f} {level}"
                for f, level in arm.levels.items()
                if f != factor and len(spec.factors[f]) > 1
            ]
            name = f"{factor}: {a} - {b}" + (f" ({', '.join(same)})" if same else "")
            pairs.append(Contrast(name=name, a=arm.name, b=other.name))
    if not pairs:
        raise SpecError(f"the contrast of `{factor}` {a} - {b} has no pair of arms left to compare")
    return pairs


def _arm_with(arms: tuple[Arm, ...], spec: StudySpec, wanted: Mapping[str, str]) -> Arm:
    """The arm with these levels; a factor left out stands at its first level."""
    levels = {f: wanted.get(f, spec.factors[f][0]) for f in spec.factors}
    for arm in arms:
        if arm.levels == levels:
            return arm
    described = ", ".join(f"{f}: {level}" for f, level in levels.items())
    raise SpecError(f"a contrast names the arm {{{described}}}, which the study does not have")


def _name(spec: StudySpec, levels: Mapping[str, str]) -> str:
    parts = [levels["model"]]
    for factor, level in levels.items():
        if factor != "model":
            parts.append(SHORT_NAMES.get((factor, level), f"{factor}.{level}"))
    return "-".join(part for part in parts if part)
