"""Whether an MLflow server lets this user in, asked before a study starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from study.errors import InputError

REFUSED = (401, 403)
PATIENCE_SECONDS = 10
"""A server that takes longer may be away for minutes, and no study waits for it."""


def refuse_password(uri: str) -> None:
    """A tracking URI is printed, kept as a setting and shown by `ps`: it must hold no password.

    Raises:
        InputError: It holds one. The message does not.
    """
    parts = urlsplit(uri)
    if parts.password is not None:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        where = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if not parts.scheme.startswith("http"):
            where = "keep the user in the address and put the password into the file PGPASSFILE"
        raise InputError(
            f"{bare}: the tracking URI was given with a password in it, which others could read "
            f"in logs and process listings; leave it out, and {where}"
        )


def check_access(uri: str) -> None:
    """Find out early what would else be a warning during a long study.

    A server that does not answer is no error: records wait for it in the log.

    Raises:
        InputError: The server refuses user and password, or the database's driver is missing.
    """
    refuse_password(uri)
    try:
        with _one_short_request():
            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{uri}: the driver of this database is not installed ({error.name}); for PostgreSQL "
            "run pip install 'psycopg[binary]' and write postgresql+psycopg://, or give the "
            "address of an MLflow server"
        ) from None
    except MlflowException as error:
        if error.get_http_status_code() in REFUSED:
            raise InputError(
                f"{uri}: the MLflow server refuses this user; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD to a user of that server and the password"
            ) from None


@contextmanager
def _one_short_request() -> Iterator[None]:
    """MLflow's client meanwhile asks once, and waits no longer than that."""
    settings = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_SECONDS),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
