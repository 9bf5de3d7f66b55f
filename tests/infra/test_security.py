"""No door is open, and no secret is written down.

The whole set-up of one host runs: PostgreSQL, S3, MLflow, a study with its Ray; and a Ray head as
`ray up` starts it. `pytest tests/infra/test_security.py -rP` prints the tables.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import free_ports
from watched import (
    LISTENING,
    REPOSITORY,
    Servers,
    Socket,
    Watch,
    WatchedStudy,
    descendants,
    listening,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RAY_METHODS = (
    *("ray.rpc.NodeInfoGcsService/GetAllNodeInfo", "ray.rpc.InternalKVGcsService/InternalKVGet"),
    *("ray.rpc.JobInfoGcsService/GetAllJobInfo", "ray.rpc.NodeManagerService/GetNodeStats"),
    *("ray.rpc.ObjectManagerService/Pull", "ray.rpc.CoreWorkerService/PushTask"),
    *("ray.rpc.RayletDriver/KVGet", "ray.rpc.ReporterService/GetTraceback"),
)
"""One of every service: to list, to read, to run code."""
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
OPEN_ON_A_HEAD = {"metrics"}
"""What a cluster's hosts tell to everybody who reaches them: infra/README.md says so."""


# What listens


def test_sockets_of_the_servers(servers: Servers) -> None:
    """All on loopback; those with a password refuse whoever has none."""
    pids = {int((servers.folder / "run" / f"{n}.pid").read_text().split()[0])
            for n in ("mlflow", "seaweedfs")}  # fmt: skip
    pids.add(int((servers.folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    found = set().union(*(listening(descendants(pid)) for pid in pids))
    assert {servers.mlflow_port, servers.postgres_port, servers.s3_port} <= {s.port for s in found}
    asked = {
        servers.mlflow_port: http(servers.mlflow_port, SEARCH),
        servers.s3_port: http(servers.s3_port, "/mlflow?list-type=2"),
        servers.postgres_port: postgres(servers.postgres_port),
    }  # fmt: skip
    show("the tracking servers", found, asked)
    assert all(s.loopback for s in found)
    assert asked[servers.mlflow_port] == "401"
    assert asked[servers.s3_port] == "403"
    assert "no password supplied" in asked[servers.postgres_port]


def test_a_host_that_is_not_named_is_refused(servers: Servers) -> None:
    """A page in a browser cannot reach MLflow by a name of its own (DNS rebinding)."""
    assert http(servers.mlflow_port, SEARCH, Host="evil.example.org") == "403"
    assert http(servers.mlflow_port, SEARCH, Host="study.example.org") == "401"


def test_sockets_of_a_study(study: WatchedStudy, watch: Watch) -> None:
    """Ray of one machine is on loopback with all its ports."""
    show("a study on one host", watch.sockets, {})
    assert {"raylet", "gcs_server"} <= {s.process for s in watch.sockets}
    assert [s for s in watch.sockets if not s.loopback] == []


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[set[Socket], Path]]:
    """A Ray head, started by the command of infra/ray/*.yaml; its sockets, and its folder."""
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))
    (port, dashboard, client), (agent, _, _) = free_ports(), free_ports()
    environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
    environment |= {"HOME": str(folder), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("f" * 64)
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
               f"--port={port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
               f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
               "--num-cpus=1", f"--temp-dir={folder}/t", "--object-store-memory=100000000",
               "--disable-usage-stats"]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 240
        wanted, found = {"gcs_server", "raylet", "ray::DashboardA"}, set[Socket]()
        while not (wanted <= {s.process for s in found} and settled(process.pid, found)):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(2)
            found = listening(descendants(process.pid))
        yield found, folder
    finally:
        pids = descendants(process.pid)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in pids - {process.pid}:
            with_status = Path(f"/proc/{pid}/environ")
            try:
                if str(folder).encode() in with_status.read_bytes():
                    os.kill(pid, 9)
            except OSError:
                continue
        shutil.rmtree(folder, ignore_errors=True)


def settled(pid: int, before: set[Socket]) -> bool:
    """Whether no more sockets come."""
    time.sleep(3)
    return listening(descendants(pid)) == before


def test_sockets_of_a_head(head: tuple[set[Socket], Path]) -> None:
    """Hosts of a cluster must reach each other: ports beyond loopback ask for a token."""
    asked = {s.port: ray_port(s) for s in head[0]}
    show("a Ray head", head[0], asked)
    beyond = [s for s in head[0] if not s.loopback]
    assert beyond, "a head that no other host can reach"
    for place in beyond:
        assert asked[place.port] in {"UNAUTHENTICATED", "401", "403", *OPEN_ON_A_HEAD}, place


def ray_port(place: Socket) -> str:
    """What somebody without a token gets from a port of Ray."""
    grpc = pytest.importorskip("grpc")
    address = place.address.removeprefix("::ffff:")
    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address, address)
    answers = set()
    with grpc.insecure_channel(f"{host}:{place.port}") as channel:
        for method in RAY_METHODS:
            try:
                channel.unary_unary(f"/{method}")(b"", timeout=20)
                answers.add("OPEN")
            except grpc.RpcError as error:
                answers.add(error.code().name)
            if answers <= {"UNAVAILABLE", "INTERNAL"}:
                break  # not gRPC
    if "UNAUTHENTICATED" in answers and answers <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}:
        return "UNAUTHENTICATED"
    if answers <= {"UNAVAILABLE", "INTERNAL"}:
        told = http(place.port, "/api/job_agent/jobs/", host=host)
        metrics = http(place.port, "/metrics", host=host)
        return "metrics" if metrics == "200" and told in ("200", "404") else told
    return ",".join(sorted(answers))


