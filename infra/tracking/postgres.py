"""PostgreSQL: two databases of a user who is not its owner, on 127.0.0.1, no Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

from processes import Failure
from secret_files import DATABASE, DATABASE_OF_USERS, DATABASE_OWNER, DATABASE_USER, Secrets


def start(folder: Path, port: int, secrets: Secrets) -> None:
    place = folder / "postgres"
    if not (place / "data" / "PG_VERSION").exists():
        _create(place, secrets.read("postgres_password"))
    if not runs(folder):
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        command = ["start", "-w", "-l", str(place / "log"), "-o", options]
        if _pg_ctl(place, *command).returncode != 0:
            raise Failure(f"PostgreSQL did not start; see the last lines of {place / 'log'}")
    _create_databases(port, secrets)


def stop(folder: Path) -> None:
    if runs(folder) and _pg_ctl(folder / "postgres", "stop", "-w", "-m", "fast").returncode != 0:
        raise Failure(f"PostgreSQL did not stop; see {folder / 'postgres' / 'log'}")


def runs(folder: Path) -> bool:
    place = folder / "postgres"
    return (place / "data").exists() and _pg_ctl(place, "status").returncode == 0


def _create(place: Path, password: str) -> None:
    """Make the data folder. The owner's password passes through a file, not an argument."""
    shutil.rmtree(place, ignore_errors=True)  # of an attempt that was broken off
    place.mkdir(mode=0o700)
    passing = place / "password"
    passing.touch(mode=0o600)
    passing.write_text(password)
    identity = _identity()
    if identity:
        for path in (place, passing):
            os.chown(path, identity["user"], identity["group"])
    command = [_program("initdb"), "-D", str(place / "data"), "-U", DATABASE_OWNER, "-E", "UTF8",
               "--no-locale", "--auth=scram-sha-256", f"--pwfile={passing}"]  # fmt: skip
    try:
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True, **identity)
    except PermissionError:
        ended = None
    finally:
        passing.unlink()
    if ended is None or ended.returncode != 0:
        why = "its user cannot enter that folder" if ended is None else ended.stderr.strip()
        raise Failure(f"PostgreSQL could not make {place}: {why}; give another --folder")


def _create_databases(port: int, secrets: Secrets) -> None:
    import psycopg

    os.environ["PGPASSFILE"] = str(secrets.path("pgpass"))
    where = {"host": "127.0.0.1", "port": port, "user": DATABASE_OWNER, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
        known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        if DATABASE_USER not in known:
            # What goes over the wire, and into a log when it fails, is a hash.
            word = secrets.read("mlflow_database_password").encode()
            hashed = connection.pgconn.encrypt_password(
                word, DATABASE_USER.encode(), b"scram-sha-256"
            )
            connection.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    psycopg.sql.Identifier(DATABASE_USER), psycopg.sql.Literal(hashed.decode())
                )
            )
        known = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in {DATABASE, DATABASE_OF_USERS} - known:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Identifier(DATABASE_USER)
                )
            )


def _pg_ctl(place: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [_program("pg_ctl"), "-D", str(place / "data"), *arguments]
    # Not captured: the server would keep a pipe open after pg_ctl has ended.
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.run(command, cwd=place, stderr=subprocess.DEVNULL, **quiet, **_identity())


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's programs, a folder a version, off the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    found = str(debian[-1]) if debian else shutil.which(name)
    if found is None:
        raise Failure("PostgreSQL is not installed; run infra/tracking/install.sh")
    return found


def _version(program: Path) -> float:
    return float(program.parent.parent.name)
