"""The report of a small study: its numbers, its files, and an arm that could not be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import InlineStudy
from rich.console import Console

from study.errors import InputError, StudyError
from study.experiment.engine import raise_failure
from study.experiment.ledger import Ledger
from study.experiment.progress import winner_of
from study.experiment.storage import LocalStorage
from study.export.winner import export_arm
from study.report.compare import write_report
from study.report.console import show_report

# A step so large that the first one throws the weights out of float32.
HOPELESS = {"factors": {"model": ["lstm"], "learning_rate": ["0.01", "1e38"]},
            "search__space": {"dropout": {"low": 0.0, "high": 0.5}}}  # fmt: skip


def finished(folder: Path, store: Path, **changes: Any) -> tuple[Ledger, LocalStorage]:
    storage = LocalStorage(folder)
    return InlineStudy(store=store, storage=storage).finish(**changes), storage


@pytest.fixture(scope="module")
def reported(
    synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reported")
    book, storage = finished(folder / "study", synthetic_store, confirmation__seeds=5)
    return folder / "report", write_report(book, storage, folder / "report")


def test_files_are_complete_and_nothing_else_is_left(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = reported
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "arms.csv", "contrasts.csv", "basins.csv"} <= names
    for table in ("arms", "contrasts", "expected_best", "basins"):
        as_text = pd.read_csv(folder / f"{table}.csv", dtype={"gauge_id": str})
        assert len(as_text) == len(pd.read_parquet(folder / f"{table}.parquet"))
    for figure in ("nse_cdf", "differences", "hydrographs", "learning_curves", "expected_best",
                   "where_01"):  # fmt: skip
        assert {f"{figure}.png", f"{figure}.svg"} <= names
    assert "report.html" in names
    assert all(path.stat().st_size > 0 for path in folder.iterdir())
    assert {path.name for path in folder.parent.iterdir()} == {"study", "report"}


def test_medians_follow_from_the_table_of_basins(reported: tuple[Path, dict[str, Any]]) -> None:
    """`nse_median` is the mean over seeds of the median over basins, computed here by pandas."""
    folder, report = reported
    basins = pd.read_csv(folder / "basins.csv", dtype={"gauge_id": str})
    by_seed = basins.groupby(["period", "arm", "seed"])["nse"].median()
    for arm in report["arms"]:
        for period in ("validation", "test"):
            expected = by_seed[period, arm["arm"]].mean()
            assert arm[period]["nse_median"] == pytest.approx(expected, rel=1e-12)


def test_difference_is_the_median_of_paired_differences(
    reported: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = reported
    basins = pd.read_csv(folder / "basins.csv", dtype={"gauge_id": str})
    means = basins[basins["period"] == "test"].groupby(["arm", "gauge_id"])["nse"].mean()
    assert report["contrasts"]
    for contrast in report["contrasts"]:
        paired = (means[contrast["a"]] - means[contrast["b"]]).median()
        assert contrast["difference"] == pytest.approx(paired, rel=1e-9)
        assert contrast["low"] <= contrast["difference"] <= contrast["high"]


def test_budgets_are_equal(reported: tuple[Path, dict[str, Any]]) -> None:
    arms = reported[1]["arms"]
    assert len({(arm["trials"], arm["epochs"], arm["replicates"]) for arm in arms}) == 1
    assert all(arm["seconds"] > 0 for arm in arms)


def test_one_seed_gives_json_without_nan_and_no_verdict(
    synthetic_store: Path, tmp_path: Path
) -> None:
    book, storage = finished(tmp_path / "study", synthetic_store, confirmation__seeds=1)
    report = write_report(book, storage, tmp_path / "report")
    text = (tmp_path / "report" / "report.json").read_text()

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads(text, parse_constant=refuse)
    assert np.isnan(report["contrasts"][0]["low"])
    assert written["contrasts"][0]["low"] is None
    assert written["contrasts"][0]["verdict"] == "too few seeds"


def test_an_arm_that_cannot_be_trained_is_told_and_the_rest_reported(
    synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    book, storage = finished(tmp_path / "study", synthetic_store, **HOPELESS)
    report = write_report(book, storage, tmp_path / "report")
    hopeless = "lstm-learning_rate.1e38"
    assert report["failed_arms"] == [hopeless]
    assert [arm["arm"] for arm in report["arms"]] == ["lstm-learning_rate.0.01"]
    assert report["contrasts"] == []
    assert {failure["job"].split("/")[0] for failure in report["failures"]} == {hopeless}
    show_report(report, Console(width=120))
    assert f"no trial of arm {hopeless} could be trained" in capsys.readouterr().out
    assert winner_of(book) == "lstm-learning_rate.0.01"
    with pytest.raises(StudyError, match="could not be trained"):
        export_arm(book, storage, hopeless, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(StudyError, match=f"arm {hopeless} could not be trained.*diverged"):
        raise_failure(book)


def test_an_unfinished_study_has_no_report(synthetic_store: Path, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "study")
    book, _ = InlineStudy(store=synthetic_store, storage=storage).train()
    with pytest.raises(StudyError, match="nothing to report yet"):
        write_report(book, storage, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_folder_that_is_no_report_is_not_touched(
    reported: tuple[Path, dict[str, Any]], synthetic_store: Path, tmp_path: Path
) -> None:
    book, storage = finished(tmp_path / "study", synthetic_store)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match="is no report"):
        write_report(book, storage, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    write_report(book, storage, tmp_path / "report")
    write_report(book, storage, tmp_path / "report")  # a report is replaced
    assert {path.name for path in tmp_path.iterdir()} == {"study", "thesis", "report"}


def test_repeated_searches_tell_how_far_their_luck_goes(
    synthetic_store: Path, tmp_path: Path
) -> None:
    """They are tuned and confirmed as the arms are, and take no part in contrasts."""
    book, storage = finished(
        tmp_path / "study",
        synthetic_store,
        search__repeats=2,
        factors={"snow": ["off", "observed"]},
    )
    report = write_report(book, storage, tmp_path / "report")
    assert [arm["arm"] for arm in report["arms"]] == ["lstm", "lstm-snow"]
    assert {c[side] for c in report["contrasts"] for side in "ab"} == {"lstm", "lstm-snow"}
    basins = pd.read_csv(tmp_path / "report" / "basins.csv", dtype={"gauge_id": str})
    medians = basins[basins["period"] == "test"].groupby(["arm", "seed"])["nse"].median()
    assert set(medians.index.levels[0]) == {"lstm", "lstm-snow", "lstm~1", "lstm-snow~1"}
    for found in report["searches"]:
        expected = [medians[name].mean() for name in (found["arm"], f"{found['arm']}~1")]
        assert found["nse_median"] == pytest.approx(expected)
        assert found["std"] == pytest.approx(abs(expected[0] - expected[1]) / 2**0.5)
        assert found["seed_std"] > 0
    assert winner_of(book) in ("lstm", "lstm-snow")
    draws = {a: [dict(j.hyperparameters) for j in book.stage(a, "search")] for a in book.arms}
    assert draws["lstm"] == draws["lstm-snow"] != draws["lstm~1"] == draws["lstm-snow~1"]
    show_report(report, Console())
