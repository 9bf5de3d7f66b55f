"""What a finished study shows in MLflow: its report and hydrographs; and the UI itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from study.errors import StudyError
from study.experiment.book import Book
from study.experiment.tracking.access import refuse_password
from study.experiment.tracking.tracker import MODEL_TRAINING, Projection
from study.experiment.tracking.views import link

HYDROGRAPHS = "hydrographs.png"


class Hydrograph(NamedTuple):
    """A picture of an arm, or of one of its replicates."""

    arm: str
    seed: int | None
    """Number of the replicate's seed; None: the arm's"""
    png: bytes


def log_exhibits(book: Book, uri: str, report: Path, hydrographs: Iterable[Hydrograph]) -> None:
    """Put a finished study's report and hydrographs into its runs, and end the study's run.

    Again after a crash, it replaces files by the same.

    Args:
        book: The study.
        uri: Of the tracking server or database.
        report: A folder.
        hydrographs: Taken one by one: another may be drawn while one is on its way.

    Raises:
        StudyError: The server does not answer.
    """
    try:
        projection = Projection(book, uri)
        projection.catch_up()
        client = MlflowClient(tracking_uri=uri)
        client.log_artifacts(projection.study_run, str(report), "report")
        with TemporaryDirectory() as folder:
            file = Path(folder, HYDROGRAPHS)
            for arm, seed, png in hydrographs:
                file.write_bytes(png)
                run = (
                    projection.arm_run(arm) if seed is None else projection.replicate_run(arm, seed)
                )
                client.log_artifact(run, str(file))
        projection.end_study()
    except (MlflowException, OSError) as error:
        raise StudyError(f"{uri}: the report could not be logged to MLflow ({error})") from None


def serve_ui(uri: str, port: int) -> None:
    """Serve the MLflow UI on loopback until it is interrupted.

    Raises:
        InputError: The URI holds a password.
    """
    refuse_password(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(command, env=environment, check=False)


def links(uri: str, base: str) -> dict[str, str]:
    """Name of each study of a server -> where the UI compares its arms.

    Raises:
        StudyError: The server does not answer.
    """
    try:
        found = MlflowClient(tracking_uri=uri).search_experiments(ViewType.ACTIVE_ONLY)
    except (MlflowException, OSError) as error:
        raise StudyError(f"{uri}: MLflow does not answer ({error})") from None
    return {e.name: link(base, e.experiment_id, "arms") for e in found
            if MODEL_TRAINING.items() <= e.tags.items()}  # fmt: skip
