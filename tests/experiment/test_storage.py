"""What every storage promises, and the lock that keeps a study to one driver."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np
import pytest

from study.errors import InputError, StudyError
from study.experiment.storage import LocalStorage, Storage, local, only_driver, open_storage


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of every kind of storage; all pass the same tests."""
    if request.param == "local":
        return str(tmp_path / "results")
    return str(request.getfixturevalue("s3_place"))


@pytest.fixture
def storage(place: str) -> Storage:
    return open_storage(place, check=True)


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_an_object_comes_back_as_it_was_put(storage: Storage) -> None:
    storage.write("trials/a/1", b"\x00old")
    storage.write("trials/a/1", b"new")
    storage.create("events/1", b"")
    assert storage.read("trials/a/1") == b"new"
    assert storage.read("events/1") == b""


def test_create_refuses_an_existing_object_and_leaves_it(storage: Storage) -> None:
    storage.create("events/1", b"first")
    with pytest.raises(FileExistsError):
        storage.create("events/1", b"second")
    assert storage.read("events/1") == b"first"


def test_what_is_not_there(storage: Storage) -> None:
    assert storage.keys("events/") == []
    with pytest.raises(FileNotFoundError):
        storage.read("events/1")
    storage.delete("events/1")


def test_keys_are_those_with_the_prefix_in_order(storage: Storage) -> None:
    for key in ("events/2", "events/10", "events/1", "trials/b/9", "trials/a/1", "eventsful"):
        storage.write(key, b"")
    assert storage.keys("events/") == ["events/1", "events/10", "events/2"]
    assert storage.keys("trials/a") == ["trials/a/1"]
    assert storage.keys("trials/") == ["trials/a/1", "trials/b/9"]
    storage.delete("trials/a/1")
    assert storage.keys("trials/") == ["trials/b/9"]
    assert len(storage.keys("")) == 5


def test_many_keys_are_all_listed_and_read_in_order(storage: Storage) -> None:
    keys = [f"events/{i:05d}" for i in range(1050)]  # more than a page of S3
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: storage.create(key, key.encode()), keys))
    assert storage.keys("events/") == keys
    assert list(storage.read_all(keys)) == [key.encode() for key in keys]
    assert list(storage.read_all([])) == []
    with pytest.raises(FileNotFoundError):
        list(storage.read_all(["events/00000", "absent"]))


@pytest.mark.parametrize(
    "key", ["elv/Åsa–2 (øst)/100 %", "a+b/c d?e=f&g#h", "%41/5..%", "雪/水.json", "q'u\"o/x"]
)
def test_any_name_is_kept_as_it_is(storage: Storage, key: str) -> None:
    storage.create(key, b"1")
    assert storage.keys(key.split("/")[0]) == [key]
    assert storage.read(key) == b"1"
    storage.delete(key)
    assert storage.keys("") == []


def test_a_large_object_comes_back_as_it_was_put(storage: Storage) -> None:
    """30 MB: in S3 it goes up in parts."""
    content = np.random.default_rng(1).bytes(30_000_000)
    storage.write("predictions/large", content)
    storage.create("predictions/other", content)
    for key in storage.keys("predictions/"):
        assert storage.read(key) == content
        assert storage.digest(key) == hashlib.sha256(content).hexdigest()


def test_the_digest_is_that_of_the_content(storage: Storage) -> None:
    assert storage.digest("a/b") is None
    for content in (b"old", b"new", b""):
        storage.write("a/b", content)
        assert storage.digest("a/b") == hashlib.sha256(content).hexdigest()


CREATOR = """
import sys
from concurrent.futures import ThreadPoolExecutor
from study.experiment.storage import open_storage
storage = open_storage(sys.argv[1])
storage.keys("")

def won(key):
    try:
        storage.create(f"race/{key}", b"the same for all")
        return "won"
    except FileExistsError:
        return "lost"

with ThreadPoolExecutor(10) as pool:
    print("ready", flush=True)
    for line in sys.stdin:
        print(*pool.map(won, line.split()), flush=True)
"""


def test_of_several_creators_exactly_one_wins(place: str) -> None:
    """Also if all write the same: the fence between two drivers relies on it. Ten keys are raced
    for at a time, since a server that sees a race lets its losers wait."""
    command = [sys.executable, "-c", CREATOR, place]
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(3)
        ]

        def answers() -> list[list[str]]:
            return [cast(IO[str], racer.stdout).readline().split() for racer in racers]

        assert answers() == [["ready"]] * 3
        winners = Counter[int]()
        for first in range(0, 100, 10):
            keys = range(first, first + 10)
            for racer in racers:
                print(*keys, file=racer.stdin, flush=True)
            for key, *told in zip(keys, *answers(), strict=True):
                assert sorted(told) == ["lost", "lost", "won"], key
                winners[told.index("won")] += 1
    assert len(winners) > 1, "no race"
    assert len(open_storage(place).keys("race/")) == 100


@pytest.mark.parametrize(
    ("method", "step"),
    [("write", "fsync"), ("write", "replace"), ("create", "fsync"), ("create", "link")],
)
def test_a_crash_while_writing_leaves_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, step: str
) -> None:
    """The process may end between any two system calls; readers must see all or nothing."""

    def crash(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    storage = LocalStorage(tmp_path)
    if method == "write":
        storage.write("a/b", b"old")
    place = (Path, "replace") if step == "replace" else (local.os, step)
    monkeypatch.setattr(*place, crash)
    with pytest.raises(OSError, match="no space"):
        getattr(storage, method)("a/b", b"new, and much longer")
    monkeypatch.undo()
    assert storage.keys("") == (["a/b"] if method == "write" else [])
    assert method == "create" or storage.read("a/b") == b"old"


def test_a_driver_removes_what_a_killed_one_left_half_written(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("trials/a/1", b"kept")
    for left in (".00000002.jsonl.0a1b2c3d", "trials/a/.epoch-1.safetensors.ffffffff"):
        (tmp_path / left).write_bytes(b"half")
    for name in (".report.01234567", ".report.89abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text("{")
    hour_ago = time.time() - 3600
    os.utime(tmp_path / ".report.01234567", (hour_ago, hour_ago))
    with only_driver(storage):
        in_work = ".report.89abcdef/report.json"  # perhaps of a `study report` elsewhere
        assert files(tmp_path) == {"trials/a/1", ".driver", in_work}


def test_only_one_driver(place: str) -> None:
    storage = open_storage(place)
    with only_driver(storage):
        refused = pytest.raises(StudyError, match="another `study run` drives this study now")
        with refused, only_driver(open_storage(place)):
            raise AssertionError("two drivers")
        with only_driver(open_storage(f"{place}/other study")):
            pass
    with only_driver(storage):
        pass


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from study.experiment.storage import LocalStorage, only_driver\n"
        f"with only_driver(LocalStorage({str(tmp_path)!r})):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StudyError), only_driver(LocalStorage(tmp_path)):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with only_driver(LocalStorage(tmp_path)):
        pass


@pytest.mark.parametrize("uri", ["gs://bucket/results", "ftp://host/results"])
def test_a_place_of_an_unknown_kind_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=uri):
        open_storage(uri)
