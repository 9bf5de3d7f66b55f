"""A tiny example that goes with every bundle: invented forcing, and what the networks make of it.

It tells a forecaster what a forcing file looks like, and anybody whether the networks still say
what they said when they were exported, on this machine and by this backend.
"""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from study.data.features import INPUT_LIMITS
from study.export.bundle import Bundle
from study.export.forcing import Forcing, read_forcing
from study.export.manifest import EXAMPLE, EXPECTED, InputEntry, Manifest
from study.export.predict import predict

BASINS = 2
PREDICTED_DAYS = 5
FIRST_DAY = "2000-10-01"
YEAR = 365.25
ALLOWED = (5e-5, 5e-6)
"""mm/d and share of the flow. Backends that add up in another order differ by what float32 rounds,
which on one day in ten thousand is more than 1e-5 mm/d."""


def example_forcing(manifest: Manifest, known: pd.DataFrame) -> pd.DataFrame:
    """Forcing that looks like the year of two basins: a season about each input's mean, and noise.

    Basins that the bundle knows bring no attributes; where it knows none, invented ones stand on
    every line, as those of a new basin would.
    """
    draws = np.random.default_rng(0)
    num_days = manifest.simulation.warmup + PREDICTED_DAYS
    days = pd.date_range(FIRST_DAY, periods=num_days)
    names = list(known.index[:BASINS]) or [f"example-{i}" for i in range(BASINS)]
    tables = []
    for name in names:
        table = pd.DataFrame({"gauge_id": name, "date": days.strftime("%Y-%m-%d")})
        for entry in manifest.daily.values():
            season = np.sin(2 * np.pi * (np.arange(num_days) / YEAR + draws.random()))
            table[entry.name] = _invented(entry, 0.7 * season + draws.normal(0, 0.3, num_days))
        if name not in known.index:
            for entry in manifest.static_inputs:
                table[entry.name] = _invented(entry, draws.normal(0, 0.5, 1))[0]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _invented(entry: InputEntry, z: np.ndarray) -> np.ndarray:
    low, high = INPUT_LIMITS.get(entry.name, (-np.inf, np.inf))
    values = np.clip(entry.mean + entry.std * z, low, high)
    return np.array([float(f"{v:.5g}") for v in values])


def expected_discharge(bundle: Bundle, backend: str) -> pd.DataFrame:
    """What a backend makes of a bundle's example: `gauge_id`, `date`, `qsim`, `qsim_0`, ..."""
    data = predict(bundle, _forcing(bundle), backend=backend).data
    table = data["qsim"].to_series().rename_axis(["gauge_id", "date"]).reset_index()
    table["date"] = table["date"].dt.strftime("%Y-%m-%d")
    for member in data["member"].values:
        table[f"qsim_{member}"] = data["qsim_members"].values[member].ravel()
    return table


def largest_difference(bundle: Bundle, backend: str) -> tuple[float, float]:
    """How far a backend is from what the bundle expects: mm/d, and as a share of `ALLOWED`."""
    expected = pd.read_csv(io.BytesIO(bundle.files[EXPECTED]))
    columns = [c for c in expected if str(c).startswith("qsim")]
    found = expected_discharge(bundle, backend)
    return difference(found[columns].to_numpy(), expected[columns].to_numpy())


def difference(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Largest difference in mm/d, and the largest as a share of `ALLOWED`."""
    apart = np.abs(found.astype(np.float64) - expected)
    allowed = ALLOWED[0] + ALLOWED[1] * np.abs(expected)
    return float(apart.max()), float((apart / allowed).max())


def as_csv(table: pd.DataFrame) -> bytes:
    """Numbers as short as they can be read back from."""
    return table.to_csv(index=False).encode()


def _forcing(bundle: Bundle) -> Forcing:
    with TemporaryDirectory() as folder:
        path = Path(folder, EXAMPLE)
        path.write_bytes(bundle.files[EXAMPLE])
        return read_forcing(path)
