"""Trained networks: two arms that are the same configuration under two names must not differ.

A level is a word, so `1` and `1.0` are two arms of one configuration. Their jobs have names of
their own, hence seeds of their own: what differs between them is chance alone.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import InlineStudy

from calibration.test_invented import most_by_chance
from study.data.store import build_camels_us
from study.data.synthetic import synthesize
from study.experiment.ledger import Ledger
from study.experiment.storage import LocalStorage
from study.report.effects import contrast_effects
from study.report.evidence import Evidence, gather
from study.report.statistics import paired_effect

pytestmark = pytest.mark.calibration

REPLICATES = 24
DRAWS = 400
SAME = {"model": ["lstm"], "clip_norm": ["1", "1.0"]}
NETWORKS = {"epochs": 3, "warmup": 60, "targets_per_window": 180, "batch_size": 8,
            "hidden_size": 8, "learning_rate": 0.03}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 basins in 18 regions."""
    folder = tmp_path_factory.mktemp("many")
    synthesize(folder / "camels", basins=36, years=8)
    build_camels_us(folder / "camels", folder / "store.zarr", snow=folder / "camels" / "swe_uaz")
    return folder / "store.zarr"


def finished(folder: Path, store: Path, **changes: Any) -> tuple[Ledger, Evidence]:
    storage = LocalStorage(folder)
    book = InlineStudy(store=store, storage=storage).finish(training=NETWORKS, **changes)
    return book, gather(book, storage)


@pytest.fixture(scope="module")
def same(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Evidence]:
    """One configuration, nothing searched, under two names."""
    return finished(
        tmp_path_factory.mktemp("same"),
        store,
        factors=SAME,
        search={"space": {}, "cohorts": 1, "cohort_size": 1},
        confirmation={"candidates": 1, "candidate_seeds": 1, "seeds": REPLICATES},
    )


def test_two_names_are_two_sets_of_networks(same: tuple[Ledger, Evidence]) -> None:
    _, evidence = same
    one, other = (evidence.periods["test"].nse(arm) for arm in evidence.arms)
    assert one.shape == other.shape == (REPLICATES, 36)
    assert len(np.unique(np.vstack([one, other]), axis=0)) == 2 * REPLICATES


def test_the_study_finds_no_difference_where_there_is_none(same: tuple[Ledger, Evidence]) -> None:
    book, evidence = same
    (effect,) = contrast_effects(book, evidence).values()
    print(f"\nA/A study        {REPLICATES} replicates an arm: {effect.difference:+.4f} "
          f"[{effect.low:+.4f}, {effect.high:+.4f}], {effect.verdict}")  # fmt: skip
    assert effect.verdict in ("equivalent", "undecided")


@pytest.mark.parametrize("seeds", [5, 8, 16])
def test_false_positives_among_networks_of_one_configuration(
    seeds: int, same: tuple[Ledger, Evidence]
) -> None:
    """The study's networks, dealt again and again into two arms."""
    _, evidence = same
    pool = np.vstack([evidence.periods["test"].nse(arm) for arm in evidence.arms])
    draws, found = np.random.default_rng(seeds), 0
    for deal in range(DRAWS):
        chosen = pool[draws.permutation(len(pool))[: 2 * seeds]]
        effect = paired_effect(chosen[:seeds], chosen[seeds:], regions=evidence.regions,
                               repetitions=300, seed=deal)  # fmt: skip
        found += effect.low > 0 or effect.high < 0
    most = most_by_chance(0.05, DRAWS)
    print(f"\nfalse positives  {'networks of one configuration':48} S={seeds:2}  "
          f"{found / DRAWS:6.1%}  (at most {most:.1%})")  # fmt: skip
    assert found / DRAWS <= most


def test_searches_apart_are_reported_without_a_bound(store: Path, tmp_path: Path) -> None:
    """Four searches of one arm: what their winners differ by is the search's own luck, and a
    verdict about selected configurations may rightly tell them apart."""
    book, evidence = finished(
        tmp_path,
        store,
        factors={"model": ["lstm"]},
        search={"space": {"learning_rate": {"low": 0.003, "high": 0.05, "log": True},
                          "dropout": {"low": 0.0, "high": 0.5}},
                "cohorts": 1, "cohort_size": 4, "rungs": [1], "reduction": 2, "repeats": 4},
        confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 5},
    )  # fmt: skip
    period = evidence.periods["test"]
    for a, b in itertools.combinations(book.arms, 2):
        effect = paired_effect(period.nse(a), period.nse(b), regions=evidence.regions,
                               repetitions=300, seed=0)  # fmt: skip
        print(f"\nsearched A/A     {a + ' - ' + b:48} S= 5  {effect.difference:+.4f} "
              f"[{effect.low:+.4f}, {effect.high:+.4f}]  {effect.verdict}", end="")  # fmt: skip
        assert np.isfinite([effect.low, effect.high]).all()
