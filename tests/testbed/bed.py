"""The whole bed: a client, a head, two workers and a spare host, the servers, and one study that
is carried out twice, on the cluster and on one host in peace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from client import Client
from namespaces import REPOSITORY, Host, Hosts, wait_until
from place import Place
from servers import DATA, MLFLOW, RESULTS, BridgeS3, MlflowServer
from small import small_content

CONTENT = small_content(
    training__epochs=8,
    training__batch_size=1,
    training__targets_per_window=10,  # an epoch of about half a second: time to be disturbed in
    search__rungs=[2],
    search__cohorts=2,
    search__cohort_size=4,
    confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 2},
    resources={"checkpoint_seconds": 1},
)
SPEC = "search_spaces/small.yaml"
NAMES = ("client", "head", "worker1", "worker2", "spare")


class Bed:
    """Starts all that a cluster needs but the cluster."""

    def __init__(self, folder: Path, store: Path, ending: ExitStack):
        self.folder, self.ending = folder, ending
        self.hosts = Hosts(folder)
        ending.callback(self.hosts.close)
        self.mlflow = MlflowServer(folder)
        ending.callback(self.mlflow.kill)
        self.s3 = BridgeS3(folder / "s3")
        ending.callback(self.s3.kill)
        self.s3.start()
        os.environ.update(self.s3.environment)
        self.client_host, self.head, self.worker1, self.worker2, self.spare = (
            self.hosts.add(name) for name in NAMES
        )
        key = (folder / "id").read_text()
        self.client = Client(
            self.client_host, key, self.s3.config, self.s3.credentials, self._checkout(), folder
        )
        self._push(store)
        self.place = Place(results=RESULTS, spec=folder / "small.yaml", store=store)
        self.mlflow.wait()

    def _checkout(self) -> Path:
        """A copy of what the cluster file sends, with the spec of the study among the others."""
        checkout = self.folder / "checkout"
        checkout.mkdir()
        for name in ("study", "search_spaces", "infra"):
            unwanted = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(REPOSITORY / name, checkout / name, ignore=unwanted)
        for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
            shutil.copy(REPOSITORY / name, checkout)
        text = yaml.safe_dump(CONTENT)
        (checkout / SPEC).write_text(text)
        (self.folder / "small.yaml").write_text(text)
        return checkout

    def _push(self, store: Path) -> None:
        command = [sys.executable, "-m", "study", "data", "push", str(store), DATA]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr

    def start_undisturbed(self) -> None:
        """Begin the study in a folder of this one machine, where nobody comes in its way."""
        self.calm = Place(
            results=self.folder / "calm", spec=self.place.spec, store=self.place.store
        )
        self.calm_driver = self.calm.start()
        self.ending.callback(self.calm_driver.communicate)
        self.ending.callback(self.calm_driver.kill)

    def undisturbed(self) -> Place:
        """That study, finished."""
        _, told = self.calm_driver.communicate(timeout=900)
        assert self.calm_driver.returncode == 0, told
        return self.calm

    def study(self, command: str) -> list[str]:
        """The words of `study run` on the cluster."""
        return [command, SPEC, "--data", DATA, "--results", RESULTS, "--tracking-uri", MLFLOW]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        return self.place.events(kind)

    def begun(self) -> bool:
        return bool(self.events("launch"))

    def reports(self) -> int:
        return len(self.events("reported"))

    def wait_for_reports(self, more: int, seconds: float = 240) -> None:
        goal = self.reports() + more
        wait_until(lambda: self.reports() >= goal, f"{more} more epochs", seconds)

    def workers_of(self, events: list[dict[str, Any]]) -> Counter[str]:
        """How many jobs each host took up."""
        return Counter(e["worker"]["host"] for e in events if e.get("worker"))

    def taken_up_after_loss(self, key: str) -> dict[str, Any] | None:
        """The first report of a job after its latest loss."""
        events = [e for e in self.events() if e.get("key") == key]
        losses = [i for i, e in enumerate(events) if e["event"] == "lost"]
        later = [e for e in events[losses[-1] :] if e["event"] == "reported"]
        return later[0] if later else None

    def logs(self) -> dict[str, str]:
        """The ends of all logs, for whoever must find out what went wrong."""
        found = {path.stem: path.read_text()[-3000:] for path in self.folder.glob("*.log")}
        for name, host in self.hosts.all.items():
            if host.unshare.poll() is None:
                found[f"{name}, Ray"] = host.run(
                    "cd /tmp/ray/session_latest/logs && ls && tail -n 20 raylet.* gcs_server.out "
                    "monitor.* ~/.study/launch/*/log"
                ).stdout
        return found

    @staticmethod
    def ray_processes(host: Host) -> str:
        return host.run("pgrep -a 'raylet|gcs_server'").stdout
