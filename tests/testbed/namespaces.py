"""Hosts made of Linux namespaces: each has its own address, processes, home and temporary folders,
and an SSH server; a bridge joins them, and nothing else.

Only `run.sh` gives the surroundings in which they can be made, and in which they all end with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
NETWORK = "10.77.0"
OUTSIDE = f"{NETWORK}.254"
"""Address of this side of the bridge, where the servers are."""
HOME = "/mnt/home"
PATIENCE_SECONDS = 120.0


def wait_until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass
class Host:
    """One host."""

    name: str
    address: str
    link: str
    """Its end of the cable, on this side."""
    unshare: subprocess.Popen[bytes]
    pid: int
    """Its process 1, as this side numbers it."""
    background: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, line: str) -> list[str]:
        """What to call here so that a login shell there carries out a line."""
        inside = ("nsenter", "--target", str(self.pid), "--mount", "--uts", "--net", "--pid")
        clean = ("env", "-i", f"HOME={HOME}", "TERM=dumb", f"PATH={os.environ['PATH']}")
        return [*inside, "--", *clean, "bash", "--login", "-c", line]

    def run(self, line: str, *, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(line), capture_output=True, text=True, errors="replace", timeout=seconds
        )

    def ask(self, line: str, *, seconds: float = 300) -> str:
        """What a command that must succeed prints."""
        ended = self.run(line, seconds=seconds)
        told = f"{self.name}: {line}\n{ended.stdout[-6000:]}\n{ended.stderr[-6000:]}"
        assert ended.returncode == 0, told
        return ended.stdout.strip()

    def start(self, line: str, log: Path) -> subprocess.Popen[str]:
        with log.open("a") as file:
            process = subprocess.Popen(
                self.command(line), stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                text=True, start_new_session=True,
            )  # fmt: skip
        self.background.append(process)
        return process

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        line = f"mkdir -p $(dirname {path}); umask 077; cat > {path}; chmod {mode:o} {path}"
        subprocess.run(self.command(line), input=content, text=True, check=True)


class Hosts:
    """Hosts on one bridge."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.all: dict[str, Host] = {}
        for key in ("id", "hostkey"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True
            )
        _ip("link", "add", "br0", "type", "bridge")
        _ip("address", "add", f"{OUTSIDE}/24", "dev", "br0")
        _ip("link", "set", "br0", "up")

    def add(self, name: str) -> Host:
        """Start a host and wait until it lets one log in."""
        number = len(self.all) + 1
        address, link = f"{NETWORK}.{number}", f"v{number}"
        keep = (str(REPOSITORY), sys.prefix, sys.base_prefix)
        with (self.folder / f"{name}.log").open("w") as log:
            unshare = subprocess.Popen(
                ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc",
                 "--kill-child", str(HERE / "host.sh"), name, address, OUTSIDE,
                 str(self.folder), str(Path(sys.executable).parent), *keep],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        pid = int(wait_until(children.read_text, f"process 1 of {name}", 10))
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", link, "master", "br0", "up")
        host = Host(name, address, link, unshare, pid)
        self.all[name] = host
        wait_until(lambda: answers(address, 22), f"the SSH server of {name}", 20)
        return host

    def cut(self, host: Host) -> None:
        """Pull its network cable."""
        _ip("link", "set", host.link, "down")

    def mend(self, host: Host) -> None:
        _ip("link", "set", host.link, "up")

    def lose(self, host: Host) -> None:
        """End it at once with all that runs on it, as when the power fails."""
        os.kill(host.pid, signal.SIGKILL)
        host.unshare.wait(timeout=20)

    def close(self) -> None:
        for host in self.all.values():
            if host.unshare.poll() is None:
                self.lose(host)
            for process in host.background:
                process.wait(timeout=20)
        _ip("link", "delete", "br0")


def _ip(*words: str) -> None:
    ended = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert ended.returncode == 0, f"ip {shlex.join(words)}: {ended.stderr}"
