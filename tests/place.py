"""Studies as a user runs them: by the command line, in a results folder, with processes of Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.experiment.eventlog import EventLog
from study.experiment.storage import Storage, study_storage

PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", 150))  # more on a busy machine


@dataclass(frozen=True, kw_only=True)
class Place:
    """A results folder and the command that works in it."""

    results: Path | str
    """A folder, or `s3://bucket/prefix`."""
    spec: Path
    store: Path | str
    tracking_uri: str | None = None
    address: str | None = None

    def command(self, *settings: str) -> list[str]:
        return [
            *(sys.executable, "-m", "study", "run", str(self.spec), "--data", str(self.store)),
            *("--results", str(self.results)),
            *(("--tracking-uri", self.tracking_uri) if self.tracking_uri else ()),
            *(("--address", self.address) if self.address else ()),
            *(word for setting in settings for word in ("--set", setting)),
        ]

    def run(self, *settings: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*settings)
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def storage(self) -> Storage:
        return study_storage("small", str(self.results))

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        return [e for e in EventLog(self.storage).events if kind in (None, e["event"])]


def facts(place: Place) -> dict[str, Any]:
    """What was decided and found, without times, order and attempts."""
    decided = {(e["arm"], e["cohort"], e["rung"]): e["go"] for e in place.events("decided")}
    return {
        "decided": decided,
        "selected": {e["arm"]: (e["candidates"], e["trial"]) for e in place.events("selected")},
        "hyperparameters": {e["key"]: e["hyperparameters"] for e in place.events("asked")},
        "scores": {
            (e["key"], e["epoch"]): (e["loss"], e.get("validation"))
            for e in place.events("reported")
        },
        "test": {e["key"]: e["scores"] for e in place.events("evaluated")},
        "files": {
            key: place.storage.read(key)
            for part in ("trials/", "predictions/")
            for key in place.storage.keys(part)
        },
    }


def wait_until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def ray_processes() -> dict[int, str]:
    """Living Ray processes of this test run: they hold files in its private temporary folder.

    Their environment would say so too, but Ray writes a worker's title over it.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if "ray" not in name or "pytest" in name or " -m study " in name:
                continue
            held = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(f"{os.environ['RAY_TMPDIR']}/ray/") for file in held):
            found[int(process.name)] = name
    return found
