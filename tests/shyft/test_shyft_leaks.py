"""Nothing held out reaches a network through Shyft: its parameters, its series on the days that
networks are trained with, and the trained weights are the same to the bit."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from small import small_spec
from test_leaks import corrupt, run_study

from study.data.features import SHYFT_FEATURES
from study.data.store import open_store, write_store
from study.shyft.calibration import FED_DAYS, WARMUP_DAYS, Method
from study.shyft.store import add_features
from study.spec import Period

SPEC = small_spec(
    data__periods={
        "train": "1984-10-01:1986-09-30",
        "validation": "1986-10-01:1987-09-30",
        "test": "1987-10-01:1988-09-30",
    },
    factors={"model": ["lstm"], "shyft": ["input", "residual"]},
    search__cohorts=1,
    search__cohort_size=1,
    search__rungs=[],
)
TRAIN = SPEC.data.periods.train
FIRST, LAST = datetime.date(1980, 10, 1), datetime.date(1988, 9, 30)
DAY = datetime.timedelta(days=1)
HELD_OUT = [
    Period(start=FIRST, end=TRAIN.start - (FED_DAYS + WARMUP_DAYS + 1) * DAY),
    Period(start=TRAIN.end + DAY, end=LAST),
]
"""All days but the training days, those fed before them, and Shyft's warm-up before these."""


def found(store: Path, folder: Path) -> dict[str, Any]:
    """What Shyft and a study on it come to."""
    add_features(store, TRAIN, Method(starts=1, draws=2, evaluations=20))
    opened = open_store(store)
    days = opened.sel(time=slice(str(TRAIN.start - FED_DAYS * DAY), str(TRAIN.end)))
    account = opened.attrs["about"]["shyft"]
    return {
        "parameters": account["parameters"],
        "scores": account["scores"],
        "series": {name: days[name].values.tobytes() for name in SHYFT_FEATURES},
        "study": run_study(SPEC, store, folder),
    }


@pytest.fixture(scope="module")
def source(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two basins."""
    out = tmp_path_factory.mktemp("source") / "two.zarr"
    write_store(open_store(synthetic_store).isel(basin=slice(2)).load(), out)
    return out


@pytest.fixture(scope="module")
def undisturbed(
    python: str, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = corrupt(source, folder / "store.zarr", discharge=[], inputs=[])
    return found(store, folder / "study")


def test_held_out_days_change_nothing_that_is_trained(
    source: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    outside = [
        Period(start=FIRST, end=TRAIN.start - DAY),
        Period(start=TRAIN.end + DAY, end=LAST),
    ]
    store = corrupt(source, tmp_path / "store.zarr", discharge=outside, inputs=HELD_OUT)
    assert found(store, tmp_path / "study") == undisturbed
    changed = open_store(store)["shyft_discharge"].sel(time=slice("1987-01-01", None)).values
    before = open_store(source)["prcp"].sel(time=slice("1987-01-01", None)).values
    assert changed.shape == before.shape and changed.mean() > 10 * before.mean()  # it was heard


def test_the_comparison_above_can_fail(
    source: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Forcing of Shyft's warm-up changes the series, discharge of training days the parameters."""
    early = Period(start=FIRST, end=TRAIN.start - FED_DAYS * DAY)
    store = corrupt(source, tmp_path / "warm.zarr", discharge=[], inputs=[early])
    assert found(store, tmp_path / "warm")["series"] != undisturbed["series"]
    store = corrupt(source, tmp_path / "days.zarr", discharge=[TRAIN], inputs=[])
    assert found(store, tmp_path / "days")["parameters"] != undisturbed["parameters"]
