"""Idle workers are kept while jobs are left, and no longer: by Tune's own cache of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.utils.object_cache import _ObjectCache
from simulator import Conditions, drive, open_book
from small import small_spec

from study.experiment import reserve
from study.experiment.progress import jobs_left, planned_jobs
from study.experiment.reserve import PATIENCE_SECONDS, Reserve
from study.experiment.storage import LocalStorage

CORE = "a core"
WORKERS = 4


class Tune:
    """As much of Tune's controller as the reserve meets, and what Tune does at every step."""

    def __init__(self) -> None:
        self._actor_cache = _ObjectCache(may_keep_one=True)

    def idle(self) -> int:
        """How many of the workers stay when all of them find no trial."""
        cache = self._actor_cache
        list(cache.flush_cached_objects(force_all=True))
        for worker in range(WORKERS):
            cache.cache_object(CORE, str(worker))
        list(cache.flush_cached_objects())
        return int(cache.num_cached_objects)


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reserve, "time", clock)
    return clock


def test_as_many_idle_workers_stay_as_there_are_jobs_left(clock: Clock) -> None:
    tune, kept = Tune(), Reserve()
    assert tune.idle() == 1  # why this is needed
    kept.renew()
    for left, stay in ((9, 4), (3, 3), (2, 2), (7, 4), (0, 1), (-1, 1)):
        kept.hold(tune, CORE, left)
        assert tune.idle() == stay
    assert tune._actor_cache.total_max_objects == 0


def test_after_a_minute_without_a_job_they_may_go(clock: Clock) -> None:
    tune, kept = Tune(), Reserve()
    kept.renew()
    clock.now += PATIENCE_SECONDS - 1
    kept.hold(tune, CORE, 9)
    assert tune.idle() == 4
    clock.now += 2
    kept.hold(tune, CORE, 9)
    assert tune.idle() == 1
    kept.renew()
    kept.hold(tune, CORE, 9)
    assert tune.idle() == 4


def test_after_the_loss_of_one_the_others_go(clock: Clock) -> None:
    """Until the next job is handed out, to a worker that has just started."""
    tune, kept = Tune(), Reserve()
    kept.renew()
    kept.hold(tune, CORE, 9)
    kept.dissolve()
    kept.hold(tune, CORE, 9)
    assert tune.idle() == 1


def test_trials_that_wait_are_counted_beside(clock: Clock) -> None:
    """Tune raises and lowers the same number for trials that it has staged."""
    tune, kept = Tune(), Reserve()
    tune._actor_cache.increase_max(CORE)
    kept.renew()
    kept.hold(tune, CORE, 2)
    assert tune.idle() == 3
    kept.hold(tune, CORE, 0)
    assert tune._actor_cache.total_max_objects == 1


def test_jobs_left(tmp_path: Path) -> None:
    spec, storage = small_spec(), LocalStorage(tmp_path)
    book = open_book(spec, storage)
    planned = planned_jobs(spec, len(book.arms))
    assert jobs_left(book) == planned
    first = book.next_job()
    assert first is not None and jobs_left(book) == planned - 1
    assert jobs_left(drive(spec, storage, Conditions())) == 0
