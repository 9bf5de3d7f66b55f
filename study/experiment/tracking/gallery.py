"""What a finished study shows in MLflow: its report and hydrographs; and the UI itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from study.errors import StudyError
from study.experiment.book import Book
from study.experiment.tracking.access import refuse_password
from study.experiment.tracking.tracker import MODEL_TRAINING, Projection
from study.experiment.tracking.views import link


@dataclass(frozen=True, kw_only=True)
class Exhibits:
    """What is shown of a finished study."""

    report: Path
    """A folder."""
    hydrographs: Mapping[tuple[str, int | None], Path]
    """Arm and number of a replicate's seed, or None for the arm itself -> a PNG file."""


def log_exhibits(book: Book, uri: str, exhibits: Exhibits) -> None:
    """Put a finished study's exhibits into its runs, and end the study's run.

    Again after a crash, it replaces files by the same.

    Raises:
        StudyError: The server does not answer.
    """
    try:
        projection = Projection(book, uri)
        projection.catch_up()
        client = MlflowClient(tracking_uri=uri)
        client.log_artifacts(projection.study_run, str(exhibits.report), "report")
        for (arm, seed), path in exhibits.hydrographs.items():
            run = projection.arm_run(arm) if seed is None else projection.replicate_run(arm, seed)
            client.log_artifact(run, str(path))
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
