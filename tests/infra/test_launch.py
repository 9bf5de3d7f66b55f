"""The launcher that `ray submit` sends, with a command of its own in the place of `study`.

`make testbed` runs it with the real one, over SSH.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import wait_until

LAUNCHER = Path(__file__).resolve().parent.parent.parent / "infra" / "ray" / "launch.py"
STUDY = """#!/bin/sh
# Says what it was asked, waits for the file `go`, and ends with the code in it.
echo "asked: $* mode $RAY_AUTH_MODE"
trap 'echo saved; exit 143' TERM
while [ ! -f "$HOME/go" ]; do sleep 0.05; done
read code < "$HOME/go"
echo "ends with $code"
exit "$code"
"""
PATIENCE_SECONDS = 60


def heed_sigint() -> None:
    """Tests that a shell runs in its background were told to ignore it, and would pass that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Follower:
    """A running launcher, and what it has told."""

    def __init__(self, home: Path, told: Path, words: tuple[str, ...]):
        self._told = told
        # Of the base interpreter, beside which there is no `study`: it is found on the PATH.
        command = [os.path.realpath(sys.executable), str(LAUNCHER), *words]
        environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}
        with told.open("w") as file:
            self.process = subprocess.Popen(
                command, env=environment, cwd=home, stdout=file, stderr=file,
                start_new_session=True, preexec_fn=heed_sigint,
            )  # fmt: skip

    @property
    def told(self) -> str:
        return self._told.read_text()

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)


class Head:
    """A home folder, and the commands that `ray submit` would run there."""

    def __init__(self, home: Path):
        self.home = home
        (home / "bin").mkdir()
        study = home / "bin" / "study"
        study.write_text(STUDY)
        study.chmod(0o755)
        (home / "study" / "search_spaces").mkdir(parents=True)
        (home / "study" / "search_spaces" / "small.yaml").write_text("name: small\n")
        self.followers: list[Follower] = []

    def start(self, *words: str) -> Follower:
        follower = Follower(self.home, self.home / f"told{len(self.followers)}", words)
        self.followers.append(follower)
        return follower

    def call(self, *words: str) -> tuple[int, str]:
        follower = self.start(*words)
        return follower.wait(), follower.told

    def end_with(self, code: int) -> None:
        (self.home / "go.new").write_text(f"{code}\n")
        (self.home / "go.new").replace(self.home / "go")

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self.home.glob(".study/launch/*/log"))

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.log, text)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    head = Head(tmp_path)
    yield head
    head.end_with(0)
    for follower in head.followers:
        follower.wait()


RUN = ("run", "search_spaces/small.yaml", "--data", "s3://b/d", "--results", "s3://b/r")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_the_studys(head: Head, code: int) -> None:
    head.end_with(code)
    ended, told = head.call(*RUN)
    assert ended == code
    assert f"ends with {code}" in told


def test_study_is_asked_to_join_the_cluster_that_runs_here(head: Head) -> None:
    head.end_with(0)
    _, told = head.call(*RUN, "--set", "search.cohorts=3")
    spec = head.home / "study" / "search_spaces" / "small.yaml"
    expected = f"asked: run {spec} --data s3://b/d --results s3://b/r --set search.cohorts=3"
    assert f"{expected} --address auto mode token" in told


def test_an_address_that_is_given_stays(head: Head) -> None:
    head.end_with(0)
    _, told = head.call(*RUN, "--address", "10.0.0.1:6379")
    assert "--address 10.0.0.1:6379 mode" in told
    assert "auto" not in told


def test_a_study_outlives_its_connection_and_is_followed_again(head: Head) -> None:
    first = head.start(*RUN)
    head.wait_for("asked:")
    os.killpg(first.process.pid, signal.SIGKILL)  # as when the connection breaks
    first.wait()
    second = head.start(*RUN)
    wait_until(lambda: "follows" in second.told and "asked:" in second.told, "the log")
    head.end_with(0)
    assert second.wait() == 0
    assert "ends with 0" in second.told
    assert head.log.count("asked:") == 1


def test_one_that_follows_may_leave(head: Head) -> None:
    first = head.start(*RUN)
    head.wait_for("asked:")
    first.process.send_signal(signal.SIGINT)
    assert first.wait() == 130
    assert "the study goes on" in first.told
    head.end_with(0)
    head.wait_for("ends with 0")


def test_a_study_that_ended_goes_on_when_called_again(head: Head) -> None:
    head.end_with(1)
    assert head.call(*RUN)[0] == 1
    head.end_with(0)
    ended, told = head.call(*RUN)
    assert ended == 0
    assert "ends with 1" not in told  # the log of the first is not told again
    assert head.log.count("asked:") == 2


def test_other_arguments_are_refused_while_it_runs(head: Head) -> None:
    head.start(*RUN)
    head.wait_for("asked:")
    ended, told = head.call(*RUN, "--set", "search.cohorts=3")
    assert ended == 2
    assert "runs with other arguments" in told
    assert "launch.py stop search_spaces/small.yaml --results s3://b/r" in told
    assert head.log.count("asked:") == 1


def test_other_results_are_another_study(head: Head) -> None:
    head.start(*RUN)
    head.start(*RUN[:-1], "s3://b/other")
    wait_until(lambda: head.log.count("asked:") == 2, "two studies")


def test_stop_lets_it_save_and_leave(head: Head) -> None:
    follower = head.start(*RUN)
    head.wait_for("asked:")
    ended, told = head.call("stop", "search_spaces/small.yaml", "--results", "s3://b/r")
    assert ended == 0
    assert "saved" in told
    assert follower.wait() == 143
    ended, told = head.call("stop", "search_spaces/small.yaml", "--results", "s3://b/r")
    assert "does not run here" in told


def test_a_driver_that_is_killed_is_told(head: Head) -> None:
    follower = head.start(*RUN)
    head.wait_for("asked:")
    (pid,) = [int(path.read_text()) for path in head.home.glob(".study/launch/*/pid")]
    os.killpg(pid, signal.SIGKILL)
    assert follower.wait() == 1
    assert "killed; the same command goes on" in follower.told


def test_the_log_is_for_its_owner(head: Head) -> None:
    head.end_with(0)
    head.call(*RUN)
    (folder,) = head.home.glob(".study/launch/*")
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "search_spaces/none.yaml"), "ray rsync-up CLUSTER.yaml"),
        (("--help",), "ray submit CLUSTER.yaml"),
        ((), "ray submit CLUSTER.yaml"),
    ],
)
def test_bad_usage_is_told(head: Head, words: tuple[str, ...], said: str) -> None:
    ended, told = head.call(*words)
    assert ended == (0 if words == ("--help",) else 2)
    assert said in told


def test_a_head_without_study_is_told(head: Head) -> None:
    (head.home / "bin" / "study").unlink()
    ended, told = head.call(*RUN)
    assert ended == 2
    assert "no command `study`" in told


def test_other_commands_are_handed_over(head: Head) -> None:
    head.end_with(2)
    ended, told = head.call("status", "small", "--results", "s3://b/r")
    assert ended == 2
    assert "asked: status small --results s3://b/r" in told
