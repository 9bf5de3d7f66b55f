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
        self._rows.append(
            Row(
                name=name,
                ours=ours,
                reference=reference,
                ratio=ratio,
                target=target,
                met=ratio <= target,
            )
        )

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
        terminalreporter.write_line(
            f"{row.name:52} {row.ours:9.4g} {row.reference:9.4g} {row.ratio:6.2f} {row.target:6.2f}"
            f"  {'met' if row.met else 'MISSED'}"
        )
    out = config.rootpath / "bench.json"
    out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    terminalreporter.write_line(f"written to {out}")
