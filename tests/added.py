"""A group `shyft` made by hand: for tests of what uses it, without Shyft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from study.data.features import SHYFT_FEATURES
from study.data.groups import write_group
from study.data.store import digests_of, open_store, write_store

TRAIN = "1981-10-01:1983-09-30"
"""The training period of the small study."""


def add_by_hand(source: Path, out: Path, **account: Any) -> Path:
    """A copy of a store with series as Shyft could give them: a leaky bucket and shares of it.

    Args:
        source: A store.
        out: The copy.
        account: What the account says otherwise than that all basins were calibrated on the
            small study's training period.
    """
    base = open_store(source).load()
    write_store(base, out)
    stored, discharge = np.zeros(base.sizes["basin"]), np.zeros(base["prcp"].shape)
    for day in range(base.sizes["time"]):
        stored = 0.9 * stored + base["prcp"].values[:, day]
        discharge[:, day] = 0.06 * stored
    group = xr.Dataset(coords={"basin": base["basin"].values, "time": base["time"].values})
    for number, (name, units) in enumerate(SHYFT_FEATURES.items()):
        most = 1 if units == "1" else None
        values = (discharge / (1 + number)).clip(max=most).astype(np.float32)
        group[name] = ("basin", "time"), values, {"units": units, "group": "shyft"}
    about = {
        "stack": "pt_st_k",
        "crossfit": True,
        "train_period": TRAIN,
        "calibrated": [str(b) for b in base["basin"].values],
        "failed": {},
        "parameters": {},
    }
    write_group(out, "shyft", group, digests_of(group)["shyft"], about | account)
    return out
