"""Effects of contrasts in two parts of the basins: by hand, and in the report of a study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import InlineStudy
from rich.console import Console
from small import small_spec

from study.data.store import open_store
from study.experiment.arms import expand
from study.experiment.ledger import Ledger
from study.experiment.storage import LocalStorage
from study.report.compare import write_report
from study.report.console import show_report
from study.report.effects import (
    combinations,
    contrast_effects,
    parts_of,
    promotion_effect,
    split_effects,
)
from study.report.evidence import Evidence, Period
from study.report.statistics import paired_effect
from study.seeding import derive
from study.spec import SplitSpec

NAN = float("nan")
CONTRAST = "snow: observed - off"


def evidence_of(differences: list[float], frac_snow: list[float], regions: str) -> Evidence:
    """Five seeds of two arms, of which the one with snow is better by these differences."""
    basins = np.arange(len(differences))
    noise = 0.001 * np.random.default_rng(0).standard_normal((2, 5, basins.size))
    noise -= noise.mean(axis=1, keepdims=True)
    scores = {"lstm": 0.5 + 0.01 * basins + noise[0],
              "lstm-snow": 0.5 + 0.01 * basins + np.array(differences) + noise[1]}  # fmt: skip
    period = Period(
        days=pd.date_range("1999-10-01", periods=1),
        qobs=np.ones((basins.size, 1)),
        swe=None,
        qsim={arm: np.ones((5, basins.size, 1)) for arm in scores},
        metrics={arm: {"nse": nse} for arm, nse in scores.items()},
        seeds=dict.fromkeys(scores, (0, 1, 2, 3, 4)),
        references={},
        reference_metrics={},
    )
    facts = {"frac_snow": np.array(frac_snow), "huc_02": np.array(list(regions))}
    return Evidence(basins=tuple(f"{b:08d}" for b in basins), facts=facts,
                    periods={"validation": period, "test": period}, references={},
                    repeats={})  # fmt: skip


def book_of(**changes: Any) -> Ledger:
    spec = small_spec(**changes)
    return Ledger(spec, expand(spec))


def test_each_part_has_its_own_median() -> None:
    """Of all basins it is the mean of 0.01 and 0.03. The lower part is of one region only."""
    evidence = evidence_of(
        [0.001, 0.002, 0.01, 0.03, 0.2, 0.3], [0, 0.1, 0.29, 0.3, 0.5, 0.9], "111234"
    )
    book = book_of(evidence__split={"at": 0.3})
    assert contrast_effects(book, evidence)[CONTRAST].difference == pytest.approx(0.02)
    below, above = split_effects(book, evidence)[CONTRAST].values()
    assert below is not None and above is not None
    assert (below.difference, above.difference) == pytest.approx((0.002, 0.2))
    assert (below.basins, above.basins) == (3, 3)
    assert below.low < 0.002 < below.high and above.low < 0.2 < above.high
    assert below.high - below.low < 0.1 < above.high - above.low


def test_regional_blocks_go_with_their_basins() -> None:
    evidence = evidence_of(
        [0.0, 0.01, 0.02, 0.03, 0.05, 0.3], [0.1, 0.4, 0.4, 0.2, 0.9, 0.9], "122345"
    )
    book = book_of(evidence__split={"at": 0.3})
    above = split_effects(book, evidence)[CONTRAST]["above"]
    period = evidence.periods["test"]
    by_hand = paired_effect(
        period.nse("lstm-snow")[:, [1, 2, 4, 5]],
        period.nse("lstm")[:, [1, 2, 4, 5]],
        regions=np.array(["2", "2", "4", "5"]),
        repetitions=200,
        seed=derive("bootstrap", book.spec.search.seed, CONTRAST, "above"),
    )
    assert above == by_hand


def test_a_basin_is_in_one_part_or_unknown() -> None:
    evidence = evidence_of([0.0] * 5, [0.1, NAN, 0.3, 0.30001, 0.29999], "11234")
    parts = parts_of(evidence, SplitSpec(at=0.3))
    assert parts["below"].tolist() == [True, False, False, False, True]
    assert parts["above"].tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(("at", "too_few"), [(0.15, "below"), (0.05, "below"), (0.6, "above")])
def test_a_part_with_one_scored_basin_has_no_effect(at: float, too_few: str) -> None:
    """The second basin below 0.15 has no score."""
    evidence = evidence_of([0.1, NAN, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.3, 0.7], "11234")
    parts = split_effects(book_of(evidence__split={"at": at}), evidence)[CONTRAST]
    assert [side for side, effect in parts.items() if effect is None] == [too_few]


def test_verdicts_are_by_the_margin_of_the_spec() -> None:
    """0.02 of NSE is a gain beside a margin of 0.01, and nothing beside one of 0.05."""
    evidence = evidence_of([0.02] * 6, [0.1, 0.1, 0.2, 0.4, 0.4, 0.5], "123123")
    for margin, verdict in ((0.01, "better"), (0.05, "equivalent")):
        book = book_of(evidence__equivalence=margin, evidence__split={"at": 0.3})
        effects = [
            contrast_effects(book, evidence)[CONTRAST],
            *split_effects(book, evidence)[CONTRAST].values(),
            promotion_effect(book, evidence, "lstm-snow", "lstm"),
        ]
        assert [effect and effect.verdict for effect in effects] == [verdict] * 4


def test_a_main_effect_is_judged_by_the_margin_of_the_spec() -> None:
    """Two kinds of model that snow helps alike."""
    evidence = evidence_of([0.02] * 6, [0.1] * 6, "123123")
    period = evidence.periods["test"]
    qsim, metrics = (
        {**of_arms, **{f"ea{arm}": of_arm for arm, of_arm in of_arms.items()}}
        for of_arms in (period.qsim, period.metrics)
    )
    period = replace(period, qsim=qsim, metrics=metrics)
    evidence = replace(evidence, periods={"validation": period, "test": period})
    for margin, verdict in ((0.01, "better"), (0.05, "equivalent")):
        book = book_of(factors__model=["lstm", "ealstm"], evidence__equivalence=margin)
        effects = {implied.name: effect for implied, effect in combinations(book, evidence)}
        assert effects[CONTRAST].verdict == verdict


def test_without_a_split_there_are_no_parts() -> None:
    evidence = evidence_of([0.1] * 4, [0.1] * 4, "1234")
    assert split_effects(book_of(), evidence) == {}


# A study


def reported(folder: Path, store: Path, **changes: Any) -> dict[str, Any]:
    storage = LocalStorage(folder / "study")
    book = InlineStudy(store=store, storage=storage).finish(**changes)
    return write_report(book, storage, folder / "report")


@pytest.fixture(scope="module")
def by_elevation(
    synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Split by an attribute that no arm sees: two basins below, four above."""
    folder = tmp_path_factory.mktemp("by_elevation")
    heights = np.sort(open_store(synthetic_store)["elev_mean"].values)
    report = reported(
        folder,
        synthetic_store,
        data__attributes=["p_mean", "elev_mean"],
        factors={"model": ["lstm"], "statics": ["off"], "snow": ["off", "observed"]},
        evidence={"repetitions": 200, "split": {"attribute": "elev_mean", "at": float(heights[2])}},
    )
    return folder / "report", report


