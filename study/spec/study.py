"""A whole study: its arms, contrasts, budget and evidence."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from study.spec.base import SpecModel, nearest, shown
from study.spec.data import DataSpec
from study.spec.messages import sentence
from study.spec.training import (
    PROTOCOL_FIELDS,
    Choice,
    Conditional,
    ConfirmationSpec,
    RangeSpec,
    ResourcesSpec,
    SearchSpec,
    TrainingSpec,
)

CANONICAL_FACTORS: Mapping[str, tuple[str, ...]] = {
    "model": ("lstm", "ealstm"),
    "statics": ("on", "off"),
    "snow": ("off", "simulated", "observed"),
    "shyft": ("off", "input", "residual", "both"),
}
"""Factors that say what a model is and what it sees; the first level is the one taken when a
spec does not name the factor. Any other factor is a field of `TrainingSpec`."""

DECIDING_RESOURCES = ("gpus", "threads", "kernel", "trial_seconds", "memory_gb")
"""Resources that results depend on."""

SPLIT_ATTRIBUTES = ("frac_snow", "aridity")
"""Attributes that basins may be told apart by though no model sees them."""

MOST_ARMS = 1000
"""More combinations of levels than this are a slip, not a study."""


def _on_off(value: Any) -> Any:
    """YAML reads a bare `on` and `off` as booleans; levels are strings."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return [_on_off(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _on_off(v) for k, v in value.items()}
    return value


Levels = Annotated[tuple[str, ...], Field(min_length=1)]
Factors = Annotated[dict[str, str], BeforeValidator(_on_off)]


def _side(value: Any) -> Any:
    if value is None:
        return None
    value = _on_off(value)
    levels = list(value.values()) if isinstance(value, dict) else [value]
    if not all(isinstance(level, str) for level in levels):
        raise ValueError(f"must be a level, or an arm's factors, but is {shown(value)}")
    return value


Side = Annotated[str | dict[str, str] | None, BeforeValidator(_side)]


class ContrastSpec(SpecModel):
    """One declared comparison, or a family of them. `factor` from level `b` to level `a`, in every
    arm that has both; or two arms named by their factors; or an arm and all that differ from it in
    one factor."""

    factor: str | None = None
    a: Side = None
    b: Side = None
    leave_one_out: Factors | None = None
    """The whole, by its factors: what it has over every arm that differs in one of them."""
    add_one_in: Factors | None = None
    """The base, by its factors: what every arm that differs in one of them has over it."""

    @model_validator(mode="after")
    def _one_form(self) -> ContrastSpec:
        forms = {("factor", "a", "b"): str, ("a", "b"): dict,
                 ("leave_one_out",): dict, ("add_one_in",): dict}  # fmt: skip
        given = self.model_dump(exclude_none=True)
        kind = forms.get(tuple(given))
        sides = [value for key, value in given.items() if key != "factor"]
        if kind is None or not all(isinstance(side, kind) for side in sides):
            raise ValueError(
                "write `{factor: snow, a: observed, b: off}`, or two arms by their factors: "
                "`{a: {model: lstm, snow: observed}, b: {model: ealstm, snow: observed}}`, or "
                "`{leave_one_out: {model: lstm, snow: observed}}`, or `{add_one_in: {model: lstm}}`"
            )
        return self

    @property
    def centre(self) -> dict[str, str] | None:
        """The arm of which one factor at a time is changed, if the contrast is such a family."""
        return self.add_one_in if self.leave_one_out is None else self.leave_one_out

    @property
    def arms(self) -> list[dict[str, str]]:
        """The arms that are named by their factors."""
        named = (self.a, self.b, self.leave_one_out, self.add_one_in)
        return [side for side in named if isinstance(side, dict)]

    def written(self) -> str:
        """As in the file."""
        content = self.model_dump(exclude_none=True)
        return ", ".join(f"{key}: {value}" for key, value in content.items())


class SplitSpec(SpecModel):
    """Two parts of the basins; every contrast is told for each of them, too."""

    attribute: str = "frac_snow"
    """One of `data.attributes`, or `frac_snow` or `aridity`; as published, whatever
    `data.attributes_source` says."""
    at: float
    """Where the two parts meet: basins with this value are in the upper one."""

    @property
    def names(self) -> tuple[str, str]:
        """Of the parts, as tables and figures have them."""
        return f"{self.attribute} < {self.at:g}", f"{self.attribute} ≥ {self.at:g}"


