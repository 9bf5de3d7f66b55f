"""MLflow as a projection: the same records however often and in whatever pieces it is replayed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from simulator import CONDITIONS_ROUGH, drive, sometimes
from small import small_spec

from study.experiment.book import Book
from study.experiment.storage import LocalStorage
from study.experiment.tracking import tracker
from study.experiment.tracking.tracker import Projection


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A study with failures, trained by nobody and scored with invented numbers."""
    storage = LocalStorage(tmp_path_factory.mktemp("tracked"))
    book = drive(small_spec(), storage, CONDITIONS_ROUGH, failure=sometimes)
    shyft = {"stack": "pt_st_k", "crossfit": True, "parameters": {"01013500": {"st.tx": 0.5}}}
    header = {"event": "study", "time": 1.0, "spec": book.spec.model_dump(mode="json"),
              "digests": {"forcing": "0"}, "accounts": {"shyft": shyft},
              "provenance": {"study": "0"}}  # fmt: skip
    book.log.events.insert(0, header)
    book.log.flushed += 1
    for arm in book.arms:
        for job in book.replicates(arm):
            if book.status(job.key) == "done":
                scores = {"nse_median": 0.1 * job.key.seed, "nse_mean": 0.0}
                book.log.append(
                    event="evaluated", key=str(job.key), scores={"validation": scores, "test": None}
                )
    book.log.flushed = len(book.log.events)
    for number, event in enumerate(book.log.events):
        event["time"] = 1000.0 + number  # as if one came every second
    return book


def records(uri: str) -> dict[str, Any]:
    """All that the server knows, by identity."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found: dict[str, Any] = {}
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.data.tags["study.identity"] for run in runs}
    for run in runs:
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        assert tags["study.identity"] not in found
        found[tags["study.identity"]] = {
            "tags": tags,
            "params": run.data.params,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId", "")),
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "metrics": {
                name: [
                    (m.step, m.value, m.timestamp)
                    for m in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
        }
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without records: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("empty")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path)}"


@pytest.fixture(scope="module")
def expected(book: Book, empty: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Told in one piece."""
    uri = f"sqlite:///{shutil.copy(empty, tmp_path_factory.mktemp('whole'))}"
    Projection(book, uri).catch_up()
    return records(uri)


def test_the_tree(book: Book, expected: dict[str, Any]) -> None:
    assert len(expected) == 1 + len(book.arms) + len(book.jobs)
    failed = sum(book.status(key) == "failed" for key in book.jobs)
    assert failed > 0
    assert sum(r["status"] == "FAILED" for r in expected.values()) == failed
    for record in expected.values():
        job = record["tags"]["study.stage"] not in ("study", "arm")
        if job:
            assert record["tags"]["study.status"] in ("stopped", "done", "failed")
            assert record["status"] != "RUNNING"
            assert {"model", "snow", "dropout"} <= set(record["params"])
        assert ("study.failure" in record["tags"]) == (record["status"] == "FAILED")
        for points in record["metrics"].values():
            assert len({step for step, _, _ in points}) == len(points)


def test_pieces_are_no_matter(book: Book, expected: dict[str, Any], uri: str) -> None:
    """A server that follows closely and one that hears all at the end know the same."""
    projection, flushed = Projection(book, uri), book.log.flushed
    try:
        for known in (5, 6, 40, 41, 90, flushed - 3, flushed):
            book.log.flushed = known
            projection.catch_up()
    finally:
        book.log.flushed = flushed
    assert records(uri) == expected


class Crash(Exception):
    """The driver dies between two calls to the server."""


class Mortal:
    """A client that dies after so many writing calls."""

    WRITES = ("create_run", "log_batch", "set_terminated", "create_experiment")

    def __init__(self, client: MlflowClient, calls: int):
        self._client, self._calls = client, calls

    def __getattr__(self, name: str) -> Any:
        if name in self.WRITES:
            self._calls -= 1
            if self._calls < 0:
                raise Crash
        return getattr(self._client, name)


def test_a_driver_that_dies_between_two_calls(
    book: Book, expected: dict[str, Any], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run twice, none without its parameters, none left running, no metric twice."""
    lives = (0, 1, 2, 3, 4, 5, 6, 9, 14, 22, 35, 50)
    for calls in lives:
        client = Mortal(MlflowClient(tracking_uri=uri), calls)
        monkeypatch.setattr(tracker, "MlflowClient", lambda tracking_uri, mortal=client: mortal)
        with pytest.raises(Crash):
            Projection(book, uri).catch_up()
    monkeypatch.undo()
    assert "RUNNING" in {record["status"] for record in records(uri).values()}, "all was told"
    Projection(book, uri).catch_up()
    assert records(uri) == expected


def test_another_study_of_the_same_name_has_runs_of_its_own(book: Book, tmp_path: Path) -> None:
    """Begun anew after its results were removed, or by somebody else on the same server."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    number = []
    for uid in ("first", "second"):
        book.log.events[0]["uid"] = uid
        Projection(book, uri).catch_up()
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("small")
        assert experiment is not None
        number.append(len(client.search_runs([experiment.experiment_id], max_results=1000)))
    del book.log.events[0]["uid"]
    assert number[1] == 2 * number[0] > 0


def test_where_shyfts_series_come_from_is_on_record(
    book: Book, expected: dict[str, Any], tmp_path: Path
) -> None:
    """What is short as tags, parameters of every basin as a file."""
    tags = expected["study:small"]["tags"]
    assert tags["study.shyft.stack"] == "pt_st_k" and tags["study.shyft.crossfit"] == "True"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    projection = Projection(book, uri)
    projection.catch_up()
    client = MlflowClient(tracking_uri=uri)
    path = client.download_artifacts(projection.study_run, "shyft.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["parameters"] == {"01013500": {"st.tx": 0.5}}
