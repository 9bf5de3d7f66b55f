"""Arms: the combinations of factor levels that a study compares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.data.features import Inputs, inputs_of, union
from study.errors import SpecError
from study.spec import OwnLevels, StudySpec, TrainingSpec, find_level


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One combination of factor levels."""

    name: str
    """Unique in the study, made of letters, digits, `-` and `.`: `ealstm-snow`."""
    levels: Mapping[str, str]
    """Factor -> level."""
    inputs: Inputs
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `training` that its levels set, and their values."""
    repeat: int = 0
    """Number of the search: 0 is the study's own, others repeat it with other seeds."""

    @property
    def model(self) -> str:
        return self.levels["model"]

    def training(self, base: TrainingSpec, hyperparameters: Mapping[str, Any]) -> TrainingSpec:
        """The configuration of one of this arm's training jobs."""
        content = base.model_dump() | dict(self.settings) | dict(hyperparameters)
        return TrainingSpec.model_validate(content)


def expand(spec: StudySpec, own: OwnLevels | None = None) -> tuple[Arm, ...]:
    """All arms of a study, in the order of its factors' levels; then their repeats.

    Args:
        spec: The study.
        own: What levels of one's own change, by names that the store has (`study.data.levels`); as
            the spec has them if None, which is enough for names of arms.

    Raises:
        SpecError: Two arms have one name.
    """
    own = spec.levels if own is None else own
    arms = tuple(
        Arm(
            name=_name(spec, levels) + (f"~{repeat}" if repeat else ""),
            levels=levels,
            inputs=inputs_of(levels, spec.data, own),
            settings={k: v for f, n in levels.items()
                      for k, v in find_level(f, n, own).training.items()},
            repeat=repeat,
        )
        for repeat in range(spec.search.repeats)
        for levels in spec.combinations()
    )  # fmt: skip
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"two arms have the name {name}; give their levels other labels")
    return arms


def compared(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """The arms that contrasts speak of: no repeats."""
    return tuple(arm for arm in arms if arm.repeat == 0)


def all_inputs(arms: tuple[Arm, ...]) -> Inputs:
    """What the arms see together; the common mask follows from it."""
    return union([arm.inputs for arm in arms])


def _name(spec: StudySpec, levels: Mapping[str, str]) -> str:
    return "-".join(part for factor, name in levels.items() if (part := _part(spec, factor, name)))


def _part(spec: StudySpec, factor: str, name: str) -> str:
    """What a level adds to an arm's name: nothing, if it is a base that changes nothing."""
    level = spec.level(factor, name)
    if level.label is not None:
        return level.label
    base = factor in spec.levels and name == spec.factors[factor][0] and not level.model_dump()
    return "" if base else f"{factor}.{name}"
