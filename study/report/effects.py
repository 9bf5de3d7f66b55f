"""Effects of a study's declared contrasts: over all basins, and in two parts of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from study.experiment.contrasts import (
    Contrast,
    FactorialEffect,
    declared_contrasts,
    factorial_effects,
)
from study.experiment.ledger import Ledger
from study.report.evidence import Evidence
from study.report.statistics import Effect, combined_effect, paired_effect
from study.seeding import derive
from study.spec import SplitSpec

Side: TypeAlias = Literal["below", "above"]
Parts: TypeAlias = Mapping[Side, Effect | None]
SIDES: tuple[Side, ...] = ("below", "above")
FEWEST_BASINS = 2
"""A part with fewer has no spread to learn from."""
TOLD = ("difference", "low", "high", "verdict", "basins")
"""What the report tells of an effect in a part of the basins."""


def contrast_effects(book: Ledger, evidence: Evidence) -> dict[str, Effect]:
    """Name of each declared contrast -> its effect on the verdict period."""
    every = np.ones(len(evidence.basins), bool)
    return {c.name: _effect(book, evidence, c, every) for c in _contrasts(book, evidence)}


def split_effects(book: Ledger, evidence: Evidence) -> dict[str, Parts]:
    """Name of each declared contrast -> its effect in either part of the basins; nothing if the
    spec asks for none. A part with fewer than two scored basins has no effect."""
    split = book.spec.evidence.split
    if split is None:
        return {}
    parts = parts_of(evidence, split)
    return {
        contrast.name: {
            side: _effect(book, evidence, contrast, chosen, side)
            if _scored(evidence, contrast, chosen) >= FEWEST_BASINS
            else None
            for side, chosen in parts.items()
        }
        for contrast in _contrasts(book, evidence)
    }


def combinations(book: Ledger, evidence: Evidence) -> list[tuple[FactorialEffect, Effect]]:
    """The design's main effects and interactions, of which all arms could be trained."""
    spec, period = book.spec, evidence.periods[evidence.verdict_period]
    return [
        (
            implied,
            combined_effect(
                [period.nse(arm) for arm in implied.weights],
                list(implied.weights.values()),
                regions=evidence.regions,
                margin=spec.evidence.equivalence,
                repetitions=spec.evidence.repetitions,
                seed=derive("bootstrap", spec.search.seed, implied.kind, implied.name),
            ),
        )
        for implied in factorial_effects(spec, tuple(book.arms.values()))
        if set(implied.weights) <= set(evidence.arms)
    ]


def parts_of(evidence: Evidence, split: SplitSpec) -> dict[Side, np.ndarray]:
    """(basin,) whether a basin belongs to the part; one whose attribute is unknown is in none."""
    values = np.asarray(evidence.facts[split.attribute], np.float64)
    return {"below": values < split.at, "above": values >= split.at}


def describe_split(split: SplitSpec, parts: Parts) -> dict[str, Any]:
    """A contrast's effects in the two parts, as plain data."""
    told: dict[str, Any] = {
        side: None if effect is None else {name: getattr(effect, name) for name in TOLD}
        for side, effect in parts.items()
    }
    return {"attribute": split.attribute, "at": split.at, **told}


def promotion_effect(book: Ledger, evidence: Evidence, challenger: str, champion: str) -> Effect:
    """Challenger minus champion on the validation period: the test period chooses nothing."""
    spec, period = book.spec, evidence.periods["validation"]
    return paired_effect(
        period.nse(challenger),
        period.nse(champion),
        regions=evidence.regions,
        margin=spec.evidence.equivalence,
        repetitions=spec.evidence.repetitions,
        seed=derive("bootstrap", spec.search.seed, "promotion", challenger, champion),
    )


def _contrasts(book: Ledger, evidence: Evidence) -> list[Contrast]:
    """The declared ones of which both arms could be trained."""
    declared = declared_contrasts(book.spec, tuple(book.arms.values()))
    return [c for c in declared if {c.a, c.b} <= set(evidence.arms)]


def _effect(
    book: Ledger, evidence: Evidence, contrast: Contrast, chosen: np.ndarray, *part: Side
) -> Effect:
    """On the verdict period, over the chosen basins."""
    spec, period = book.spec, evidence.periods[evidence.verdict_period]
    return paired_effect(
        period.nse(contrast.a)[:, chosen],
        period.nse(contrast.b)[:, chosen],
        regions=evidence.regions[chosen],
        margin=spec.evidence.equivalence,
        repetitions=spec.evidence.repetitions,
        seed=derive("bootstrap", spec.search.seed, contrast.name, *part),
    )


def _scored(evidence: Evidence, contrast: Contrast, chosen: np.ndarray) -> int:
    """How many of the chosen basins have a score with every seed of both arms."""
    period = evidence.periods[evidence.verdict_period]
    scores = np.concatenate([period.nse(contrast.a), period.nse(contrast.b)])
    return int((np.isfinite(scores).all(axis=0) & chosen).sum())
