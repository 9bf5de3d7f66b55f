"""The start of a study: what is checked before Ray starts, and beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from inline import QUICK, InlineStudy
from small import small_spec

from study.errors import InputError, SpecError
from study.experiment.connection import Connection
from study.experiment.eventlog import EventLog
from study.experiment.provenance import age, host
from study.experiment.starting import begin, look
from study.experiment.storage import LocalStorage

HOSTS: tuple[Mapping[str, float], ...] = ({"CPU": 2.0},)


class Counted(Connection):
    """A connection that knows whether Ray was to start."""

    def __init__(self) -> None:
        super().__init__(address=None)
        self.started = 0

    def hosts(self) -> tuple[Mapping[str, float], ...]:
        self.started += 1
        return HOSTS


def test_ray_starts_beside_the_checks(synthetic_store: Path, tmp_path: Path) -> None:
    spec, ray = small_spec(**QUICK), Counted()
    log = look(spec, LocalStorage(tmp_path / "small"))
    prepared = begin(spec, synthetic_store, log, ray, server=None)
    assert ray.started == 1 and prepared.spec == spec and prepared.arrays.basins


def test_what_needs_no_data_is_checked_before(synthetic_store: Path, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "small")
    study = InlineStudy(store=synthetic_store, storage=storage)
    study.train()
    with pytest.raises(SpecError, match="was begun with another spec"):
        look(small_spec(**QUICK | {"training__epochs": 3}), storage)
    with pytest.raises(SpecError, match="may grow but not shrink"):
        fewer = {"confirmation": QUICK["confirmation"] | {"seeds": 1}}
        look(small_spec(**QUICK | fewer), storage)


def test_ray_does_not_start_without_a_store(tmp_path: Path) -> None:
    spec, ray = small_spec(**QUICK), Counted()
    log = look(spec, LocalStorage(tmp_path / "small"))
    with pytest.raises(InputError):
        begin(spec, tmp_path / "absent.zarr", log, ray, server=None)
    assert ray.started == 0 and not (tmp_path / "small").exists()


def test_ray_does_not_start_for_a_study_that_was_scored(
    synthetic_store: Path, tmp_path: Path
) -> None:
    storage, ray = LocalStorage(tmp_path / "small"), Counted()
    InlineStudy(store=synthetic_store, storage=storage).finish()
    spec = small_spec(**QUICK)
    assert begin(spec, synthetic_store, look(spec, storage), ray, server=None).arms
    assert ray.started == 0


def test_data_that_do_not_fit_are_told_and_nothing_is_written(
    synthetic_store: Path, tmp_path: Path
) -> None:
    spec, ray = small_spec(**QUICK, data__held_out=["nowhere"]), Counted()
    log = look(spec, LocalStorage(tmp_path / "small"))
    with pytest.raises(InputError, match="nowhere"):
        begin(spec, synthetic_store, log, ray, server=None)
    assert not (tmp_path / "small").exists()


def test_the_way_to_ray_loads_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "optuna", "xarray", "pandas", "matplotlib", "scipy", "ray")
    code = (
        "import sys, study.cli.answering, study.experiment.starting, study.report.console\n"
        f"print(sorted(set(sys.modules) & set({heavy!r})))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_driver_needs_no_torch_and_no_mlflow_to_ask() -> None:
    code = (
        "import sys, study.experiment.sweep, study.experiment.engine\n"
        "import study.experiment.tracking.following\n"
        "print(sorted(set(sys.modules) & {'torch', 'mlflow'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_launch_tells_how_old_its_process_is() -> None:
    young = "from study.experiment.provenance import age; import time; time.sleep(1); print(age())"
    assert 1.0 <= float(subprocess.check_output([sys.executable, "-c", young])) < 60
    seconds = age()
    assert seconds is not None and set(host()) == {"host", "pid", "seconds"}


def test_a_log_catches_up_with_what_others_wrote(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "small")
    mine, other = EventLog(storage), EventLog(storage)
    other.append(event="launch")
    other.flush()
    mine.catch_up()
    assert mine.events == other.events and mine.flushed == 1
    mine.append(event="launch")
    mine.flush()
    other.catch_up()
    assert other.events == mine.events and len(storage.keys("events/")) == 2