class EvidenceSpec(SpecModel):
    equivalence: float = Field(0.01, ge=0)
    """Differences of NSE within ± this are of no practical importance."""
    repetitions: int = Field(2000, ge=200)
    """Bootstrap repetitions."""
    split: SplitSpec | None = None
    """In which basins a difference is: `{attribute: frac_snow, at: 0.3}`; none if left out."""


class StudySpec(SpecModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    question: str = ""
    data: DataSpec
    factors: Annotated[dict[str, Levels], BeforeValidator(_on_off)] = Field({})
    exclude: tuple[Factors, ...] = ()
    """Combinations that make no sense, each by the levels that define it."""
    training: TrainingSpec = TrainingSpec()
    search: SearchSpec = SearchSpec()
    confirmation: ConfirmationSpec = ConfirmationSpec()
    contrasts: tuple[ContrastSpec, ...] = ()
    evidence: EvidenceSpec = EvidenceSpec()
    resources: ResourcesSpec = ResourcesSpec()

    @field_validator("factors")
    @classmethod
    def _known(cls, factors: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for factor, levels in factors.items():
            if len(set(levels)) != len(levels):
                raise ValueError(f"factor `{factor}` names a level twice: {', '.join(levels)}")
            if factor in CANONICAL_FACTORS:
                known = CANONICAL_FACTORS[factor]
                for level in levels:
                    if level not in known:
                        raise ValueError(
                            f"factor `{factor}` has no level `{level}`{nearest(level, known)}; "
                            f"its levels are {', '.join(known)}"
                        )
        return {**{f: known[:1] for f, known in CANONICAL_FACTORS.items()}, **factors}

    @model_validator(mode="after")
    def _levels_fit(self) -> StudySpec:
        for factor, levels in self.factors.items():
            for level in levels if factor not in CANONICAL_FACTORS else ():
                _check_field(factor, level, "factor", self.training.warmup)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> StudySpec:
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            raise ValueError(
                f"search.rungs must lie below training.epochs ({self.training.epochs}), "
                f"but got {list(self.search.rungs)}"
            )
        for name, choice in self.search.space.items():
            if name in self.factors:
                raise ValueError(f"`{name}` is a factor and in search.space; it can be one only")
            for end in _ends(choice):
                _check_field(name, end, "search.space", self.training.warmup)
            if not isinstance(choice, tuple) and choice.when:
                self._check_condition(name, choice)
        for where, rules in (("exclude", self.exclude), ("contrasts", self._named_arms())):
            for rule in rules:
                self._check_levels(where, rule)
        self._check_arms()
        self._check_split()
        self._check_scale()
        self._check_warmups()
        return self

    def _check_condition(self, name: str, choice: Conditional) -> None:
        where = f"search.space.{name}.when"
        for factor, levels in choice.when.items():
            for level in levels:
                self._check_levels(where, {factor: level})
        if not any(choice.exists_for(arm) for arm in self.combinations()):
            raise ValueError(f"{where} is true of no arm; correct it, or remove `{name}`")

    def combinations(self) -> list[dict[str, str]]:
        """Factor -> level of every arm, in the order of the factors' levels."""
        products = itertools.product(*self.factors.values())
        every = [dict(zip(self.factors, levels, strict=True)) for levels in products]
        return [c for c in every if not any(rule.items() <= c.items() for rule in self.exclude)]

    def _check_arms(self) -> None:
        """Every arm makes sense, and every contrast has its arms."""
        most = math.prod(map(len, self.factors.values()))
        if most > MOST_ARMS:
            raise ValueError(f"factors make {most} arms; name fewer levels, {MOST_ARMS} are enough")
        arms = self.combinations()
        if not arms:
            raise ValueError("exclude leaves no arm; remove one of its rules")
        for arm in arms:
            if arm["model"] == "ealstm" and (arm["statics"] == "off" or not self.data.attributes):
                raise ValueError(
                    "an ealstm takes its input gate from static attributes and cannot do without; "
                    "add `exclude: [{model: ealstm, statics: off}]`, and name data.attributes"
                )
        for contrast in self.contrasts:
            if not self._has_arms(contrast, arms):
                raise ValueError(
                    f"contrasts: no arms to compare in `{contrast.written()}`; exclude has removed "
                    "them, or both sides are the same: correct the contrast, or remove it"
                )

    def _check_split(self) -> None:
        split, known = self.evidence.split, {*SPLIT_ATTRIBUTES, *self.data.attributes}
        if split is not None and split.attribute not in known:
            raise ValueError(
                f"evidence.split names the attribute `{split.attribute}`"
                f"{nearest(split.attribute, sorted(known))}; it must be one of data.attributes, "
                f"or {' or '.join(SPLIT_ATTRIBUTES)}"
            )

    def _check_scale(self) -> None:
        if "basin" in self._values("discharge_scale") and self.data.held_out:
            raise ValueError(
                "discharge_scale: basin takes the spread of each basin's training discharge, and "
                "those of data.held_out have none; set discharge_scale: common"
            )

    def _check_warmups(self) -> None:
        gradients = [int(days) for days in self._values("gradient_warmup") if days is not None]
        windows = [
            self.training.warmup if days is None else int(days)
            for days in self._values("window_warmup")
        ]
        if gradients and max(gradients) > min(windows):
            raise ValueError(
                f"gradient_warmup may be {max(gradients)} where window_warmup is {min(windows)}; "
                f"every gradient_warmup must be at most the least window_warmup"
            )

    def _values(self, name: str) -> set[Any]:
        """What a field of `training` may be in some job."""
        if name in self.factors:
            return set(self.factors[name])
        found = {getattr(self.training, name)}
        return found | set(_ends(self.search.space[name]) if name in self.search.space else ())

    def _has_arms(self, contrast: ContrastSpec, arms: list[dict[str, str]]) -> bool:
        a, b = contrast.a, contrast.b
        first = {f: levels[0] for f, levels in self.factors.items()}
        named = [first | side for side in contrast.arms]
        if contrast.centre is not None:
            return named[0] in arms and any(differing(named[0], arm) == 1 for arm in arms)
        if named:
            return all(arm in arms for arm in named) and named[0] != named[1]
        factor = str(contrast.factor)
        return a != b and any(arm[factor] == a and {**arm, factor: b} in arms for arm in arms)

    def _named_arms(self) -> list[dict[str, str]]:
        """The factors and levels that the contrasts speak of."""
        return [
            rule
            for contrast in self.contrasts
            for rule in contrast.arms
            or [{str(contrast.factor): str(side)} for side in (contrast.a, contrast.b)]
        ]

    def _check_levels(self, where: str, rule: Mapping[str, str]) -> None:
        for factor, level in rule.items():
            if factor not in self.factors:
                raise ValueError(
                    f"{where} names the factor `{factor}`{nearest(factor, self.factors)}; "
                    f"this study's factors are {', '.join(self.factors)}"
                )
            if level not in self.factors[factor]:
                raise ValueError(
                    f"{where} names level `{level}` of `{factor}`; "
                    f"this study's levels are {', '.join(self.factors[factor])}"
                )

    def trials_per_arm(self) -> int:
        return self.search.cohorts * self.search.cohort_size

    def fixed(self) -> dict[str, Any]:
        """What must stay the same when a study goes on: all but what may grow, or is no matter."""
        content = self.model_dump(mode="json")
        del content["question"]
        content["resources"] = {key: content["resources"][key] for key in DECIDING_RESOURCES}
        del content["data"]["store"], content["search"]["cohorts"], content["confirmation"]["seeds"]
        content["evidence"].pop("split", None)  # until the test is read, see `engine`
        return content

    def digest(self) -> str:
        text = json.dumps(self.fixed(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def differing(levels: Mapping[str, str], others: Mapping[str, str]) -> int:
    """In how many factors two arms differ."""
    return sum(levels[factor] != others[factor] for factor in levels)


def _ends(choice: Choice) -> tuple[Any, ...]:
    """All choices, or both ends of a range."""
    if isinstance(choice, RangeSpec):
        return choice.low, choice.high
    return choice if isinstance(choice, tuple) else choice.choices


def _check_field(name: str, value: Any, where: str, warmup: int) -> None:
    """A factor or search range must be a training field and its value one the field takes."""
    fields = [f for f in TrainingSpec.model_fields if f not in PROTOCOL_FIELDS]
    if name in PROTOCOL_FIELDS:
        raise ValueError(f"`{name}` is part of the protocol; set it under `training`, not {where}")
    if name not in fields:
        known = [*fields, *CANONICAL_FACTORS] if where == "factor" else fields
        raise ValueError(f"{where} names `{name}`{nearest(name, known)}, which nothing reads")
    try:
        TrainingSpec.model_validate({"warmup": warmup, name: value})
    except ValidationError as error:
        reason = sentence(error.errors()[0])
        raise ValueError(f"{where}: `{name}` cannot be {shown(value)}: it {reason}") from None
