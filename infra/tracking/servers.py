#!/usr/bin/env python3
"""The tracking servers of one host, on loopback: PostgreSQL, S3 (SeaweedFS) and MLflow.

    servers.py start     start what does not run; the first time also draw passwords
    servers.py stop      stop all three; nothing is lost
    servers.py status    what runs, and where
    servers.py secrets   draw the passwords only, for compose.yaml

Example:

    infra/tracking/install.sh
    .venv-tracking/bin/python infra/tracking/servers.py start --folder /srv/study
    . /srv/study/client.env && study run SPEC --results s3://study/results

Nothing listens beyond 127.0.0.1; nginx.conf beside this file lets others in, by TLS.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mlflow_server
import postgres
import s3
from processes import Failure
from secret_files import Secrets, write_private

ROOT = os.geteuid() == 0
DEFAULT_FOLDER = Path("/var/lib/study-tracking" if ROOT else "~/.local/share/study-tracking")


@dataclass(frozen=True)
class Settings:
    """What `start` was told; kept, so that later commands need only the folder."""

    mlflow_port: int = 5000
    postgres_port: int = 5433
    s3_port: int = 8333
    """And the seven ports that follow, on which SeaweedFS talks to itself."""
    allowed_hosts: str = ""
    """Names by which others reach MLflow through a proxy, with commas between."""
    workers: int = 2


def main() -> None:
    arguments = parse()
    folder: Path = arguments.folder.expanduser().resolve()
    try:
        commands = {"start": start, "stop": stop, "status": status, "secrets": for_compose}
        commands[arguments.command](folder, arguments)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["start", "stop", "status", "secrets"])
    about = f"of databases, objects, passwords, logs ({DEFAULT_FOLDER})"
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help=about)
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default),
                            help=f"({default!r}, or what the last start was given)")  # fmt: skip
    return parser.parse_args()


def settings_of(folder: Path, arguments: argparse.Namespace) -> Settings:
    kept = folder / "settings.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    given = {n: v for n in asdict(Settings()) if (v := getattr(arguments, n)) is not None}
    return Settings(**(known | given))


def draw(folder: Path) -> Secrets:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # as root, PostgreSQL runs as a user who must reach its part
    secrets = Secrets(folder / "secrets")
    secrets.make()
    return secrets


def for_compose(folder: Path, _: argparse.Namespace) -> None:
    draw(folder)
    for name in ("postgres", "s3"):  # or the engine would make them, as root's
        (folder / "compose" / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def start(folder: Path, arguments: argparse.Namespace) -> None:
    settings = settings_of(folder, arguments)
    secrets = draw(folder)
    (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    postgres.start(folder, settings.postgres_port, secrets)
    s3.start(folder, settings.s3_port, secrets)
    mlflow_server.start(folder, settings, secrets)
    key, secret = secrets.s3("study")
    content = {
        "MLFLOW_TRACKING_URI": mlflow_server.address(settings.mlflow_port),
        "MLFLOW_TRACKING_USERNAME": "study",
        "MLFLOW_TRACKING_PASSWORD": secrets.read("mlflow_password"),
        "AWS_ENDPOINT_URL": s3.address(settings.s3_port),
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    lines = [f"export {name}='{value}'\n" for name, value in content.items()]
    write_private(folder / "client.env", "".join(lines))
    status(folder, arguments)


def stop(folder: Path, _: argparse.Namespace) -> None:
    mlflow_server.stop(folder)
    s3.stop(folder)
    postgres.stop(folder)


def status(folder: Path, arguments: argparse.Namespace) -> None:
    settings = settings_of(folder, arguments)
    rows = [
        ("PostgreSQL", postgres.runs(folder), f"127.0.0.1:{settings.postgres_port}"),
        ("S3", s3.runs(folder), s3.address(settings.s3_port)),
        ("MLflow", mlflow_server.runs(folder), mlflow_server.address(settings.mlflow_port)),
    ]
    for name, runs, where in rows:
        print(f"{name:12}{'runs' if runs else 'stopped':9}{where}")
    print(f"{'for studies':21}. {folder / 'client.env'}")


if __name__ == "__main__":
    main()
