"""Draws synthetic basins before real ones: flow duration, regime, memory.

python -m tests.numerics.figure_synthetic CAMELS_US_ROOT OUT.png
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from study.data.store import build_camels_us
from study.data.synthetic import synthesize

from .signatures import EXCEEDANCE, LAGS, Signatures, signatures

REAL, SYNTHETIC = "0.7", "#0072b2"


def draw(real: Signatures, synthetic: Signatures, out: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    panels = (("duration", EXCEEDANCE), ("regime", range(1, 13)), ("memory", LAGS))
    for panel, (name, x) in zip(axes, panels, strict=True):
        for which, color, width in ((real, REAL, 1.6), (synthetic, SYNTHETIC, 0.7)):
            panel.plot(x, getattr(which, name).T, color=color, linewidth=width)
    label(axes)
    names = [f"{len(s.water)} {n}" for s, n in ((real, "real"), (synthetic, "synthetic"))]
    lines = [axes[0].lines[0], axes[0].lines[-1]]
    axes[0].legend(lines, [f"{name} basins" for name in names], frameon=False)
    figure.savefig(out, dpi=150)


def label(axes: list[Axes]) -> None:
    duration, regime, memory = axes
    duration.set(
        yscale="log", xlabel="exceeded on % of days", ylabel="flow / mean flow", ylim=(3e-3, 30)
    )
    regime.set(xlabel="month", ylabel="monthly mean / mean flow", xticks=[1, 4, 7, 10])
    memory.set(xscale="log", xlabel="lag (d)", ylabel="autocorrelation", ylim=(-0.2, 1))
    memory.set_xticks([1, 3, 10, 30, 90], ["1", "3", "10", "30", "90"])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)


def main(root: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthesize(folder / "camels", basins=24, years=15)
        synthetic = signatures(build_camels_us(folder / "camels", folder / "synthetic.zarr"))
        real = signatures(build_camels_us(root, folder / "real.zarr"))
    draw(real, synthetic, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
