"""A job that takes more than it may is charged for it; one that hangs is ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inline import InlineStudy

from study.errors import InputError, TrialError
from study.experiment.jobs import Job, JobKey
from study.experiment.limits import check_gpu_share, check_limits, own_memory
from study.experiment.storage import LocalStorage
from study.spec import ResourcesSpec


def test_time_and_memory_within_their_limits_are_fine() -> None:
    resources = ResourcesSpec(trial_seconds=10, memory_gb=2)
    check_limits(resources, seconds=10.0, memory=2e9)
    check_limits(resources, seconds=1.0, memory=None)
    check_limits(ResourcesSpec(), seconds=1e9, memory=1e15)


def test_what_is_beyond_names_the_limit() -> None:
    with pytest.raises(TrialError, match=r"took 10\.1 s .*resources\.trial_seconds \(10\)"):
        check_limits(ResourcesSpec(trial_seconds=10), seconds=10.1, memory=None)
    with pytest.raises(TrialError, match=r"holds 2\.10 GB.*resources\.memory_gb \(2\)"):
        check_limits(ResourcesSpec(memory_gb=2), seconds=0.0, memory=2.1e9)


def test_memory_held_is_seen() -> None:
    before = own_memory()
    if before is None:
        pytest.skip("needs /proc, as Linux has it")
    held = np.ones(25_000_000)  # 200 MB
    after = own_memory()
    assert after is not None and 1.8e8 < after - before < 2.5e8 and held.size


HANGS = """
import time
from study.experiment import limits
from study.spec import ResourcesSpec
limits.HANG_SECONDS = 0.5
with limits.ended_if_it_hangs(ResourcesSpec(trial_seconds=0.5), seconds=0.2):
    pass
print("went on", flush=True)
with limits.ended_if_it_hangs(ResourcesSpec(trial_seconds=0.5), seconds=0.2):
    time.sleep(60)
"""


def test_a_job_that_hangs_ends_with_its_worker() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=50
    )
    assert ended.returncode != 0
    assert ended.stdout == "went on\n"
    assert "Timeout" in ended.stderr and "time.sleep(60)" not in ended.stdout


def test_a_share_of_a_gpu_must_hold_the_data() -> None:
    check_gpu_share(0.25, total=16e9, needed=4e9)
    check_gpu_share(1.0, total=1e9, needed=4e9)  # nobody to share with: the device will tell
    with pytest.raises(InputError, match=r"0\.25 lets 4 trials.*each holds 6\.0 GB.*0\.38"):
        check_gpu_share(0.25, total=16e9, needed=6e9)


def test_slow_jobs_are_charged_to_their_arm(synthetic_store: Path, tmp_path: Path) -> None:
    """As jobs that diverge are: the study ends, and says why they failed."""
    study = InlineStudy(store=synthetic_store, storage=LocalStorage(tmp_path / "small"))
    book, _ = study.train(resources={"trial_seconds": 1e-6})
    for arm in book.arms:
        assert book.arm_failed(arm)
        for job in book.stage(arm, "search"):
            assert job.failure is not None and "trial_seconds" in job.failure


def test_a_job_that_goes_on_has_not_got_its_time_anew() -> None:
    job = Job(key=JobKey("lstm", "search", 0, 0), hyperparameters={})
    job.reports = {epoch: {"seconds": 2.0 * epoch} for epoch in (1, 2, 3)}
    assert job.seconds_until(0) == 0.0
    assert job.seconds_until(2) == 6.0 and job.seconds == 12.0
