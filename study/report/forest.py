"""Forest plots: differences between arms with their intervals, a row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from study.report.figures import FAINT, GREY, INK, styled

if TYPE_CHECKING:
    from study.report.statistics import Effect, Verdict

VERDICT_COLOURS: dict[Verdict, str] = {
    "better": "#0072B2",
    "worse": "#D55E00",
    "equivalent": INK,
    "undecided": GREY,
    "too few seeds": GREY,
}
TEXT_COLOURS = {**VERDICT_COLOURS, "worse": "#B34E00"}
"""Of words: dark enough to be read on white."""
MARKERS = ("o", "s")
"""Of the lower and the upper part of the basins."""
PITCH = 2.7
"""Rows from a contrast in two parts to the next."""


@styled
def differences(effects: Mapping[str, Effect], *, margin: float, period: str) -> Figure:
    """Forest plot of contrasts, top to bottom in the order declared.

    Filled points are decided, hollow ones are not.

    Args:
        effects: The contrasts by name.
        margin: Half-width of the region of practical equivalence, shaded.
        period: What the scores belong to, "test" or "validation".
    """
    figure = Figure(figsize=(8.2, 0.7 + 0.29 * len(effects)))
    limit = 1.08 * max(margin, 0.001, *_reach(effects.values()))
    axes = _axes(
        figure, list(effects), range(len(effects)), limit=limit, margin=margin, period=period
    )
    axes.set_ylim(len(effects) - 0.4, -0.6)
    for row, effect in enumerate(effects.values()):
        _draw(axes, row, effect)
        _write(axes, row, _interval_text(effect), points=8)
        _write(axes, row, effect.verdict, points=138, colour=TEXT_COLOURS[effect.verdict])
    return figure


@styled
def differences_by_split(
    parts: Mapping[str, tuple[Effect | None, Effect | None]],
    *,
    names: tuple[str, str],
    margin: float,
    period: str,
) -> Figure:
    """Forest plot of contrasts in two parts of the basins, two rows each.

    The interval of a few basins may be so wide that it would flatten all others: where one goes on
    beyond the axis it ends in a triangle; the numbers beside it are whole.

    Args:
        parts: The contrasts by name: their effects in the lower and the upper part, None where
            there are too few basins.
        names: Of the two parts.
        margin: Half-width of the region of practical equivalence, shaded.
        period: What the scores belong to, "test" or "validation".
    """
    longest = max(map(len, parts))
    figure = Figure(figsize=(6.9 + 0.065 * longest, 1.1 + 0.46 * len(parts)))
    tops = [PITCH * number for number in range(len(parts))]
    limit = _common_limit([e for pair in parts.values() for e in pair if e], margin)
    axes = _axes(
        figure, list(parts), [top + 0.5 for top in tops], limit=limit, margin=margin, period=period
    )
    axes.set_ylim(PITCH * len(parts) - (PITCH - 1) / 2, -(PITCH - 1) / 2)
    for number, (top, pair) in enumerate(zip(tops, parts.values(), strict=True)):
        if number:
            axes.axhline(top - (PITCH - 1) / 2, color=FAINT, linewidth=0.6, zorder=0)
        for row, marker, effect in zip((top, top + 1), MARKERS, pair, strict=True):
            if effect is None:
                _write(axes, row, "too few basins", points=8, colour=GREY)
                continue
            _draw(axes, row, effect, marker=marker)
            _write(axes, row, _interval_text(effect), points=8)
            _write(axes, row, effect.verdict, points=138, colour=TEXT_COLOURS[effect.verdict])
            _write(axes, row, f"{effect.basins} basins", points=206)
    handles = [Line2D([], [], color=INK, ls="", marker=m, markerfacecolor="white") for m in MARKERS]
    figure.legend(handles, names, loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure


def _axes(
    figure: Figure,
    names: Sequence[str],
    rows: Sequence[float],
    *,
    limit: float,
    margin: float,
    period: str,
) -> Axes:
    """Axes with the contrasts' names and the region of practical equivalence."""
    axes = figure.add_subplot()
    axes.axvspan(-margin, margin, color=FAINT, lw=0, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    axes.set_xlim(-limit, limit)
    axes.set_xlabel(f"difference in NSE, {period} period (grey: within ±{margin:g})")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return axes


def _draw(axes: Axes, row: float, effect: Effect, *, marker: str = "o") -> None:
    """An effect's interval and point; a triangle where the interval leaves the axes."""
    colour = VERDICT_COLOURS[effect.verdict]
    decided = effect.verdict in ("better", "worse", "equivalent")
    axes.plot([effect.low, effect.high], [row, row], color=colour, linewidth=1.8)
    face = colour if decided else "white"
    axes.plot(effect.difference, row, marker, color=colour, markersize=6, markerfacecolor=face)
    left, right = axes.get_xlim()
    for beyond, edge, arrow in ((effect.low < left, left, "<"), (effect.high > right, right, ">")):
        if beyond:
            axes.plot(edge, row, arrow, color=colour, markersize=5, clip_on=False)


def _write(axes: Axes, row: float, text: str, *, points: float, colour: str = INK) -> None:
    """A text in a row, so many points right of the axes."""
    axes.annotate(
        text,
        xy=(1, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(points, 0),
        textcoords="offset points",
        va="center",
        size=8.5,
        color=colour,
    )


def _reach(effects: Iterable[Effect]) -> list[float]:
    """How far from 0 the ends of the intervals and the differences lie."""
    values = [abs(x) for e in effects for x in (e.low, e.high, e.difference)]
    return [x for x in values if np.isfinite(x)]


def _common_limit(effects: Sequence[Effect], margin: float) -> float:
    """End of an axis for all differences, and all intervals but those far wider than usual."""
    reach = _reach(effects)
    largest = max((abs(e.difference) for e in effects), default=0.0)
    usual = max(3 * float(np.median(reach)), 1.2 * largest) if reach else 0.0
    return 1.08 * max(margin, 0.001, min(usual, max(reach, default=0.0)))


def _interval_text(effect: Effect) -> str:
    text = f"{effect.difference:+.3f}"
    if np.isfinite(effect.low) and np.isfinite(effect.high):
        text += f"  [{effect.low:+.3f}, {effect.high:+.3f}]"
    return text.replace("-", "−")
