"""A whole study by the command line, on the real Ray and a real MLflow database.

One study runs undisturbed. A second one, of the same spec, meets with what happens on clusters: its
first driver is shut out by another one, its second loses a worker and is then killed, its third
ends it. A third one has one worker where the first has two. All must be the same study (`make
slow`). Everything else is asked of the first (`make test`).
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from place import PATIENCE_SECONDS, Place, facts, ray_processes, wait_until
from safetensors.numpy import load
from small import small_content

from study import native
from study.data.store import open_store
from study.experiment.eventlog import EventLog
from study.experiment.jobs import JobKey
from study.experiment.storage import only_driver

pytestmark = pytest.mark.timeout(600)  # five launches, each with its own Ray

CONTENT = small_content(
    training__epochs=6,
    training__batch_size=1,
    training__targets_per_window=50,  # an epoch of about 0.2 s: time to be disturbed in
    search__rungs=[2],
    search__cohorts=2,
    search__cohort_size=3,
    search__reduction=3,
    confirmation={"candidates": 2, "candidate_seeds": 1, "seeds": 2},
)
ARMS, TRIALS, CANDIDATES, REPLICATES = 2, 6, 2, 2
JOBS = ARMS * (TRIALS + CANDIDATES + REPLICATES)


@pytest.fixture(scope="module")
def new_place(
    synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Place]:
    folder = tmp_path_factory.mktemp("integration")
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT))
    return lambda name: Place(results=folder / name, spec=spec, store=synthetic_store)


@pytest.fixture(scope="module")
def calm(new_place: Callable[[str], Place]) -> Place:
    """A finished study that nothing happened to."""
    place = new_place("calm")
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    return place


@pytest.fixture(scope="module")
def rough(new_place: Callable[[str], Place]) -> Iterator[Place]:
    """A finished study that was fenced, lost a worker, was killed, and went on."""
    place = new_place("rough")
    started: list[subprocess.Popen[str]] = []
    try:
        started.append(place.start())
        _fence(place, started[-1])
        started.append(place.start())
        _kill_a_worker(place)
        before = len(place.events("reported"))
        wait_until(lambda: len(place.events("reported")) >= before + 4, "reports after the loss")
        started[-1].send_signal(signal.SIGKILL)
        started[-1].wait()
        assert not {e["event"] for e in place.events()} & {"test_read", "evaluated"}, "too late"
        ended = place.run()
        assert ended.returncode == 0, ended.stderr
        yield place
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def alone(new_place: Callable[[str], Place]) -> Place:
    """A finished study of one worker: each trial reserves more than half of the machine."""
    place = new_place("alone")
    ended = place.run(f"resources.cpus={(os.cpu_count() or 1) // 2 + 1}")
    assert ended.returncode == 0, ended.stderr
    return place


def _fence(place: Place, driver: subprocess.Popen[str]) -> None:
    """Write into the log as another driver would, and see the first one leave."""
    wait_until(lambda: len(place.events("reported")) >= 2, "the first reports")
    while True:
        other = EventLog(place.storage)
        other.append(event="launch", host="elsewhere", pid=1)
        try:
            other.flush()
            break
        except Exception:  # the driver was faster; once more
            continue
    _, told = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 1, told
    assert "error:" in told and "another driver has taken this study over" in " ".join(told.split())
    assert "Traceback" not in told


def _kill_a_worker(place: Place) -> None:
    """Kill actors until the event log tells of a lost job; one between two jobs has none."""
    before = len(place.events("reported"))
    wait_until(lambda: len(place.events("reported")) >= before + 4, "reports of the next driver")

    def lost() -> bool:
        if place.events("lost"):
            return True
        for pid, name in ray_processes().items():
            if name.startswith("ray::") and "Trainable" in name:
                os.kill(pid, signal.SIGKILL)
                break
        time.sleep(1)
        return bool(place.events("lost"))

    wait_until(lost, "a lost job")


@pytest.mark.slow
def test_disturbances_change_nothing(calm: Place, rough: Place) -> None:
    """The same decisions and numbers, and bit-identical networks and simulations."""
    for place in (calm, rough):
        assert [event["reason"] for event in place.events("failed")] == []
    undisturbed, disturbed = facts(calm), facts(rough)
    for fact, expected in undisturbed.items():
        assert disturbed[fact] == expected, fact
    assert sum(key.startswith("trials/") for key in undisturbed["files"]) == ARMS * REPLICATES


@pytest.mark.slow
def test_one_worker_finds_what_two_find(calm: Place, alone: Place) -> None:
    """The same decisions and numbers, and bit-identical networks and simulations."""
    if not takes_turns(calm):
        pytest.skip("needs a machine of two processors or more: here all studies have one worker")
    assert not takes_turns(alone)
    several, one = facts(calm), facts(alone)
    for fact, expected in several.items():
        assert one[fact] == expected, fact


@pytest.mark.slow
def test_asynchronous_halving_trains_all_it_must(new_place: Callable[[str], Place]) -> None:
    """Its decisions depend on the order of reports; what it owes the arms does not."""
    place = new_place("asynchronous")
    ended = place.run("search.halving=asynchronous")
    assert ended.returncode == 0, ended.stderr
    stages = Counter(JobKey.parse(event["key"]).stage for event in place.events("asked"))
    assert stages == {
        "search": ARMS * TRIALS,
        "candidate": ARMS * CANDIDATES,
        "replicate": ARMS * REPLICATES,
    }
    for arm in ("lstm", "lstm-snow"):
        decided = [event for event in place.events("decided") if event["arm"] == arm]
        goes_on = [trial for event in decided for trial in event["go"]]
        stopped = [trial for event in decided for trial in event["stop"]]
        assert sorted(goes_on + stopped) == list(range(TRIALS))
        assert len(goes_on) >= TRIALS // CONTENT["search"]["reduction"]
    assert place.events("test_read") and not place.events("failed")


def takes_turns(place: Place) -> bool:
    """Whether a job reported while another one was between two epochs."""
    reports = place.events("reported")
    paused = (CONTENT["search"]["rungs"][-1], CONTENT["training"]["epochs"])
    return any(
        before["key"] != after["key"] and before["epoch"] not in paused
        for before, after in itertools.pairwise(reports)
    )


@pytest.mark.slow
def test_the_rough_study_was_rough(rough: Place) -> None:
    kinds = Counter(event["event"] for event in rough.events())
    assert kinds["launch"] == 4  # three drivers and the stranger
    assert kinds["lost"] >= 1
    assert kinds["test_read"] == 1


@pytest.mark.slow
def test_no_event_is_told_twice(rough: Place) -> None:
    for kind, name in (("asked", ["key"]), ("reported", ["key", "epoch"]), ("evaluated", ["key"]),
                       ("decided", ["arm", "cohort", "rung"]), ("selected", ["arm"])):  # fmt: skip
        told = Counter(tuple(event[n] for n in name) for event in rough.events(kind))
        assert set(told.values()) == {1}, kind
    assert len(rough.events("asked")) == JOBS


@pytest.mark.slow
def test_nothing_is_left_behind(calm: Place, rough: Place) -> None:
    try:
        wait_until(lambda: not ray_processes(), "the end of all Ray processes", 120)
    except AssertionError:
        raise AssertionError(f"still alive: {ray_processes()}") from None
    for place in (calm, rough):
        left = [p.name for p in place.results.rglob(".*")]
        assert left == [".driver"]


@pytest.fixture(scope="module", params=["calm", pytest.param("rough", marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest) -> list[Any]:
    """All MLflow runs of a study."""
    from mlflow import MlflowClient

    place: Place = request.getfixturevalue(request.param)
    client = MlflowClient(tracking_uri=f"sqlite:///{place.results}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    for run in found:
        run.curve = {
            name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
    return list(found)


def test_mlflow_has_one_run_for_each_identity(runs: list[Any]) -> None:
    identities = Counter(run.data.tags["study.identity"] for run in runs)
    assert set(identities.values()) == {1}
    assert len(runs) == 1 + ARMS + JOBS
    assert Counter(run.data.tags["study.stage"] for run in runs) == {
        "study": 1,
        "arm": ARMS,
        "search": ARMS * TRIALS,
        "candidate": ARMS * CANDIDATES,
        "replicate": ARMS * REPLICATES,
    }


def test_mlflow_runs_form_a_tree_and_are_ended(runs: list[Any]) -> None:
    by_id = {run.info.run_id: run for run in runs}
    parents = {"arm": "study", "search": "arm", "candidate": "arm", "replicate": "arm"}
    for run in runs:
        assert run.info.status == "FINISHED", run.data.tags
        assert run.info.end_time >= run.info.start_time
        stage = run.data.tags["study.stage"]
        if stage != "study":
            parent = by_id[run.data.tags["mlflow.parentRunId"]]
            assert parent.data.tags["study.stage"] == parents[stage]
            assert run.data.params["snow"] in ("off", "observed")
        if stage == "search":
            assert run.data.tags["study.status"] in ("stopped", "done")
            assert {"learning_rate", "dropout"} <= set(run.data.params)


def test_mlflow_has_every_epoch_once(runs: list[Any]) -> None:
    """Also of what a killed driver had already told it."""
    for run in runs:
        for name, points in run.curve.items():
            assert len(points) == len(set(points)) == len({step for step, _ in points}), name
        if run.data.tags["study.stage"] in ("search", "candidate", "replicate"):
            epochs = int(run.data.tags["study.epochs"])
            assert [s for s, _ in sorted(run.curve["train/loss"])] == list(range(1, epochs + 1))
            assert (run.data.tags["study.status"] == "stopped") == (epochs == 2)
        if run.data.tags["study.stage"] == "replicate":
            assert {"test/nse_median", "val/nse_median"} <= set(run.curve)


def test_the_log_and_mlflow_say_what_computed_a_job(calm: Place, runs: list[Any]) -> None:
    """Last bits depend on it."""
    kernels = [e["worker"]["kernel"] for e in calm.events("reported") if "worker" in e]
    if (loaded := native.loaded()).library is None:
        told = "torch, "
        assert {kernel["name"] for kernel in kernels} == {"torch"} and loaded.failure
    else:
        told = f"native, {loaded.compiler}, {loaded.instructions}"
        assert all(", ".join(kernel.values()) == told for kernel in kernels)
    for run in runs:
        if run.data.tags["study.stage"] in ("search", "candidate", "replicate"):
            assert run.data.tags["study.kernel"].startswith(told)


@pytest.mark.slow
def test_going_on_with_a_finished_study_changes_nothing(rough: Place) -> None:
    before, log = facts(rough), rough.events()
    ended = rough.run()
    assert ended.returncode == 0, ended.stderr
    assert facts(rough) == before
    assert [e["event"] for e in rough.events()[len(log) :]] == ["launch"]


def test_a_changed_spec_is_refused(calm: Place) -> None:
    before = len(calm.events())
    ended = calm.run("training.batch_size=9")
    assert ended.returncode == 2
    told = " ".join(ended.stderr.split())
    assert "begun with another spec" in told
    assert '-"batch_size": 1' in told.replace("- ", "-") and '"batch_size": 9' in told
    assert len(calm.events()) == before


def test_a_second_driver_is_refused(calm: Place) -> None:
    with only_driver(calm.storage):
        ended = calm.run()
    assert ended.returncode == 1
    assert "another `study run` drives this study now" in " ".join(ended.stderr.split())


def study(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Output of a command, run in this process."""
    from study.cli import app

    capsys.readouterr()
    app([str(a) for a in arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_status(calm: Place, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads(study(capsys, "status", "small", "--results", calm.results, "--json"))
    assert state["state"] == "finished"
    assert state["jobs"] == state["jobs_planned"] == JOBS
    for arm in state["arms"]:
        counts = {"run": 0, "wait": 0, "stopped": 4, "done": 2, "failed": 0}
        assert arm["trials"] == {"planned": TRIALS, "asked": TRIALS, **counts}
    shown = study(capsys, "status", calm.spec, "--results", calm.results)
    assert "small: finished" in shown and "6/6" in shown


REPORT = {
    "": "study:str winner:str arms:list contrasts:list",
    "arms": "arm:str factors:dict trials:int epochs:int seconds:float replicates:int "
    "validation:dict test:dict",
    "contrasts": "name:str a:str b:str difference:float low:float high:float p_holm:float "
    "verdict:str",
}
"""Fields that others rely on, and their types: there may be more, none may be renamed."""


def test_report(calm: Place, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(study(capsys, "report", "small", "--results", calm.results, "--json"))
    for part, fields in REPORT.items():
        for entry in report[part] if part else [report]:
            for name, kind in (field.split(":") for field in fields.split()):
                assert type(entry[name]).__name__ == kind, f"{part}.{name}"
    assert [arm["arm"] for arm in report["arms"]] == ["lstm", "lstm-snow"]
    for arm in report["arms"]:
        assert (arm["trials"], arm["replicates"]) == (TRIALS, REPLICATES)
        assert arm["epochs"] == 2 * (3 * 2 + 4)  # cohorts, each: 3 trials to the rung, 1 on
        wanted = {"nse_median", "nse_mean", "kge_median", "share_nse_below_0"}
        assert wanted <= set(arm["test"]) and "nse_median" in arm["validation"]
    (contrast,) = report["contrasts"]
    assert (contrast["a"], contrast["b"]) == ("lstm-snow", "lstm")
    written = json.loads((calm.results / "small" / "report" / "report.json").read_text())
    assert written == report


def test_export_predicts_what_the_study_simulated(
    calm: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the store and from a CSV made of it, in all members and their mean."""
    arm, bundle = "lstm-snow", tmp_path / "bundle"
    study(capsys, "export", "small", "--results", calm.results, "--arm", arm, "--out", bundle)
    store = open_store(calm.store)
    names = ["prcp", "tmax", "srad", "swe"]
    table = store[names].to_dataframe().reset_index()
    table = table.rename(columns={"basin": "gauge_id", "time": "date"})
    table[["gauge_id", "date", *names]].to_csv(tmp_path / "forcing.csv", index=False)
    expected = np.stack(
        [load(calm.storage.read(key))["test"] for key in calm.storage.keys(f"predictions/{arm}/")]
    ).mean(axis=0)
    for source in (calm.store, tmp_path / "forcing.csv"):
        out = tmp_path / f"{source.suffix[1:]}-qsim.csv"
        study(capsys, "predict", bundle, "--forcing", source, "--period", "test", "--out", out)
        found = pd.read_csv(out, dtype={"gauge_id": str}, parse_dates=["date"])
        found = found.pivot(index="gauge_id", columns="date", values="qsim")
        assert list(found.index) == list(store["basin"].values)
        assert str(found.columns[0].date()) == "1985-10-01"
        assert str(found.columns[-1].date()) == "1988-09-30"
        np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-6, atol=1e-5)


def test_the_run_left_a_bundle_of_the_winner(calm: Place) -> None:
    (bundle,) = (calm.results / "small" / "export").iterdir()
    report = json.loads((calm.results / "small" / "report" / "report.json").read_text())
    assert bundle.name == report["winner"]
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["arm"] == report["winner"]
    replicates = [JobKey.parse(event["key"]) for event in calm.events("evaluated")]
    members = [name for name in manifest["checksums"] if name.startswith("weights")]
    assert len(members) == sum(key.arm == bundle.name for key in replicates) == REPLICATES
