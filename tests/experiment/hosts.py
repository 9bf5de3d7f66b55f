"""A Ray cluster of several hosts, each a `ray start --block` of its own on this machine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from place import wait_until

ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "6",
    "RAY_CLI_LOGS": "0",
}
PATIENCE_SECONDS = 180
COUNT = (
    "import json, ray; ray.init({address!r}, log_to_driver=False, logging_level='ERROR'); "
    "print(json.dumps([(n['NodeID'], n['Resources']) for n in ray.nodes() if n['Alive']]))"
)


class Hosts:
    """Hosts that can be added and taken away."""

    def __init__(self, log: Path):
        self.log = log
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes: list[subprocess.Popen[bytes]] = []
        port = self.address.split(":")[1]
        self._start("--head", "--port", port, "--include-dashboard", "false", "--num-cpus", "0")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
                   "--object-store-memory", "100000000",
                   *arguments]  # fmt: skip
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def add(self, *, cpus: int, gpus: int = 0) -> subprocess.Popen[bytes]:
        before = len(self.resources())
        process = self._start(
            "--address", self.address, "--num-cpus", str(cpus), "--num-gpus", str(gpus)
        )
        wait_until(lambda: len(self.resources()) > before, "a host to join", PATIENCE_SECONDS)
        return process

    def resources(self) -> dict[str, dict[str, float]]:
        """Ray's id of each living host, and what it has."""
        command = [sys.executable, "-c", COUNT.format(address=self.address)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return dict(json.loads(ended.stdout)) if ended.returncode == 0 else {}

    def end(self) -> None:
        for process in reversed(self.processes):
            with suppress(ProcessLookupError):  # a host that was taken away
                os.killpg(process.pid, signal.SIGKILL)  # with its raylet
            process.wait()


@contextmanager
def cluster(log: Path) -> Iterator[Hosts]:
    """A head without resources, to which hosts are added; who has the environment may join."""
    token = log.with_name("token")
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        hosts = Hosts(log)
        try:
            wait_until(hosts.resources, f"Ray's head, see {log}", PATIENCE_SECONDS)
            yield hosts
        finally:
            hosts.end()
