"""What can go wrong with a bucket, on a real server: networks, credentials, names."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
from seaweed import BUCKET, S3Server, free_ports

from study.errors import InputError, StorageError
from study.experiment.eventlog import EventLog
from study.experiment.storage import open_storage

Change = Callable[[pytest.MonkeyPatch, S3Server], None]


def unset_keys(patch: pytest.MonkeyPatch, server: S3Server) -> None:
    patch.delenv("AWS_ACCESS_KEY_ID")
    patch.delenv("AWS_SECRET_ACCESS_KEY")


def environment(**changes: str) -> Change:
    def change(patch: pytest.MonkeyPatch, server: S3Server) -> None:
        for name, value in changes.items():
            patch.setenv(name, value)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (environment(AWS_SECRET_ACCESS_KEY="guessed-secret"), "refused the secret key"),
        (environment(AWS_ACCESS_KEY_ID="AKNOBODY"), "does not know this access key"),
        (unset_keys, "no AWS credentials were found; set AWS_PROFILE"),
        (environment(AWS_PROFILE="absent"), "there is no AWS profile absent"),
        (environment(AWS_ENDPOINT_URL="http://127.0.0.1:9"), "http://127.0.0.1:9 does not answer"),
        (environment(AWS_ENDPOINT_URL="http://u:pass-word@127.0.0.1:9"), "does not answer"),
        (environment(AWS_ENDPOINT_URL="127.0.0.1:9"), "is no address; correct AWS_ENDPOINT_URL"),
        (environment(AWS_ENDPOINT_URL="http://absent.invalid:9"), "does not answer"),
        (environment(AWS_REGION="no region", AWS_DEFAULT_REGION="no region"), "AWS region"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused_at_once(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, change: Change, told: str
) -> None:
    """In a paragraph that names the place and the cure, and no secret."""
    change(monkeypatch, s3_server)
    started = time.monotonic()
    with pytest.raises(InputError) as refused:
        open_storage(s3_place, check=True)
    assert time.monotonic() - started < 30
    message = str(refused.value)
    assert message.startswith(f"{s3_place}: ") and told in message
    for secret in (s3_server.secret_key, "guessed-secret", "pass-word"):
        assert secret not in message


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("s3://absent-bucket/results", "there is no such bucket at http://127.0.0.1"),
        ("s3://Not A Bucket/x", "is not the name of a bucket"),
        ("s3:///results", "names no bucket"),
    ],
)
def test_a_bucket_that_is_none(s3_place: str, place: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_storage(place, check=True)


def test_credentials_that_may_only_read(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(s3_place).write("a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.reader["access"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.reader["secret"])
    storage = open_storage(s3_place, check=True)
    assert storage.read("a") == b"1"
    for act in (storage.write, storage.create):
        with pytest.raises(StorageError, match="need permission to list the bucket and to get"):
            act("b", b"2")
    log = EventLog(storage)
    log.append(event="x")
    with pytest.raises(StorageError, match="permission"):
        log.flush()


def test_an_object_that_was_changed_is_not_read(s3_place: str) -> None:
    storage = open_storage(s3_place)
    storage.write("trials/1", b"weights")
    client, (bucket, _, prefix) = boto3.Session().client("s3"), s3_place[5:].partition("/")
    found = client.head_object(Bucket=bucket, Key=f"{prefix}/trials/1")
    client.put_object(
        Bucket=bucket, Key=f"{prefix}/trials/1", Body=b"weighty", Metadata=found["Metadata"]
    )
    with pytest.raises(StorageError, match=r"trials/1: could not be read whole .* SHA-256"):
        storage.read("trials/1")


def test_objects_of_other_tools_are_read(s3_place: str) -> None:
    bucket, _, prefix = s3_place[5:].partition("/")
    boto3.Session().client("s3").put_object(Bucket=bucket, Key=f"{prefix}/a", Body=b"1")
    storage = open_storage(s3_place)
    assert storage.read("a") == b"1"
    assert storage.digest("a") == open_storage(s3_place).digest("a") is not None


PROFILE = "[profile study]\nregion = us-east-1\n"


def test_a_process_that_gives_credentials_is_asked_again_when_they_expire(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first answer expires; the second one is asked for before the server complains."""
    asked = tmp_path / "asked"
    answer = {"Version": 1, "AccessKeyId": s3_server.access_key,
              "SecretAccessKey": s3_server.secret_key}  # fmt: skip
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "give.py").write_text(
        "import datetime as d, json, sys\n"
        f"answer = json.load(open({str(tmp_path / 'answer.json')!r}))\n"
        "until = d.datetime.now(d.timezone.utc) + d.timedelta(seconds=601)\n"
        "print(json.dumps(answer | {'Expiration': until.isoformat()}))\n"
        f"open({str(asked)!r}, 'a').write('x')\n"
    )
    config = tmp_path / "config"
    config.write_text(f"{PROFILE}credential_process = {sys.executable} {tmp_path / 'give.py'}\n")
    unset_keys(monkeypatch, s3_server)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "study")
    storage = open_storage(s3_place)
    storage.write("a", b"1")
    first = len(asked.read_text())
    # boto3 renews in the last ten minutes: a second from here
    time.sleep(3)
    assert storage.read("a") == b"1"
    assert len(asked.read_text()) > first


