"""Factors and their levels: what each level changes of an arm's inputs and training.

The factors that a study file may name without more (`model`, `statics`, `snow`, `shyft`) are a
table in the same form as those that it defines itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from study import plugins
from study.spec.base import SpecModel, nearest, shown

ATTRIBUTES = "attributes"
"""In `drop`: all static attributes. In `requires`: at least one."""
LEVEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")
PLACEBO = re.compile(r"placebo\(([^()]+)\)")
"""A level of this name is another level of its factor, its inputs those of other years."""


def on_off(value: Any) -> Any:
    """YAML reads a bare `on` and `off` as booleans; levels are strings."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return [on_off(v) for v in value]
    if isinstance(value, dict):
        return {str(k): on_off(v) for k, v in value.items()}
    return value


Levels = Annotated[tuple[str, ...], Field(min_length=1)]
Factors = Annotated[dict[str, str], BeforeValidator(on_off)]


class LevelSpec(SpecModel):
    """What a level changes. The first level of a factor is the base that others are compared
    with."""

    inputs: tuple[str, ...] = ()
    """Daily series of the store that the network sees beside `data.forcing`."""
    drop: tuple[str, ...] = ()
    """Inputs or attributes that it does not see: names, sets of names (`climate`, `soil`, ...),
    or `attributes` for all."""
    replace: dict[str, str] = Field({})
    """Input or attribute -> the one that is taken instead of it."""
    attributes: tuple[str, ...] = ()
    """Static attributes that the network sees beside `data.attributes`."""
    baseline: str | None = None
    """Simulated discharge (mm/d) that the network's output is added to."""
    placebo: bool = False
    """Feed `inputs` from another water year of the same basin: what a level gains by it, it gains
    by one more input, not by its information."""
    training: dict[str, Any] = Field({})
    """Keys of `training` and their values in this level."""
    requires: tuple[str, ...] = ()
    """What an arm with this level must have: `factor.level`, or `attributes`."""
    label: str | None = Field(None, pattern=r"^[A-Za-z0-9.-]{0,40}$")
    """What the level adds to an arm's name; `factor.level` if left out."""

    @model_validator(mode="after")
    def _has_something_to_feed(self) -> LevelSpec:
        if self.placebo and not self.inputs:
            raise ValueError("`placebo: true` feeds `inputs` of another year; name some")
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether an arm is as without it, name and placebo apart."""
        return not set(self.model_dump()) - {"label", "placebo", "requires"}

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a level has the same digest when levels can say more."""
        content = handler(self)
        defaults = {n: f.default for n, f in type(self).model_fields.items()}
        return {n: v for n, v in content.items() if getattr(self, n) != defaults[n]}


SHYFT_SERIES = ("shyft_discharge", "shyft_swe", "shyft_sca", "shyft_aet", "shyft_outflow",
                "shyft_storage")  # fmt: skip

BUILT_IN: Mapping[str, Mapping[str, LevelSpec]] = {
    "model": {
        "lstm": LevelSpec(label="lstm"),
        "ealstm": LevelSpec(label="ealstm", requires=(ATTRIBUTES,)),
    },
    "statics": {
        "on": LevelSpec(label=""),
        "off": LevelSpec(label="nostatics", drop=(ATTRIBUTES,)),
    },
    "snow": {
        "off": LevelSpec(label=""),
        "simulated": LevelSpec(label="simsnow", inputs=("swe_simulated",)),
        "observed": LevelSpec(label="snow", inputs=("swe",)),
    },
    "shyft": {
        "off": LevelSpec(label=""),
        "input": LevelSpec(label="shyft", inputs=SHYFT_SERIES),
        "residual": LevelSpec(label="residual", baseline="shyft_discharge"),
        "both": LevelSpec(label="shyft-residual", inputs=SHYFT_SERIES, baseline="shyft_discharge"),
    },
}
"""Factors that every study has; the first level is the one taken when a spec does not name the
factor. Of `snow`, a level may also be a snow product of the store."""
PRODUCTS = "snow"

CANONICAL_FACTORS: Mapping[str, tuple[str, ...]] = {f: tuple(ls) for f, ls in BUILT_IN.items()}

OwnLevels = Mapping[str, Mapping[str, LevelSpec]]
"""Factor -> level -> what it changes."""


