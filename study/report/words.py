"""What a report says in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from study.report.statistics import MOST_SEEDS, SEEDS_FOR_A_VERDICT, Verdict

SIGNS: Mapping[Verdict, str] = {
    "better": "▲",
    "worse": "▼",
    "equivalent": "=",
    "undecided": "?",
    "too few seeds": "…",
}


def signed(value: float, digits: int = 3) -> str:
    """`+0.012`, `−0.012`; a dash for a number that is none."""
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def number(value: float, digits: int = 3) -> str:
    """`0.012`, `−0.012`; a dash for a number that is none."""
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def bounds(low: float, high: float, digits: int = 3) -> str:
    """`−0.012 to 0.034`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return f"{number(low, digits)} to {number(high, digits)}"


def chance(p: float) -> str:
    """A p-value: `0.03`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.01 else f"{p:.2f}"


def headline(report: Mapping[str, Any], contrast: Mapping[str, Any]) -> tuple[str, str]:
    """What a contrast changes, and in which arms: (`snow: observed instead of off`, `lstm`)."""
    factors = {arm["arm"]: arm["factors"] for arm in report["arms"]}
    a, b = factors[contrast["a"]], factors[contrast["b"]]
    changed = [factor for factor in a if a[factor] != b[factor]]
    if len(changed) != 1:
        return f"{contrast['a']} instead of {contrast['b']}", ""
    (factor,) = changed
    several = {f for f in a if len({levels[f] for levels in factors.values()}) > 1}
    rest = [a[f] if f == "model" else f"{f} {a[f]}" for f in a if f in several and f != factor]
    return f"{factor}: {a[factor]} instead of {b[factor]}", ", ".join(rest)


def sentence(contrast: Mapping[str, Any], margin: float) -> str:
    """A contrast's verdict as a sentence."""
    difference = contrast["difference"]
    interval = bounds(contrast["low"], contrast["high"])
    match contrast["verdict"]:
        case "better":
            return f"Better: NSE rises by {number(difference)} ({interval})."
        case "worse":
            mirrored = bounds(-contrast["high"], -contrast["low"])
            return f"Worse: NSE falls by {number(-difference)} ({mirrored})."
        case "equivalent":
            return (
                f"No practical difference: {signed(difference)} ({interval}), within ±{margin:g}."
            )
        case "undecided":
            return f"Not decided: {signed(difference)} ({interval})."
    return (
        f"No verdict: {contrast['seeds']} replicates an arm, {SEEDS_FOR_A_VERDICT} are needed; "
        f"difference {signed(difference)} ({interval})."
    )


def beyond(contrast: Mapping[str, Any]) -> str:
    """How many replicates would bring a verdict, where there is none."""
    if contrast["verdict"] not in ("undecided", "too few seeds"):
        return ""
    enough = contrast["seeds_to_decide"]
    if enough is not None:
        return f"About {enough} replicates an arm would decide it, if the difference stayed."
    if not math.isfinite(contrast["low"]):
        return ""
    return (
        f"Even {MOST_SEEDS} replicates an arm would not decide a difference of this size: the "
        "basins disagree."
    )


def answer(report: Mapping[str, Any]) -> list[str]:
    """The study's answer: a few sentences."""
    period, winner = report["period"], report["winner"]
    scores = next(arm[period] for arm in report["arms"] if arm["arm"] == winner)
    sentences = [
        f"{winner} did best on the validation period; its median NSE over {scores['basins']} "
        f"basins of the {period} period is {number(scores['nse_median'])} (95 % interval "
        f"{bounds(scores['nse_median_low'], scores['nse_median_high'])})."
    ]
    counted = Counter(contrast["verdict"] for contrast in report["contrasts"])
    if counted:
        told = ", ".join(f"{counted[v]} {v}" for v in SIGNS if counted[v])
        total = counted.total()
        sentences.append(f"Of {total} declared contrast{'' if total == 1 else 's'}: {told}.")
    return sentences
