#!/usr/bin/env python3
"""Run `study` on the head of a Ray cluster: the one file that `ray submit` sends there.

    ray submit CLUSTER.yaml infra/ray/launch.py -- run search_spaces/camels_us_snow.yaml \
        --data s3://bucket/us.zarr --results s3://bucket/results

`run SPEC ...` starts `study run` in a session of its own, so that it outlives the SSH connection,
prints its log until it ends, and ends with its exit code. Called again with the same arguments it
follows the study that runs, or goes on with one that was stopped. `stop SPEC ...` lets it save its
work and leave. Whatever else comes (`status NAME --results ...`) is handed to `study` as it is.

SPEC is a file on the head: absolute, or below the home folder or `~/study`, where `ray up` and
`ray rsync-up CLUSTER.yaml` put this repository. Needs Python and an installed `study`, no more.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

POLL_SECONDS = 0.5
SHOWN_BYTES = 8192
"""Of the log, when a study that runs is followed."""
BAD_USAGE = 2
INTERRUPTED = 130


class Refused(Exception):
    """What was asked for cannot be done; the message says what to change."""


class Launch:
    """One study with one place for its results, as it runs on this head.

    A folder holds its log, what was started, and how it ended. The driver holds a lock on a file
    there, which goes with it however it ends.
    """

    def __init__(self, spec: str, results: str):
        self.spec, self.results = spec, results
        place = hashlib.sha256(results.encode()).hexdigest()[:8]
        self.folder = Path.home() / ".study" / "launch" / f"{Path(spec).stem}-{place}"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log, self.started, self.ended, self.pid = (
            self.folder / name for name in ("log", "started.json", "exit", "pid")
        )

    def lock(self) -> IO[str] | None:
        """The lock; None while a driver holds it."""
        file = (self.folder / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def patient_lock(self) -> IO[str] | None:
        """The lock, also when somebody else just looks whether it is free."""
        for _ in range(5):
            lock = self.lock()
            if lock is not None:
                return lock
            time.sleep(0.1)
        return None

    def runs(self) -> bool:
        lock = self.lock()
        if lock is not None:
            lock.close()
        return lock is None

    def start(self, command: Sequence[str], lock: IO[str]) -> None:
        """Start the driver, detached from this connection; it inherits the lock."""
        self.ended.unlink(missing_ok=True)
        offset = self.log.stat().st_size if self.log.exists() else 0
        self.started.write_text(json.dumps({"command": list(command), "offset": offset}))
        with self.log.open("ab") as log:
            subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "_drive", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path.home(),
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        lock.close()

    def follow(self) -> int:
        """Print the log until the driver has ended.

        Returns:
            The driver's exit code.
        """
        begun: dict[str, Any] = json.loads(self.started.read_text())
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(begun["offset"], size - SHOWN_BYTES))
            running = True
            while running:
                running = self.runs()  # asked before reading: then nothing is missed
                sys.stdout.buffer.write(log.read())
                sys.stdout.buffer.flush()
                time.sleep(POLL_SECONDS if running else 0)
        if not self.ended.exists():
            tell("the driver was killed; the same command goes on where it stopped")
            return 1
        return int(self.ended.read_text())


def run(arguments: Sequence[str]) -> int:
    """Start a study, or follow it where it runs; its exit code."""
    spec, results = _named(arguments)
    path = find_spec(spec)
    command = [find_study(), "run", str(path), *(word for word in arguments if word != spec)]
    if not any(word.partition("=")[0] == "--address" for word in arguments):
        command += ["--address", os.environ.get("RAY_ADDRESS", "auto")]
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ["PYTHONUNBUFFERED"] = "1"  # a log is read while it is written
    launch = Launch(spec, results)
    try:
        _start_or_find(launch, command, path)
        return launch.follow()
    except KeyboardInterrupt:
        tell("follows no longer; once started, the study goes on, and this command follows it")
        return INTERRUPTED


def _start_or_find(launch: Launch, command: Sequence[str], spec: Path) -> None:
    """See that a study runs.

    Raises:
        Refused: It runs with other arguments.
    """
    lock = launch.patient_lock()
    if lock is not None:
        digest = hashlib.sha256(spec.read_bytes()).hexdigest()[:12]
        tell(f"starts {spec} (sha256 {digest}); log {launch.log}")
        launch.start(command, lock)
        return
    running = json.loads(launch.started.read_text())["command"]
    if running != command:
        raise Refused(
            f"{launch.spec} runs with other arguments: {' '.join(running)}. Give the same to "
            f"follow it, or end it first: launch.py stop {launch.spec} --results {launch.results}"
        )
    tell(f"follows {spec}, which runs; log {launch.log}")


def stop(arguments: Sequence[str]) -> int:
    """Let a study save its work and leave; print its last lines."""
    spec, results = _named(arguments)
    launch = Launch(spec, results)
    if not launch.runs():
        tell(f"{spec} with --results {results} does not run here")
        return 0
    os.kill(int(launch.pid.read_text()), signal.SIGTERM)
    launch.follow()
    return 0


def drive(folder: Path) -> int:
    """Run what was started until it ends, and note how; in the detached process."""
    (folder / "pid").write_text(str(os.getpid()))
    command = json.loads((folder / "started.json").read_text())["command"]
    study = subprocess.Popen(command, close_fds=False)  # it keeps the lock if this process dies
    signal.signal(signal.SIGTERM, lambda *_: study.terminate())
    code = study.wait()
    aside = folder / "exit.new"
    aside.write_text(str(code if code >= 0 else 128 - code))
    aside.replace(folder / "exit")
    return code


def find_study() -> str:
    """The command that is installed with this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("study")
    found = str(beside) if beside.is_file() else shutil.which("study")
    if found is None:
        raise Refused(
            f"no command `study` beside {sys.executable} or on the PATH of this login shell; "
            "install it on every host (setup_commands of infra/ray/on-premise.yaml)"
        )
    return found


def find_spec(spec: str) -> Path:
    """The spec file on this head."""
    places = (Path.home(), Path.home() / "study")
    for place in places:
        if (place / spec).is_file():
            return place / spec
    raise Refused(
        f"{spec}: no such file on {os.uname().nodename}, below {places[0]} or {places[1]}; "
        "send it with `ray rsync-up CLUSTER.yaml`, which copies all file_mounts to the head"
    )


def tell(message: str) -> None:
    print(f"launch.py: {message}", flush=True)


def _named(arguments: Sequence[str]) -> tuple[str, str]:
    """The spec and the place of results in arguments of `study run`."""
    parser = argparse.ArgumentParser(prog="launch.py run|stop", allow_abbrev=False)
    parser.add_argument("spec")
    for option in ("--results", "--data", "--address", "--tracking-uri", "--set"):
        parser.add_argument(option, default="results")
    known, _ = parser.parse_known_args(arguments)
    return known.spec, known.results


def main(arguments: Sequence[str]) -> int:
    os.umask(0o077)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else BAD_USAGE
    command, *rest = arguments
    if command == "_drive":
        return drive(Path(rest[0]))
    try:
        if command == "run":
            return run(rest)
        if command == "stop":
            return stop(rest)
        study = find_study()
        os.execv(study, [study, *arguments])
    except Refused as refused:
        print(f"launch.py: {refused}", file=sys.stderr)
        return BAD_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