def split_factors(factors: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A study file's factors as names of levels, and what levels of one's own change.

    Raises:
        ValueError: A factor has no form that a factor may have.
    """
    names: dict[str, Any] = {}
    levels: dict[str, Any] = {}
    for key, value in factors.items():
        factor = str(key)
        if not isinstance(value, Mapping):
            names[factor] = on_off(value)
            continue
        written = _families(factor, value) or {str(on_off(k)): v for k, v in value.items()}
        names[factor] = list(written)
        own = {level: content or {} for level, content in written.items()}
        for level in [n for n in own if n in BUILT_IN.get(factor, {}) or PLACEBO.fullmatch(n)]:
            if own.pop(level):
                raise ValueError(
                    f"factor `{factor}`: `{level}` changes what it always changes, so nothing can "
                    "be said of it; leave it empty, or give yours another name"
                )
        levels[factor] = own
    return names, levels


def _families(factor: str, value: Mapping[Any, Any]) -> dict[str, Any] | None:
    """The levels of `{leave_one_out: [...]}` and `{add_one_in: [...]}`."""
    form = next(iter(value), None)
    if form not in ("leave_one_out", "add_one_in"):
        return None
    parts = on_off(value[form])
    if len(value) > 1 or not isinstance(parts, list) or not all(isinstance(p, str) for p in parts):
        raise ValueError(
            f"factor `{factor}`: write `{{{form}: [climate, soil]}}`, a list of inputs, attributes "
            "or sets of them and nothing else"
        )
    if form == "leave_one_out":
        return {"all": {}} | {f"no-{p}": {"drop": [p], "label": f"no-{p}"} for p in parts}
    none = {"none": {"drop": parts, "label": f"no-{factor}"}}
    return none | {p: {"drop": [q for q in parts if q != p], "label": p} for p in parts}


def find_level(factor: str, name: str, own: OwnLevels) -> LevelSpec:
    """What a level changes.

    A level of a factor that is neither built in nor one's own is the value of a training setting.
    """
    for table in (own, BUILT_IN):
        if name in table.get(factor, {}):
            return table[factor][name]
    if factor == "model":
        return LevelSpec(label=name)  # of another package
    placebo = PLACEBO.fullmatch(name)
    if placebo and (factor in own or factor in BUILT_IN):
        base = find_level(factor, placebo[1], own)
        label = f"placebo-{placebo[1] if base.label is None else base.label}"
        return base.model_copy(update={"placebo": True, "label": label})
    if factor == PRODUCTS:
        return LevelSpec(label=name)  # what the store calls it is known when the store is open
    return LevelSpec(training={factor: name})


def check_names(factor: str, levels: Iterable[str], own: Mapping[str, LevelSpec]) -> None:
    """Levels of a factor that is built in or one's own can be told apart and are known.

    Raises:
        ValueError: One is not.
    """
    known = [*BUILT_IN.get(factor, {}), *own]
    if factor == "model":
        known += plugins.names(plugins.MODELS)
    for level in levels:
        placebo = PLACEBO.fullmatch(level)
        name = placebo[1] if placebo else level
        if level in known:
            fits = LEVEL_NAME.fullmatch(level)
        elif factor == PRODUCTS or placebo:
            fits = LEVEL_NAME.fullmatch(name)
            close = nearest(name, known)
            if close and name not in known:
                raise ValueError(
                    f"factor `{factor}` has no level `{name}`{close}; its levels are "
                    f"{', '.join(known)}, and the store's snow products"
                )
            if placebo and factor != PRODUCTS and name not in known:
                raise ValueError(
                    f"factor `{factor}`: `{level}` is of no level; its levels are "
                    f"{', '.join(known)}"
                )
            if placebo and name in known and not find_level(factor, name, {factor: own}).inputs:
                raise ValueError(
                    f"factor `{factor}`: `{level}` would feed inputs of other years, but `{name}` "
                    "has none; remove it"
                )
        else:
            raise ValueError(
                f"factor `{factor}` has no level `{level}`{nearest(level, known)}; "
                f"its levels are {', '.join(known)}"
            )
        if not fits:
            raise ValueError(
                f"factor `{factor}`: {shown(level)} cannot be a level's name; use letters, digits "
                "and `_ . + -`"
            )


def check_requires(levels: Mapping[tuple[str, str], LevelSpec]) -> None:
    """What levels require exists, and nothing requires itself.

    Args:
        levels: (factor, level) -> what it changes, of all levels of a study.

    Raises:
        ValueError: It does not.
    """
    edges: dict[tuple[str, str], list[tuple[str, str]]] = {}
    written = {f"{factor}.{level}": (factor, level) for factor, level in levels}
    for key, level in levels.items():
        for condition in level.requires:
            if condition != ATTRIBUTES and condition not in written:
                raise ValueError(
                    f"factor `{key[0]}`: level `{key[1]}` requires `{condition}`"
                    f"{nearest(condition, written)}, which this study does not have; write "
                    "`factor.level`, or `attributes`"
                )
        edges[key] = [written[c] for c in level.requires if c != ATTRIBUTES]
    for start in edges:
        seen, ahead = {start}, list(edges[start])
        while ahead:
            step = ahead.pop()
            if step == start:
                raise ValueError(
                    f"factor `{start[0]}`: level `{start[1]}` requires, by way of others, itself; "
                    "remove one of these `requires`"
                )
            if step not in seen:
                seen.add(step)
                ahead += edges[step]


def feed(
    levels: Iterable[LevelSpec], forcing: Iterable[str], attributes: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Names of what an arm's network is fed with: first all levels add, then they replace, then
    they drop. What is not there cannot be dropped, and is not missed here.

    Returns:
        Daily inputs (`placebo(NAME)`: of other years), static attributes, baseline.
    """
    levels = list(levels)
    dynamic, static = list(forcing), list(attributes)
    for level in levels:
        dynamic += [f"placebo({name})" if level.placebo else name for name in level.inputs]
        static += level.attributes
    for level in levels:
        dynamic = [level.replace.get(name, name) for name in dynamic]
        static = [level.replace.get(name, name) for name in static]
    for level in levels:
        dynamic = [name for name in dynamic if name not in level.drop]
        static = [n for n in static if n not in level.drop and ATTRIBUTES not in level.drop]
    baseline = next((level.baseline for level in levels if level.baseline), None)
    return tuple(dict.fromkeys(dynamic)), tuple(dict.fromkeys(static)), baseline
