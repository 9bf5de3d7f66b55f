"""The tracking servers, as `infra/tracking/servers.py` starts them, and a study that uses them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from small import small_content
from watched import Servers, Watch, WatchedStudy, missing

REPOSITORY = Path(__file__).resolve().parents[2]
PORTS_OF_S3 = 8
CONTENT = small_content(
    training__epochs=2,
    training__batch_size=1,
    training__targets_per_window=50,  # an epoch of about 0.2 s: time to look at what runs
    search__rungs=[1],
    search__cohorts=1,
    search__cohort_size=2,
    confirmation={"candidates": 1, "candidate_seeds": 1, "seeds": 2},
)


@pytest.fixture(scope="session")
def watch() -> Iterator[Watch]:
    """Looks at the processes and sockets of this machine while servers and study run."""
    with Watch() as watch:
        yield watch


@pytest.fixture(scope="session")
def servers(watch: Watch) -> Iterator[Servers]:
    """PostgreSQL, S3 and MLflow on free ports of loopback."""
    lacking = missing()
    if lacking:
        told = f"needs {', '.join(lacking)}: run infra/servers/install.sh"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    folder = Path(tempfile.mkdtemp(prefix="tracking-", dir="/tmp"))
    mlflow_port, postgres_port, s3_port = free_ports()
    servers = Servers(folder / "servers", mlflow_port, postgres_port, s3_port)
    folder.chmod(0o711)  # PostgreSQL's own user must come through
    try:
        servers.start()
        yield servers
    finally:
        servers.command("stop")
        shutil.rmtree(folder, ignore_errors=True)


def free_ports() -> tuple[int, int, int]:
    """Ports that nobody has, the last with seven free ones after it."""
    while True:
        with ExitStack() as held:
            taken = []
            for _ in range(3):
                taken.append(held.enter_context(socket.socket()))
                taken[-1].bind(("127.0.0.1", 0))
            first = int(taken[-1].getsockname()[1])
            try:
                for port in range(first + 1, first + PORTS_OF_S3):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return (int(taken[0].getsockname()[1]), int(taken[1].getsockname()[1]), first)


@pytest.fixture(scope="session")
def study(
    servers: Servers, watch: Watch, synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> WatchedStudy:
    """A finished study that logged to these servers, and what was seen while it ran."""
    folder = tmp_path_factory.mktemp("watched")
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT))
    command = [sys.executable, "-m", "study", "run", str(spec), "--data", str(synthetic_store)]
    command += ["--results", str(folder / "results")]
    ray = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a short name, for Ray's sockets
    environment = {**os.environ, **servers.client(), "RAY_TMPDIR": str(ray)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        watch.driver = driver.pid
        told, _ = driver.communicate(timeout=280)
    watch.driver = None
    assert driver.returncode == 0, told
    return WatchedStudy(results=folder / "results", ray=ray, told=told)
