"""S3 by SeaweedFS: two buckets, each with a user who may use no other; all ports on 127.0.0.1."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import processes
from first_time import create_buckets
from processes import Failure
from secret_files import Secrets

NAME = "seaweedfs"
PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc",
         "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")  # fmt: skip
OFF = ("s3.port.iceberg=0", "s3.port.lance=0", "master.telemetry=false")
# A bucket takes seven volumes when it is first written to: small ones, or a small disk has no room.
VOLUME_MB = 512


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def start(folder: Path, port: int, secrets: Secrets) -> None:
    if not runs(folder):
        (folder / "s3").mkdir(mode=0o700, exist_ok=True)
        ports = [f"-{name}={port + i}" for i, name in enumerate(PORTS)]
        # The filer's own socket would lie in /tmp under a name that anybody could take first.
        sockets = [f"-{part}.localSocket={folder / 'run' / part}.sock" for part in ("filer", "s3")]
        command = [_program(), "server", f"-dir={folder / 's3'}", "-ip=127.0.0.1",
                   "-ip.bind=127.0.0.1", "-volume.max=0", "-filer", "-s3",
                   f"-master.volumeSizeLimitMB={VOLUME_MB}",
                   f"-s3.config={secrets.path('s3.json')}", *ports, *sockets,
                   *(f"-{option}" for option in OFF)]  # fmt: skip
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        processes.start(folder, NAME, command, {})
    processes.wait_for(folder, NAME, lambda: processes.answers(f"{address(port)}/healthz"))
    create_buckets(address(port), secrets)


def stop(folder: Path) -> None:
    processes.stop(folder, NAME)


def runs(folder: Path) -> bool:
    return processes.running(folder, NAME) is not None


def _program() -> str:
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise Failure("SeaweedFS is not installed; run infra/tracking/install.sh")
    return found
