"""Servers under test, and a watch on what this machine's processes show and listen on."""

from __future__ import annotations

import base64
import importlib.util
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "infra" / "tracking" / "servers.py"
LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""


def missing() -> list[str]:
    """What must be installed before the servers can start."""
    found = {
        "PostgreSQL": any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        or shutil.which("initdb"),
        "SeaweedFS": Path(sys.executable).with_name("weed").exists() or shutil.which("weed"),
        "mlflow[auth]": importlib.util.find_spec("flask_wtf"),
        "psycopg": importlib.util.find_spec("psycopg"),
    }
    return [name for name, there in found.items() if not there]


@dataclass(frozen=True)
class Servers:
    """The tracking servers of a folder."""

    folder: Path
    mlflow_port: int
    postgres_port: int
    s3_port: int

    def start(self) -> None:
        ports = {"mlflow": self.mlflow_port, "postgres": self.postgres_port, "s3": self.s3_port}
        options = [word for n, p in ports.items() for word in (f"--{n}-port", str(p))]
        self.command("start", *options, "--workers", "1", "--allowed-hosts", "study.example.org")

    def command(self, *arguments: str) -> str:
        command = [sys.executable, str(SCRIPT), *arguments, "--folder", str(self.folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def client(self) -> dict[str, str]:
        """The environment of a study: `client.env`, read by the shell it is written for."""
        script = f". {shlex.quote(str(self.folder / 'client.env'))} && env -0"
        shell = ["env", "-i", "/bin/sh", "-c", script]
        told = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
        found = dict(line.split("=", 1) for line in told.split("\0") if line)
        return {n: v for n, v in found.items() if n.startswith(("MLFLOW_", "AWS_"))}

    def secrets(self) -> dict[str, str]:
        """Every secret by its name, and in the forms in which it travels."""
        found = {}
        for path in (self.folder / "secrets").iterdir():
            if path.name in ("pgpass", "basic_auth.ini", "s3.json", "aws_credentials"):
                continue  # made of the others
            for number, word in enumerate(path.read_text().split()):
                found[f"{path.name}:{number}"] = word
        for user, name in (("admin", "mlflow_admin_password"), ("study", "mlflow_password")):
            header = base64.b64encode(f"{user}:{found[f'{name}:0']}".encode()).decode()
            found[f"{name} as a header"] = header
        quoted = {f"{n} quoted": urllib.parse.quote(v, safe="") for n, v in found.items()}
        return found | {n: v for n, v in quoted.items() if v not in found.values()}


@dataclass(frozen=True)
class WatchedStudy:
    """A study that has ended."""

    results: Path
    ray: Path
    """Ray's temporary folder: sessions with their logs"""
    told: str
    """What the command printed"""


@dataclass(frozen=True, order=True)
class Socket:
    """A listening TCP socket."""

    process: str
    address: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.address.removeprefix("::ffff:").startswith("127.") or self.address == "::1"


class Watch:
    """Samples command lines of all processes, and listening sockets of a driver's descendants."""

    def __init__(self) -> None:
        self.command_lines: set[str] = set()
        self.sockets: set[Socket] = set()
        self.driver: int | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ending.wait(0.2):
            self.command_lines |= set(command_lines().values())
            driver = self.driver
            if driver is not None:
                self.sockets |= listening(descendants(driver))


def command_lines() -> dict[int, str]:
    """What `ps` shows to everybody."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        found[int(process.name)] = line.decode(errors="replace").strip()
    return found


def descendants(pid: int) -> set[int]:
    """A process and all that came of it."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(process.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return set(found)


def listening(pids: set[int]) -> set[Socket]:
    """Listening sockets of these processes."""
    sockets = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                address, port = fields[1].split(":")
                sockets[f"socket:[{fields[9]}]"] = (_address(address, family), int(port, 16))
    found = set()
    for pid in pids:
        process = Path("/proc") / str(pid)
        try:
            name, files = (process / "comm").read_text().strip(), list((process / "fd").iterdir())
        except OSError:
            continue
        for file in files:
            with suppress(OSError):  # closed meanwhile
                link = str(file.readlink())
                if link in sockets:
                    found.add(Socket(name, *sockets[link]))
    return found


def _address(digits: str, family: socket.AddressFamily) -> str:
    """An address as the kernel writes it: words of four bytes, each in the machine's order."""
    words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
    return socket.inet_ntop(family, b"".join(words))
