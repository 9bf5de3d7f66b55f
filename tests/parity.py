"""A table of how far numbers are from those of others, printed below the test results."""

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
    """Largest."""
    allowed: str


ROWS = pytest.StashKey[list[Row]]()


class Parity:
    """Compares with a peer and remembers the result."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def check(
        self, peer: str, quantity: str, ours: ArrayLike, theirs: ArrayLike, *, tolerance: float
    ) -> None:
        """Fail unless all values are finite and agree within the tolerance, relative to the largest
        value where that exceeds 1."""
        ours, theirs = _same_shape(ours, theirs)
        scale = max(1.0, float(np.abs(theirs).max()))
        difference = float(np.abs(ours - theirs).max()) / scale
        self._note(peer, quantity, difference, f"{tolerance:.0e}")
        assert difference <= tolerance, f"{quantity} differs from {peer} by {difference:.2g}"

    def check_flow(
        self,
        peer: str,
        quantity: str,
        ours: ArrayLike,
        theirs: ArrayLike,
        *,
        mm_per_day: float,
        share: float = 0.0,
        beyond: float = 0.0,
    ) -> None:
        """Fail unless discharge agrees within so many mm/d and this share of the flow every day.

        Args:
            beyond: Share of the days that may lie beyond this, by no more than five times, for
                kernels that round otherwise.
        """
        ours, theirs = _same_shape(ours, theirs)
        apart = np.abs(ours - theirs)
        times = apart / (mm_per_day + share * np.abs(theirs))
        allowed = f"{mm_per_day:.0e} mm/d" + (f" + {share:.0e} of the flow" if share else "")
        if beyond:
            allowed += f" on {1 - beyond:.1%} of days ({(times > 1).sum()} of {times.size} beyond)"
        self._note(peer, quantity, float(apart.max()), allowed)
        worst = float(times.max())
        assert worst <= (5 if beyond else 1), f"{quantity}: {worst:.3g} times {allowed}"
        assert (times > 1).mean() <= beyond, f"{quantity}: too many days are beyond {allowed}"

    def _note(self, peer: str, quantity: str, difference: float, allowed: str) -> None:
        self._rows.append(Row(peer=peer, quantity=quantity, difference=difference, allowed=allowed))


def _same_shape(ours: ArrayLike, theirs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return ours, theirs


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
            f"{row.peer:32} {row.quantity:44} {row.difference:8.1e}, allowed {row.allowed}"
        )
