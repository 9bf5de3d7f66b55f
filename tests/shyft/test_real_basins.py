"""The real Shyft on two real basins, from files to a study's report, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from study.data.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BASINS = ("01031500", "06614800")
"""One in Maine, one in Colorado where most precipitation is snow."""
TRAIN, VALIDATION = "1999-10-01:2008-09-30", "1982-10-01:1989-09-30"
SPEC: dict[str, Any] = {
    "name": "two",
    "data": {"periods": {"train": TRAIN, "validation": VALIDATION,
                         "test": "1989-10-01:1999-09-30"}},
    "factors": {"model": ["lstm"], "shyft": ["off", "input", "residual", "both"]},
    "training": {"epochs": 3, "targets_per_window": 180, "hidden_size": 8, "batch_size": 4},
    "search": {"cohorts": 1, "cohort_size": 1},
    "confirmation": {"candidates": 1, "candidate_seeds": 1, "seeds": 2},
    "evidence": {"repetitions": 200},
}  # fmt: skip


def study(*words: str | Path) -> str:
    """What a command prints, if it succeeds."""
    command = [sys.executable, "-m", "study", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def store(python: str, camels_root: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if camels_root is None:
        pytest.skip("needs CAMELS-US files: set CAMELS_US_ROOT")
    folder = tmp_path_factory.mktemp("two")
    (folder / "basins.txt").write_text("\n".join(BASINS))
    study("data", "build", "--root", camels_root, "--snow", camels_root / "swe_uaz",
          "--basins", folder / "basins.txt", "--out", folder / "two.zarr")  # fmt: skip
    return folder / "two.zarr"


@pytest.fixture(scope="module")
def scores(store: Path) -> dict[str, dict[str, float]]:
    told = study("shyft", "simulate", store, "--starts", "1", "--draws", "20", "--train-period",
                 TRAIN, "--validation-period", VALIDATION, "--json")  # fmt: skip
    found: dict[str, dict[str, float]] = json.loads(told)
    return found


def test_shyft_simulates_them_well(scores: dict[str, dict[str, float]]) -> None:
    for basin in BASINS:
        found = scores[basin]
        assert found["nse_calibration"] > 0.65 and found["nse_validation"] > 0.65, basin
        assert 0.5 < found["nse_crossfit"] < found["nse_calibration"], basin


def test_its_snow_is_the_snow_that_was_observed(
    store: Path, scores: dict[str, dict[str, float]]
) -> None:
    """In Colorado its SWE goes with a product that it never saw, day by day."""
    chosen = open_store(store).sel(basin=BASINS[1], time=slice("1982-10-01", None))
    assert np.corrcoef(chosen["shyft_swe"].values, chosen["swe"].values)[0, 1] > 0.9


def test_a_study_on_them(store: Path, scores: dict[str, dict[str, float]], tmp_path: Path) -> None:
    spec = tmp_path / "two.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    assert "calibrated on discharge of 1999-10-01:2008-09-30" in study(
        "check", spec, "--data", store
    )
    study("run", spec, "--data", store, "--results", tmp_path / "results")
    report = json.loads(study("report", "two", "--results", tmp_path / "results", "--json"))
    medians = {arm["arm"]: arm["test"]["nse_median"] for arm in report["arms"]}
    # Three passes teach a network little; one that corrects Shyft begins where Shyft is.
    assert medians["lstm-residual"] > 0.6 > medians["lstm"]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/results/mlflow.db")
    experiment = client.get_experiment_by_name("two")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`study.stage` = 'study'")
    path = client.download_artifacts(run.info.run_id, "shyft.json", str(tmp_path))
    assert set(json.loads(Path(path).read_text())["parameters"]) == set(BASINS)
    out = tmp_path / "qsim.csv"
    bundle = next((tmp_path / "results" / "two" / "export").iterdir())
    study("predict", bundle, "--forcing", store, "--period", "test", "--out", out)
    assert len(out.read_text().splitlines()) == 1 + 2 * 3652


def test_a_study_that_trains_on_fewer_days_is_refused(
    store: Path, scores: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    later = {**SPEC, "data": {"periods": {"train": "2000-10-01:2008-09-30",
                                          "validation": VALIDATION}}}  # fmt: skip
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(later))
    for command in ("check", "run"):
        words = [command, str(tmp_path / "two.yaml"), "--data", str(store)]
        words += ["--results", str(tmp_path / "results")] if command == "run" else []
        ended = subprocess.run(
            [sys.executable, "-m", "study", *words], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert "calibrated on discharge of 1999-10-01:2008-09-30" in " ".join(ended.stderr.split())
    assert not (tmp_path / "results").exists()
