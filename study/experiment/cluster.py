"""Connection to Ray: a cluster that runs, or one of its own on this machine."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The study's event log is the result; Tune need not write its own beside it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "OMP_NUM_THREADS": "1",
}
"""Environment of the driver and, by inheritance, of local workers; what a user set stays."""


@contextmanager
def connected(address: str | None, *, num_cpus: int | None = None) -> Iterator[Mapping[str, float]]:
    """Be connected to Ray; yields the cluster's resources (`CPU`, `GPU`, ...).

    Args:
        address: Of a running cluster (`auto`, `host:6379`), or None for an own one on loopback.
        num_cpus: Size of an own one; the machine's if None.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    own: dict[str, Any] = {
        "_node_ip_address": "127.0.0.1",
        "num_cpus": num_cpus,
        "include_dashboard": False,
    }
    ray.init(address or "local", **quiet, **({} if address else own))
    try:
        yield ray.cluster_resources()
    finally:
        with _no_garbage():
            ray.shutdown()


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any]]:
    """Call a function with each task's arguments, one task a CPU of the connected cluster.

    Yields:
        Position of a task and its result, as they come.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    waiting = {remote.remote(*task): i for i, task in enumerate(tasks)}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        yield waiting.pop(ready), ray.get(ready)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect garbage before, and none meanwhile.

    Tune leaves references to Ray's objects in cycles. Were they found by a collection in another
    thread while Ray shuts down, Ray would end this process ("the language frontend accesses the
    Ray's worker after it is shutdown").
    """
    enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
