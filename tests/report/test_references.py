"""Models that stand beside the arms: Shyft and SAC-SMA, on the basins and days of the arms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from inline import InlineStudy
from rich.console import Console
from safetensors.numpy import load, save

from study.data.groups import write_group
from study.data.store import digests_of, open_store, write_store
from study.evaluation.metrics import kge, nse
from study.experiment.confirm import BASINS, OBSERVED
from study.experiment.ledger import Ledger
from study.experiment.storage import LocalStorage
from study.report.compare import write_report
from study.report.console import show_report
from study.report.evidence import Period, gather, reference_summary

NAN = float("nan")
ARM_NSE = ((0.1, 0.9, 0.3), (0.5, 0.9, 0.5))


def period_of(references: dict[str, list[list[float]]], arm_nse: Any = ARM_NSE) -> Period:
    """Three basins on four days, and an arm of two seeds whose scores are given."""
    qobs = np.array([[1, 2, 3, NAN], [2, 4, 6, 8], [1, 3, 1, 3]])
    series = {name: np.array(values) for name, values in references.items()}
    return Period(
        days=pd.date_range("1999-10-01", periods=4),
        qobs=qobs,
        swe=None,
        qsim={},
        metrics={"lstm": {"nse": np.array(arm_nse)}},
        seeds={"lstm": (0, 1)},
        references=series,
        reference_metrics={
            name: {"nse": nse(sim=sim, obs=qobs), "kge": kge(sim=sim, obs=qobs)}
            for name, sim in series.items()
        },
    )


def test_a_basin_with_a_scored_day_missing_is_left_out() -> None:
    """The first basin lacks a day that was not observed, the second one that was.

    By hand: NSE 1 - 1 / 2 and 1 - 16 / 4; the third basin has r = -1 and no other error, the first
    r = 3 / sqrt(2 * 42 / 9), alpha = sqrt(7 / 3), beta = 7 / 6; the arm's medians over these two
    basins are 0.2 and 0.5.
    """
    period = period_of({"sacsma": [[1, 2, 4, NAN], [2, NAN, 6, 8], [3, 1, 3, 1]]})
    found = reference_summary(period, "sacsma", "lstm")
    assert found is not None
    r, alpha, beta = 3 / np.sqrt(2 * 42 / 9), np.sqrt(7 / 3), 7 / 6
    first_kge = 1 - np.sqrt((r - 1) ** 2 + (alpha - 1) ** 2 + (beta - 1) ** 2)
    assert found == pytest.approx(
        {
            "nse_median": -1.25,
            "nse_mean": -1.25,
            "kge_median": (first_kge - 1) / 2,
            "share_nse_below_0": 0.5,
            "winner_nse_median": 0.35,
            "basins": 2,
        }
    )


def test_no_basin_no_scores() -> None:
    period = period_of({"sacsma": [[NAN] * 4, [2, NAN, 6, 8], [NAN] * 4]})
    assert reference_summary(period, "sacsma", "lstm") is None
    assert period.complete_references() == {}


def test_complete_is_what_has_every_basin_of_the_arms() -> None:
    every: list[list[float]] = [[1, 2, 4, NAN], [2, 4, 6, 8], [3, 1, 3, 1]]
    both = {"shyft": every, "sacsma": [[NAN] * 4, *every[1:]]}
    complete = period_of(both).complete_references()
    assert list(complete) == ["shyft"]
    np.testing.assert_allclose(complete["shyft"], [0.5, 1, -3])
    first_not_scored = [[NAN, 0.9, 0.3], [NAN, 0.9, 0.5]]
    assert list(period_of(both, first_not_scored).complete_references()) == ["shyft", "sacsma"]


# A study on a store that has both


@pytest.fixture(scope="module")
def store(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shyft has 0.8 of the observed discharge everywhere, SAC-SMA 1.5 of it in two basins."""
    path = tmp_path_factory.mktemp("references") / "us.zarr"
    dataset = open_store(synthetic_store).load()
    filled = dataset["qobs"].fillna(0.0)
    sacsma = (1.5 * filled).where(filled["basin"].isin(dataset["basin"][[1, 4]]))
    about = {"units": "mm/d", "group": "sacsma", "source": "SAC-SMA", "product": "daymet"}
    write_store(dataset.assign(qsim_sacsma=sacsma.assign_attrs(about)), path)
    shyft = (0.8 * filled).assign_attrs(units="mm/d", group="shyft")
    group = xr.Dataset({"shyft_discharge": shyft}, attrs={})
    origin = {"stack": "pt_st_k", "train_period": "1981-10-01:1983-09-30", "donors": {}}
    write_group(path, "shyft", group, digests_of(group)["shyft"], origin)
    return path


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, LocalStorage]:
    storage = LocalStorage(tmp_path_factory.mktemp("finished") / "study")
    return InlineStudy(store=store, storage=storage).finish(), storage


