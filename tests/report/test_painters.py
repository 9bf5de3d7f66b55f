"""Figures drawn in processes of their own: the same bytes, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from place import PATIENCE_SECONDS

from study.report import figures
from study.report.painters import Painters
from study.report.sketches import Drawing, drawn

PARENT = """
import time
from study.report.painters import Painters
with Painters(2) as painters:
    painters.start()
    print(*(process.pid for process in painters._processes), flush=True)
    time.sleep(60)
"""


def drawings() -> list[Drawing]:
    rng = np.random.default_rng(0)
    days = np.datetime64("2004-10-01") + np.arange(365)
    discharge = rng.gamma(1, 2, size=(1, 365))
    sketches = {
        f"cdf_{n}": partial(figures.nse_cdf, {"lstm": rng.normal(size=(3, 9))}, period="test")
        for n in range(3)
    }
    sketches["flow"] = partial(
        figures.hydrographs, days, discharge, {"lstm": 0.9 * discharge}, basins=["01"]
    )
    return [Drawing(name=name, sketch=sketch, alt="") for name, sketch in sketches.items()]


@pytest.fixture(scope="module")
def painters() -> Iterator[Painters]:
    with Painters(2) as painters:
        painters.start()
        yield painters


def test_processes_draw_the_same_bytes_in_order(painters: Painters, tmp_path: Path) -> None:
    figures_here = [drawn(drawing) for drawing in drawings()]
    assert list(painters.each(drawn, drawings())) == figures_here
    pids = set(painters.each(process_of, [tmp_path] * 8))
    assert len(pids) == 2 and os.getpid() not in pids


def own_process(_: object) -> int:
    return os.getpid()


def process_of(folder: Path) -> int:
    """The process that is asked, once another one is, too: one alone may be the first to be ready
    and would take all."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return os.getpid()


def test_what_fails_there_is_raised_here(painters: Painters) -> None:
    with pytest.raises(ZeroDivisionError):
        list(painters.each(partial(divmod, 1), [0]))
    assert list(painters.each(partial(divmod, 7), [2])) == [(3, 1)]


def test_with_one_core_this_process_draws_when_it_is_asked_to() -> None:
    with Painters(1) as painters:
        painters.start()
        first = painters.each(own_process, iter([1, "never asked for"]))
        assert next(first) == os.getpid()


def test_figures_of_processes_that_are_killed_are_drawn_here() -> None:
    figures_here = [drawn(drawing) for drawing in drawings()]
    with Painters(2) as painters:
        painters.start()
        for process in painters._processes:
            process.kill()
        assert list(painters.each(drawn, drawings())) == figures_here


def test_leaving_ends_what_is_being_drawn() -> None:
    started = time.monotonic()
    with Painters(2) as painters:
        painters.each(time.sleep, [30.0] * 4)
        processes = list(painters._processes)
    assert time.monotonic() - started < 10
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_no_process_outlives_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "they wait for ever"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
