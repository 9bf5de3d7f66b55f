"""The model registry: the winner is registered, served by MLflow, fetched, and beaten or not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from study.errors import BundleError, InputError, StudyError
from study.experiment.tracking.following import Tracker, default_uri
from study.experiment.tracking.registry import CHALLENGER, CHAMPION, Registry
from study.export import registering
from study.export.bundle import read_bundle
from study.export.registering import export_registered, promote, register_arm

from .conftest import ARMS, Finished, assert_within


@pytest.fixture(scope="module")
def uri(continuous: Finished, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that has followed the small study, with its first arm registered."""
    study, book = continuous
    uri = default_uri(tmp_path_factory.mktemp("mlflow"))
    with Tracker(book, uri):
        pass
    register_arm(book, study.storage, ARMS[0], uri)
    return uri


def test_the_first_is_champion_and_registered_once(continuous: Finished, uri: str) -> None:
    study, book = continuous
    registry = Registry(uri)
    champion = registry.by_alias("small", CHAMPION)
    assert champion is not None and champion.number == 1
    assert champion.tags["study.arm"] == ARMS[0]
    assert champion.tags["study.spec_digest"] == book.spec.digest()
    assert register_arm(book, study.storage, ARMS[0], uri).number == 1
    assert registry.by_alias("small", CHALLENGER) is None


def test_the_runs_of_its_arm_show_the_model(continuous: Finished, uri: str) -> None:
    _, book = continuous
    client = MlflowClient(tracking_uri=uri)
    version = client.get_model_version_by_alias("small", CHAMPION)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    showing = [run for run in runs if run.outputs and run.outputs.model_outputs]
    assert {run.data.tags["study.arm"] for run in showing} == {ARMS[0]}
    stages = Counter(run.data.tags["study.stage"] for run in showing)
    assert stages == {"arm": 1, "replicate": book.spec.confirmation.seeds}
    assert client.get_run(version.run_id).data.tags["study.stage"] == "arm"


def test_a_registered_model_comes_out_as_the_same_bundle(
    continuous: Finished, uri: str, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    out = tmp_path / "champion.tar"
    bundle = export_registered("models:/small@champion", uri, out, keys[0])
    read = read_bundle(out, key=keys[1])
    assert read.digest == bundle.digest
    champion = Registry(uri).by_alias("small", CHAMPION)
    assert champion is not None and champion.tags["study.digest"] == read.digest
    assert not [name for name in read.files if name.endswith((".pkl", ".pickle"))]


@pytest.mark.parametrize(
    "model", ["models:/large@champion", "models:/small@second", "models:/small/9"]
)
def test_a_model_that_is_not_there(uri: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{model}: cannot be fetched"):
        export_registered(model, uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_registered_model_that_was_tampered_with(continuous: Finished, tmp_path: Path) -> None:
    study, book = continuous
    uri = default_uri(tmp_path)
    with Tracker(book, uri):
        pass
    register_arm(book, study.storage, ARMS[0], uri)
    weights = next((tmp_path / "mlartifacts").rglob("weights-000.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="differs from its checksum"):
        export_registered("models:/small@champion", uri, tmp_path / "out")


def test_promotion_asks_for_a_better_verdict(
    continuous: Finished, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, book = continuous
    with pytest.raises(StudyError, match=f"{ARMS[0]} is the champion of small already"):
        promote(book, study.storage, ARMS[0], uri)
    with pytest.raises(StudyError, match=f"{ARMS[1]} is not promoted: against {ARMS[0]} on the"):
        promote(book, study.storage, ARMS[1], uri)  # two seeds are too few for any verdict
    registry = Registry(uri)
    champion, challenger = (registry.by_alias("small", a) for a in (CHAMPION, CHALLENGER))
    assert champion is not None and champion.tags["study.arm"] == ARMS[0]
    assert challenger is not None and challenger.tags["study.arm"] == ARMS[1]

    def gathered(*given: Any) -> Any:
        """The study's evidence, but with ten seeds of which the challenger's are far better."""
        evidence = gather(*given)
        table = np.random.default_rng(1).normal(0.5, 0.01, (10, len(evidence.basins)))
        metrics = {ARMS[0]: {"nse": table}, ARMS[1]: {"nse": table + 0.2}}
        validation = replace(evidence.periods["validation"], metrics=metrics)
        return replace(evidence, periods={"validation": validation})

    gather = registering.gather
    monkeypatch.setattr(registering, "gather", gathered)
    version, effect = promote(book, study.storage, ARMS[1], uri)
    assert effect.verdict == "better" and effect.low > 0.1
    champion = registry.by_alias("small", CHAMPION)
    assert champion is not None and champion.number == version.number == challenger.number
    assert registry.by_alias("small", CHALLENGER) is None
    registry.set_alias(replace(version, number=1), CHAMPION)


def test_a_champion_of_another_study_is_left_alone(
    continuous: Finished, windows: Finished, uri: str
) -> None:
    study, book = windows
    with pytest.raises(StudyError, match="is of another study of that name"):
        promote(book, study.storage, ARMS[1], uri)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def answer(url: str, content: Any, server: subprocess.Popen[bytes], seconds: float = 120) -> Any:
    """What a server says to a request, once it has started."""
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            assert server.poll() is None, "the server ended"
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_mlflow_serves_the_champion(continuous: Finished, uri: str, tmp_path: Path) -> None:
    """The real server, in a process of its own."""
    bundle = export_registered("models:/small@champion", uri, tmp_path / "bundle")
    forcing = pd.read_csv(tmp_path / "bundle" / "example.csv", dtype={"gauge_id": str})
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/small@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # uvicorn's place
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": uri,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": programs,
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}/invocations"
        request = {"dataframe_split": forcing.to_dict(orient="split")}
        said = answer(url, request, server)
        assert isinstance(said, dict), said
        found = pd.DataFrame(said["predictions"])
        expected = pd.read_csv(
            tmp_path / "bundle" / "example-expected.csv", dtype={"gauge_id": str}
        )
        assert list(found) == ["gauge_id", "date", "qsim", "qsim_std"]
        assert found["gauge_id"].tolist() == expected["gauge_id"].tolist()
        assert_within(found["qsim"].to_numpy(), expected["qsim"].to_numpy())
        without = forcing.drop(columns="swe").to_dict(orient="split")
        refused = answer(url, {"dataframe_split": without}, server)
        assert "swe" in refused
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    assert bundle.manifest.arm == ARMS[0]
