"""Figures that are not drawn yet, and their drawing: all that a drawing process imports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from matplotlib.figure import Figure

from study.report import figures, forest, maps  # noqa: F401 - whose functions sketches call

Sketch: TypeAlias = Callable[[], Figure]
"""A function of this package and what it is drawn from, so that another process can draw it."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of a report with its name and words."""

    name: str
    """Of its files."""
    sketch: Sketch
    alt: str
    """What it shows, for who cannot see it."""


class RunSketch(NamedTuple):
    """The hydrograph of an arm (mean over its seeds; seed None) or of a replicate."""

    arm: str
    seed: int | None
    sketch: Sketch


def drawn(drawing: Drawing) -> tuple[bytes, str]:
    """A figure of a report as PNG and as SVG."""
    figure = drawing.sketch()
    return figures.png(figure), figures.svg(figure, name=drawing.name)


def drawn_run(run: RunSketch) -> bytes:
    """An arm's or a replicate's hydrograph as PNG."""
    return figures.png(run.sketch())
