"""Connection to Ray: a cluster that runs, or one of its own on this machine."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The study's event log is the result; Tune need not write its own beside it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Else Tune itself starts the job of a drained host again, from where it was handed out.
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment of the driver and, by inheritance, of local workers; what a user set stays."""


@contextmanager
def connected(
    address: str | None, *, num_cpus: int | None = None, num_gpus: int | None = None
) -> Iterator[tuple[Mapping[str, float], ...]]:
    """Be connected to Ray; yields the resources (`CPU`, `GPU`, ...) of each of its hosts.

    Args:
        address: Of a running cluster (`auto`, `host:6379`), or None for an own one on loopback.
        num_cpus: Size of an own one; the machine's if None.
        num_gpus: Likewise. It may be more than there are: Ray counts them, and trials that reserve
            one which is not there train on the CPU.
    """
    load(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    own: dict[str, Any] = {
        "_node_ip_address": "127.0.0.1",
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "include_dashboard": False,
    }
    with nullcontext() if address else _loopback_only():
        import ray

        with _own_sigterm():
            ray.init(address or "local", **quiet, **({} if address else own))
    try:
        yield tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    finally:
        with _no_garbage():
            ray.shutdown()


def load(address: str | None) -> None:
    """Import Ray, with this program's settings, and what both its start and Tune import of it: that
    Tune may be imported in another thread while Ray starts."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with nullcontext() if address else _loopback_only():
        import ray._common.usage.usage_lib
        import ray.dashboard  # noqa: F401


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
def _own_sigterm() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, where it has one: `ray.init` puts its own in place,
    which raises SystemExit."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """What is imported and started meanwhile listens on loopback, for this user alone.

    Ray takes an address of 127.0.0.1 for a slip and listens on all interfaces, unless clusters of
    several hosts are switched off, as they are on systems whose firewalls ask about every port.
    It reads the switch when it is imported.
    """
    switch = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(switch)
    os.environ[switch] = "0"
    _make_token()
    try:
        yield
    finally:
        del os.environ[switch]
        if before is not None:
            os.environ[switch] = before


def _make_token() -> None:
    """Make the token that Ray asks for, readable by this user; Ray would let all users read it."""
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    default = Path.home() / ".ray" / "auth_token"
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", default))
    with suppress(OSError):  # Ray will tell what is wrong with the place
        token.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        token.chmod(0o600)


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
