"""A whole study: its arms, contrasts, budget and evidence."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from study.spec.base import SpecModel, nearest, shown
from study.spec.data import DataSpec
from study.spec.evidence import SPLIT_ATTRIBUTES, ContrastSpec, EvidenceSpec, differing
from study.spec.factors import (
    ATTRIBUTES,
    BUILT_IN,
    CANONICAL_FACTORS,
    Factors,
    Levels,
    LevelSpec,
    check_names,
    check_requires,
    feed,
    find_level,
    on_off,
    split_factors,
)
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

DECIDING_RESOURCES = ("gpus", "threads", "kernel", "trial_seconds", "memory_gb")
"""Resources that results depend on."""

MOST_ARMS = 1000
"""More combinations of levels than this are a slip, not a study."""


class StudySpec(SpecModel):
    """A study file that was read and makes sense."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    """Of the study, its folder among the results and its MLflow experiment."""
    question: str = ""
    """What the study is to answer, in a sentence; the report begins with it."""
    data: DataSpec
    """Store, basins, inputs and periods."""
    factors: Annotated[dict[str, Levels], BeforeValidator(on_off)] = Field({})
    """What arms differ in: a factor and its levels, each a name, a value of a setting of
    `training`, or a level of one's own and what it changes. The first level is the base."""
    levels: dict[str, dict[str, LevelSpec]] = Field({})
    """What levels of one's own change, as `factors` has it; written there, not here."""
    exclude: tuple[Factors, ...] = ()
    """Combinations that make no sense, each by the levels that define it."""
    training: TrainingSpec = TrainingSpec()
    """One training job, in what the search and the factors do not vary."""
    search: SearchSpec = SearchSpec()
    """How each arm's hyperparameters are found."""
    confirmation: ConfirmationSpec = ConfirmationSpec()
    """How an arm's best trials are trained again, with seeds that chose nothing."""
    contrasts: tuple[ContrastSpec, ...] = ()
    """Comparisons, declared before the first trial; of every factor's levels with its first, if
    none is named."""
    evidence: EvidenceSpec = EvidenceSpec()
    """What counts as a difference, and in which parts of the basins it is told."""
    resources: ResourcesSpec = ResourcesSpec()
    """What one trial reserves of a host, and what it may use."""

    @model_validator(mode="before")
    @classmethod
    def _own_levels(cls, content: Any) -> Any:
        """Take apart what a file writes as one."""
        if not isinstance(content, Mapping):
            return content
        factors, known = content.get("factors"), content.get("levels", {})
        if not isinstance(factors, Mapping) or not isinstance(known, Mapping):
            return content
        names, levels = split_factors(factors)
        return {**content, "factors": names, "levels": {**known, **levels}}

    @model_validator(mode="before")
    @classmethod
    def _all_factors(cls, content: Any) -> Any:
        """A factor that is not named stands at its first level."""
        if not isinstance(content, Mapping):
            return content
        factors = content.get("factors", {})
        if not isinstance(factors, Mapping):
            return content
        first = {f: known[:1] for f, known in CANONICAL_FACTORS.items()}
        return {**content, "factors": {**first, **factors}}

    @model_serializer(mode="wrap")
    def _without_empty_levels(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A study without levels of its own reads as those of version 0.1.0."""
        content: dict[str, Any] = handler(self)
        if not self.levels:
            del content["levels"]
        return content

    @model_validator(mode="after")
    def _levels_fit(self) -> StudySpec:
        for factor, named in self.levels.items():
            unknown = set(named) - set(self.factors.get(factor, ()))
            if unknown:
                raise ValueError(
                    f"levels of `{factor}` say what `{min(unknown)}` changes, which is no level of "
                    "`factors`; write levels within `factors`, not here"
                )
        for factor, levels in self.factors.items():
            if len(set(levels)) != len(levels):
                raise ValueError(f"factor `{factor}` names a level twice: {', '.join(levels)}")
            if factor not in BUILT_IN and factor not in self.levels:
                for level in levels:
                    _check_field(factor, level, "factor", self.training.warmup)
                continue
            if factor in TrainingSpec.model_fields:
                raise ValueError(
                    f"factor `{factor}` is a setting of `training`: list its values, "
                    "`factor: [a, b]`"
                )
            check_names(factor, levels, self.levels.get(factor, {}))
            for level in levels:
                for name, value in self.level(factor, level).training.items():
                    _check_field(name, value, f"factors.{factor}.{level}", self.training.warmup)
        check_requires({(f, n): self.level(f, n) for f, ns in self.factors.items() for n in ns})
        return self

    def level(self, factor: str, name: str) -> LevelSpec:
        """What a level changes."""
        return find_level(factor, name, self.levels)

    def changes(self, arm: Mapping[str, str]) -> list[LevelSpec]:
        """What the levels of an arm change, in the order of the factors."""
        return [self.level(factor, name) for factor, name in arm.items()]

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
            self._check_arm(arm)
        for contrast in self.contrasts:
            if not self._has_arms(contrast, arms):
                raise ValueError(
                    f"contrasts: no arms to compare in `{contrast.written()}`; exclude has removed "
                    "them, or both sides are the same: correct the contrast, or remove it"
                )

    def _check_arm(self, arm: dict[str, str]) -> None:
        """It has what its levels require, and no setting twice."""
        levels = {(f, n): self.level(f, n) for f, n in arm.items()}
        _, static, _ = feed(levels.values(), self.data.forcing, self.data.attributes)
        there = {f"{f}.{n}" for f, n in arm.items()} | ({ATTRIBUTES} if static else set())
        for (factor, name), level in levels.items():
            for missing in [c for c in level.requires if c not in there]:
                if missing == ATTRIBUTES:
                    rule = f"exclude: [{{{factor}: {name}, statics: off}}]"
                    cure = f"add `{rule}`, or the like, and name data.attributes"
                else:
                    other = missing.partition(".")[0]
                    rule = f"exclude: [{{{factor}: {name}, {other}: {arm[other]}}}]"
                    cure = f"add `{rule}`"
                raise ValueError(
                    f"level `{name}` of `{factor}` requires "
                    f"{'static attributes' if missing == ATTRIBUTES else missing}, which an arm "
                    f"lacks ({', '.join(f'{f} {n}' for f, n in arm.items())}); {cure}"
                )
        told: dict[str, str] = {}
        for (factor, _), level in levels.items():
            for field in level.training:
                if field in told:
                    raise ValueError(
                        f"factors `{told[field]}` and `{factor}` both set `{field}` in one arm; "
                        "let one of them"
                    )
                told[field] = factor
        for field, choice in self.search.space.items():
            if field in told and (isinstance(choice, tuple) or choice.exists_for(arm)):
                raise ValueError(
                    f"`{field}` is set by the factor `{told[field]}` and searched; take it out of "
                    f"search.space, or search it elsewhere only: `when: {{{told[field]}: [...]}}`"
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
        levels = [self.level(f, n) for f, ns in self.levels.items() for n in ns]
        found = {getattr(self.training, name)}
        found |= {level.training[name] for level in levels if name in level.training}
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
