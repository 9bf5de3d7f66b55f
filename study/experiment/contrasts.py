"""What a study compares: its declared contrasts, and the effects that a factorial design implies.

All of it follows from the spec and is written to the log before the first trial.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from study.errors import SpecError
from study.experiment.arms import Arm, compared
from study.spec import ContrastSpec, StudySpec, differing


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A declared comparison: arm `a` minus arm `b`."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class FactorialEffect:
    """A weighted sum of arms that says what one factor does, or what two do together."""

    name: str
    kind: Literal["main effect", "interaction"]
    weights: Mapping[str, float]
    """Arm -> weight. Those above 0 and those below add up to the same."""
    pairs: int
    """Over how many differences (main effect), or differences of differences, it is the mean."""


def declared_contrasts(spec: StudySpec, arms: tuple[Arm, ...]) -> tuple[Contrast, ...]:
    """The contrasts a spec declares, each between two arms; a spec that declares none compares
    every factor's levels with its first.

    Raises:
        SpecError: A contrast names no arm.
    """
    arms = compared(arms)
    found: dict[tuple[str, str], Contrast] = {}
    for declared in spec.contrasts or _default_contrasts(spec, arms):
        for pair in _declared(declared, spec, arms):
            found.setdefault((pair.a, pair.b), pair)
    return tuple(found.values())


def factorial_effects(spec: StudySpec, arms: tuple[Arm, ...]) -> tuple[FactorialEffect, ...]:
    """Main effects and interactions of two factors, against every factor's first level.

    A main effect is the mean over all pairs of arms that differ in the factor alone, an
    interaction the mean over all squares of arms that differ in two factors alone; arms that the
    spec excludes are in none. What is one declared kind of pair only is left out: the pair's
    contrast says it.
    """
    by_levels = {tuple(arm.levels.items()): arm.name for arm in compared(arms)}
    changes = [(factor, level) for factor, levels in spec.factors.items() for level in levels[1:]]
    found = [_main_effect(spec, by_levels, change) for change in changes]
    found = [effect for effect in found if effect.pairs > 1]
    for first, second in itertools.combinations(changes, 2):
        if first[0] != second[0]:
            effect = _interaction(spec, by_levels, first, second)
            found += [effect] if effect.pairs else []
    return tuple(found)


def in_the_log(spec: StudySpec, arms: tuple[Arm, ...]) -> list[dict[str, Any]]:
    """All comparisons as plain data: name and weight of every arm."""
    declared: list[dict[str, Any]] = [
        {"name": contrast.name, "weights": {contrast.a: 1, contrast.b: -1}}
        for contrast in declared_contrasts(spec, arms)
    ]
    return declared + [
        {"name": effect.name, "weights": dict(effect.weights)}
        for effect in factorial_effects(spec, arms)
    ]


Change = tuple[str, str]
"""A factor and the level it is set to, from its first."""
ByLevels = Mapping[tuple[tuple[str, str], ...], str]


def _main_effect(spec: StudySpec, by_levels: ByLevels, change: Change) -> FactorialEffect:
    factor, level = change
    pairs = []
    for levels, name in by_levels.items():
        base = by_levels.get(_with(levels, {factor: spec.factors[factor][0]}))
        if (factor, level) in levels and base is not None:
            pairs.append({name: 1, base: -1})
    return FactorialEffect(
        name=f"{factor}: {level} - {spec.factors[factor][0]}",
        kind="main effect",
        weights=_mean(pairs),
        pairs=len(pairs),
    )


def _interaction(
    spec: StudySpec, by_levels: ByLevels, first: Change, second: Change
) -> FactorialEffect:
    (f, level), (g, other) = first, second
    f_base, g_base = spec.factors[f][0], spec.factors[g][0]
    squares = []
    for levels, name in by_levels.items():
        if first not in levels or second not in levels:
            continue
        corners = [by_levels.get(_with(levels, change))
                   for change in ({f: f_base}, {g: g_base}, {f: f_base, g: g_base})]  # fmt: skip
        if None not in corners:
            without_f, without_g, neither = map(str, corners)
            squares.append({name: 1, without_f: -1, without_g: -1, neither: 1})
    return FactorialEffect(
        name=f"{f}: {level} - {f_base}, with {g} {other} rather than {g_base}",
        kind="interaction",
        weights=_mean(squares),
        pairs=len(squares),
    )


def _with(
    levels: tuple[tuple[str, str], ...], change: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    return tuple({**dict(levels), **change}.items())


def _mean(sums: list[dict[str, int]]) -> dict[str, float]:
    arms = dict.fromkeys(arm for weights in sums for arm in weights)
    return {arm: sum(weights.get(arm, 0) for weights in sums) / len(sums) for arm in arms}


def _declared(declared: ContrastSpec, spec: StudySpec, arms: tuple[Arm, ...]) -> Iterable[Contrast]:
    if declared.centre is not None:
        centre = _arm_with(arms, spec, declared.centre)
        around = [arm for arm in arms if differing(arm.levels, centre.levels) == 1]
        if declared.add_one_in is None:
            return [_between(spec, centre, other) for other in around]
        return [_between(spec, other, centre) for other in around]
    if isinstance(declared.a, dict) and isinstance(declared.b, dict):
        a, b = _arm_with(arms, spec, declared.a), _arm_with(arms, spec, declared.b)
        return [Contrast(name=f"{a.name} - {b.name}", a=a.name, b=b.name)]
    return _pairs(arms, spec, str(declared.factor), str(declared.a), str(declared.b))


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
        other = by_levels.get(_with(tuple(arm.levels.items()), {factor: b}))
        if arm.levels[factor] == a and other is not None:
            pairs.append(_between(spec, arm, other))
    if not pairs:
        raise SpecError(f"the contrast of `{factor}` {a} - {b} has no pair of arms left to compare")
    return pairs


def _between(spec: StudySpec, a: Arm, b: Arm) -> Contrast:
    """Two arms that differ in one factor, named by it and by what else could vary."""
    factor = next(f for f in a.levels if a.levels[f] != b.levels[f])
    same = [
        level if f == "model" else f"{f} {level}"
        for f, level in a.levels.items()
        if f != factor and len(spec.factors[f]) > 1
    ]
    name = f"{factor}: {a.levels[factor]} - {b.levels[factor]}"
    return Contrast(name=name + (f" ({', '.join(same)})" if same else ""), a=a.name, b=b.name)


def _arm_with(arms: tuple[Arm, ...], spec: StudySpec, wanted: Mapping[str, str]) -> Arm:
    """The arm with these levels; a factor left out stands at its first level."""
    levels = {f: wanted.get(f, spec.factors[f][0]) for f in spec.factors}
    for arm in arms:
        if arm.levels == levels:
            return arm
    described = ", ".join(f"{f}: {level}" for f, level in levels.items())
    raise SpecError(f"a contrast names the arm {{{described}}}, which the study does not have")
