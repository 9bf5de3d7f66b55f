"""A part of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study.errors import InputError


def only(report: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Some contrasts of a report, and the arms that they compare.

    Nothing is computed anew: p-values stay adjusted for all contrasts of the study.

    Args:
        report: As `study report --json` prints it.
        wanted: Factors, `snow`, for all their contrasts; or parts of contrasts' names, `(ealstm)`.
            Upper and lower case are alike.

    Raises:
        InputError: One of them is no factor and in no name.
    """
    names = [contrast["name"] for contrast in report["contrasts"]]
    chosen: set[str] = set()
    for text in wanted:
        found = _meant(text.lower(), names)
        if not found:
            raise InputError(
                f"--contrast {text}: study {report['study']} has no contrast of this name; "
                f"it has {', '.join(names) or 'none'}"
            )
        chosen.update(found)
    kept = [contrast for contrast in report["contrasts"] if contrast["name"] in chosen]
    arms = {contrast[side] for contrast in kept for side in ("a", "b")}
    return report | {
        "contrasts": kept,
        "arms": [arm for arm in report["arms"] if arm["arm"] in arms],
    }


def _meant(text: str, names: Sequence[str]) -> list[str]:
    """`snow` is the factor, and not every contrast in whose name snow is mentioned."""
    of_factor = [name for name in names if name.lower().startswith(f"{text}: ")]
    return of_factor or [name for name in names if text in name.lower()]
