"""Figures: what is written and drawn, and that a figure is the same bytes twice."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from study.report import figures, forest, maps
from study.report.maps import Places
from study.report.sketches import Drawing, drawn
from study.report.statistics import Effect, Verdict

ARMS = ("lstm", "lstm-nostatics", "lstm+snow", "ealstm", "ealstm+snow", "lstm+snow+shyft")


def effect(difference: float, verdict: Verdict, *, half_width: float = 0.01) -> Effect:
    return Effect(
        difference=difference,
        low=difference - half_width,
        high=difference + half_width,
        verdict=verdict,
        p_wilcoxon=0.01,
        cohens_d=0.1,
        p_superiority=0.6,
        seeds=8,
        basins=29,
    )


def score_tables(rng: np.random.Generator) -> dict[str, Any]:
    return {arm: 1 - rng.gamma(2, 0.15, size=(5, 29)) for arm in ARMS}


def texts(figure: Figure) -> list[str]:
    found = [text for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in found]


def legend_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def assert_nothing_clipped(figure: Figure) -> None:
    """Every label lies inside the figure once it is laid out."""
    figure.draw_without_rendering()
    tight = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert -0.01 <= tight.x0 < tight.x1 <= width + 0.01
    assert -0.01 <= tight.y0 < tight.y1 <= height + 0.01


def test_cdf_states_median_and_share_below_the_axis() -> None:
    scores = np.tile(np.linspace(0.1, 0.9, 9), (3, 1))
    poor = np.where(scores < 0.15, -3.0, scores)
    gap = np.column_stack([scores, [0.3, np.nan, 0.3]])
    figure = figures.nse_cdf({"lstm": scores, "poor": poor, "gap": gap}, period="test")
    (axes,) = figure.axes
    cells = legend_texts(axes)
    assert cells[:4] == ["arm", "lstm", "poor", "gap"]
    assert cells[4:8] == ["median NSE", "0.500", "0.500", "0.500"]
    assert cells[8:] == ["below −0.2", "0.0%", "11.1%", "0.0%"]
    assert axes.get_xlim() == (-0.2, 1)
    assert "test" in axes.get_xlabel()


def test_cdf_draws_models_to_compare_with_thin_and_dashed() -> None:
    scores = np.tile(np.linspace(0.1, 0.9, 9), (3, 1))
    references = {"shyft": np.linspace(0.0, 0.8, 9), "sacsma": np.array([0.3, -1.0, np.nan])}
    figure = figures.nse_cdf({"lstm": scores}, references=references, period="test")
    (axes,) = figure.axes
    cells = legend_texts(axes)
    assert cells[:4] == ["arm", "lstm", "shyft", "sacsma"]
    assert cells[4:8] == ["median NSE", "0.500", "0.400", "-0.350"]
    assert cells[9:] == ["0.0%", "0.0%", "50.0%"]
    arm, shyft, sacsma = axes.get_lines()[:3]
    np.testing.assert_array_equal(shyft.get_xdata(), references["shyft"])
    np.testing.assert_array_equal(sacsma.get_xdata(), [-1.0, 0.3])
    assert all(line.is_dashed() for line in (shyft, sacsma)) and not arm.is_dashed()
    assert max(shyft.get_linewidth(), sacsma.get_linewidth()) < arm.get_linewidth()


def test_forest_plot_keeps_the_declared_order() -> None:
    effects = {
        "lstm+snow − lstm": effect(0.02, "better"),
        "ealstm − lstm": effect(-0.03, "worse"),
        "new": effect(0.0, "too few seeds", half_width=float("nan")),
    }
    figure = forest.differences(effects, margin=0.01, period="validation")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(effects)
    assert axes.yaxis_inverted()
    assert texts(figure)[:2] == ["+0.020  [+0.010, +0.030]", "better"]
    assert texts(figure)[4:] == ["+0.000", "too few seeds"]
    assert "validation" in axes.get_xlabel()


def many_parts() -> dict[str, tuple[Effect | None, Effect | None]]:
    """24 contrasts with long names; one lacks a part, one has an interval far wider than others."""
    usual = effect(0.02, "too few seeds"), effect(-0.03, "equivalent")
    parts: dict[str, tuple[Effect | None, Effect | None]] = {
        f"snow: observed - off (ealstm, statics off, shyft residual, loss {i:02d})": usual
        for i in range(24)
    }
    names = list(parts)
    parts[names[1]] = usual[0], None
    parts[names[2]] = effect(0.01, "undecided", half_width=1.5), usual[1]
    return parts


def test_forest_plot_of_two_parts_has_two_rows_a_contrast() -> None:
    parts = {"first": (effect(0.02, "better"), effect(-0.03, "worse")),
             "second": (None, effect(0.0, "undecided"))}  # fmt: skip
    figure = forest.differences_by_split(
        parts, names=("frac_snow < 0.3", "frac_snow ≥ 0.3"), margin=0.01, period="test"
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis_inverted()
    points = [line for line in axes.get_lines() if line.get_marker() in ("o", "s")]
    assert [line.get_marker() for line in points] == ["o", "s", "s"]
    heights = [float(np.asarray(line.get_ydata()).item()) for line in points]
    first, second = axes.get_yticks()
    assert heights == [first - 0.5, first + 0.5, second + 0.5]
    written = texts(figure)
    assert written[:3] == ["+0.020  [+0.010, +0.030]", "better", "29 basins"]
    assert written[6] == "too few basins"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["frac_snow < 0.3", "frac_snow ≥ 0.3"]
    assert [handle.get_marker() for handle in figure.legends[0].legend_handles] == ["o", "s"]


def test_an_interval_far_wider_than_others_does_not_flatten_them() -> None:
    figure = forest.differences_by_split(
        many_parts(), names=("low", "high"), margin=0.01, period="test"
    )
    (axes,) = figure.axes
    assert axes.get_xlim()[1] < 0.2
    ends = [line.get_marker() for line in axes.get_lines() if line.get_marker() in ("<", ">")]
    assert ends == ["<", ">"]
    assert "+0.010  [−1.490, +1.510]" in texts(figure)
    one = {"only": (effect(0.1, "undecided", half_width=0.3), None)}
    figure = forest.differences_by_split(one, names=("low", "high"), margin=0.01, period="test")
    assert figure.axes[0].get_xlim()[1] > 0.4  # a single interval is seen whole


def test_labels_of_many_contrasts_do_not_overlap() -> None:
    figure = forest.differences_by_split(
        many_parts(), names=("low", "high"), margin=0.01, period="validation"
    )
    assert_nothing_clipped(figure)
    (axes,) = figure.axes
    labels = [*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels()]
    boxes = [(label.get_text(), label.get_window_extent()) for label in labels if label.get_text()]
    assert len(boxes) > 24 * 7 - 5
    for i, (text, box) in enumerate(boxes):
        for other, beside in boxes[:i]:
            assert not box.overlaps(beside), f"{text!r} covers {other!r}"


def test_hydrographs_draw_arms_observation_and_snow() -> None:
    days = np.datetime64("2004-10-01") + np.arange(365)
    obs = np.ones((2, 365))
    obs[1, 10:20] = np.nan
    figure = figures.hydrographs(
        np.stack([days, days + 365]),
        obs,
        {"lstm": obs + 1, "lstm+snow": obs + 2},
        basins=["01013500", "06746095"],
        titles=["NSE 0.81", "NSE 0.52"],
        swe=np.full((2, 365), 50.0),
    )
    panels, twins = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "01013500  NSE 0.81",
        "06746095  NSE 0.52",
    ]
    assert all(len(axes.get_lines()) == 3 for axes in panels)
    assert {axes.get_ylabel() for axes in panels} == {"discharge (mm/d)"}
    assert {axes.get_ylabel() for axes in twins} == {"SWE (mm)"}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["lstm", "lstm+snow", "observed", "SWE"]


def test_learning_curves_colour_what_completed() -> None:
    stopped = (np.arange(1, 4), np.array([0.1, 0.2, 0.3]))
    completed = (np.arange(1, 10), np.linspace(0.1, 0.7, 9))
    diverged = (np.arange(1, 3), np.array([0.1, np.nan]))
    figure = figures.learning_curves({"lstm": [stopped, completed, diverged]})
    (axes,) = figure.axes
    curves = [line for line in axes.get_lines() if len(np.asarray(line.get_xdata()).ravel()) > 1]
    assert [to_hex(curve.get_color()) for curve in curves] == [
        "#c4c4c4",
        figures.PALETTE[0].lower(),
        "#c4c4c4",
    ]
    assert texts(figure) == ["1 of 3 completed"]


def places(basins: int, *, names: Sequence[str] = ()) -> Places:
    """Basins all over the 48 states."""
    along = np.linspace(0, 1, basins)
    return Places(
        basins=names,
        lat=32 + 15 * along,
        lon=-120 + 45 * along[::-1],
        climate={"frac_snow": along, "aridity": 1 - along / 2},
    )


def test_basins_beyond_the_axis_are_counted() -> None:
    paired = np.append(np.linspace(-0.02, 0.02, 99), [5.0, np.nan])
    figure = maps.where(paired, places(101), name="lstm+snow − lstm", margin=0.01)
    chart, snow, aridity = figure.axes
    assert [text.get_text() for text in figure.texts] == ["lstm+snow − lstm"]
    for axes in (snow, aridity):
        assert axes.get_title(loc="right") == "▲▼ 1 beyond"
        assert axes.get_ylim()[1] < 0.1
        assert any(line.get_marker() == "o" for line in axes.get_lines())  # medians of eighths
    assert legend_texts(chart) == ["above +0.01: 26", "below −0.01: 25", "within: 49"]


def test_a_map_shows_every_scored_basin_by_its_sign() -> None:
    paired = np.array([0.05, -0.05, 0.0, np.nan])
    figure = maps.where(paired, places(4), name="a − b", margin=0.01)
    where = places(4)
    assert where.lon is not None
    drawn = [np.ma.getdata(kind.get_offsets())[:, 0] for kind in figure.axes[0].collections]
    assert [list(of_kind) for of_kind in drawn] == [[where.lon[0]], [where.lon[1]], [where.lon[2]]]
    assert len(figure.axes[0].patches) == 1  # the outline
    abroad = dataclasses.replace(where, lon=np.array([-4.0, -3.0, -2.0, -1.0]))
    assert not maps.where(paired, abroad, name="a − b", margin=0.01).axes[0].patches


def test_what_is_not_known_of_basins_is_not_drawn() -> None:
    nowhere = dataclasses.replace(places(4), lat=None, climate={"aridity": np.ones(4)})
    figure = maps.where(np.zeros(4), nowhere, name="a − b", margin=0.01)
    (axes,) = figure.axes
    assert "aridity" in axes.get_xlabel()


def test_few_basins_are_named() -> None:
    figure = maps.where(
        np.array([0.01, np.nan, -0.02]),
        places(3, names=["01013500", "06746095", "11264500"]),
        name="lstm+snow − lstm",
        margin=0.01,
    )
    assert texts(figure) == 2 * ["01013500", "11264500"]


def test_expected_best_ends_with_a_point() -> None:
    curve = (np.array([5.0, 10.0]), np.array([0.3, 0.4]))
    figure = figures.expected_best({"lstm": curve, "ealstm": curve})
    (axes,) = figure.axes
    assert legend_texts(axes) == ["lstm", "ealstm"]
    ends = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [np.asarray(end.get_xdata()).item() for end in ends] == [10.0, 10.0]


@pytest.mark.parametrize("arms", [1, 2, 6])
def test_labels_stay_inside_the_figure(arms: int) -> None:
    rng = np.random.default_rng(0)
    tables = dict(list(score_tables(rng).items())[:arms])
    epochs = np.arange(1, 10)
    days = np.datetime64("2004-10-01") + np.arange(365)
    discharge = rng.gamma(1, 2, size=(2, 365))
    curves = {arm: [(epochs, 1 - 1 / epochs)] * 3 for arm in tables}
    contrasts = {f"{arm} − lstm+snow+shyft": effect(0.01, "too few seeds") for arm in tables}
    references = {"shyft": tables["lstm"][0] - 0.1, "sacsma": tables["lstm"][0] - 0.2}
    assert_nothing_clipped(figures.nse_cdf(tables, references=references, period="test"))
    assert_nothing_clipped(figures.learning_curves(curves))
    best = dict.fromkeys(tables, (10.0 * epochs, 1 - 1 / epochs))
    assert_nothing_clipped(figures.expected_best(best))
    paired = tables["lstm"][0] - 0.7
    assert_nothing_clipped(maps.where(paired, places(29), name="long " * 9, margin=0.01))
    assert_nothing_clipped(forest.differences(contrasts, margin=0.01, period="validation"))
    sims = dict.fromkeys(tables, discharge)
    assert_nothing_clipped(
        figures.hydrographs(days, discharge, sims, basins=["01", "02"], swe=discharge)
    )


def test_a_figure_is_the_same_bytes_twice_and_leaves_no_state() -> None:
    before = dict(mpl.rcParams)
    tables = score_tables(np.random.default_rng(0))
    drawing = Drawing(name="cdf", sketch=partial(figures.nse_cdf, tables, period="test"), alt="")
    assert drawn(drawing) == drawn(drawing)
    assert dict(mpl.rcParams) == before


@figures.styled
def saved(figure: Figure) -> bytes:
    """A figure as PNG by matplotlib's own way, which draws all of it to find its layout."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def test_a_layout_that_is_found_first_is_the_one_that_is_drawn() -> None:
    tables = score_tables(np.random.default_rng(0))
    days = np.datetime64("2004-10-01") + np.arange(365)
    discharge = np.random.default_rng(0).gamma(1, 2, size=(2, 365))
    for sketch in (
        partial(figures.nse_cdf, tables, period="test"),
        partial(maps.where, tables["lstm"][0] - 0.7, places(29), name="snow", margin=0.01),
        partial(figures.hydrographs, days, discharge, {"lstm": discharge[::-1]},
                basins=["01", "02"], swe=30 * discharge),
    ):  # fmt: skip
        assert figures.png(sketch()) == saved(sketch())
