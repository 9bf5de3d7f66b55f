"""What signals do to a process, and what a job leaves that is told to save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from inline import QUICK
from small import small_spec

from study.errors import Interrupted
from study.experiment.book import Book
from study.experiment.engine import _begin, open_ledger, prepare
from study.experiment.eventlog import EventLog
from study.experiment.interruption import Interruption, interruptible
from study.experiment.jobs import JobKey
from study.experiment.storage import LocalStorage
from study.experiment.trial import RunningJob, Worker
from study.training.loop import DeviceData

PROGRAM = """
import hashlib, time
from study.experiment import interruption
interruption.LIMIT_SECONDS = 2.0

with interruption.interruptible() as told:
    print("ready", flush=True)
    {block}
"""
LONG_CALL = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
"""Minutes in C, in which no handler runs."""
POSTPONED = "with told.postponed(): time.sleep(60)"


def ended(block: str, *numbers: int) -> tuple[int, float]:
    """Exit code of a program, and seconds from the last signal to its end."""
    command = [sys.executable, "-c", PROGRAM.format(block=block)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for turn, number in enumerate(numbers):
            time.sleep(0.5 if turn else 0.2)
            process.send_signal(number)
            started = time.monotonic()
        return process.wait(timeout=60), time.monotonic() - started


def test_a_signal_interrupts() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(Interrupted) as told, interruptible():
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert told.value.exit_code == 128 + number
        assert "the same command goes on" in str(told.value)


def test_afterwards_signals_do_what_they_did() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_it_is_postponed_until_one_leaves() -> None:
    with pytest.raises(Interrupted), interruptible() as interruption:
        assert interruption.seconds_left(10) is None
        with interruption.postponed():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert interruption.received
            left = interruption.seconds_left(10)
            assert left is not None and 5 < left <= 10
            assert interruption.seconds_left(0.001) == 0
        interruption.leave()


def test_one_that_was_not_interrupted_goes_on() -> None:
    Interruption().leave()


def test_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def inside() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("block", [LONG_CALL, POSTPONED])
def test_time_ends_it_whatever_it_does(block: str) -> None:
    code, seconds = ended(block, signal.SIGTERM)
    assert code == 143
    assert 1.5 < seconds < 10


@pytest.mark.parametrize("block", [LONG_CALL, POSTPONED])
def test_the_second_signal_ends_it_at_once(block: str) -> None:
    code, seconds = ended(block, signal.SIGINT, signal.SIGTERM)
    assert code == 130
    assert seconds < 1.4


def test_a_job_told_to_save_is_gone_on_with_to_the_bit(
    synthetic_store: Path, tmp_path: Path
) -> None:
    prepared = prepare(small_spec(**QUICK | {"training__epochs": 4}), synthetic_store)
    data, arms = DeviceData(prepared.arrays), {arm.name: arm for arm in prepared.arms}
    storages = [LocalStorage(tmp_path / name) for name in ("calm", "told")]
    calm, told = (Worker(spec=prepared.spec, arms=arms, data=data, storage=s) for s in storages)
    log = EventLog(storages[1])
    _begin(log, prepared)
    book = Book(prepared.spec, prepared.arms, log)
    job = book.next_job()
    assert job is not None

    undisturbed = RunningJob(calm, job.key, job.hyperparameters, saved=0)
    reports = [undisturbed.step() for _ in range(4)]
    running = RunningJob(told, job.key, job.hyperparameters, saved=0)
    assert running.save() == 0 and not storages[1].keys("trials/")
    for _ in range(2):
        assert book.report(job.key, running.step()) == "run"
    assert job.saved == 0
    book.saved(job.key, running.save())
    again = open_ledger(storages[1]).jobs[job.key]
    assert again.saved == again.epochs == 2

    going_on = RunningJob(told, again.key, again.hyperparameters, saved=again.saved)
    going_on.often = True
    third, fourth = going_on.step(), going_on.step()
    assert third["saved"] is True
    assert [third["loss"], fourth["loss"]] == [r["loss"] for r in reports[2:]]
    key = storages[0].keys("trials/")[-1]
    assert storages[1].read(key) == storages[0].read(key)


def test_a_job_killed_before_its_report_goes_on(synthetic_store: Path, tmp_path: Path) -> None:
    """The log does not know of the latest checkpoint then: the one before must still be there."""
    prepared = prepare(small_spec(**QUICK | {"training__epochs": 4}), synthetic_store)
    storage, key = LocalStorage(tmp_path), JobKey("lstm", "search", 0, 0)
    worker = Worker(
        spec=prepared.spec,
        arms={arm.name: arm for arm in prepared.arms},
        data=DeviceData(prepared.arrays),
        storage=storage,
    )
    killed = RunningJob(worker, key, {}, saved=0)
    killed.often = True
    told = [killed.step(), killed.step()]
    unheard = killed.step()
    assert told[-1]["epoch"] == 2 and told[-1]["saved"] is True
    going_on = RunningJob(worker, key, {}, saved=told[-1]["epoch"])
    assert going_on.step()["loss"] == unheard["loss"]
    assert len(storage.keys("trials/")) == 2, "and no more than these are kept"
