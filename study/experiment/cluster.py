"""Connection to Ray: a cluster that runs, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
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
def connected(address: str | None, *, num_cpus: int | None = None) -> Iterator[int]:
    """Be connected to Ray; yields the cluster's number of CPUs.

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
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()