def test_keys_that_were_replaced_in_the_profile_are_found(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A storage that is open goes on when somebody renews the file; it fails while nobody has."""
    keys = tmp_path / "credentials"

    def write(secret: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {s3_server.access_key}\n"
                        f"aws_secret_access_key = {secret}\n")  # fmt: skip

    unset_keys(monkeypatch, s3_server)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    write("expired-secret")
    storage = open_storage(s3_place)
    with pytest.raises(StorageError, match="refused the secret key"):
        storage.write("a", b"1")
    write(s3_server.secret_key)
    storage.write("a", b"1")
    content = np.random.default_rng(2).bytes(20_000_000)
    write("expired-secret")
    other = open_storage(s3_place)
    with pytest.raises(StorageError):
        other.keys("")
    write(s3_server.secret_key)
    other.write("large", content)  # in parts: all of it again with the fresh keys
    assert other.read("large") == content
    assert storage.keys("") == ["a", "large"]


def test_a_server_that_dies_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers and readers wait for it; nothing that was acknowledged is lost."""
    server = S3Server(Path(tempfile.mkdtemp()) / "s3")
    done: list[int] = []
    try:
        server.start()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        storage = open_storage(f"s3://{BUCKET}/dies")

        def work() -> None:
            for i in range(400):
                storage.create(f"events/{i:04d}", str(i).encode())
                done.append(i)

        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while len(done) < 20:
                time.sleep(0.01)
            server.kill()
            before = len(done)
            time.sleep(2)
            server.start()
            working.result(timeout=200)
        assert before < 400, "the server died too late"
        assert storage.keys("events/") == [f"events/{i:04d}" for i in range(400)]
        contents = list(storage.read_all(storage.keys("events/")))
        assert contents == [str(i).encode() for i in range(400)]
    finally:
        server.kill()


@contextmanager
def cut_line(server: S3Server, verb: bytes, after: int) -> Iterator[tuple[str, list[bytes]]]:
    """A line to the server that breaks once: when `after` bytes of the first answer to a request of
    this kind have come. Yields its address and, afterwards, the requests that met with it."""
    listener = socket.create_server(("127.0.0.1", free_ports(1)[0]))
    met: list[bytes] = []
    target = urlsplit(server.url)

    def serve(client: socket.socket) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection((str(target.hostname), target.port or 0)) as upstream,
        ):
            kinds: list[bytes] = []
            up = threading.Thread(target=forward, args=(client, upstream, kinds), daemon=True)
            up.start()
            passed = 0
            while data := upstream.recv(65536):
                if kinds and kinds[-1].startswith(verb) and not met:
                    if passed + len(data) > after:
                        met.append(kinds[-1])
                        client.sendall(data[: max(0, after - passed)])
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    passed += len(data)
                client.sendall(data)

    def forward(client: socket.socket, upstream: socket.socket, kinds: list[bytes]) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if data[:5].split(b" ")[0] in (b"GET", b"PUT", b"HEAD"):
                    kinds.append(data.split(b"\r\n")[0])
                upstream.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", met
    finally:
        listener.close()


def test_a_creation_whose_answer_was_lost_is_no_defeat(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt finds the object of the first one; a driver must not fence itself out."""
    with cut_line(s3_server, b"PUT", after=0) as (url, met):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        storage = open_storage(s3_place)
        storage.create("events/1", b"mine")
        assert met, "nothing was lost"
        with pytest.raises(FileExistsError):
            storage.create("events/1", b"mine")
    assert storage.uri == s3_place


@pytest.mark.parametrize("after", [200, 2_000_000])
def test_an_answer_that_breaks_off_is_asked_for_again(
    s3_place: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    content = np.random.default_rng(3).bytes(5_000_000)
    open_storage(s3_place).write("trials/1", content)
    with cut_line(s3_server, b"GET", after=after) as (url, met):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert open_storage(s3_place).read("trials/1") == content
        assert met, "nothing broke off"
