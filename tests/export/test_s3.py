"""Bundles in a real S3 server: written whole or not at all, gone on with, verified, read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from study.cli import app
from study.errors import BundleError, StudyError
from study.experiment.storage import Storage, open_storage
from study.experiment.storage.s3 import S3Storage
from study.export.bundle import read_bundle
from study.export.manifest import MANIFEST, SIGNATURE
from study.export.places import write_files
from study.export.winner import export_arm

from .conftest import ARMS, Finished

Keys = tuple[Path, Path]


def test_an_ensemble_goes_up_and_predicts_from_there(
    continuous: Finished, s3_place: str, tmp_path: Path, keys: Keys
) -> None:
    study, book = continuous
    export_arm(book, study.storage, ARMS[0], s3_place, key=keys[0])
    read = read_bundle(s3_place, key=keys[1])
    assert read.manifest.members == 2
    out = tmp_path / "qsim.csv"
    command = ["predict", s3_place, "--forcing", str(study.store), "--out", str(out)]
    ended = CliRunner().invoke(app, [*command, "--period", "test", "--key", str(keys[1])])
    assert ended.exit_code == 0, ended.exception
    assert out.exists()


class Dying:
    """A connection that ends after some objects."""

    def __init__(self, left: int):
        self.left, self.sent = left, list[str]()

    def write(self, storage: S3Storage, key: str, content: bytes) -> None:
        if not self.left:
            raise ConnectionError("the cable was pulled")
        self.left -= 1
        self.sent.append(key)
        original(storage, key, content)


original = S3Storage.write


def test_an_upload_that_was_cut_off_goes_on(
    bundle: Path, s3_place: str, monkeypatch: pytest.MonkeyPatch, keys: Keys
) -> None:
    files = read_bundle(bundle).contents(keys[0])
    first, second = Dying(4), Dying(1000)
    monkeypatch.setattr(S3Storage, "write", lambda *a: first.write(*a))
    with pytest.raises(ConnectionError):
        write_files(s3_place, files)
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(s3_place)  # it is no bundle before its manifest is there
    monkeypatch.setattr(S3Storage, "write", lambda *a: second.write(*a))
    write_files(s3_place, files)
    assert set(first.sent) & set(second.sent) == set()
    assert [*first.sent, *second.sent][-2:] == [SIGNATURE, MANIFEST]
    assert read_bundle(s3_place, key=keys[1]).files == read_bundle(bundle).files
    third = Dying(0)
    monkeypatch.setattr(S3Storage, "write", lambda *a: third.write(*a))
    write_files(s3_place, files)  # all is there: nothing is sent


def test_another_bundle_is_not_written_over(
    bundle: Path, s3_place: str, continuous: Finished
) -> None:
    write_files(s3_place, read_bundle(bundle).contents())
    study, book = continuous
    with pytest.raises(BundleError, match="holds another bundle already"):
        export_arm(book, study.storage, ARMS[1], s3_place, members=1)
    assert read_bundle(s3_place).digest == read_bundle(bundle).digest


def test_what_was_damaged_there_is_refused(bundle: Path, s3_place: str) -> None:
    files = read_bundle(bundle).contents()
    write_files(s3_place, files)
    storage: Storage = open_storage(s3_place)
    storage.write("weights-000.safetensors", files["weights-001.safetensors"])
    with pytest.raises(BundleError, match=r"weights-000\.safetensors: differs from its checksum"):
        read_bundle(s3_place)
    storage.delete("weights-000.safetensors")
    with pytest.raises(BundleError, match=r"weights-000\.safetensors: cannot be read"):
        read_bundle(s3_place)


def test_places_that_are_none(bundle: Path, s3_place: str) -> None:
    with pytest.raises(StudyError, match="no-such-bucket"):
        write_files("s3://no-such-bucket/x", read_bundle(bundle).contents())
    with pytest.raises(StudyError, match="ftp://host/x"):
        read_bundle("ftp://host/x")


def test_without_the_client_of_object_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "study.experiment.storage.s3", raising=False)
    with pytest.raises(
        BundleError, match=r"s3://bucket/x: .* needs the package boto3; pip install"
    ):
        read_bundle("s3://bucket/x")
