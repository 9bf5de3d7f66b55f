"""What a person does on the client: `ray up`, `ray submit`, `ray job submit`, with the repository's
own cluster file and launcher."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from namespaces import HOME, REPOSITORY, Host, wait_until

CLUSTER = REPOSITORY / "infra" / "ray" / "on-premise.yaml"
CHECKOUT = f"{HOME}/checkout"
"""Of the repository, on the client."""
LAUNCHER = "infra/ray/launch.py"
UPS = 2
JOIN_SECONDS = 300
JOBS = 8265
"""Port of the dashboard, which takes jobs."""


def cluster_file(name: str, head: Host, workers: Sequence[Host]) -> str:
    """The repository's cluster file for these hosts.

    Nothing is installed, since no index of packages can be reached: the hosts see the environment
    that runs these tests, and the package is what `ray up` sends. Workers train one trial at once.
    """
    content = yaml.safe_load(CLUSTER.read_text())
    content["cluster_name"] = name
    content["provider"] |= {"head_ip": head.address, "worker_ips": [w.address for w in workers]}
    content["auth"]["ssh_user"] = "root"
    content["setup_commands"] = []
    for key, more in (
        ("head_start_ray_commands", "--object-store-memory=150000000"),
        ("worker_start_ray_commands", "--num-cpus=1 --object-store-memory=100000000"),
    ):
        before, _, start = content[key][-1].rpartition("ray start")
        # This machine may be a busy one, and Ray gives its daemons 15 s to start.
        again = f"ray start{start} {more} && break; ray stop; sleep $((RANDOM % 15))"
        content[key][-1] = f"{before}for attempt in 1 2 3 4 5; do {again}; done"
    return yaml.safe_dump(content)


class Client:
    """The host from which the cluster is used."""

    def __init__(
        self, host: Host, key: str, aws_config: str, aws_credentials: str, checkout: Path,
        folder: Path,
    ):  # fmt: skip
        self.host, self.folder = host, folder
        host.write("~/.ssh/id_ed25519", key, 0o600)
        host.write("~/.aws/config", aws_config, 0o600)
        host.write("~/.aws/credentials", aws_credentials, 0o600)
        host.ask("umask 077; ray get-auth-token --generate")
        _copy(checkout, host)

    def path(self, cluster: str) -> str:
        return f"{HOME}/{cluster}.yaml"

    def ask(self, line: str, *, seconds: float = 300) -> str:
        """What a command prints that must succeed in the root of the repository."""
        return self.host.ask(f"cd {CHECKOUT} && {line}", seconds=seconds)

    def up(self, cluster: str, head: Host, workers: Sequence[Host]) -> dict[str, str]:
        """`ray up`, until all hosts have joined; their node ids by name.

        Where a machine is so busy that they do not, it is called again.
        """
        self.host.write(self.path(cluster), cluster_file(cluster, head, workers))
        names = {head.name, *(worker.name for worker in workers)}
        line = f"cd {CHECKOUT} && ray up -y --no-config-cache {self.path(cluster)}"
        for _ in range(UPS):
            ended = self.host.run(line, seconds=600)
            deadline = time.monotonic() + JOIN_SECONDS
            while ended.returncode == 0 and time.monotonic() < deadline:
                nodes = self.nodes(head)
                if set(nodes) == names:
                    return nodes
                time.sleep(1)
        raise AssertionError(f"{ended.stdout[-6000:]}\n{ended.stderr[-6000:]}")

    def submit(self, cluster: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(self._submit_line(cluster, words))

    @contextmanager
    def submitting(self, cluster: str, *words: str, log: Path) -> Iterator[subprocess.Popen[str]]:
        """`ray submit` in the background; in the end it is killed, with its connections."""
        process = self.host.start(self._submit_line(cluster, words), log)
        try:
            yield process
        finally:
            self.host.run("pkill -KILL 'ray|ssh$'")
            process.wait(timeout=20)

    def _submit_line(self, cluster: str, words: Sequence[str]) -> str:
        launch = f"{LAUNCHER} -- {' '.join(words)}"
        return f"cd {CHECKOUT} && ray submit --no-config-cache {self.path(cluster)} {launch}"

    def ssh(self, host: Host, line: str) -> str:
        """What a command prints that is carried out on another host."""
        return self.host.ask(f"{_ssh()} root@{host.address} {shlex.quote(line)}")

    @contextmanager
    def tunnel(self, head: Host) -> Iterator[None]:
        """The head's dashboard on the client's loopback."""
        forward = f"127.0.0.1:{JOBS}:127.0.0.1:{JOBS}"
        line = f"exec {_ssh()} -N -o ExitOnForwardFailure=yes -L {forward} root@{head.address}"
        process = self.host.start(line, self.folder / "tunnel.log")
        try:
            wait_until(lambda: f"127.0.0.1:{JOBS}" in listening(self.host), "the tunnel")
            yield
        finally:
            process.kill()
            process.wait(timeout=20)

    def job_api(self, token: str | None) -> int:
        """HTTP status of the list of jobs, asked for with a token."""
        python = (
            "import sys, urllib.request as u, urllib.error as e\n"
            "r = u.Request(sys.argv[1], headers={'Authorization': f'Bearer {sys.argv[2]}'} "
            "if sys.argv[2] else {})\n"
            "try: print(u.urlopen(r, timeout=20).status)\n"
            "except e.HTTPError as error: print(error.code)\n"
        )
        words = ("python", "-c", python, f"http://127.0.0.1:{JOBS}/api/jobs/", token or "")
        return int(self.host.ask(shlex.join(words)))

    def nodes(self, head: Host) -> dict[str, str]:
        """Name -> id of the living hosts of a cluster, as its head knows them."""
        python = (
            "import json; from ray._raylet import GcsClient; "
            f"known = GcsClient(address='{head.address}:6379').get_all_node_info().values(); "
            "print(json.dumps({node.node_manager_hostname: node.node_id.hex() "
            "for node in known if node.state == 0}))"
        )
        told = self.ssh(head, f"RAY_AUTH_MODE=token python -W ignore -c {shlex.quote(python)}")
        nodes: dict[str, str] = json.loads(told.splitlines()[-1])
        return nodes


def listening(host: Host) -> list[str]:
    """`address:port` of every TCP socket on which a host listens."""
    return [line.split()[3] for line in host.ask("ss -Htln").splitlines()]


def _copy(folder: Path, host: Host) -> None:
    """A folder of this side to the client."""
    packed = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True)
    unpack = host.command(f"mkdir {CHECKOUT} && tar -C {CHECKOUT} -x")
    subprocess.run(unpack, input=packed.stdout, check=True)


def _ssh() -> str:
    return "ssh -q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5"
