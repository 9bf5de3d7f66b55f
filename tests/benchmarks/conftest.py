"""The table of measurements: printed at the end and written to `bench.json`.

A target that is missed is reported, never an error: whether a machine was quiet enough is for the
reader to judge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    ours: float
    reference: float
    """What ours is measured against: another program, or the limit that was set."""
    ratio: float
    target: float
    """The largest ratio that is good enough."""
    met: bool

    def __str__(self) -> str:
        values = f"{self.ours:9.4g} {self.reference:9.4g} {self.ratio:6.2f} {self.target:6.2f}"
        return f"{self.name:52} {values}  {'met' if self.met else 'MISSED'}"


ROWS = pytest.StashKey[list[Row]]()


class Bench:
    """Takes the measurements."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def add(
        self, name: str, *, ours: float, reference: float, target: float, ratio: float | None = None
    ) -> None:
        """Note one row; the ratio is that of the two values unless pairs gave a better one."""
        ratio = ours / reference if ratio is None else ratio
        row = Row(
            name=name,
            ours=ours,
            reference=reference,
            ratio=ratio,
            target=target,
            met=ratio <= target,
        )
        self._rows.append(row)
        print(f"\n{row}", flush=True)  # hours may pass before the table

    def limit(self, name: str, *, ours: float, limit: float) -> None:
        """Note a row whose reference is a limit."""
        self.add(name, ours=ours, reference=limit, target=1.0)


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of this thread: what other programs take meanwhile does not count."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.fixture
def bench(pytestconfig: pytest.Config) -> Bench:
    return Bench(pytestconfig.stash.setdefault(ROWS, []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("benchmarks")
    terminalreporter.write_line(f"{'':52} {'ours':>9} {'reference':>9} {'ratio':>6} {'target':>6}")
    for row in rows:
        terminalreporter.write_line(str(row))
    out = config.rootpath / "bench.json"
    out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    terminalreporter.write_line(f"written to {out}")
