"""A study's records on the real servers: MLflow with passwords, on PostgreSQL and S3."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONTENT, REPOSITORY, free_ports
from mlflow import MlflowClient
from simulator import CONDITIONS_ROUGH, drive, sometimes
from small import small_spec
from watched import Servers, WatchedStudy

from study.cli import main
from study.errors import InputError
from study.experiment.book import Book
from study.experiment.storage import LocalStorage
from study.experiment.tracking.access import PATIENCE_SECONDS, check_access
from study.experiment.tracking.following import Tracker
from study.experiment.tracking.tracker import Projection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WRONG = "a-password-that-is-wrong"


@pytest.fixture
def client(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client with the user and the password of studies."""
    for name, value in servers.client().items():
        monkeypatch.setenv(name, value)
    return MlflowClient(tracking_uri=servers.client()["MLFLOW_TRACKING_URI"])


def runs_of(client: MlflowClient, study: str) -> list[Any]:
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None, f"no experiment {study}"
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def records(runs: list[Any]) -> dict[str, Any]:
    """What is told of each identity."""
    found = {
        run.data.tags["study.identity"]: (
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            run.data.params,
            run.data.metrics,
            {k: v for k, v in run.data.tags.items() if k.startswith("study.")},
        )
        for run in runs
    }
    assert len(found) == len(runs), "an identity has two runs"
    return found


def test_a_study_arrives(study: WatchedStudy, client: MlflowClient, tmp_path: Path) -> None:
    """Every run, and artifacts through the server into S3."""
    runs = runs_of(client, CONTENT["name"])
    stages = [run.data.tags["study.stage"] for run in runs]
    arms = len(CONTENT["factors"]["snow"])
    trials, seeds = CONTENT["search"]["cohort_size"], CONTENT["confirmation"]["seeds"]
    assert {stage: stages.count(stage) for stage in set(stages)} == {
        "study": 1, "arm": arms, "search": arms * trials, "replicate": arms * seeds,
    }  # fmt: skip
    assert {run.info.status for run in runs} == {"FINISHED"}
    (top,) = (run for run in runs if run.data.tags["study.stage"] == "study")
    assert top.info.artifact_uri.startswith("mlflow-artifacts:")
    table = client.download_artifacts(top.info.run_id, "report/report.json", str(tmp_path))
    assert Path(table).read_bytes() == (study.results / "small/report/report.json").read_bytes()


def test_artifacts_lie_in_their_bucket_and_studies_cannot_read_it(
    study: WatchedStudy, servers: Servers
) -> None:
    boto3 = pytest.importorskip("boto3")
    from botocore.exceptions import ClientError

    def s3(identity: str) -> Any:
        key, secret = (servers.folder / "secrets" / f"s3_{identity}").read_text().split()
        where = {"endpoint_url": servers.client()["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
        return boto3.client("s3", aws_access_key_id=key, aws_secret_access_key=secret, **where)

    found = [o["Key"] for o in s3("mlflow").list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.endswith("report/report.json") for key in found)
    s3("study").put_object(Bucket="study", Key="mine", Body=b"1")
    for identity, bucket in (("study", "mlflow"), ("mlflow", "study")):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3(identity).list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("user", ["study", "", "stranger"])
def test_a_wrong_password_is_told_before_anything_starts(
    user: str,
    client: MlflowClient,
    servers: Servers,
    synthetic_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if user:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", WRONG)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT))
    arguments = ["run", str(spec), "--data", str(synthetic_store)]
    arguments += ["--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["study", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert "\n" not in told and "refuses this user" in told and "MLFLOW_TRACKING_PASSWORD" in told
    assert WRONG not in told
    assert not (tmp_path / "results").exists()


def test_a_server_that_is_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records wait in the log."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        check_access(f"http://127.0.0.1:{nobody.getsockname()[1]}")


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        check_access(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 3 * PATIENCE_SECONDS
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (f"https://me:{WRONG}@example.org/mlflow", "MLFLOW_TRACKING_PASSWORD"),
        (f"postgresql+psycopg://me:{WRONG}@example.org/mlflow", "PGPASSFILE"),
    ],
)
def test_a_uri_with_a_password_is_refused(uri: str, says: str) -> None:
    with pytest.raises(InputError, match=r"example\.org/mlflow: .*" + says) as refused:
        check_access(uri)
    assert WRONG not in str(refused.value)


def test_the_driver_of_a_database_is_named_when_it_is_missing() -> None:
    """A bare `postgresql://` means psycopg 3; the older driver is not installed."""
    with pytest.raises(InputError, match=r"psycopg2.*pip install 'psycopg\[binary\]'"):
        check_access("postgresql+psycopg2://me@127.0.0.1/mlflow")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A study that nobody trained, with invented scores and failures."""
    storage = LocalStorage(tmp_path_factory.mktemp("away"))
    book = drive(
        small_spec(name="away", search__cohorts=1), storage, CONDITIONS_ROUGH, failure=sometimes
    )
    header = {"event": "study", "time": 1.0, "spec": book.spec.model_dump(mode="json"),
              "digests": {"forcing": "0"}, "provenance": {"study": "0"}}  # fmt: skip
    book.log.events.insert(0, header)
    book.log.flushed = len(book.log.events)
    for number, event in enumerate(book.log.events):
        event["time"] = 1000.0 + number
    return book


def test_a_database_that_is_away_for_a_while_loses_nothing(
    book: Book, client: MlflowClient, servers: Servers, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The same records as on a database that was always there; a warning or two, not a flood."""
    local = f"sqlite:///{tmp_path}/mlflow.db"
    Projection(book, local).catch_up()
    expected = records(runs_of(MlflowClient(tracking_uri=local), "away"))
    flushed, book.log.flushed = book.log.flushed, 30
    try:
        with caplog.at_level(logging.WARNING), Tracker(book, client.tracking_uri):
            wait_for_run(client)
            pg_ctl(servers, "stop", "-m", "immediate")
            book.log.flushed = flushed
            time.sleep(3)
            start = "-c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
            pg_ctl(servers, "start", "-o", f"-p {servers.postgres_port} {start}")
    finally:
        book.log.flushed = flushed
    Projection(book, client.tracking_uri).catch_up()  # what a later `study run` does
    assert records(runs_of(client, "away")) == expected
    warned = [r.getMessage() for r in caplog.records if "records wait in the log" in r.getMessage()]
    assert len(warned) == len(set(warned))
    assert not any(secret in caplog.text for secret in servers.secrets().values())


def wait_for_run(client: MlflowClient) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if client.get_experiment_by_name("away") and runs_of(client, "away"):
            return
        time.sleep(0.2)
    raise AssertionError("no run arrived")


def pg_ctl(servers: Servers, command: str, *options: str) -> None:
    """As `servers.py` does, with PostgreSQL's own user where this one is root."""
    place = servers.folder / "postgres"
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))[-1]
    line = [str(program), command, "-w", "-D", str(place / "data"), "-l", str(place / "log")]
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*line, *options], cwd=place, check=True, **quiet, **user)  # type: ignore[call-overload]


