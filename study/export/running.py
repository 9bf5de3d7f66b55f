"""Networks run over series: basins and days in parts, on all cores, one answer for all ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from study.export.backends import Network, State
from study.export.manifest import Simulation
from study.export.state import Carried
from study.platform import cores

CHUNK_DAYS = 128
"""Days fed at once: few, so that they stay in the processor's cache."""
SHARD_BASINS = 256
"""Basins fed at once."""
WINDOWS = 16
"""Windows of one basin fed at once."""


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What the networks are fed with: physical units, warm-up first."""

    forcing: np.ndarray
    """(basin, day, input) float32"""
    attributes: np.ndarray
    """(basin, attribute) float64"""
    baseline: np.ndarray | None
    """(basin, day) float32"""

    def part(self, rows: slice, days: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        baseline = None if self.baseline is None else self.baseline[rows, days]
        return self.forcing[rows, days], self.attributes[rows], baseline


def run(
    networks: Sequence[Network],
    fed: Fed,
    simulation: Simulation,
    hidden_size: int,
    state: Carried | None,
    skipped: int,
) -> tuple[np.ndarray, list[State]]:
    """Run all members over all basins.

    Args:
        networks: The members.
        fed: What they are fed with.
        simulation: How.
        hidden_size: Of the networks.
        state: To begin with; None for an empty one.
        skipped: Days at the beginning that are fed and not returned.

    Returns:
        (member, basin, day) float32 mm/d, and for each member the state after the last day.
    """
    num_basins, num_days = fed.forcing.shape[:2]
    qsim = np.empty((len(networks), num_basins, num_days - skipped), np.float32)
    zeros = np.zeros((num_basins, hidden_size), np.float32)
    left: list[State] = [(zeros.copy(), zeros.copy()) for _ in networks]

    def shard(member: int, rows: slice) -> None:
        network, (h, c) = networks[member], left[member]
        if simulation.mode == "windows":
            qsim[member, rows] = _windows(network, fed, rows, simulation, hidden_size)
            return
        carried = (zeros, zeros) if state is None else (state.hidden[member], state.cell[member])
        y, (h[rows], c[rows]) = _continuous(
            network, fed, rows, (carried[0][rows], carried[1][rows])
        )
        qsim[member, rows] = y[:, skipped:]

    size = SHARD_BASINS if simulation.mode == "continuous" else SHARD_BASINS // WINDOWS
    workers = cores()
    size = max(1, min(size, -(-num_basins // workers)))
    tasks = [
        (m, slice(i, i + size)) for m in range(len(networks)) for i in range(0, num_basins, size)
    ]
    with ThreadPoolExecutor(workers if networks[0].concurrent else 1) as pool:
        for _ in pool.map(lambda task: shard(*task), tasks):
            pass
    return qsim, left


def _continuous(network: Network, fed: Fed, rows: slice, state: State) -> tuple[np.ndarray, State]:
    pieces = []
    for start in range(0, fed.forcing.shape[1], CHUNK_DAYS):
        forcing, attributes, baseline = fed.part(rows, slice(start, start + CHUNK_DAYS))
        qsim, state = network.advance(forcing, attributes, baseline, state)
        pieces.append(qsim)
    return np.concatenate(pieces, axis=1), state


def _windows(
    network: Network, fed: Fed, rows: slice, simulation: Simulation, hidden_size: int
) -> np.ndarray:
    """Every window from an empty state and its own warm-up, many windows at once."""
    warmup, targets = simulation.warmup, simulation.targets_per_window
    num_days = fed.forcing.shape[1]
    forcing, attributes, baseline = fed.part(rows, slice(None))
    qsim = np.empty((len(forcing), num_days - warmup), np.float32)
    for starts, length in _window_groups(warmup, targets, num_days):
        # (basin, window, day)
        days = starts[:, None] + np.arange(-warmup, length)
        shape = (len(forcing) * len(starts), warmup + length)
        zeros = np.zeros((shape[0], hidden_size), np.float32)
        y, _ = network.advance(
            forcing[:, days].reshape(*shape, -1),
            np.repeat(attributes, len(starts), axis=0),
            None if baseline is None else baseline[:, days].reshape(shape),
            (zeros, zeros),
        )
        places = days[:, warmup:] - warmup
        qsim[:, places] = y[:, warmup:].reshape(len(forcing), len(starts), length)
    return qsim


def _window_groups(warmup: int, targets: int, num_days: int) -> Iterator[tuple[np.ndarray, int]]:
    """First scored days of windows of one length, some at a time; the last may be shorter."""
    starts = np.arange(warmup, num_days, targets)
    whole = starts[starts + targets <= num_days]
    for i in range(0, len(whole), WINDOWS):
        yield whole[i : i + WINDOWS], targets
    for start in starts[len(whole) :]:
        yield np.array([start]), num_days - int(start)