def http(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> str:
    """Status of an answer to somebody without a password."""
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__


def postgres(port: int) -> str:
    import psycopg

    try:
        psycopg.connect(
            host="127.0.0.1", port=port, user="mlflow", dbname="mlflow", passfile="/dev/null"
        ).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return "OPEN"


def show(title: str, found: set[Socket], asked: dict[int, str]) -> None:
    """A table for people: `-rP`."""
    print(f"\n{title}\n{'process':18}{'address':22}{'port':>7}  without a password or token")
    for place in sorted(found):
        where = "loopback" if place.loopback else "ALL HOSTS"
        told = asked.get(place.port, "not asked")
        print(f"{place.process:18}{place.address:22}{place.port:7}  {where}; {told}")


def test_a_socket_on_all_interfaces_is_found() -> None:
    """The scan could fail."""
    import socket

    with socket.socket() as everywhere, socket.socket(socket.AF_INET6) as local:
        everywhere.bind(("", 0))
        local.bind(("::1", 0))
        everywhere.listen()
        local.listen()
        found = {s.port: s for s in listening({os.getpid()})}
        assert LISTENING == "0A"
        assert found[everywhere.getsockname()[1]].address == "0.0.0.0"
        assert not found[everywhere.getsockname()[1]].loopback
        assert found[local.getsockname()[1]].loopback


# What is written


def places_with(secrets: dict[str, str], places: dict[str, list[bytes]]) -> dict[str, list[str]]:
    """Place -> names of the secrets that were found there."""
    return {
        place: [n for n, secret in secrets.items() if any(secret.encode() in c for c in contents)]
        for place, contents in places.items()
    }


def files_of(*folders: Path) -> list[bytes]:
    found = []
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found += [path.read_bytes(), str(path).encode()]
    return found


def dump(servers: Servers, database: str) -> bytes:
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1]
    where = ["-h", "127.0.0.1", "-p", str(servers.postgres_port), "-U", "postgres"]
    environment = os.environ | {"PGPASSFILE": str(servers.folder / "secrets" / "pgpass")}
    return subprocess.run(
        [str(program), *where, database], env=environment, check=True, capture_output=True
    ).stdout


def objects(servers: Servers) -> list[bytes]:
    """All that lies in S3."""
    boto3 = pytest.importorskip("boto3")
    key, secret = (servers.folder / "secrets" / "s3_admin").read_text().split()
    client = boto3.client(
        "s3", aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{servers.s3_port}",
    )  # fmt: skip
    found = []
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for each in page.get("Contents", ()):
                got = client.get_object(Bucket=bucket["Name"], Key=each["Key"])
                found += [got["Body"].read(), repr(got["Metadata"]).encode()]
    return found


def test_no_secret_is_written_anywhere(servers: Servers, study: WatchedStudy, watch: Watch) -> None:
    """But in the files made for them, which are their owner's alone."""
    secrets = servers.secrets()
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if token.exists():
        secrets["Ray's token"] = token.read_text().strip()
        assert token.stat().st_mode & 0o077 == 0
    logs = study.ray / "ray"
    assert list(logs.rglob("raylet*")), "no logs of Ray to look at"
    places = {
        "results, event log, bundle, report": files_of(study.results),
        "output of the command": [study.told.encode()],
        "Ray's logs and sessions": files_of(logs),
        "MLflow's database": [dump(servers, "mlflow"), dump(servers, "mlflow_auth")],
        "PostgreSQL's files and log": files_of(servers.folder / "postgres"),
        "S3 (artifacts)": objects(servers),
        "logs of MLflow and S3": files_of(servers.folder / "log"),
        "settings of the servers": files_of(servers.folder / "settings.json"),
        "process listings": [line.encode() for line in watch.command_lines],
    }
    found = places_with(secrets, places)
    print(f"\n{len(secrets)} secrets\n{'place':38}{'parts':>7}{'MB':>8}  secrets found")
    for place, contents in places.items():
        size = sum(map(len, contents)) / 1e6
        print(f"{place:38}{len(contents):7}{size:8.2f}  {', '.join(found[place]) or 'none'}")
    assert all(sum(map(len, contents)) for contents in places.values()), "a place is empty"
    assert any("study run" in line for line in watch.command_lines)
    assert {place: names for place, names in found.items() if names} == {}


def test_a_secret_that_is_written_is_found(servers: Servers, tmp_path: Path) -> None:
    secrets = servers.secrets()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_text(f"password={secrets['mlflow_password:0']} and more")
    (tmp_path / secrets["s3_study:0"]).touch()
    found = places_with(secrets, {"here": files_of(tmp_path)})["here"]
    assert {"mlflow_password:0", "s3_study:0"} <= set(found)


def test_files_of_secrets_are_their_owners(servers: Servers) -> None:
    for path in (*(servers.folder / "secrets").iterdir(), servers.folder / "client.env"):
        assert path.stat().st_mode & 0o077 == 0, path
    for name in ("secrets", "log", "run", "s3", "postgres"):
        assert (servers.folder / name).stat().st_mode & 0o077 == 0, name


def test_the_scripts_name_no_secret_as_an_argument() -> None:
    """`watch` samples; a short-lived command could escape it. So the sources are looked at, too."""
    for path in (REPOSITORY / "infra").rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.strip().startswith(("command", '"--', "[_program")):
                assert ".read(" not in line, f"{path}: {line}"


def test_the_environment_file_is_for_a_shell(servers: Servers) -> None:
    told = (servers.folder / "client.env").read_text()
    assert all(shlex.split(line)[0] == "export" for line in told.splitlines())
    found: dict[str, Any] = servers.client()
    assert found["MLFLOW_TRACKING_USERNAME"] == "study"
