"""Runs stages of checks, some side by side, and tells of each in a line; needs Python alone.

A phase is a list of lanes, which run side by side where there are cores for it; a lane is a list of
stages, one after the other. The first stage that fails ends all of it: the others are stopped, the
end of its output is printed, and so is a table of all that ran.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 200
"""Of a failed stage's output that are printed; the whole is in its file."""
GRACE_SECONDS = 20
"""After which a stage that was asked to stop is killed."""
STOPPED = -1000
"""Exit status of a stage that another one's failure ended."""
COUNTED = re.compile(r"=+ (.*(?:passed|failed|error).*) in [\d.]+s.*=+")
"""pytest's closing line."""


@dataclass(frozen=True)
class Stage:
    """A command that must succeed."""

    name: str
    command: str
    """Of a shell."""


Lane = Sequence[Stage]
Phase = Sequence[Lane]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A stage that ran."""

    stage: Stage
    seconds: float
    code: int
    """Its exit status, or `STOPPED`."""
    counted: str
    """What pytest counted, if the stage is tests."""

    @property
    def outcome(self) -> str:
        return "ok" if self.code == 0 else "stopped" if self.code == STOPPED else "FAILED"

    def line(self, width: int = 0) -> str:
        """What is said of it; names are padded to the width."""
        line = f"{self.stage.name:{width}} {self.seconds:7.0f} s  {self.outcome:7}  {self.counted}"
        return line.rstrip()


class Run:
    """Stages in work, and those that have ended."""

    def __init__(self, logs: Path, say: Callable[[str], None] = print):
        self.ended: list[Ended] = []
        self._logs, self._say = logs, say
        self._lock = threading.RLock()  # a signal may come while this thread has it
        self._living: dict[Stage, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._started = time.monotonic()
        logs.mkdir(parents=True, exist_ok=True)

    def phase(self, lanes: Phase, *, side_by_side: bool) -> bool:
        """Run a phase; returns whether all of it succeeded."""
        if side_by_side:
            threads = [threading.Thread(target=self._lane, args=(lane,)) for lane in lanes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for lane in lanes:
                self._lane(lane)
        return not self._stopping

    def stop(self) -> None:
        """End what is in work, with all that it has started."""
        with self._lock:
            self._stopping = True
            living = list(self._living.values())
        for process in living:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        for process in living:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            _signal(process, signal.SIGKILL)

    def log_of(self, stage: Stage) -> Path:
        return self._logs / f"{stage.name.replace(' ', '-')}.log"

    def table(self) -> str:
        """All that ran, in order of their ends."""
        width = max((len(e.stage.name) for e in self.ended), default=0)
        lines = [e.line(width) for e in self.ended]
        total = time.monotonic() - self._started
        return "\n".join([*lines, f"{'in all':{width}} {total:7.0f} s"])

    def _lane(self, stages: Lane) -> None:
        for stage in stages:
            ended = self._stage(stage)
            if ended is None or ended.code:
                return

    def _stage(self, stage: Stage) -> Ended | None:
        started = time.monotonic()
        with self._lock, self.log_of(stage).open("wb") as log:
            if self._stopping:
                return None
            process = subprocess.Popen(
                ["bash", "-c", stage.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._living[stage] = process
        code = process.wait()
        text = self.log_of(stage).read_text(errors="replace")
        with self._lock:
            del self._living[stage]
            ended = Ended(
                stage=stage,
                seconds=time.monotonic() - started,
                code=STOPPED if self._stopping and code else code,
                counted=", ".join(COUNTED.findall(text)),
            )
            self.ended.append(ended)
            self._say(ended.line())
        if ended.outcome == "FAILED":
            self._tell(ended, text)
            self.stop()
        return ended

    def _tell(self, ended: Ended, text: str) -> None:
        tail = "\n".join(text.splitlines()[-TAIL_LINES:])
        stage = ended.stage
        self._say(f"\n{stage.name}: `{stage.command}` ended with {ended.code}\n{tail}\n")


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and all that stayed in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def run(phases: Mapping[str, Phase], logs: Path, chosen: Sequence[str] = ()) -> int:
    """Run phases in order, or those chosen by name; returns the exit status."""
    work = Run(logs, lambda text: print(text, flush=True))
    signal.signal(signal.SIGTERM, lambda *_: (work.stop(), sys.exit(143)))
    succeeded = True
    for name in chosen or phases:
        print(f"\n== {name}", flush=True)
        succeeded = work.phase(phases[name], side_by_side=cores() > 1)
        if not succeeded:
            break
    print(f"\n{work.table()}", flush=True)
    return 0 if succeeded else 1
