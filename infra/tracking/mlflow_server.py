"""MLflow: records in PostgreSQL, artifacts passed on to S3, a password for every request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import processes
import s3
from first_time import create_user
from secret_files import BUCKET_OF_MLFLOW, DATABASE, DATABASE_URI, Secrets

if TYPE_CHECKING:
    from servers import Settings

NAME = "mlflow"


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def start(folder: Path, settings: Settings, secrets: Secrets) -> None:
    url = address(settings.mlflow_port)
    if not runs(folder):
        own = "127.0.0.1:*,localhost:*"  # any port: that of a tunnel may differ
        hosts = ",".join(filter(None, (own, settings.allowed_hosts)))
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
                   "--host", "127.0.0.1", "--port", str(settings.mlflow_port),
                   "--workers", str(settings.workers), "--allowed-hosts", hosts,
                   # A client that keeps its connection would hold up the end of the server.
                   "--uvicorn-opts", "--timeout-graceful-shutdown 5"]  # fmt: skip
        processes.start(folder, NAME, command, environment(settings, secrets))
    processes.wait_for(folder, NAME, lambda: processes.answers(f"{url}/health"))
    create_user(url, secrets)


def environment(settings: Settings, secrets: Secrets) -> dict[str, str]:
    """Settings of the server; of the secrets, only places where they lie (but for one key)."""
    return {
        "MLFLOW_BACKEND_STORE_URI": DATABASE_URI.format(DATABASE),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(settings.postgres_port),
        "PGPASSFILE": str(secrets.path("pgpass")),
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET_OF_MLFLOW}",
        "MLFLOW_S3_ENDPOINT_URL": s3.address(settings.s3_port),
        "AWS_SHARED_CREDENTIALS_FILE": str(secrets.path("aws_credentials")),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(secrets.path("basic_auth.ini")),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.read("mlflow_secret_key"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def stop(folder: Path) -> None:
    processes.stop(folder, NAME)


def runs(folder: Path) -> bool:
    return processes.running(folder, NAME) is not None
