"""What MLflow shows of a finished study: a real one, told to a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inline import InlineStudy
from mlflow import MlflowClient
from mlflow.entities import Run

from study.experiment.book import Book
from study.experiment.storage import LocalStorage
from study.experiment.tracking.gallery import HYDROGRAPHS, links, log_exhibits
from study.experiment.tracking.views import NAMES, TAG
from study.report.compare import answer_of, write_answer
from study.report.exhibits import hydrographs

PNG = b"\x89PNG"
Shown = tuple[Book, str, MlflowClient, str]


@pytest.fixture(scope="module")
def shown(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Told twice, as after a crash between the two."""
    folder = tmp_path_factory.mktemp("shown")
    storage, uri = LocalStorage(folder / "study"), f"sqlite:///{folder}/mlflow.db"
    book = InlineStudy(store=synthetic_store, storage=storage).finish()
    answer = answer_of(book, storage)
    write_answer(answer, folder / "report")
    for _ in range(2):
        log_exhibits(book, uri, folder / "report", hydrographs(answer))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(book.spec.name)
    assert experiment is not None
    return book, uri, client, experiment.experiment_id


def runs(shown: Shown, stage: str) -> list[Run]:
    _, _, client, experiment = shown
    return list(client.search_runs([experiment], f"tags.`study.stage` = '{stage}'"))


def artifact(client: MlflowClient, run: Run, name: str, folder: Path) -> bytes:
    return Path(client.download_artifacts(run.info.run_id, name, str(folder))).read_bytes()


@pytest.mark.parametrize("stage", ["arm", "replicate"])
def test_arms_and_replicates_have_hydrograph_and_data(
    shown: Shown, stage: str, tmp_path: Path
) -> None:
    book, _, client, _ = shown
    found = runs(shown, stage)
    assert len(found) == len(book.arms) * (1 if stage == "arm" else book.spec.confirmation.seeds)
    for run in found:
        assert artifact(client, run, HYDROGRAPHS, tmp_path).startswith(PNG)
        (data,) = run.inputs.dataset_inputs
        assert json.loads(data.dataset.profile) == book.header["digests"]


def test_every_job_has_its_configuration(shown: Shown, tmp_path: Path) -> None:
    _, _, client, _ = shown
    for stage in ("search", "candidate", "replicate"):
        for run in runs(shown, stage):
            text = artifact(client, run, "configuration.yaml", tmp_path).decode()
            assert f"dropout: {float(run.data.params['dropout']):g}"[:12] in text
            assert "epochs: 2" in text and len(run.inputs.dataset_inputs) == 1


def test_the_experiment_lists_its_views(shown: Shown) -> None:
    """As the UI reads them: an envelope with a name, a time and a state that is JSON, too."""
    _, uri, client, experiment = shown
    tags = client.get_experiment(experiment).tags
    for key, name in NAMES.items():
        envelope = json.loads(tags[TAG + key])
        assert envelope["name"] == name and isinstance(envelope["createdAt"], int)
        state = json.loads(envelope["state"])
        stage = state["searchFilter"].split("'")[1]
        order = state["orderByKey"].removeprefix("metrics.`").removesuffix("`")
        for run in runs(shown, stage):
            assert order in run.data.metrics or stage == "search"
    (address,) = links(uri, "http://127.0.0.1:5000").values()
    assert address.startswith(f"http://127.0.0.1:5000/#/experiments/{experiment}/runs?")