def test_starting_again_draws_no_new_passwords(servers: Servers) -> None:
    """And starts nothing that runs."""
    folder = servers.folder / "secrets"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pids = (servers.folder / "run" / "mlflow.pid").read_text()
    servers.start()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (servers.folder / "run" / "mlflow.pid").read_text() == pids
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (servers.folder / "client.env").stat().st_mode & 0o777 == 0o600
    assert servers.command("status").count(" runs ") == 3


# TLS


@pytest.fixture
def proxy(servers: Servers, tmp_path: Path) -> Iterator[tuple[int, int, Path]]:
    """The real nginx with infra/tracking/nginx.conf; its ports, and the certificate."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        pytest.skip("needs nginx: run infra/servers/install.sh")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    mlflow_port, s3_port, _ = free_ports()
    site = (REPOSITORY / "infra" / "tracking" / "nginx.conf").read_text()
    for example, here in (
        ("/etc/ssl/study/certificate.pem", str(certificate)),
        ("/etc/ssl/study/key.pem", str(key)),
        ("study.example.org", "localhost"),
        ("listen 443 ssl", f"listen 127.0.0.1:{mlflow_port} ssl"),
        ("listen 9443 ssl", f"listen 127.0.0.1:{s3_port} ssl"),
        ("127.0.0.1:5000", f"127.0.0.1:{servers.mlflow_port}"),
        ("127.0.0.1:8333", f"127.0.0.1:{servers.s3_port}"),
    ):
        assert example in site, f"nginx.conf does not say {example}"
        site = site.replace(example, here)
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = tmp_path / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    whole.write_text(
        f"{user}daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{folders}{site}\n}}\n"
    )
    tested = subprocess.run([nginx, "-t", "-c", str(whole)], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    with subprocess.Popen([nginx, "-c", str(whole)]) as process:
        try:
            wait_for_port(mlflow_port)
            yield mlflow_port, s3_port, certificate
        finally:
            process.terminate()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as there:
            if there.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


def test_tls_in_front_of_both(
    proxy: tuple[int, int, Path], client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client and boto3 work through nginx, and trust nobody else's certificate."""
    boto3 = pytest.importorskip("boto3")
    mlflow_port, s3_port, certificate = proxy
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    through = MlflowClient(tracking_uri=f"https://localhost:{mlflow_port}")
    assert through.search_experiments(max_results=1)
    where = {"endpoint_url": f"https://localhost:{s3_port}", "verify": str(certificate)}
    # The default session keeps the credentials it saw first, perhaps those of another server.
    s3 = boto3.Session().client("s3", **where)
    content = bytes(range(256)) * 40_000  # 10 MB: longer than nginx lets through unless told
    s3.put_object(Bucket="study", Key="through-tls", Body=content)
    assert s3.get_object(Bucket="study", Key="through-tls")["Body"].read() == content
    with socket.create_connection(("127.0.0.1", mlflow_port)) as plain:
        old = ssl.create_default_context(cafile=str(certificate))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with old.wrap_socket(plain, server_hostname="localhost") as secured:
            assert secured.version() == "TLSv1.2"
    with socket.create_connection(("127.0.0.1", mlflow_port)) as plain, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
