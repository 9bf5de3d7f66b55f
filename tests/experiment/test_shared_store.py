"""A data store in a bucket, and its one copy on a host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import boto3
import pytest
import xarray as xr

from study.data.store import digests_of, open_store, verify, write_store
from study.errors import DataError, StorageError
from study.experiment.shared_store import MANIFEST, fetch, push
from study.experiment.storage import open_storage


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a host that has fetched nothing yet."""
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store(synthetic_store: Path, tmp_path: Path) -> Path:
    """A store of few files."""
    write_store(open_store(synthetic_store)[["prcp", "qobs", "area"]].load(), tmp_path / "b.zarr")
    return tmp_path / "b.zarr"


def files(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def other_values(store: Path) -> None:
    """Make a store another one of the same files."""
    dataset = xr.open_zarr(store, chunks=None).load()
    dataset["prcp"] = dataset["prcp"] + 1
    dataset.attrs["digests"] = digests_of(dataset)
    shutil.rmtree(store)
    dataset.drop_encoding().to_zarr(store, zarr_format=2, consolidated=True)


def test_what_is_fetched_is_what_was_pushed(store: Path, s3_place: str, cache: Path) -> None:
    total = len(files(store))
    assert push(store, f"{s3_place}/basins.zarr") == total
    copy = fetch(f"{s3_place}/basins.zarr")
    assert copy.is_relative_to(cache)
    assert files(copy) == files(store)
    verify(open_store(copy), copy)
    assert push(store, f"{s3_place}/basins.zarr") == 0


def test_a_host_fetches_once(store: Path, s3_place: str) -> None:
    """Two drivers that start at the same time share the work, and a third finds it done."""
    push(store, f"{s3_place}/basins.zarr")
    code = (
        "import sys\n"
        "from study.experiment import shared_store\n"
        "from study.experiment.storage.s3 import S3Storage\n"
        "read = S3Storage.read\n"
        "def told(self, key):\n"
        "    sys.stdout.write(key + '\\n')\n"  # at once: several threads do
        "    return read(self, key)\n"
        "S3Storage.read = told\n"
        "shared_store.fetch(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, f"{s3_place}/basins.zarr"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    fetched = [process.communicate(timeout=120)[0].split() for process in started]
    assert all(process.returncode == 0 for process in started)
    counts = Counter(key for each in fetched for key in each)
    assert counts.pop(MANIFEST) == 2
    assert set(counts.values()) == {1} and set(counts) == set(files(store))
    third = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert third.stdout.split() == [MANIFEST]


def test_a_push_that_was_killed_goes_on(synthetic_store: Path, s3_place: str) -> None:
    store = synthetic_store
    place, total = f"{s3_place}/basins.zarr", len(files(store))
    command = [sys.executable, "-m", "study", "data", "push", str(store), place]
    with subprocess.Popen(command) as pushing:
        storage = open_storage(place)
        deadline = time.monotonic() + 120
        while not len(storage.keys("")) > 3 and time.monotonic() < deadline:
            pass
        os.kill(pushing.pid, signal.SIGKILL)
    there = len(storage.keys(""))
    assert 3 < there < total, "killed too early or too late"
    with pytest.raises(DataError, match=r"holds no complete data store; .* or end a push"):
        fetch(place)
    assert push(store, place) == total - there
    assert files(fetch(place)) == files(store)


def test_a_fetch_that_was_stopped_goes_on(store: Path, s3_place: str, cache: Path) -> None:
    place, fetched = f"{s3_place}/basins.zarr", []
    push(store, place)

    def stop(done: int, total: int) -> None:
        fetched.append(done)
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(place, progress=stop)
    assert not [p for p in (cache / "stores").iterdir() if not p.name.startswith(".")]
    assert files(fetch(place)) == files(store)
    assert [p.name for p in (cache / "stores").iterdir() if p.name.endswith(".fetching")] == []


def test_a_copy_that_was_damaged_is_mended(store: Path, s3_place: str) -> None:
    push(store, f"{s3_place}/basins.zarr")
    copy = fetch(f"{s3_place}/basins.zarr")
    damaged = [p for p in sorted(copy.rglob("*")) if p.is_file()][::5]
    for path in damaged:
        path.write_bytes(b"damaged")
    damaged[0].unlink()
    assert files(fetch(f"{s3_place}/basins.zarr")) == files(store)


def test_another_store_is_replaced_only_on_demand(store: Path, s3_place: str) -> None:
    place = f"{s3_place}/basins.zarr"
    push(store, place)
    older = fetch(place)
    other_values(store)
    with pytest.raises(DataError, match=r"holds another store; .* --replace"):
        push(store, place)
    assert fetch(place) == older
    open_storage(place).write("notes of somebody.txt", b"kept")
    push(store, place, replace=True)
    newer = fetch(place)
    assert newer != older and files(newer) == files(store)
    assert open_storage(place).read("notes of somebody.txt") == b"kept"
    gone = set(files(older)) - set(files(store))
    assert not gone & set(open_storage(place).keys(""))


def test_a_damaged_store_is_not_pushed(store: Path, s3_place: str) -> None:
    chunk = next(p for p in store.rglob("*") if p.is_file() and p.parent.name == "prcp"
                 and not p.name.startswith("."))  # fmt: skip
    chunk.write_bytes(chunk.read_bytes()[::-1])
    with pytest.raises(DataError, match="digest differs"):
        push(store, s3_place)
    assert open_storage(s3_place).keys("") == []


def test_a_store_that_is_damaged_in_the_bucket_is_not_used(store: Path, s3_place: str) -> None:
    push(store, s3_place)
    storage = open_storage(s3_place)
    storage.write(".zattrs", b"{}")  # with a digest of its own, which is not that of the manifest
    with pytest.raises(DataError, match=r"is damaged \(.zattrs differs from its digest\)"):
        fetch(s3_place)
    storage.delete(".zattrs")
    with pytest.raises(DataError, match=r"is damaged \(lacks .zattrs\)"):
        fetch(s3_place)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside", ""])
def test_a_hostile_manifest_writes_nothing_outside(
    store: Path, s3_place: str, cache: Path, name: str
) -> None:
    push(store, s3_place)
    storage = open_storage(s3_place)
    manifest = json.loads(storage.read(MANIFEST))
    manifest["files"][name] = "0" * 64
    storage.write(MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(DataError, match=r"manifest\.json is not that of a store"):
        fetch(s3_place)
    assert not list(cache.rglob("*outside*"))


def test_a_manifest_is_believed_only_with_its_digest(store: Path, s3_place: str) -> None:
    push(store, s3_place)
    storage = open_storage(s3_place)
    manifest = json.loads(storage.read(MANIFEST))
    manifest["files"].popitem()
    for content in (json.dumps(manifest).encode(), b"[]", b"{", b'{"files": 3}'):
        storage.write(MANIFEST, content)
        with pytest.raises(DataError, match="is damaged"):
            fetch(s3_place)


def test_there_is_nothing_or_no_bucket(s3_place: str) -> None:
    with pytest.raises(DataError, match="holds no complete data store; send one there"):
        fetch(s3_place)
    with pytest.raises(StorageError, match="no such bucket"):
        fetch("s3://absent-bucket/basins.zarr")


def test_the_files_are_zarr_for_other_readers(store: Path, s3_place: str, tmp_path: Path) -> None:
    """Whoever copies the prefix with another tool has a store, too."""
    push(store, f"{s3_place}/basins.zarr")
    client, (bucket, _, prefix) = boto3.Session().client("s3"), s3_place[5:].partition("/")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page["Contents"]:
            path = tmp_path / "other" / found["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, found["Key"], str(path))
    copy = tmp_path / "other" / prefix / "basins.zarr"
    xr.testing.assert_identical(open_store(copy).load(), open_store(store).load())
