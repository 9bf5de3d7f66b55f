"""Where a difference lies: basins on a map, and against what is known of their climate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from study.report.figures import (
    BETTER,
    FAINT,
    GREY,
    WORSE,
    Floats,
    label_points,
    median_by_eighths,
    styled,
    within_reach,
)

AXIS_LABELS = {
    "frac_snow": "share of precipitation falling as snow",
    "aridity": "aridity (PET / precipitation)",
}
FEW_BASINS = 15
"""So many can be named beside their points."""
MANY_BASINS = 80
"""From this many basins on, medians of eighths are drawn as well."""

_COAST = (
    "-124.7,48.4 -123.0,48.2 -122.8,49.0 -95.2,49.0 -95.1,49.4 -94.6,48.7 -93.0,48.6 -91.5,48.1 "
    "-89.6,48.0 -92.0,46.7 -90.4,46.6 -88.4,47.4 -87.4,46.5 -84.6,46.5 -84.7,45.9 -86.0,46.0 "
    "-87.6,45.1 -87.9,43.0 -87.5,41.6 -86.5,42.1 -86.3,43.7 -86.2,44.7 -85.0,45.6 -84.7,45.8 "
    "-83.4,45.1 -83.3,44.3 -83.9,43.7 -82.9,44.0 -82.5,43.0 -83.1,42.1 -83.4,41.7 -81.7,41.5 "
    "-79.0,42.7 -79.1,43.3 -76.8,43.3 -76.2,43.6 -76.3,44.1 -75.0,45.0 -71.5,45.0 -71.0,45.3 "
    "-70.3,45.9 -70.0,46.7 -69.2,47.4 -68.3,47.3 -67.8,47.1 -67.8,45.7 -67.0,44.8 -68.8,44.4 "
    "-70.2,43.6 -70.8,42.8 -70.9,42.3 -70.0,41.8 -71.4,41.5 -73.7,40.9 -72.0,41.0 -74.0,40.6 "
    "-74.1,39.7 -74.9,39.0 -75.5,39.5 -75.1,38.5 -75.9,37.1 -76.3,38.9 -76.4,37.0 -75.9,36.6 "
    "-75.5,35.2 -77.9,33.9 -79.2,33.2 -81.0,32.0 -81.4,30.7 -80.5,28.4 -80.0,26.8 -80.3,25.4 "
    "-81.1,25.1 -81.8,26.1 -82.7,27.7 -82.8,29.1 -84.0,30.1 -85.3,29.7 -87.2,30.3 -88.9,30.4 "
    "-89.2,29.1 -91.3,29.3 -93.8,29.7 -95.0,29.2 -97.2,27.7 -97.2,25.9 -99.1,26.4 -99.5,27.5 "
    "-100.7,29.1 -101.4,29.8 -102.7,29.7 -103.1,29.0 -104.5,29.6 -104.9,30.6 -106.5,31.8 "
    "-108.2,31.8 -108.2,31.3 -111.1,31.3 -114.8,32.5 -117.1,32.5 -118.4,33.8 -119.2,34.1 "
    "-120.6,34.5 -121.9,36.6 -122.5,37.8 -123.8,39.3 -124.4,40.4 -124.2,42.0 -124.5,42.8 "
    "-124.0,44.7 -124.0,46.2 -124.7,48.4"
)
OUTLINE = np.array([pair.split(",") for pair in _COAST.split()], float)
"""(corner, 2) longitude and latitude: the 48 states of CAMELS-US, schematically."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Basins: where they lie and what their climate is; each `(basin,)`."""

    basins: Sequence[str]
    lat: npt.NDArray[Any] | None
    """Degrees north; None: there is no map."""
    lon: npt.NDArray[Any] | None
    climate: Mapping[str, npt.NDArray[Any]]
    """`frac_snow`, `aridity`: what is known of them."""


