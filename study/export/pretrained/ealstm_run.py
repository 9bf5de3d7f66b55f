"""Runs of the code released with Kratzert et al. (2019), doi 10.5194/hess-23-5089-2019.

A run is a folder with `cfg.json`, `model_epochN.pt` and `attributes.db`. The cells keep their gates
side by side in matrices that are multiplied from the right:

    EA-LSTM   lstm.weight_ih [D, 3H], weight_hh [H, 3H], bias [3H]   gates f, o, g
              lstm.weight_sh [S, H], bias_s [H]                      the input gate
    LSTM      lstm.weight_ih [D (+ S), 4H], weight_hh, bias          gates f, i, o, g

The scaling of inputs and discharge is not in the folder: it was one of the release's constants, of
Maurer forcing from 1999-10-01 to 2008-09-30 over the 531 basins. That of attributes is the mean and
sample standard deviation over the basins of the training, which are not in the folder either.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from study.data.licences import CAMELS_US_SOURCE, Origin
from study.errors import DataError
from study.export.manifest import InputEntry, Licence, Simulation
from study.export.pretrained.run import KNOWN_INPUTS, ImportedRun, make_manifest, read_weights, take
from study.spec.data import KRATZERT_2019

MADE_BY = "code release of Kratzert et al. 2019, doi 10.5194/hess-23-5089-2019"
FORCING = {
    "prcp": (3.17563234, 6.94344737),
    "srad": (372.01003929, 131.63560881),
    "tmax": (17.31934062, 10.86689718),
    "tmin": (3.97393362, 10.3940032),
    "vp": (924.98004197, 629.44576432),
}
"""Input -> mean and standard deviation, in the order the networks take them."""
PRODUCT, LEARNED_FROM = "maurer_extended", ("forcing", "attributes", "discharge")
ORIGIN = Origin(source=CAMELS_US_SOURCE, product=PRODUCT)
DISCHARGE = (1.49996196, 3.62443672)
PERIODS = {"train": ("train_start", "train_end"), "test": ("val_start", "val_end")}
"""The release calls its test period `val`."""


def read_run(folder: Path, basins: Sequence[str], epoch: int | None = None) -> ImportedRun:
    """Read a run.

    Args:
        folder: The run's.
        basins: Gauge ids it was trained on: the release's `data/basin_list.txt`.
        epoch: Which weights; the last if None.

    Raises:
        DataError: A file is missing or not what this release writes.
    """
    config = _config(folder)
    size = int(config["hidden_size"])
    loaded, epoch = read_weights(folder, epoch)
    table = pd.DataFrame(index=pd.Index(basins, name="gauge_id"))
    if not config["no_static"]:
        table = _attributes(folder / "attributes.db", basins)
    num_dynamic, num_static = len(FORCING), table.shape[1]
    if config["no_static"] or config["concat_static"]:
        model, weights = "lstm", _lstm(loaded, num_dynamic + num_static, size, folder)
    else:
        model, weights = "ealstm", _ealstm(loaded, num_dynamic, num_static, size, folder)
    means, stds = table.mean(), table.std(ddof=1)
    flat = [str(name) for name, std in stds.items() if not std > 0]
    if flat:
        raise DataError(f"{folder}: attribute `{flat[0]}` is the same in all basins of --basins")
    manifest = make_manifest(
        folder=folder,
        made_by=MADE_BY,
        epoch=epoch,
        model=model,
        hidden_size=size,
        simulation=Simulation(mode="windows", warmup=int(config["seq_length"]) - 1),
        training=config,
        dynamic=[
            InputEntry(name=n, units=KNOWN_INPUTS[n], source=PRODUCT, mean=m, std=s)
            for n, (m, s) in FORCING.items()
        ],
        static=[
            InputEntry(name=str(n), source="attributes.db", mean=mean, std=std,
                       low=table[str(n)].min(), high=table[str(n)].max())
            for (n, mean), std in zip(means.items(), stds, strict=True)
        ],
        target=InputEntry(name="qobs", units="mm/d", mean=DISCHARGE[0], std=DISCHARGE[1]),
        periods=_periods(config),
        basins=basins,
        licences=tuple(Licence(**vars(ORIGIN.licence(group))) for group in LEARNED_FROM),
    )  # fmt: skip
    return ImportedRun(manifest=manifest, weights=weights, attributes=table)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "cfg.json"
    needed = ("hidden_size", "no_static", "concat_static", "seq_length")
    try:
        config = json.loads(path.read_text())
        missing = [key for key in needed if key not in config]
        if missing:
            raise ValueError(f"it lacks `{missing[0]}`")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: is no configuration of the 2019 release ({error}); give the folder of a run"
        ) from None
    return {str(k): v for k, v in config.items() if not str(k).endswith(("_dir", "_root"))}


def _attributes(path: Path, basins: Sequence[str]) -> pd.DataFrame:
    """(basin, attribute) in the database's order of columns, which is that of the weights."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            table = pd.read_sql("SELECT * FROM basin_attributes", database, index_col="gauge_id")
    except (sqlite3.Error, pd.errors.DatabaseError, KeyError) as error:
        raise DataError(
            f"{path}: is no table of attributes of the 2019 release ({error}); the run's folder "
            "has one unless it was trained without attributes"
        ) from None
    absent = [b for b in basins if b not in table.index]
    if absent:
        raise DataError(f"{path}: has no basin {absent[0]} of --basins")
    names = [name for name in table if name in KRATZERT_2019]
    if len(names) < len(KRATZERT_2019):
        missing = sorted(set(KRATZERT_2019) - set(names))
        raise DataError(f"{path}: lacks the attribute `{missing[0]}` of the 27 published ones")
    # in the database's order of basins, too: a mean of floats depends on it
    chosen: pd.DataFrame = table.loc[table.index.isin(list(basins)), names].astype(np.float64)
    return chosen


