"""The two servers that the cluster's hosts share: S3 and MLflow, on this side of the bridge."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from namespaces import OUTSIDE, wait_until
from seaweed import BUCKET, S3Server

RESULTS = f"s3://{BUCKET}/results"
DATA = f"s3://{BUCKET}/small.zarr"
MLFLOW = f"http://{OUTSIDE}:5000"


class BridgeS3(S3Server):
    """The S3 server of the other tests, on the bridge."""

    @property
    def url(self) -> str:
        return super().url.replace("127.0.0.1", OUTSIDE)

    def _command(self) -> list[str]:
        return [word.replace("127.0.0.1", OUTSIDE) for word in super()._command()]

    @property
    def config(self) -> str:
        """What `~/.aws/config` of a user holds."""
        return f"[default]\nregion = us-east-1\nendpoint_url = {self.url}\n"

    @property
    def credentials(self) -> str:
        """What `~/.aws/credentials` of a user holds."""
        return (
            f"[default]\naws_access_key_id = {self.access_key}\n"
            f"aws_secret_access_key = {self.secret_key}\n"
        )


class MlflowServer:
    """MLflow over SQLite, which keeps artifacts itself."""

    def __init__(self, folder: Path):
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", OUTSIDE, "--workers", "1"),
            *("--allowed-hosts", f"{OUTSIDE}:*"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "mlflow.log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        wait_until(self._answers, "the MLflow server", 180)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{MLFLOW}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