@styled
def where(paired: Floats, places: Places, *, name: str, margin: float) -> Figure:
    """Each basin's difference on a map, and against snow and aridity.

    Basins within the region of practical equivalence are hollow; triangles point up where a is
    better and down where b is, and are the larger the larger the difference.

    Args:
        paired: `(basin,)` seed-mean difference of NSE, a - b; NaN is left out.
        places: The basins.
        name: The contrast, the figure's title.
        margin: Half-width of the region of practical equivalence.
    """
    mapped = places.lat is not None and places.lon is not None
    height = (3.05 if mapped else 0.5) + (2.15 if places.climate else 0)
    figure = Figure(figsize=(4.9, height))
    figure.set_layout_engine("none")
    figure.text(0.015, 1 - 0.19 / height, name, size=9.5, weight="bold", va="center")
    if mapped:
        axes = figure.add_axes((0.0, 1 - 2.68 / height, 1.0, 2.32 / height))
        _map(axes, paired, places, margin)
    width = 0.36 if len(places.climate) > 1 else 0.8
    for number, (attribute, values) in enumerate(places.climate.items()):
        box = (0.13 + 0.485 * number, 0.48 / height, width, 1.5 / height)
        axes = figure.add_axes(box)
        _against(axes, paired, values, attribute, margin, places.basins)
        if number == 0:
            axes.set_ylabel("difference in NSE")
        else:
            axes.tick_params(labelleft=False)
    return figure


def _map(axes: Axes, paired: Floats, places: Places, margin: float) -> None:
    lat, lon = np.asarray(places.lat, float), np.asarray(places.lon, float)
    scored = np.isfinite(paired) & np.isfinite(lat) & np.isfinite(lon)
    corners = np.column_stack([lon[scored], lat[scored]])
    low, high = OUTLINE.min(axis=0) - 1, OUTLINE.max(axis=0) + 1
    if corners.size and np.all((corners > low) & (corners < high)):
        axes.fill(*OUTLINE.T, facecolor="none", edgecolor=GREY, linewidth=0.7, zorder=1)
        corners = np.vstack([corners, OUTLINE])
    axes.set_aspect(1 / np.cos(np.deg2rad(np.mean(corners[:, 1]))) if corners.size else 1)
    axes.set_axis_off()
    axes.margins(0.03)
    usual = max(float(np.quantile(np.abs(paired[scored]), 0.9)), margin, 1e-6)
    handles = []
    for (kind, marker, colour, label), size in zip(_kinds(paired, margin), (1, 1, 0), strict=True):
        there = kind & scored
        area = (30 if scored.sum() <= 100 else 14) * (
            0.6 + 1.4 * size * np.clip(np.abs(paired[there]) / usual, 0, 1)
        )
        face = colour if size else "none"
        look: dict[str, Any] = {"marker": marker, "alpha": 0.85, "zorder": 3 if size else 2}
        axes.scatter(lon[there], lat[there], s=area, facecolors=face, edgecolors=colour,
                     linewidths=0.8, **look)  # fmt: skip
        handles.append(Line2D([], [], ls="", marker=marker, color=colour, markerfacecolor=face,
                              label=f"{label}: {there.sum()}"))  # fmt: skip
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.03), ncols=3,
                handletextpad=0.1, columnspacing=1.2)  # fmt: skip


def _kinds(paired: Floats, margin: float) -> list[tuple[npt.NDArray[np.bool_], str, str, str]]:
    """Basins that gain, lose, and neither: who they are, marker, colour and name."""
    return [
        (paired > margin, "^", BETTER, f"above +{margin:g}"),
        (paired < -margin, "v", WORSE, f"below −{margin:g}"),
        (np.abs(paired) <= margin, "o", GREY, "within"),
    ]


def _against(
    axes: Axes,
    paired: Floats,
    values: npt.NDArray[Any],
    attribute: str,
    margin: float,
    basins: Sequence[str],
) -> None:
    """Differences against one attribute; few basins far out are triangles at the edge."""
    scored = np.isfinite(paired) & np.isfinite(values)
    x, y = np.asarray(values, float)[scored], paired[scored]
    axes.axhspan(-margin, margin, color=FAINT, lw=0, zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    shown = within_reach(axes, x, y, least=3 * margin, kinds=_kinds(y, margin))
    if x.size >= MANY_BASINS:
        median_by_eighths(axes, x, y)
    axes.set_xlabel(AXIS_LABELS.get(attribute, attribute), size=8)
    axes.margins(x=0.05)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(basins) == scored.size <= FEW_BASINS and not axes.get_title(loc="right"):
        label_points(axes, x, shown, [b for b, kept in zip(basins, scored, strict=True) if kept])