def _lstm(loaded: Mapping[str, Tensor], inputs: int, size: int, folder: Path) -> dict[str, Tensor]:
    shapes = {
        "lstm.weight_ih": (inputs, 4 * size),
        "lstm.weight_hh": (size, 4 * size),
        "lstm.bias": (4 * size,),
        "fc.weight": (1, size),
        "fc.bias": (1,),
    }
    taken = take(loaded, shapes, folder)

    def gates(values: Tensor) -> Tensor:
        f, i, o, g = values.T.chunk(4)
        return torch.cat([i, f, g, o])

    return {
        "lstm.weight_ih_l0": gates(taken["lstm.weight_ih"]),
        "lstm.weight_hh_l0": gates(taken["lstm.weight_hh"]),
        "lstm.bias_ih_l0": gates(taken["lstm.bias"][None]).squeeze(1),
        "lstm.bias_hh_l0": torch.zeros(4 * size),
        "head.weight": taken["fc.weight"],
        "head.bias": taken["fc.bias"],
    }


def _ealstm(
    loaded: Mapping[str, Tensor], num_dynamic: int, num_static: int, size: int, folder: Path
) -> dict[str, Tensor]:
    shapes = {
        "lstm.weight_ih": (num_dynamic, 3 * size),
        "lstm.weight_hh": (size, 3 * size),
        "lstm.weight_sh": (num_static, size),
        "lstm.bias": (3 * size,),
        "lstm.bias_s": (size,),
        "fc.weight": (1, size),
        "fc.bias": (1,),
    }
    taken = take(loaded, shapes, folder)
    return {
        "weight_x": fog_to_fgo(taken["lstm.weight_ih"].T),
        "weight_h": fog_to_fgo(taken["lstm.weight_hh"].T),
        "bias": fog_to_fgo(taken["lstm.bias"]),
        "weight_s": taken["lstm.weight_sh"].T,
        "bias_s": taken["lstm.bias_s"],
        "head.weight": taken["fc.weight"],
        "head.bias": taken["fc.bias"],
    }


def fog_to_fgo(values: Tensor) -> Tensor:
    """Gates along the first axis, from the order f, o, g to this platform's f, g, o."""
    f, o, g = values.chunk(3)
    return torch.cat([f, g, o])


def _periods(config: Mapping[str, Any]) -> dict[str, str]:
    def day(key: str) -> str:
        return f"{pd.to_datetime(config[key], format='%d%m%Y'):%Y-%m-%d}"

    return {
        name: f"{day(first)}:{day(last)}"
        for name, (first, last) in PERIODS.items()
        if first in config and last in config
    }
