"""A study that is told to end saves what it has, leaves in time, and goes on as if nothing was.

One study runs undisturbed. Another one, of the same spec, is ended again and again: by SIGTERM, by
Ctrl-C, while a worker hangs and the tracking server does not answer, by two signals in a row.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
import yaml
from hosts import cluster
from place import Place, facts, ray_processes, wait_until
from ray.tune.experiment import Trial
from small import small_content, small_spec

from study.errors import Interrupted
from study.experiment.book import Book
from study.experiment.cluster import connected
from study.experiment.drain import Drain
from study.experiment.engine import open_ledger, prepare
from study.experiment.eventlog import EventLog
from study.experiment.interruption import Interruption
from study.experiment.jobs import Job, JobKey
from study.experiment.storage import LocalStorage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONTENT = small_content(
    training__epochs=12,
    training__batch_size=1,
    training__targets_per_window=50,
    resources__kernel="torch",  # with which an epoch takes about 0.2 s
    search__rungs=[6],
    search__cohorts=1,
    search__cohort_size=4,
    search__reduction=2,
    confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 2},
)
LIMIT_SECONDS = 20
"""What the manual promises."""
LOG_SECONDS = 1.5
"""After which the log has all reports."""
PATIENCE_SECONDS = 300
AGAIN = "the same command goes on where the study stopped"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a launch ended, and what it left."""

    code: int
    seconds: float
    """From the last signal on."""
    told: str
    jobs: tuple[Job, ...]
    """Those that were begun and have to go on."""

    last: Job | None
    """The one that reported last."""
    hung: str | None = None
    """The job whose worker hung."""

    @property
    def epochs_to_repeat(self) -> dict[str, int]:
        return {str(job.key): job.epochs - job.saved for job in self.jobs}