def test_parts_follow_from_the_table_of_basins(
    by_elevation: tuple[Path, dict[str, Any]], synthetic_store: Path
) -> None:
    folder, report = by_elevation
    (contrast,) = report["contrasts"]
    split = contrast["split"]
    basins = pd.read_csv(folder / "basins.csv", dtype={"gauge_id": str})
    means = basins[basins["period"] == "test"].groupby(["arm", "gauge_id"])["nse"].mean()
    paired = means[contrast["a"]] - means[contrast["b"]]
    height = open_store(synthetic_store)["elev_mean"].to_series().reindex(paired.index)
    for side, chosen in (("below", height < split["at"]), ("above", height >= split["at"])):
        assert split[side]["difference"] == pytest.approx(paired[chosen].median(), rel=1e-9)
        assert set(split[side]) == {"difference", "low", "high", "verdict", "basins"}
    assert (split["attribute"], split["below"]["basins"], split["above"]["basins"]) == (
        "elev_mean", 2, 4)  # fmt: skip


def test_files_and_terminal_tell_the_parts(
    by_elevation: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = by_elevation
    split = report["contrasts"][0]["split"]
    (row,) = pd.read_csv(folder / "contrasts.csv").to_dict("records")
    assert row["difference"] == pytest.approx(report["contrasts"][0]["difference"])
    for side in ("below", "above"):
        told = {name: row[f"split.{side}.{name}"] for name in split[side]}
        assert told == pytest.approx(split[side])
    assert (row["split.attribute"], row["split.at"]) == ("elev_mean", pytest.approx(split["at"]))
    assert (folder / "differences_by_split.png").stat().st_size > 0
    show_report(report, Console(width=160))
    table = capsys.readouterr().out.partition("in which basins")[2]
    assert f"elev_mean < {split['at']:g}" in table and f"elev_mean ≥ {split['at']:g}" in table
    assert all(f"{split[side]['difference']:+.3f}" in table for side in ("below", "above"))


def test_a_split_with_all_basins_on_one_side(
    synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = {"repetitions": 200, "split": {"attribute": "frac_snow", "at": 2.0}}
    report = reported(tmp_path, synthetic_store, evidence=evidence)
    (contrast,) = report["contrasts"]
    assert contrast["split"]["above"] is None
    assert contrast["split"]["below"]["difference"] == contrast["difference"]
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert written["contrasts"][0]["split"]["above"] is None
    (row,) = pd.read_csv(tmp_path / "report" / "contrasts.csv").to_dict("records")
    assert np.isnan(row["split.above.difference"]) and row["split.below.basins"] == 6
    assert (tmp_path / "report" / "differences_by_split.png").stat().st_size > 0
    show_report(report, Console(width=160))
    assert "too few" in capsys.readouterr().out.partition("in which basins")[2]


def test_without_a_split_the_report_is_as_before(synthetic_store: Path, tmp_path: Path) -> None:
    report = reported(tmp_path, synthetic_store)
    assert "split" not in report["contrasts"][0]
    assert not (tmp_path / "report" / "differences_by_split.png").exists()
    columns = pd.read_csv(tmp_path / "report" / "contrasts.csv").columns
    assert not [name for name in columns if name.startswith("split")]
