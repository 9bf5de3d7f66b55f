"""The search's account: expected best by brute force, importances, optima at borders."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from simulator import CONDITIONS_ROUGH, drive
from small import small_spec

from study.experiment.book import Book
from study.experiment.importance import importances
from study.experiment.jobs import JobKey
from study.experiment.storage import LocalStorage
from study.report.budget import _end, expected_best, optima_at_borders
from study.spec import OptionsSpec, RangeSpec


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = np.array([0.3, 0.7, 0.1, 0.6, 0.65])
    for drawn, value in enumerate(expected_best(scores), start=1):
        subsets = list(itertools.combinations(scores, drawn))
        assert value == pytest.approx(np.mean([max(subset) for subset in subsets]))


def test_expected_best_of_many_trials_is_finite_and_never_falls() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    best = expected_best(scores)
    assert best[0] == pytest.approx(scores.mean())
    assert best[-1] == pytest.approx(scores.max())
    assert np.all(np.diff(best) >= -1e-12)


def test_expected_best_is_unbiased_where_drawing_with_replacement_is_not() -> None:
    """The best of five normal draws, estimated from ten: known to be 1.1630."""
    draws = np.random.default_rng(0)
    ours, with_replacement = [], []
    for _ in range(4000):
        scores = np.sort(draws.normal(size=10))
        ours.append(expected_best(scores)[4])
        steps = (np.arange(1, 11) / 10) ** 5 - (np.arange(10) / 10) ** 5
        with_replacement.append(scores @ steps)
    assert np.mean(ours) == pytest.approx(1.1630, abs=0.02)
    assert np.mean(with_replacement) < 1.1


@pytest.mark.parametrize(
    ("value", "end"), [(0.001, "lower"), (0.00104, "lower"), (0.03, None), (0.095, "upper")]
)
def test_ends_of_a_logarithmic_range(value: float, end: str | None) -> None:
    assert _end(RangeSpec(low=0.001, high=0.1, log=True), value) == end


def test_ends_of_choices() -> None:
    sizes = OptionsSpec(choices=(64, 32, 128))
    assert [_end(sizes, size) for size in (32, 64, 128)] == ["lower", None, "upper"]
    assert _end((32, 64), 64) is None  # of two, each is an end
    assert _end(("adam", "adamw", "sgd"), "adam") is None


def hilly(key: JobKey, hyperparameters: dict[str, float], epoch: int) -> float:
    """Dropout decides all, the learning rate next to nothing."""
    return 0.5 - (hyperparameters["dropout"] - 0.25) ** 2 * 4 + hyperparameters["learning_rate"] / 9


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    spec = small_spec(search__cohort_size=8)
    storage = LocalStorage(tmp_path_factory.mktemp("searched"))
    return drive(spec, storage, CONDITIONS_ROUGH, score=hilly)


def test_importance_finds_what_decides(book: Book) -> None:
    shares = importances(book, book.arms["lstm"])
    assert shares is not None
    assert shares["dropout"] > 0.75 > 3 * shares["learning_rate"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == importances(book, book.arms["lstm"])  # seeded


def test_importance_of_few_trials_is_not_told(tmp_path: Path) -> None:
    few = drive(small_spec(search__cohorts=1), LocalStorage(tmp_path), CONDITIONS_ROUGH)
    assert importances(few, few.arms["lstm"]) is None


def test_optima_of_the_winner_are_looked_at(book: Book) -> None:
    winner = book.winner("lstm")
    assert winner is not None
    chosen = book.jobs[JobKey("lstm", "search", winner, 0)].hyperparameters
    found = {f["hyperparameter"]: f["end"] for f in optima_at_borders(book, "lstm")}
    assert "dropout" not in found  # its optimum is in the middle
    share = np.log10(chosen["learning_rate"] / 0.003)  # the range is a decade
    at_an_end = "lower" if share <= 0.05 else "upper" if share >= 0.95 else None
    assert found.get("learning_rate") == at_an_end
