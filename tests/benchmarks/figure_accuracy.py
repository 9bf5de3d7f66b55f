"""Draws the median NSE over the time that it took.

    python -m tests.benchmarks.figure_accuracy accuracy.png \\
        'LSTM, ten minutes=lstm.jsonl' 'neuralhydrology, published=peer.jsonl'

A file holds what `regional.py` or `peer_training.py` printed: a line of JSON a score. A file with
one line becomes a point. Processor minutes are what a machine with other work to do can tell; on a
free one, `--time wall` is the same divided by the cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

SECONDS = {"processor": "processor_seconds", "wall": "seconds"}


def read(path: Path, seconds: str) -> tuple[list[float], list[float]]:
    """Minutes and scores."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[seconds] / 60 for line in lines], [line["nse"] for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("series", nargs="+", metavar="LABEL=FILE")
    parser.add_argument("--lowest", type=float, default=0.3)
    parser.add_argument("--time", choices=list(SECONDS), default="processor")
    given = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for series in given.series:
        label, _, path = series.rpartition("=")
        axes.plot(*read(Path(path), SECONDS[given.time]), marker="o", markersize=4, label=label)
    axes.set(xlabel=f"{given.time} minutes", ylabel="median NSE of the validation period")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_ylim(bottom=given.lowest)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.savefig(given.out, dpi=150)


if __name__ == "__main__":
    main()
