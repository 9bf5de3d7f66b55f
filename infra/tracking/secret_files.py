"""Passwords of the tracking servers: drawn once, each in a file that only its owner can read.

Nothing here is ever an argument of a command: arguments are for everybody to see (`ps`). The same
files serve `servers.py` on one host and `compose.yaml`, so they name no host: PostgreSQL's comes
from PGHOST and PGPORT.
"""

from __future__ import annotations

import configparser
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

BUCKET_OF_MLFLOW, BUCKET_OF_STUDIES = "mlflow", "study"
DATABASE, DATABASE_OF_USERS = "mlflow", "mlflow_auth"
DATABASE_USER, DATABASE_OWNER = "mlflow", "postgres"
# The driver is named: a bare `postgresql://` means psycopg2 to some versions of SQLAlchemy, and
# psycopg 3 to others.
DATABASE_URI = f"postgresql+psycopg://{DATABASE_USER}@/{{}}"
ADMIN, USER = "admin", "study"


@dataclass(frozen=True)
class Secrets:
    """The files of a folder; made if they are not there."""

    folder: Path

    def make(self) -> None:
        """Draw what is not drawn yet. A file that exists is left alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in ("postgres_password", "mlflow_database_password", "mlflow_admin_password",
                     "mlflow_password", "mlflow_secret_key"):  # fmt: skip
            self._once(name, secrets.token_urlsafe(32))
        for name in ("s3_admin", "s3_mlflow", "s3_study"):
            self._once(name, f"{secrets.token_hex(10)}\n{secrets.token_urlsafe(32)}")
        owner, user = self.read("postgres_password"), self.read("mlflow_database_password")
        self._once("pgpass", f"*:*:*:{DATABASE_OWNER}:{owner}\n*:*:*:{DATABASE_USER}:{user}\n")
        self._once("basic_auth.ini", self._users_of_mlflow())
        self._once("s3.json", self._users_of_s3())
        key, secret = self.s3("mlflow")
        lines = ("[default]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}")
        self._once("aws_credentials", "\n".join(lines))

    def path(self, name: str) -> Path:
        return self.folder / name

    def read(self, name: str) -> str:
        return self.path(name).read_text().strip()

    def s3(self, identity: str) -> tuple[str, str]:
        """Key and secret of `admin`, `mlflow` or `study`."""
        key, secret = self.read(f"s3_{identity}").split("\n")
        return key, secret

    def _once(self, name: str, content: str) -> None:
        if not self.path(name).exists():
            write_private(self.path(name), content)

    def _users_of_mlflow(self) -> str:
        password = self.read("mlflow_admin_password")
        lines = [
            "[mlflow]",
            "# Of everybody with a password, on what others have logged.",
            "default_permission = READ",
            f"database_uri = {DATABASE_URI.format(DATABASE_OF_USERS)}",
            f"admin_username = {ADMIN}",
            f"admin_password = {password}",
            "# A password that was right is right for a minute: to hash one takes 50 ms and more.",
            "auth_cache_ttl_seconds = 60",
        ]
        text = "\n".join(lines) + "\n"
        read_back = configparser.ConfigParser()
        read_back.read_string(text)
        assert read_back["mlflow"]["admin_password"] == password
        return text

    def _users_of_s3(self) -> str:
        def identity(name: str, *actions: str) -> dict[str, object]:
            key, secret = self.s3(name)
            credentials = [{"accessKey": key, "secretKey": secret}]
            return {"name": name, "credentials": credentials, "actions": list(actions)}

        def may_use(bucket: str) -> list[str]:
            return [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]

        identities = [
            identity("admin", "Admin"),
            identity("mlflow", *may_use(BUCKET_OF_MLFLOW)),
            identity("study", *may_use(BUCKET_OF_STUDIES)),
        ]
        return json.dumps({"identities": identities}, indent=1)


def write_private(path: Path, content: str) -> None:
    """Write a file that is its owner's alone from its first byte on."""
    aside = path.with_name(f".{path.name}.aside")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)
    aside.replace(path)
