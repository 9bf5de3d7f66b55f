"""Reader of the SAC-SMA output that comes with CAMELS-US (Newman et al. 2015,
doi 10.5194/hess-19-209-2015): a conceptual model, calibrated basin by basin, to compare with.

    model_output/flow_timeseries/<product>/[<huc>/]<id>_<seed>_model_output.txt

Each product is the forcing that drove the model, each seed a calibration of its own. Not every
basin has output, and no study needs it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.data.text import read_lines, read_table, to_days
from study.errors import DataError

FOLDER = Path("model_output", "flow_timeseries")
ENDING = "_model_output.txt"
COLUMNS = ("yr", "mnth", "dy", "mod_run")
"""Columns that are read, in lower case."""
SOURCE = (
    "SAC-SMA with Snow-17 of CAMELS-US, calibrated on years that its authors chose, "
    "mean over the seeds of the calibration"
)


@dataclass(frozen=True, kw_only=True)
class OutputFiles:
    """Where a basin's SAC-SMA output is."""

    product: str
    """Forcing that drove the model."""
    paths: tuple[Path, ...]
    """A file a seed of the calibration; at least one."""


def find_output(root: Path, basins: Sequence[str], forcing: str) -> dict[str, OutputFiles]:
    """Gauge id -> its SAC-SMA output; basins that have none are left out.

    All are of one product: the one that a store's forcing belongs to (`maurer` for
    `maurer_extended`) if it has output of any of the basins, else the first by name that has.

    Args:
        root: The CAMELS-US folder.
        basins: Gauge ids.
        forcing: The store's forcing product.

    Raises:
        DataError: A seed of a basin has more than one file.
    """
    folders = sorted(path for path in (root / FOLDER).glob("*") if path.is_dir())
    found = {folder.name: _index(folder, set(basins)) for folder in folders}
    there = [product for product, files in found.items() if files]
    own = (forcing, forcing.partition("_")[0])
    product = next((name for name in (*own, *there) if name in there), None)
    if product is None:
        return {}
    return {b: OutputFiles(product=product, paths=p) for b, p in found[product].items()}


def _index(folder: Path, basins: set[str]) -> dict[str, tuple[Path, ...]]:
    """Id -> its files, one a seed, in the folder or in a per-HUC folder below it."""
    index: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted([*folder.glob(f"*{ENDING}"), *folder.glob(f"*/*{ENDING}")]):
        gauge_id, _, seed = path.name.removesuffix(ENDING).partition("_")
        if gauge_id not in basins:
            continue
        if seed in index[gauge_id]:
            raise DataError(
                f"basin {gauge_id}: seed {seed} of its SAC-SMA output has 2 files "
                f"({index[gauge_id][seed]}, {path}); remove one of them"
            )
        index[gauge_id][seed] = path
    return {gauge_id: tuple(by_seed.values()) for gauge_id, by_seed in index.items()}


def read_output(files: OutputFiles) -> tuple[np.ndarray, np.ndarray]:
    """A basin's simulated discharge, mean over its seeds.

    Returns:
        (day,) datetime64[D], without gaps; (day,) float64 mm/d, NaN where a seed has none.

    Raises:
        DataError: A file cannot be read, or has other days than the basin's first.
    """
    (first, days, total), *others = [(path, *_read_file(path)) for path in files.paths]
    for path, own_days, run in others:
        if not np.array_equal(own_days, days):
            raise DataError(
                f"{path}: has the days {own_days[0]} to {own_days[-1]}, but {first.name} has "
                f"{days[0]} to {days[-1]}; all seeds of a basin have the same days, so one of the "
                "files was cut off: fetch both again, or remove the shorter"
            )
        total = total + run
    return days, total / len(files.paths)


def _read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Days; (day,) float64 mm/d, NaN where negative, which stands for missing."""
    lines = read_lines(path, "SAC-SMA output")
    names = lines[0].lower().split()
    for name in COLUMNS:
        if names.count(name) != 1:
            what = "repeats" if name in names else "lacks"
            raise DataError(
                f"{path}: line 1 {what} the column `{name.upper()}`; it has "
                f"{', '.join(lines[0].split())[:200]}; restore the file from the CAMELS-US archive"
            )
    kinds = {name: float if name in COLUMNS else str for name in names}
    table = read_table(path, lines[1:], kinds, first_line=2)
    days = to_days(path, table["yr"], table["mnth"], table["dy"], first_line=2)
    return days, np.where(table["mod_run"] < 0, np.nan, table["mod_run"])
