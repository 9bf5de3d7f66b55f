"""What of a study may change once it has begun: its search and its seeds may grow."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from study.errors import SpecError
from study.experiment.eventlog import Event
from study.spec import StudySpec, parse_spec


def refuse_changes(spec: StudySpec, events: Sequence[Event]) -> list[Event]:
    """Compare a spec with what was begun under its name.

    Returns:
        The events that tell what it is, the latest last.

    Raises:
        SpecError: It differs in more than may grow.
    """
    begun = [e for e in events if e["event"] == "study"]
    if begun:
        earlier = parse_spec(begun[-1]["spec"], "the study begun earlier")
        if earlier.fixed() != spec.fixed():
            raise SpecError(
                f"study {spec.name} was begun with another spec; give the changed one another "
                f"name. What differs: {_difference(earlier.fixed(), spec.fixed())}"
            )
        _refuse_shrinking(earlier, spec)
        if any(e["event"] == "test_read" for e in events):
            _refuse_late_split(earlier, spec)
    return begun


def _refuse_late_split(earlier: StudySpec, spec: StudySpec) -> None:
    """Parts of the basins that are chosen with the test scores in sight prove nothing."""
    if earlier.evidence.split != spec.evidence.split:
        raise SpecError(
            f"study {spec.name}: evidence.split was {earlier.evidence.split} when the test period "
            f"was read, and cannot become {spec.evidence.split}; set it as it was, or give the "
            "study another name"
        )


def _refuse_shrinking(earlier: StudySpec, spec: StudySpec) -> None:
    for key, old, new in (
        ("search.cohorts", earlier.search.cohorts, spec.search.cohorts),
        ("confirmation.seeds", earlier.confirmation.seeds, spec.confirmation.seeds),
    ):
        if new < old:
            raise SpecError(
                f"study {spec.name} was begun with {key} {old}, which may grow but not shrink to "
                f"{new}; set it to {old} or more, or give the study another name"
            )


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    a, b = (json.dumps(spec, indent=1, sort_keys=True).splitlines() for spec in (old, new))
    lines = difflib.unified_diff(a, b, lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " ".join(" ".join(line.split()) for line in changed)
