"""A table of how far we are from our peers, printed below the test results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True)
class Row:
    peer: str
    quantity: str
    difference: float
    """Largest, relative to the largest value where that exceeds 1."""
    tolerance: float


ROWS = pytest.StashKey[list[Row]]()


class Parity:
    """Compares with a peer and remembers the result."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def check(
        self, peer: str, quantity: str, ours: ArrayLike, theirs: ArrayLike, *, tolerance: float
    ) -> None:
        """Fail unless all values are finite and agree within the tolerance."""
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert ours.shape == theirs.shape
        scale = max(1.0, float(np.abs(theirs).max()))
        difference = float(np.abs(ours - theirs).max()) / scale
        self._rows.append(
            Row(peer=peer, quantity=quantity, difference=difference, tolerance=tolerance)
        )
        assert difference <= tolerance, f"{quantity} differs from {peer} by {difference:.2g}"


@pytest.fixture
def parity(pytestconfig: pytest.Config) -> Parity:
    return Parity(pytestconfig.stash.setdefault(ROWS, []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("parity")
    for row in rows:
        terminalreporter.write_line(
            f"{row.peer:32} {row.quantity:24} {row.difference:8.1e} of {row.tolerance:.0e} allowed"
        )
