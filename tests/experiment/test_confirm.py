"""The confirmation: the test period is read once, and every further reading is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import InlineStudy

from study.errors import SpecError
from study.evaluation.metrics import nse
from study.experiment import confirm as module
from study.experiment.confirm import confirm, read_predictions
from study.experiment.engine import open_ledger
from study.experiment.eventlog import EventLog
from study.experiment.ledger import Ledger
from study.experiment.storage import LocalStorage


@pytest.fixture
def study(synthetic_store: Path, tmp_path: Path) -> InlineStudy:
    return InlineStudy(store=synthetic_store, storage=LocalStorage(tmp_path / "small"))


def seeds(number: int) -> dict[str, Any]:
    return {"confirmation__seeds": number, "confirmation": {
        "candidates": 2, "candidate_seeds": 1, "seeds": number}}  # fmt: skip


def readings(study: InlineStudy) -> int:
    return len(open_ledger(study.storage).readings)


def test_the_test_period_is_read_once(study: InlineStudy) -> None:
    study.train()
    assert readings(study) == 0
    study.finish()
    assert readings(study) == 1
    log = EventLog(study.storage).events
    study.finish()
    again = [e["event"] for e in EventLog(study.storage).events[len(log) :]]
    assert again == ["launch"]


def test_growth_before_the_reading_is_no_further_reading(study: InlineStudy) -> None:
    study.train(**seeds(2))
    study.train(**seeds(3))
    book = study.finish(**seeds(3), search__cohorts=2)
    assert readings(study) == 1
    assert all(len(book.replicates(arm)) == 3 for arm in book.arms)


def test_growth_after_the_reading_is_another_reading(study: InlineStudy) -> None:
    study.finish(**seeds(2))
    book = study.finish(**seeds(3))
    assert readings(study) == 2
    assert all(job.key in book.evaluations for a in book.arms for job in book.replicates(a))
    study.finish(**seeds(3))
    assert readings(study) == 2


def test_a_reading_that_broke_off_goes_on_as_the_same(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that the period is read before it is: a crash must not look like a choice."""
    book, prepared = study.train()
    evaluate, done = module._evaluate, []

    def crash_at_the_third(*args: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return evaluate(*args)

    monkeypatch.setattr(module, "_evaluate", crash_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        confirm(book, prepared.store, study.storage)
    book.log.flush()
    monkeypatch.undo()
    assert readings(study) == 1
    book = study.finish()
    assert readings(study) == 1
    assert len(book.evaluations) == 4


@pytest.mark.parametrize("change", [{"search__cohorts": 1}, seeds(1)])
def test_a_study_does_not_shrink(study: InlineStudy, change: dict[str, Any]) -> None:
    """Leaving replicates out after they were seen would be a choice of results."""
    study.train(**seeds(2), search__cohorts=2)
    with pytest.raises(SpecError, match="may grow but not shrink"):
        study.train(**{"search__cohorts": 2, **change})


def test_scores_are_those_of_the_stored_simulations(study: InlineStudy) -> None:
    book = study.finish()
    observed = module.load(study.storage.read(module.OBSERVED))
    for arm in book.arms:
        for job in book.replicates(arm):
            sims = read_predictions(study.storage, job.key)
            assert set(sims) == {"validation", "test"}
            for period, sim in sims.items():
                values = nse(sim=sim, obs=observed[f"qobs.{period}"])
                told = book.evaluations[job.key][period]
                assert told["nse_median"] == pytest.approx(np.nanmedian(values))
                assert told["share_nse_below_0"] == pytest.approx((values < 0).mean())
            trained = job.scores[book.spec.training.epochs]
            assert book.evaluations[job.key]["validation"]["nse_median"] == trained


def test_without_a_test_period_none_is_read(study: InlineStudy) -> None:
    periods = {"train": "1981-10-01:1983-09-30", "validation": "1983-10-01:1985-09-30"}
    book = study.finish(data__periods=periods)
    assert readings(study) == 0
    assert {tuple(scores) for scores in book.evaluations.values()} == {("validation",)}


def test_a_reader_writes_nothing(study: InlineStudy) -> None:
    study.finish()
    before = study.storage.keys("")
    ledger = open_ledger(study.storage)
    assert isinstance(ledger, Ledger) and ledger.trained()
    assert study.storage.keys("") == before


def test_parts_of_the_basins_are_named_before_the_test_is_read(study: InlineStudy) -> None:
    study.train()
    split = {"evidence": {"repetitions": 200, "split": {"attribute": "frac_snow", "at": 0.3}}}
    study.finish(**split)
    other = {"evidence": {"repetitions": 200, "split": {"attribute": "frac_snow", "at": 0.5}}}
    for late in (other, {}):
        with pytest.raises(SpecError, match=r"split was .* when the test period was read"):
            study.finish(**late)
    assert readings(study) == 1
