"""Figures of a study: each function draws one and returns it, nothing is kept in between.

Figures are built without pyplot, so they need no display and share no state. The look lives in
`styled` and the few names above it. The colours are those of Okabe and Ito ("Color Universal
Design"; Wong 2011, doi:10.1038/nmeth.1618), told apart with every common colour vision.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from itertools import cycle, zip_longest
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Epochs: TypeAlias = npt.NDArray[np.integer[Any]]
Dates: TypeAlias = npt.NDArray[np.datetime64]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", ":", "-.")
INK, GREY, FAINT, SNOW = "#222222", "#767676", "#E6E6E6", "#B9DCF2"
SNOW_INK = "#2F6F99"
BETTER, WORSE = PALETTE[0], PALETTE[1]
REFERENCE_LINES: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": (0, (5, 2))},
    {"color": "#777777", "linestyle": (0, (2, 1.2))},
)

PNG_DPI = 150
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

styled = mpl.rc_context(
    {
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#555555",
        "axes.linewidth": 0.7,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "xtick.labelcolor": "#222222",
        "ytick.labelcolor": "#222222",
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "lines.linewidth": 1.5,
        "date.converter": "concise",
        "text.parse_math": False,  # names may hold a $
    }
)


@styled
def nse_cdf(
    scores: Mapping[str, Floats], *, references: Mapping[str, Floats] | None = None, period: str
) -> Figure:
    """Distribution of the basins' NSE, one curve an arm and one a model to compare with.

    Scores are sorted within each seed; the curve is the median over seeds of the sorted scores,
    the band their range. The axis ends at -0.2; the legend states the share of basins below.

    Args:
        scores: For every arm `(seed, basin)` NSE; basins with a NaN are left out.
        references: For every model to compare with `(basin,)` NSE; thin dashed lines.
        period: What the scores belong to, "test" or "validation".
    """
    start = -0.2
    figure = Figure(figsize=(9.6, 4.0))
    axes = figure.add_subplot()
    lines: list[Artist] = []
    medians, below = [], []
    for number, table in enumerate(scores.values()):
        ordered = np.sort(table[:, ~np.isnan(table).any(axis=0)], axis=1)
        curve, share = np.median(ordered, axis=0), _ranks(ordered.shape[1])
        medians.append(f"{np.mean(np.median(ordered, axis=1)):.3f}")
        below.append(f"{np.mean(ordered < start):.1%}")
        axes.fill_betweenx(
            share, ordered.min(axis=0), ordered.max(axis=0), color=_colour(number), alpha=0.15, lw=0
        )
        lines += axes.plot(curve, share, **_line(number))
    for look, nse in zip(cycle(REFERENCE_LINES), (references or {}).values()):
        ordered = np.sort(nse[~np.isnan(nse)])
        medians.append(f"{np.median(ordered):.3f}")
        below.append(f"{np.mean(ordered < start):.1%}")
        lines += axes.plot(ordered, _ranks(ordered.size), linewidth=1.0, **look)
    axes.set(xlim=(start, 1), ylim=(0, 1), xlabel=f"NSE, {period} period", ylabel="share of basins")
    axes.axhline(0.5, color=GREY, linewidth=0.6, linestyle=(0, (4, 4)), zorder=0)
    names = [*scores, *(references or {})]
    columns = {"arm": names, "median NSE": medians, f"below −{-start:g}": below}
    _legend_table(axes, lines, columns)
    return figure


@styled
def hydrographs(
    dates: Dates,
    obs: Floats,
    sims: Mapping[str, Floats],
    *,
    basins: Sequence[str],
    titles: Sequence[str] = (),
    swe: Floats | None = None,
    width: float = 7.4,
) -> Figure:
    """Observed and simulated discharge, one panel a basin, over the days the caller chose.

    Args:
        dates: `(time,)`, or `(basin, time)` where each basin shows days of its own.
        obs: `(basin, time)` observed discharge in mm/d; NaN is a gap.
        sims: For every arm `(basin, time)` simulated discharge in mm/d.
        basins: The gauge ids.
        titles: Heading of each panel, after the gauge id; for example scores.
        swe: `(basin, time)` snow water equivalent in mm, drawn as an area behind.
        width: Of the figure, in inches.
    """
    figure = Figure(figsize=(width, 0.6 + 1.75 * len(basins)))
    panels = figure.subplots(len(basins), 1, squeeze=False)[:, 0]
    days = np.broadcast_to(dates, obs.shape)
    for row, (axes, basin, title) in enumerate(zip_longest(panels, basins, titles)):
        for number, (arm, simulated) in enumerate(sims.items()):
            axes.plot(days[row], simulated[row], label=arm, **_line(number, linewidth=1.2))
        axes.plot(days[row], obs[row], color=INK, linewidth=1.1, label="observed", zorder=2.5)
        axes.set(xlim=(days[row, 0], days[row, -1]), ylabel="discharge (mm/d)")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{basin}  {title}" if title else basin)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if swe is not None:
            _snow_behind(axes, days[row], swe[row])
    handles, _ = panels[0].get_legend_handles_labels()
    if swe is not None:
        handles.append(Patch(color=SNOW, label="SWE"))
    columns = min(len(handles), 5)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=1.6)
    return figure


@styled
def learning_curves(curves: Mapping[str, Sequence[tuple[Epochs, Floats]]]) -> Figure:
    """Validation NSE of every trial over its epochs, one panel an arm.

    A trial that reached the last epoch of the study is coloured, one stopped before is grey.
    The axis shows the upper unit of NSE: first epochs may lie far below.

    Args:
        curves: For every arm its trials as (epochs, median validation NSE).
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(0.5 + 2.35 * columns, 0.6 + 1.8 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    trials = [trial for of_arm in curves.values() for trial in of_arm]
    last = max(epochs[-1] for epochs, _ in trials)
    for number, (axes, arm) in enumerate(zip_longest(grid.flat, curves)):
        if arm is None:
            axes.set_visible(False)
            grid[-2, number % columns].tick_params(labelbottom=True)
            continue
        completed = [epochs[-1] == last for epochs, _ in curves[arm]]
        for (epochs, values), whole in zip(curves[arm], completed, strict=True):
            shade = {"color": _colour(number) if whole else "#C4C4C4", "zorder": 3 if whole else 2}
            axes.plot(epochs, values, linewidth=1.3 if whole else 0.8, **shade)
            axes.plot(epochs[-1], values[-1], "o", markersize=2.5, **shade)
        axes.set_title(arm)
        note = f"{sum(completed)} of {len(completed)} completed"
        axes.text(0.97, 0.05, note, transform=axes.transAxes, ha="right", color="#555555", size=8)
    finite = np.concatenate([values[np.isfinite(values)] for _, values in trials])
    if finite.size:
        high = float(finite.max())
        low = max(float(finite.min()), high - 1)
        grid[0, 0].set_ylim(low - 0.05, high + 0.05)
    figure.supxlabel("epoch", size=9)
    figure.supylabel("validation NSE", size=9)
    return figure


@styled
def expected_best(curves: Mapping[str, tuple[Floats, Floats]]) -> Figure:
    """Expected best validation NSE against the epochs that a search was given.

    Args:
        curves: For every arm (epochs, expected best), a point for every number of trials.
    """
    figure = Figure(figsize=(4.9, 3.1))
    axes = figure.add_subplot()
    for number, (arm, (epochs, best)) in enumerate(curves.items()):
        axes.plot(epochs, best, label=arm, **_line(number))
        axes.plot(epochs[-1], best[-1], "o", color=_colour(number), markersize=3.5)
    axes.set(xlabel="training epochs of the search", ylabel="expected best validation NSE")
    axes.set_xlim(left=0)
    axes.legend(loc="lower right")
    return figure


@styled
def png(figure: Figure) -> bytes:
    """A figure as PNG; the same figure gives the same bytes.

    The layout is found first and kept. `savefig` would draw the whole figure once for it, in vain.
    """
    layout = figure.get_layout_engine()
    figure.set_dpi(PNG_DPI)
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


@styled
def svg(figure: Figure, *, name: str) -> str:
    """A figure as SVG whose text is text; the name keeps its ids apart from other figures'. One
    that was drawn as PNG before keeps the layout of that."""
    buffer = StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    return buffer.getvalue()


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _line(number: int, *, linewidth: float = 1.6) -> dict[str, Any]:
    """Look of the arm of this number; the dashes change when the colours are used up."""
    dashes = LINES[number // len(PALETTE) % len(LINES)]
    return {"color": _colour(number), "linestyle": dashes, "linewidth": linewidth}


def _legend_table(
    axes: Axes, lines: Sequence[Artist], columns: Mapping[str, Sequence[str]]
) -> None:
    """Legend beside the axes, its columns aligned under their headings; lines before the first."""
    blank = Patch(visible=False)
    handles = [blank, *lines, *[blank] * (len(lines) + 1) * (len(columns) - 1)]
    labels = [cell for heading, cells in columns.items() for cell in (heading, *cells)]
    axes.legend(
        handles,
        labels,
        ncols=len(columns),
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=1.4,
        handletextpad=0.6,
        columnspacing=0.2,
    )


def _ranks(count: int) -> Floats:
    """Plotting positions of sorted values."""
    return (np.arange(count) + 0.5) / count


def _snow_behind(axes: Axes, days: Dates, swe: Floats) -> None:
    """Snow water equivalent as an area on an axis of its own, under the lines."""
    twin = axes.twinx()
    twin.fill_between(days, swe, color=SNOW, lw=0)
    twin.set_ylim(0, 1.25 * max(float(np.nanmax(swe, initial=0.0)), 1.0))
    twin.set_ylabel("SWE (mm)", color=SNOW_INK)
    twin.tick_params(axis="y", labelcolor=SNOW_INK, color=SNOW_INK)
    twin.yaxis.set_major_locator(MaxNLocator(4))
    twin.spines["right"].set(visible=True, color=SNOW_INK)
    axes.set_zorder(twin.get_zorder() + 1)
    axes.patch.set_visible(False)


def within_reach(
    axes: Axes,
    x: Floats,
    y: Floats,
    *,
    least: float,
    kinds: Sequence[tuple[npt.NDArray[np.bool_], str, str, str]],
) -> Floats:
    """Points on an axis symmetric about 0 that holds most of them; returns the heights drawn.

    Args:
        axes: Where to draw.
        x: `(point,)`.
        y: `(point,)`.
        least: The axis ends no nearer to 0.
        kinds: Which points they are, marker (not drawn here), colour and name of each kind.
    """
    usual = float(np.quantile(np.abs(y), 0.975)) if y.size else 0.0
    limit = 1.15 * max(least, usual, 0.001)
    edge = 0.97 * limit
    drawn = np.clip(y, -edge, edge)
    above, below = y > edge, y < -edge
    size = 24 if y.size <= 100 else 12
    for of_kind, _, colour, _ in kinds:
        for marker, place in (("o", ~above & ~below), ("^", above), ("v", below)):
            there = of_kind & place
            axes.scatter(x[there], drawn[there], s=size, marker=marker, color=colour, alpha=0.7,
                         linewidths=0)  # fmt: skip
    if beyond := np.count_nonzero(above | below):
        axes.set_title(f"▲▼ {beyond} beyond", loc="right", size=8, weight="normal")
    axes.set_ylim(-limit, limit)
    return drawn


def median_by_eighths(axes: Axes, x: Floats, y: Floats) -> None:
    """Line through the medians of eight equal shares of the basins, ordered by x."""
    parts = np.array_split(np.argsort(x), 8)
    centres, medians = ([np.median(v[part]) for part in parts] for v in (x, y))
    axes.plot(centres, medians, "o-", color=INK, markersize=3, linewidth=1.2, zorder=3)


def label_points(axes: Axes, x: Floats, y: Floats, labels: Sequence[str]) -> None:
    """Write each label on that side of its point where it covers least."""
    box = axes.get_window_extent()
    em = 8 * axes.figure.dpi / 72
    to_axes = axes.transData + axes.transAxes.inverted()
    points = to_axes.transform(np.column_stack([x, y]))
    taken = [np.array([*point, *point]) for point in points]
    for point, label in zip(points, labels, strict=True):
        width, height = 0.62 * em * len(label) / box.width, 1.1 * em / box.height
        right = np.array([(width + 0.9 * em / box.width) / 2, 0.0])
        above = np.array([0.0, (height + 0.9 * em / box.height) / 2])
        centres = [point + side for side in (right, -right, above, -above)]
        half = np.array([width / 2, height / 2])
        boxes = [np.concatenate([centre - half, centre + half]) for centre in centres]
        best = min(range(len(boxes)), key=lambda side: _clutter(boxes[side], taken))
        taken.append(boxes[best])
        x_text, y_text = centres[best]
        axes.text(x_text, y_text, label, transform=axes.transAxes, ha="center", va="center", size=7)


def _clutter(box: Floats, taken: Sequence[Floats]) -> int:
    """How many boxes (left, bottom, right, top) this one touches, or leaves the axes by."""
    outside = int(box.min() < 0 or box.max() > 1)
    return outside + sum(
        bool(np.all(box[:2] <= other[2:]) and np.all(other[:2] <= box[2:])) for other in taken
    )
