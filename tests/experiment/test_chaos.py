"""Kills of everything that runs leave a study as it would have been.

One study runs undisturbed. The drivers, workers, raylets and MLflow server of another one are
killed (`SIGKILL`), and started again where somebody would: twenty times in an order drawn from a
seed (`make chaos`), and six times, each of them in the search and those that hold state in the
confirmation, too (`make slow`).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from place import Place, facts, ray_processes, wait_until
from small import small_content

from study.experiment.jobs import JobKey

pytestmark = pytest.mark.timeout(2400)

VICTIMS = ("driver", "worker", "raylet", "server")
PATIENCE_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is killed when, and how large a study it takes."""

    cohorts: int
    epochs: int
    seeds: int
    targets: int
    """Days a window is scored on: the fewer, the longer an epoch, in which to be killed"""
    kills: tuple[tuple[str, str], ...]
    """(victim, stage of the jobs that are then under way)"""

    @property
    def content(self) -> dict[str, Any]:
        """The study's spec."""
        return small_content(
            training__epochs=self.epochs,
            training__batch_size=1,
            training__targets_per_window=self.targets,
            resources__kernel="torch",
            search__rungs=[2],
            search__cohorts=self.cohorts,
            search__cohort_size=6,
            search__reduction=3,
            confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": self.seeds},
        )


def twenty() -> Plan:
    victims = list(VICTIMS) * 5
    random.Random(1).shuffle(victims)
    return Plan(
        cohorts=4,
        epochs=12,
        seeds=4,
        targets=10,
        kills=tuple((victim, "search") for victim in victims),
    )


SIX = Plan(
    cohorts=1,
    epochs=6,
    seeds=3,
    targets=20,
    kills=(*((victim, "search") for victim in VICTIMS), ("worker", "replicate"),
           ("driver", "replicate")),
)  # fmt: skip
PLANS = [
    pytest.param(SIX, id="six", marks=pytest.mark.slow),
    pytest.param(twenty(), id="twenty", marks=pytest.mark.chaos),
]


@pytest.fixture(scope="module", params=PLANS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return request.param  # type: ignore[no-any-return]


class Server:
    """A real MLflow server on loopback, with its database in a file."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                   *("--port", str(self.port), "--workers", "1"),
                   *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
                   *("--default-artifact-root", str(self.folder / "artifacts"))]  # fmt: skip
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """With its children, as a host that goes down takes all of them."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    wait_until(server.answers, "the MLflow server", PATIENCE_SECONDS)
    yield server
    server.kill()


class Chaos:
    """A study, and what was done to it."""

    def __init__(self, place: Place, server: Server):
        self.place, self.server = place, server
        self.done: Counter[str] = Counter()
        self.driver = place.start()

    def reports(self) -> int:
        return len(self.place.events("reported"))

    def disturb(self, victim: str, stage: str) -> None:
        """Let the study come further, kill, and start again what a person would."""
        wait_until(lambda: self._has_begun(stage), f"a job of stage {stage}", PATIENCE_SECONDS)
        before = self.reports()
        wait_until(lambda: self.reports() >= before + 2, "two more epochs", PATIENCE_SECONDS)
        assert not self.place.events("test_read"), "the study is too short for so many kills"
        if victim == "server":
            self.server.kill()
            time.sleep(1)
            self.server.start()
        elif victim == "driver":
            self.driver.kill()
        else:
            wait_until(lambda: self._kill_process(victim), f"a {victim}", PATIENCE_SECONDS)
        if victim in ("driver", "raylet"):
            self.driver.communicate(timeout=PATIENCE_SECONDS)
            assert self.driver.returncode != 0
            self.driver = self.place.start()
        self.done[victim] += 1

    def _has_begun(self, stage: str) -> bool:
        return any(JobKey.parse(e["key"]).stage == stage for e in self.place.events("reported"))

    def _kill_process(self, victim: str) -> bool:
        mark = "Trainable" if victim == "worker" else "raylet/raylet"
        found = [pid for pid, name in ray_processes().items() if mark in name]
        if found:
            os.kill(found[0], signal.SIGKILL)
        return bool(found)

    def finish(self) -> None:
        _, told = self.driver.communicate(timeout=900)
        assert self.driver.returncode == 0, told


@pytest.fixture(scope="module")
def calm(plan: Plan, synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The study that nothing happened to."""
    place = new_place(plan, tmp_path_factory.mktemp("calm"), synthetic_store, None)
    _, told = (driver := place.start()).communicate(timeout=900)
    assert driver.returncode == 0, told
    return place


@pytest.fixture(scope="module")
def chaos(
    plan: Plan, synthetic_store: Path, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chaos]:
    """The study that everything happened to."""
    place = new_place(plan, tmp_path_factory.mktemp("chaos"), synthetic_store, server.uri)
    chaos = Chaos(place, server)
    try:
        for victim, stage in plan.kills:
            chaos.disturb(victim, stage)
        chaos.finish()
        yield chaos
    finally:
        chaos.driver.kill()
        chaos.driver.communicate()


def new_place(plan: Plan, folder: Path, store: Path, uri: str | None) -> Place:
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(plan.content))
    return Place(results=folder / "results", spec=spec, store=store, tracking_uri=uri)


@pytest.fixture(scope="module")
def runs(chaos: Chaos) -> list[Any]:
    client = MlflowClient(tracking_uri=chaos.server.uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    for run in found:
        run.curve = [(m.step, m.value)
                     for m in client.get_metric_history(run.info.run_id, "train/loss")]  # fmt: skip
    return list(found)


def test_everything_was_killed(plan: Plan, chaos: Chaos) -> None:
    assert chaos.done == Counter(victim for victim, _ in plan.kills)
    assert chaos.done.keys() == set(VICTIMS)
    kinds = Counter(event["event"] for event in chaos.place.events())
    assert kinds["launch"] == 1 + chaos.done["driver"] + chaos.done["raylet"]
    assert kinds["lost"] >= 1
    assert kinds["failed"] == 0


def test_it_is_the_same_study(calm: Place, chaos: Chaos) -> None:
    """The same trials, hyperparameters, decisions, scores, and the same weights to the bit."""
    undisturbed, disturbed = facts(calm), facts(chaos.place)
    for fact, expected in undisturbed.items():
        assert disturbed[fact] == expected, fact
    assert any(key.startswith("trials/") for key in undisturbed["files"])


def test_every_identity_has_one_run(plan: Plan, chaos: Chaos, runs: list[Any]) -> None:
    told = Counter(run.data.tags["study.identity"] for run in runs)
    assert set(told.values()) == {1}
    arms = len(plan.content["factors"]["snow"])
    assert len(runs) == 1 + arms + len(chaos.place.events("asked"))
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_every_epoch_is_on_record_once(chaos: Chaos, runs: list[Any]) -> None:
    epochs = 0
    for run in runs:
        assert len(run.curve) == len({step for step, _ in run.curve})
        epochs += len(run.curve)
    assert epochs == chaos.reports()


def test_nothing_is_left(calm: Place, chaos: Chaos) -> None:
    """No process, no half-written file, no folder of Tune's, no lock that is held."""
    wait_until(lambda: not ray_processes(), "the end of all Ray processes", PATIENCE_SECONDS)
    for place in (calm, chaos.place):
        assert [p.name for p in place.results.rglob(".*")] == [".driver"]
    assert not list(Path(tempfile.gettempdir()).glob("study-tune-*"))
    again = chaos.place.run()
    assert again.returncode == 0, again.stderr