@pytest.fixture(scope="module")
def reported(
    finished: tuple[Ledger, LocalStorage], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reported") / "report"
    return folder, write_report(*finished, folder)


def factor_scores(obs: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """NSE and KGE of `factor` times the observed discharge, (basin,) each: r is 1, alpha and beta
    are the factor."""
    error = (factor - 1) ** 2 * np.nansum(obs**2, axis=1)
    spread = np.nansum((obs - np.nanmean(obs, axis=1, keepdims=True)) ** 2, axis=1)
    return 1 - error / spread, np.full(len(obs), 1 - np.sqrt(2) * abs(factor - 1))


@pytest.mark.parametrize(
    ("name", "factor", "rows"), [("shyft", 0.8, slice(None)), ("sacsma", 1.5, [1, 4])]
)
@pytest.mark.parametrize("period", ["validation", "test"])
def test_scores_are_those_of_the_stores_series(
    name: str,
    factor: float,
    rows: Any,
    period: str,
    finished: tuple[Ledger, LocalStorage],
    reported: tuple[Path, dict[str, Any]],
) -> None:
    folder, report = reported
    observed = gather(*finished).periods[period].qobs.astype(np.float64)[rows]
    scores, kges = factor_scores(observed, factor)
    found = next(r for r in report["references"] if r["reference"] == name)[period]
    assert found["nse_median"] == pytest.approx(np.median(scores), rel=1e-4)
    assert found["nse_mean"] == pytest.approx(np.mean(scores), rel=1e-4)
    assert found["kge_median"] == pytest.approx(np.median(kges), rel=1e-4)
    assert found["share_nse_below_0"] == np.mean(scores < 0)
    assert found["basins"] == len(observed)
    basins = pd.read_csv(folder / "basins.csv", dtype={"gauge_id": str})
    of_winner = basins[(basins["period"] == period) & (basins["arm"] == report["winner"])]
    by_seed = of_winner.pivot(index="seed", columns="gauge_id", values="nse").to_numpy()
    assert found["winner_nse_median"] == pytest.approx(np.median(by_seed[:, rows], axis=1).mean())


def test_table_and_terminal_say_the_same(
    reported: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = reported
    table = pd.read_csv(folder / "references.csv").set_index(["reference", "period"])
    assert list(table.index) == [
        (name, period) for name in ("shyft", "sacsma") for period in ("validation", "test")
    ]
    for reference in report["references"]:
        for period in ("validation", "test"):
            row = table.loc[(reference["reference"], period)]
            assert row.to_dict() == pytest.approx(reference[period])
    show_report(report, Console(width=140))
    said = capsys.readouterr().out
    assert "models to compare with, test period" in said
    (line,) = (line for line in said.splitlines() if "│ sacsma" in line)
    sacsma = report["references"][1]["test"]
    assert [f"{sacsma[key]:.3f}" in line for key in ("nse_median", "winner_nse_median")] == [
        True
    ] * 2
    assert "shyft: Shyft pt_st_k, calibrated on 1981-10-01:1983-09-30" in said
    assert "sacsma: SAC-SMA, forcing daymet" in said


def test_a_store_without_them_gives_none(synthetic_store: Path, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "study")
    book = InlineStudy(store=synthetic_store, storage=storage).finish()
    report = write_report(book, storage, tmp_path / "report")
    assert report["references"] == []
    assert not (tmp_path / "report" / "references.csv").exists()


def test_results_written_before_there_were_references_are_reported(
    finished: tuple[Ledger, LocalStorage], reported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    book, storage = finished
    shutil.copytree(storage.folder, tmp_path / "study")
    old = LocalStorage(tmp_path / "study")
    series = load(old.read(OBSERVED))
    kept = {n: v for n, v in series.items() if n.partition(".")[0] in ("qobs", "swe")}
    assert len(kept) == len(series) - 4
    old.write(OBSERVED, save(kept))
    facts = json.loads(old.read(BASINS))
    del facts["references"]
    old.write(BASINS, json.dumps(facts).encode())
    report = write_report(book, old, tmp_path / "report")
    assert report["references"] == []
    assert report["arms"] == reported[1]["arms"]
