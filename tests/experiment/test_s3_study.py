"""A whole study with data and results in a bucket, beside the same one in a folder.

Its driver is killed, then shut out by another host's, then it ends; all with credentials whose
secret is looked for afterwards in everything that was written and in the process list meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from place import PATIENCE_SECONDS, Place, facts, wait_until
from seaweed import BUCKET, S3Server
from small import small_content

from study.experiment.eventlog import EventLog
from study.experiment.shared_store import push
from study.export.bundle import read_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # four launches of Ray

CONTENT = small_content(
    training__epochs=4,
    training__batch_size=1,
    training__targets_per_window=50,  # an epoch of about 0.2 s: time to be disturbed in
    search__rungs=[2],
    search__cohorts=1,
    search__cohort_size=3,
    search__reduction=3,
    confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 2},
)


@dataclass(frozen=True, kw_only=True)
class Studies:
    """The two, and what was seen of the processes while the second ran."""

    calm: Place
    remote: Place
    cache: Path
    processes: set[str]
    output: str


def listing() -> str:
    """All processes with their arguments, as any user of the host sees them."""
    return subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True,
                          check=True).stdout  # fmt: skip


@pytest.fixture(scope="module")
def studies(
    s3_server: S3Server, synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studies]:
    folder = tmp_path_factory.mktemp("s3-study")
    spec, cache = folder / "small.yaml", folder / "cache"
    spec.write_text(yaml.safe_dump(CONTENT))
    calm = Place(results=folder / "calm", spec=spec, store=synthetic_store)
    ended = calm.run()
    assert ended.returncode == 0, ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_server.environment, "STUDY_CACHE_DIR": str(cache)}.items():
            patch.setenv(name, value)
        place = f"s3://{BUCKET}/study"
        push(synthetic_store, f"{place}/basins.zarr")
        remote = Place(results=f"{place}/results", spec=spec, store=f"{place}/basins.zarr")
        with _watched() as seen:
            output = _disturbed(remote)
        yield Studies(calm=calm, remote=remote, cache=cache, processes=seen, output=output)


class _watched:
    """Gathers process lists while it is entered."""

    def __enter__(self) -> set[str]:
        self.seen: set[str] = set()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self.seen

    def _watch(self) -> None:
        while not self.ending.wait(0.5):
            self.seen.update(listing().splitlines())

    def __exit__(self, *error: object) -> None:
        self.ending.set()
        self.thread.join()


def _disturbed(place: Place) -> str:
    """Run the study with its troubles; returns all that its commands printed."""
    told = []
    killed = place.start()
    try:
        wait_until(lambda: len(place.events("reported")) >= 4, "reports")
        killed.send_signal(signal.SIGKILL)
        told += killed.communicate()
        fenced = place.start()
        launches = len(place.events("launch"))
        wait_until(lambda: len(place.events("launch")) > launches, "the second launch")
        _take_over(place)
        out, err = fenced.communicate(timeout=PATIENCE_SECONDS)
        assert fenced.returncode == 1, err
        assert "another driver has taken this study over" in " ".join(err.split())
        assert "Traceback" not in err
        assert not {e["event"] for e in place.events()} & {"test_read", "evaluated"}, "too late"
        ended = place.run()
        assert ended.returncode == 0, ended.stderr
        return "\n".join([*told, out, err, ended.stdout, ended.stderr])
    finally:
        killed.kill()


def _take_over(place: Place) -> None:
    """Write into the log as a driver on another host would."""
    while True:
        other = EventLog(place.storage)
        other.append(event="launch", host="elsewhere", pid=1)
        try:
            other.flush()
            return
        except Exception:  # the driver was faster; once more
            continue


def test_the_bucket_changes_nothing(studies: Studies) -> None:
    """The same decisions and numbers, and bit-identical networks and simulations."""
    local, remote = facts(studies.calm), facts(studies.remote)
    for fact, expected in local.items():
        assert remote[fact] == expected, fact
    assert local["files"] and local["test"]


def test_the_report_and_the_bundle_are_in_the_bucket(studies: Studies, tmp_path: Path) -> None:
    storage = studies.remote.storage
    calm = Path(studies.calm.results) / "small"
    local = {p.relative_to(calm).as_posix() for part in ("report", "export")
             for p in (calm / part).rglob("*") if p.is_file()}  # fmt: skip
    assert {*storage.keys("report/"), *storage.keys("export/")} == local
    for key in storage.keys("export/"):
        path = tmp_path / key.split("/", 2)[2]
        path.write_bytes(storage.read(key))
    bundle = read_bundle(tmp_path)
    assert bundle.manifest.study == "small"


def command(studies: Studies, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command somewhere else, that is given nothing but the address of the results."""
    words = [*arguments, "--results", str(studies.remote.results)]
    environment = os.environ | {"STUDY_CACHE_DIR": str(folder / "another host")}
    return subprocess.run([sys.executable, "-m", "study", *words], cwd=folder, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_status_report_and_export_need_only_the_address(studies: Studies, tmp_path: Path) -> None:
    status = command(studies, tmp_path, "status", "small", "--json")
    assert json.loads(status.stdout)["state"] == "finished", status.stderr
    reported = command(studies, tmp_path, "report", "small", "--json")
    report = json.loads(reported.stdout)
    written = json.loads((Path(studies.calm.results) / "small/report/report.json").read_text())
    for part in ("winner", "contrasts"):
        assert report[part] == written[part]
    again = command(studies, tmp_path, "report", "small")
    assert f"{studies.remote.results}/small/report" in again.stdout
    exported = command(studies, tmp_path, "export", "small", "--out", "bundle")
    assert exported.returncode == 0, exported.stderr
    assert read_bundle(tmp_path / "bundle").manifest.arm == report["winner"]
    absent = command(studies, tmp_path, "status", "absent")
    assert absent.returncode == 2
    assert "s3://study-tests/study/results/absent: holds no study" in " ".join(
        absent.stderr.split()
    )


def test_mlflow_has_a_file_of_this_host(studies: Studies) -> None:
    from mlflow import MlflowClient

    (database,) = (studies.cache / "tracking").rglob("mlflow.db")
    assert str(database) in studies.output.replace("\n", "")
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    jobs = {event["key"] for event in studies.remote.events("asked")}
    assert len(runs) == 1 + 2 + len(jobs)
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_secret_is_nowhere(studies: Studies, s3_server: S3Server) -> None:
    """Not in what was printed, in the process list, in any object or file of the study, of MLflow
    and of Ray; the access key, which is public, is not there either."""
    searched = {f"s3 {key}": studies.remote.storage.read(key)
                for key in studies.remote.storage.keys("")}  # fmt: skip
    ray = Path(os.environ["RAY_TMPDIR"], "ray")
    for folder in (studies.cache, ray, studies.remote.spec.parent):
        searched |= {str(p): p.read_bytes() for p in folder.rglob("*")
                     if p.is_file() and not p.is_symlink()}  # fmt: skip
    assert any(name.endswith("mlflow.db") for name in searched)
    assert any("raylet" in name for name in searched), "no logs of Ray"
    searched |= {"printed": studies.output.encode()}
    searched |= {"processes": "\n".join(studies.processes).encode()}
    assert b"-m study run" in searched["processes"] and b"raylet" in searched["processes"]
    for secret in (s3_server.secret_key.encode(), s3_server.access_key.encode()):
        assert [name for name, content in searched.items() if secret in content] == []
