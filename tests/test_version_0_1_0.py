"""What version 0.1.0 left behind opens, says the same, goes on, and predicts the same.

`fixtures/study_0_1_0.tar.xz` is a study that this version finished (see `fixtures/README.md`): its
log, checkpoints, predictions, report, bundle and MLflow database. Whatever is changed since is held
against it.
"""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from archive import unpack
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inline import InlineStudy
from mlflow import MlflowClient

from study.data.store import open_store, verify
from study.experiment.arms import expand
from study.experiment.book import Book
from study.experiment.confirm import read_predictions
from study.experiment.engine import open_ledger, prepare
from study.experiment.eventlog import EventLog
from study.experiment.jobs import CLOSED, JobKey, checkpoint_key, identity
from study.experiment.storage import LocalStorage
from study.experiment.tracking.following import Tracker
from study.experiment.tracking.tracker import IDENTITY
from study.experiment.trial import RunningJob, Worker
from study.export.backends import BACKENDS
from study.export.bundle import Bundle, read_bundle
from study.export.example import largest_difference
from study.export.forcing import read_forcing
from study.export.places import write_files
from study.export.predict import named_period, predict
from study.export.registering import export_registered
from study.report.compare import write_report
from study.training.loop import DeviceData

FIXTURE = Path(__file__).parent / "fixtures" / "study_0_1_0.tar.xz"
NAME = "study_0_1_0"
WINNER = "ealstm-snow"
BITS = 1e-5
"""Relative; of processors whose sums round otherwise."""
OF_THE_LOG = ("event", "key", "time")
"""Fields of a report that its job did not write."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store and the results."""
    return unpack(FIXTURE, tmp_path_factory.mktemp("old") / NAME)


@pytest.fixture(scope="module")
def storage(old: Path) -> LocalStorage:
    return LocalStorage(old / "results" / NAME)


@pytest.fixture(scope="module")
def grown(old: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Book]:
    """A copy of the results, gone on with one more seed an arm, and its MLflow database with it."""
    folder = unpack(FIXTURE, tmp_path_factory.mktemp("grown") / NAME)
    storage = LocalStorage(folder / "results" / NAME)
    spec = open_ledger(storage).spec
    seeds = spec.confirmation.model_copy(update={"seeds": spec.confirmation.seeds + 1})
    study = InlineStudy(store=folder / "store.zarr", storage=storage)
    book = study.finish_spec(spec.model_copy(update={"confirmation": seeds}))
    with Tracker(book, uri_of(folder)):
        pass
    return folder, book


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/results/mlflow.db"