class Launch:
    """A `study run`, in a process group of its own as a terminal gives it one."""

    def __init__(self, place: Place):
        self.place = place
        self.before = len(place.events("reported"))
        self.driver = subprocess.Popen(
            place.command(), stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def comes_to(self, epochs: int) -> Launch:
        """Wait until it has done so many epochs; two jobs at least are then under way."""
        self.wait(lambda: len(self.place.events("reported")) >= self.before + epochs)
        return self

    def wait(self, true: Callable[[], object]) -> None:
        def found() -> bool:
            assert self.driver.poll() is None, self.driver.stderr and self.driver.stderr.read()
            return bool(true())

        wait_until(found, "the study to come so far", PATIENCE_SECONDS)

    def end(self, *numbers: int, group: bool = False, pause: float = 1.0) -> Ending:
        for turn, number in enumerate(numbers):
            time.sleep(pause if turn else 0.0)
            started = time.monotonic()
            if group:
                os.killpg(self.driver.pid, number)
            else:
                self.driver.send_signal(number)
        _, told = self.driver.communicate(timeout=PATIENCE_SECONDS)
        seconds = time.monotonic() - started
        jobs, reports = open_ledger(self.place.storage).jobs, self.place.events("reported")
        return Ending(
            code=self.driver.returncode,
            seconds=seconds,
            told=" ".join(told.split()),
            jobs=tuple(job for job in jobs.values() if job.status == "run" and job.reports),
            last=jobs[JobKey.parse(reports[-1]["key"])] if reports else None,
        )


def trains() -> list[int]:
    """Processes of workers that are in an epoch."""
    return [pid for pid, name in ray_processes().items() if "Trainable.train" in name]


def hang_a_worker(place: Place) -> str:
    """Let a worker hang in the middle of a job, with epochs that are not saved; returns the key."""

    def hangs() -> str | None:
        for pid in trains()[:1]:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(LOG_SECONDS)
            jobs = open_ledger(place.storage).jobs
            first = [e for e in place.events("reported") if e.get("worker", {}).get("pid") == pid]
            for job in (jobs[JobKey.parse(e["key"])] for e in first[-1:]):
                if job.status == "run" and job.epochs > job.saved:
                    return str(job.key)
            os.kill(pid, signal.SIGCONT)
        return None

    return str(wait_until(hangs, "a worker in the middle of a job", PATIENCE_SECONDS))


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """A tracking server that takes connections and says nothing: worse than one that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def new_place(folder: Path, store: Path, content: dict[str, object] = CONTENT) -> Place:
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(content))
    return Place(results=folder / "results", spec=spec, store=store)


@pytest.fixture(scope="module")
def calm(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The study that nothing happened to."""
    place = new_place(tmp_path_factory.mktemp("calm"), synthetic_store)
    _, told = place.start().communicate(timeout=900)
    assert not told.count("error:"), told
    return place


@pytest.fixture(scope="module")
def rough(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return new_place(tmp_path_factory.mktemp("rough"), synthetic_store)


@pytest.fixture(scope="module")
def endings(rough: Place) -> Iterator[dict[str, Ending]]:
    """A study that was ended four times, and went on to its end."""
    launches = []

    def launch(place: Place = rough) -> Launch:
        launches.append(Launch(place))
        return launches[-1].comes_to(6)

    try:
        found = {"SIGTERM": launch().end(signal.SIGTERM)}
        found["Ctrl-C"] = launch().end(signal.SIGINT, group=True)
        with silent_server() as uri:
            hanging = launch(replace(rough, tracking_uri=uri))
            hung = hang_a_worker(rough)
            found["hanging"] = replace(hanging.end(signal.SIGTERM), hung=hung)
        twice = launch()
        hang_a_worker(rough)
        found["twice"] = twice.end(signal.SIGTERM, signal.SIGTERM)
        assert not rough.events("test_read"), "the study is too short for so many endings"
        _, told = rough.start().communicate(timeout=900)
        assert not told.count("error:"), told
        yield found
    finally:
        for started in launches:
            started.driver.kill()
            started.driver.communicate()


@pytest.mark.parametrize(("ending", "code"), [("SIGTERM", 143), ("Ctrl-C", 130)])
def test_jobs_are_saved_and_no_epoch_is_repeated(
    ending: str, code: int, endings: dict[str, Ending]
) -> None:
    ended = endings[ending]
    assert (ended.code, ended.seconds <= LIMIT_SECONDS) == (code, True), ended
    assert AGAIN in ended.told and "Traceback" not in ended.told
    assert ended.jobs and set(ended.epochs_to_repeat.values()) == {0}


def test_neither_a_worker_that_hangs_nor_a_silent_server_holds_it_up(
    endings: dict[str, Ending],
) -> None:
    ended = endings["hanging"]
    assert (ended.code, ended.seconds <= LIMIT_SECONDS) == (143, True), ended
    assert AGAIN in ended.told and "MLflow lacks the last records" in ended.told
    repeated = {key for key, epochs in ended.epochs_to_repeat.items() if epochs}
    assert repeated == {ended.hung}
    assert (
        ended.last and str(ended.last.key) != ended.hung
    )  # the other worker was waited for, and has saved
    assert ended.last.epochs == ended.last.saved


def test_the_second_signal_ends_it_at_once(endings: dict[str, Ending]) -> None:
    assert endings["twice"].code == 143
    assert endings["twice"].seconds < 3


def test_it_is_the_same_study(calm: Place, rough: Place, endings: dict[str, Ending]) -> None:
    """The same trials, decisions and scores, and the same weights to the bit."""
    undisturbed, disturbed = facts(calm), facts(rough)
    for fact, expected in undisturbed.items():
        assert disturbed[fact] == expected, fact
    assert len(rough.events("launch")) == len(endings) + 1
    assert rough.events("saved") and not rough.events("failed")
    wait_until(lambda: not ray_processes(), "the end of all Ray processes", PATIENCE_SECONDS)


@ray.remote(num_cpus=1)
class SlowToSave:
    """A worker in the first epoch of a job."""

    def __init__(self, key: JobKey):
        self.key = key

    def save_job(self) -> tuple[str, int]:
        time.sleep(1.0)
        return str(self.key), 1


def test_a_job_that_begins_after_the_signal_is_saved_too(
    synthetic_store: Path, tmp_path: Path
) -> None:
    """One that was handed out before, and whose worker was not ready then."""
    prepared = prepare(small_spec(), synthetic_store)
    book = Book(prepared.spec, prepared.arms, EventLog(LocalStorage(tmp_path)))
    interruption = Interruption()
    drain = Drain(book, interruption)
    with connected(None, num_cpus=2), interruption.postponed():
        trials = []
        while len(trials) < 2:
            job = book.next_job()
            assert job is not None
            book.live.add(job.key)
            trials.append(Trial(str(job.key), stub=True))
            trials[-1].temporary_state.ray_actor = SlowToSave.remote(job.key)
        under_way, handed_out = trials
        under_way.set_status(Trial.RUNNING)
        interruption.receive(signal.SIGTERM)
        drain.on_step_begin(0, trials)
        handed_out.set_status(Trial.RUNNING)
        for job in book.jobs.values():
            book.report(job.key, {"epoch": 1, "loss": 1.0, "seconds": 1.0})
        with pytest.raises(Interrupted):
            for step in range(1000):
                drain.on_step_begin(step, trials)
                time.sleep(0.02)
    assert [job.saved for job in book.jobs.values()] == [1, 1]


def test_a_host_that_is_drained_takes_no_epoch_with_it(
    calm: Place, synthetic_store: Path, tmp_path: Path
) -> None:
    """As a spot host that is taken back: SIGTERM to its `ray start --block`. Ray drains it for
    some seconds, in which its worker saves after every epoch, and ends it."""
    with cluster(tmp_path / "log") as hosts:
        taken = hosts.add(cpus=1)
        at_first = set(hosts.resources())
        place = replace(new_place(tmp_path, synthetic_store), address=hosts.address)
        launch = Launch(place).comes_to(3)
        taken.send_signal(signal.SIGTERM)
        taken.wait(timeout=PATIENCE_SECONDS)
        (lost,) = wait_until(lambda: place.events("lost"), "the loss", PATIENCE_SECONDS)
        hosts.add(cpus=2)
        _, told = launch.driver.communicate(timeout=900)
        assert launch.driver.returncode == 0, told
        again = [e["worker"]["node"] for e in place.events("reported") if "worker" in e]
    assert not at_first & set(again[-3:])  # all that came after was trained on the other host
    events = place.events()
    before = [e for e in events[: events.index(lost)] if e.get("key") == lost["key"]]
    # None of either, if the job was lost in its first epoch.
    reported = max((e["epoch"] for e in before if e["event"] == "reported"), default=0)
    saved = max((e["epoch"] for e in before if e["event"] == "saved" or e.get("saved")), default=0)
    assert reported - saved == 0
    epochs = [(e["key"], e["epoch"]) for e in events if e["event"] == "reported"]
    assert len(set(epochs)) == len(epochs), "an epoch was trained twice"
    undisturbed, drained = facts(calm), facts(place)
    for fact, expected in undisturbed.items():
        assert drained[fact] == expected, fact


def test_an_epoch_longer_than_the_limit_is_not_waited_for(
    synthetic_store: Path, tmp_path: Path
) -> None:
    content = small_content(
        training__batch_size=1, training__targets_per_window=1, training__warmup=365,
        training__hidden_size=256, resources__kernel="torch",
    )  # fmt: skip
    launch = Launch(new_place(tmp_path, synthetic_store, content))
    launch.wait(trains)
    ended = launch.end(signal.SIGTERM)
    assert (ended.code, ended.seconds <= LIMIT_SECONDS) == (143, True), ended
    assert AGAIN in ended.told
    assert ended.last is None
    wait_until(lambda: not ray_processes(), "the end of all Ray processes", PATIENCE_SECONDS)
