"""What a job may use: time, memory, its share of a GPU. A job that takes more is charged for it."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.errors import InputError, TrialError
from study.spec import ResourcesSpec

GIGABYTE = 1e9
STDERR = 2
HANG_SECONDS = 60.0
"""Beyond a job's time limit, until an epoch that does not end is taken to hang."""


def check_limits(resources: ResourcesSpec, *, seconds: float, memory: float | None) -> None:
    """After an epoch.

    Args:
        resources: The limits.
        seconds: Training time of the job so far.
        memory: Bytes that its worker holds for itself; None where that cannot be known.

    Raises:
        TrialError: One is exceeded.
    """
    if resources.trial_seconds is not None and seconds > resources.trial_seconds:
        raise TrialError(
            f"took {seconds:.1f} s of training, more than resources.trial_seconds "
            f"({resources.trial_seconds:g})"
        )
    if resources.memory_gb is not None and memory is not None:
        held = memory / GIGABYTE
        if held > resources.memory_gb:
            raise TrialError(
                f"its worker holds {held:.2f} GB, more than resources.memory_gb "
                f"({resources.memory_gb:g})"
            )


def own_memory() -> float | None:
    """Bytes in memory that this process shares with no other; None where no `/proc` tells."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return None
    from resource import getpagesize

    return float((int(pages[1]) - int(pages[2])) * getpagesize())


@contextmanager
def ended_if_it_hangs(resources: ResourcesSpec, *, seconds: float) -> Iterator[None]:
    """End this process if the block lasts until well beyond the job's time limit.

    An exception cannot do that: a library that hangs does not return to where it would be raised.
    The driver sees a lost worker, hands the job out again, and takes the third loss in a row for
    the job's own doing.
    """
    if resources.trial_seconds is None:
        yield
        return
    patience = max(0.0, resources.trial_seconds - seconds) + HANG_SECONDS
    faulthandler.dump_traceback_later(patience, exit=True, file=STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def check_gpu_share(share: float, *, total: float, needed: float) -> None:
    """Before trials share a GPU: Ray counts shares, and isolates no memory.

    Args:
        share: Of one GPU, reserved by each trial (`resources.gpus`).
        total: Bytes of memory of the GPU.
        needed: Bytes that one trial holds there before its first step: the study's arrays.

    Raises:
        InputError: So many trials do not fit.
    """
    if share < 1 and needed > share * total:
        raise InputError(
            f"resources.gpus: {share:g} lets {int(1 / share)} trials share a GPU of "
            f"{total / GIGABYTE:.1f} GB, but each holds {needed / GIGABYTE:.1f} GB of data there; "
            f"reserve {min(1.0, needed / total):.2f} or more"
        )