def assert_says(found: Any, expected: Any, path: str = "report") -> None:
    """All that was said is said; more may be."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert key in found, f"{path}: {key} is gone"
            assert_says(found[key], value, f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_says(one, other, f"{path}[{number}]")
    elif isinstance(expected, float) and not isinstance(found, str | None):
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), path
    else:
        assert found == expected, path


def test_a_difference_would_be_seen() -> None:
    said = {"arms": [{"arm": "lstm", "nse": 0.5, "high": None}]}
    assert_says(said | {"more": 1}, said)
    for other in ({}, {"arms": []}, {"arms": [{"arm": "lstm", "nse": 0.5001, "high": None}]},
                  {"arms": [{"arm": "lstm", "nse": 0.5, "high": 1.0}]}):  # fmt: skip
        with pytest.raises(AssertionError):
            assert_says(other, said)


def test_its_store_is_whole(old: Path) -> None:
    verify(open_store(old / "store.zarr"), old / "store.zarr")


def test_it_opens(storage: LocalStorage) -> None:
    ledger = open_ledger(storage)
    assert list(ledger.arms) == ["lstm", "lstm-snow", "ealstm", "ealstm-snow"]
    assert {ledger.status(key) for key in ledger.jobs} == {"done", "stopped"}
    assert ledger.trained() and ledger.test_reads == 1 and len(ledger.evaluations) == 4 * 5
    decided = Counter(len(go) for go in ledger.decisions.values())
    assert decided == {2: 8, 1: 8}  # of four trials, two and one go on: four arms, two cohorts


def test_its_report_says_the_same(old: Path, storage: LocalStorage, tmp_path: Path) -> None:
    before = old / "results" / NAME / "report"
    write_report(open_ledger(storage), storage, tmp_path / "report")
    expected = json.loads((before / "report.json").read_text())
    del expected["version"]
    assert_says(json.loads((tmp_path / "report" / "report.json").read_text()), expected)
    for table in before.glob("*.csv"):
        one, other = (pd.read_csv(path, dtype={"gauge_id": str})
                      for path in (tmp_path / "report" / table.name, table))  # fmt: skip
        pd.testing.assert_frame_equal(one[other.columns], other, rtol=1e-9, obj=table.name)


def test_its_trials_would_be_drawn_and_decided_alike(storage: LocalStorage, tmp_path: Path) -> None:
    """A new study that gets the old one's scores asks for the same trials, and lets the same go
    on; every job has the identity that its checkpoint was named by."""
    ledger = open_ledger(storage)
    book = Book(ledger.spec, expand(ledger.spec), EventLog(LocalStorage(tmp_path)))
    while not book.trained():
        job = book.next_job()
        assert job is not None
        book.live.add(job.key)
        done = ledger.jobs[job.key]
        assert job.hyperparameters == done.hyperparameters, str(job.key)
        for epoch in range(job.epochs + 1, done.epochs + 1):
            report = {k: v for k, v in done.reports[epoch].items() if k not in OF_THE_LOG}
            if book.report(job.key, report) != "run":
                break
        book.live.discard(job.key)
    assert book.decisions == ledger.decisions
    assert [book.winner(arm) for arm in book.arms] == [ledger.winner(arm) for arm in ledger.arms]
    names = set()
    for job in (job for arm in book.arms for job in book.replicates(arm)):
        config = book.arms[job.key.arm].training(book.spec.training, job.hyperparameters)
        names.add(checkpoint_key(identity(book.spec, job.key, config), config.epochs))
    assert names == set(storage.keys("trials/"))


@pytest.mark.parametrize("arm", ["lstm-snow", "ealstm"])
def test_a_job_trains_as_it_did(old: Path, storage: LocalStorage, arm: str, tmp_path: Path) -> None:
    """Loss by loss, and score by score."""
    ledger = open_ledger(storage)
    prepared = prepare(ledger.spec, old / "store.zarr")
    worker = Worker(
        spec=ledger.spec,
        arms=ledger.arms,
        data=DeviceData(prepared.arrays),
        storage=LocalStorage(tmp_path),
    )
    done = ledger.jobs[JobKey(arm, "search", 0, 0)]
    job = RunningJob(worker, done.key, done.hyperparameters, saved=0)
    for epoch in range(1, 7):
        report, before = job.step(), done.reports[epoch]
        assert math.isclose(report["loss"], before["loss"], rel_tol=BITS), epoch
        score = report.get("validation", {}).get("nse_median")
        expected = before.get("validation", {}).get("nse_median")
        assert (score is None) == (expected is None)
        if score is not None:
            assert math.isclose(score, expected, rel_tol=1e-3, abs_tol=1e-4), epoch


def test_it_goes_on_when_its_seeds_grow(
    old: Path, storage: LocalStorage, grown: tuple[Path, Book]
) -> None:
    """One more network an arm is trained and scored; nothing else is done again."""
    folder, book = grown
    before = open_ledger(storage)
    new = {key for key in book.jobs if key not in before.jobs}
    assert new == {
        JobKey(arm, "replicate", before.winner(arm) or 0, before.spec.confirmation.seeds)
        for arm in before.arms
    }
    assert all(book.status(key) in CLOSED for key in book.jobs)
    assert book.evaluations.keys() - before.evaluations.keys() == new and book.test_reads == 2
    events = len(EventLog(storage).events)
    since = [JobKey.parse(e["key"]) for e in book.log.events[events:] if "key" in e]
    assert set(since) == new
    for key in before.evaluations:
        one, other = (
            read_predictions(LocalStorage(place / "results" / NAME), key) for place in (old, folder)
        )
        for period in one:
            np.testing.assert_array_equal(one[period], other[period])


def test_mlflow_has_one_run_for_every_job_that_ever_was(grown: tuple[Path, Book]) -> None:
    folder, book = grown
    client = MlflowClient(tracking_uri=uri_of(folder))
    experiment = client.get_experiment_by_name(NAME)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    told = Counter(run.data.tags[IDENTITY] for run in runs)
    assert set(told.values()) == {1}
    assert len(runs) == 1 + len(book.arms) + len(book.jobs)


@pytest.fixture(scope="module")
def bundle(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The winner's, signed now: programs are loaded of signed bundles only."""
    folder = tmp_path_factory.mktemp("signed")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (folder / "key.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    (folder / "key.pub").write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    exported = read_bundle(old / "results" / NAME / "export" / WINNER)
    write_files(folder / "bundle", exported.contents(folder / "key.pem"))
    return read_bundle(folder / "bundle", key=folder / "key.pub")


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_bundle_predicts_the_same(
    old: Path, storage: LocalStorage, bundle: Bundle, backend: str
) -> None:
    """Its own example, and what the study's networks said of the validation and test periods."""
    assert largest_difference(bundle, backend)[1] <= 1
    ledger, forcing = open_ledger(storage), read_forcing(old / "store.zarr")
    for period in ("validation", "test"):
        sim = predict(bundle, forcing, named_period(bundle, period), backend=backend).data
        for member, job in enumerate(ledger.replicates(WINNER)):
            expected = read_predictions(storage, job.key)[period]
            np.testing.assert_allclose(
                sim["qsim_members"].values[member], expected, rtol=1e-4, atol=1e-4
            )


def test_its_registered_model_comes_out_as_its_bundle(old: Path, tmp_path: Path) -> None:
    found = export_registered(f"models:/{NAME}@champion", uri_of(old), tmp_path / "champion")
    exported = read_bundle(old / "results" / NAME / "export" / WINNER)
    assert found.digest == exported.digest and found.manifest.arm == WINNER


def test_the_loader_that_its_registered_model_names_is_where_it_was(old: Path) -> None:
    (place,) = (old / "results" / "mlartifacts").glob("*/models/*/artifacts/MLmodel")
    flavour = yaml.safe_load(place.read_text())["flavors"]["python_function"]
    model = importlib.import_module(flavour["loader_module"])._load_pyfunc(
        str(place.parent / flavour["data"])
    )
    names = [entry.name for entry in model.bundle.manifest.dynamic_inputs]
    days = open_store(old / "store.zarr")[names].isel(time=slice(0, 100))
    table = days.to_dataframe().reset_index().rename(columns={"basin": "gauge_id", "time": "date"})
    answer = model.predict(table)
    assert len(answer) == 6 * (100 - model.bundle.manifest.simulation.warmup)
    assert np.isfinite(answer["qsim"]).all()
