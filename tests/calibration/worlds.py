"""Invented score tables of which the truth is known: seeds, basins and regions as in real studies.

The sizes follow tables of finished studies (NSE of the test decade, 29 basins, 6 seeds an arm):
paired differences scatter between basins with a robust standard deviation of 0.025 to 0.07 and
heavy tails, a seed moves all basins of an arm by 0.002 to 0.01 and each of them by 0.01 to 0.04.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SAMPLE = (3, 1, 1, 1, 1, 1, 1, 2, 1, 2, 1, 1, 1, 2, 1, 2, 4, 3)
"""Basins in each of the 18 regions: 29 of all CAMELS-US."""
BENCHMARK = (25, 54, 62, 24, 24, 18, 30, 16, 10, 48, 20, 26, 12, 15, 14, 6, 80, 47)
"""531 basins; the regions' sizes are about those of the field's benchmark."""
TAIL = 3
"""Degrees of freedom of Student's t, by which basins differ."""


@dataclass(frozen=True, kw_only=True)
class World:
    """How two arms differ, and by how much by chance. Standard deviations in NSE."""

    sizes: tuple[int, ...] = SAMPLE
    difference: float = 0.0
    """Of the typical basin."""
    region: float = 0.02
    """Between regions, of the difference."""
    basin: float = 0.04
    """Between basins of a region, of the difference."""
    shape: Literal["heavy tails", "skewed"] = "heavy tails"
    shift: float = 0.007
    """Between seeds: all basins move together."""
    regional_shift: float = 0.005
    """Between seeds: the basins of a region move together."""
    cell: float = 0.02
    """Between seeds: of each basin alone; typical basin, some have three times as much."""

    @property
    def regions(self) -> npt.NDArray[np.str_]:
        """(basin,)"""
        return np.repeat([f"{r:02d}" for r in range(len(self.sizes))], self.sizes)

    @property
    def truth(self) -> float:
        """Median over the population of basins of the expected difference."""
        if self.shape == "heavy tails":  # symmetric about the typical basin
            return self.difference
        draws = np.random.default_rng(0)
        many = 2_000_000
        effects = self.region * draws.standard_normal(many) + self._between_basins(draws, many)
        return self.difference + float(np.median(effects))

    def draw(self, draws: np.random.Generator, seeds: int) -> tuple[Floats, Floats]:
        """One study: `(seed, basin)` scores of both arms."""
        region = np.repeat(np.arange(len(self.sizes)), self.sizes)
        level = 0.7 + 0.15 * draws.standard_normal(region.size)
        effect = self.difference + self._between_basins(draws, region.size)
        effect += self.region * draws.standard_normal(len(self.sizes))[region]
        cell = self.cell * np.exp(0.6 * draws.standard_normal(region.size))
        return tuple(
            self._arm(draws, seeds, mean, cell, region) for mean in (level + effect, level)
        )  # type: ignore[return-value]

    def _arm(
        self,
        draws: np.random.Generator,
        seeds: int,
        mean: Floats,
        cell: Floats,
        region: npt.NDArray[np.intp],
    ) -> Floats:
        regional = draws.standard_normal((seeds, len(self.sizes)))[:, region]
        noise = self.shift * draws.standard_normal((seeds, 1)) + self.regional_shift * regional
        return np.asarray(mean + noise + cell * draws.standard_normal((seeds, mean.size)))

    def _between_basins(self, draws: np.random.Generator, number: int) -> Floats:
        if self.shape == "heavy tails":
            return self.basin * draws.standard_t(TAIL, number)
        return self.basin * draws.exponential(1.0, number)
