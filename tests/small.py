"""Studies and training data that are as small as they can be."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.scaling import Scaler
from study.spec import StudySpec, TrainingSpec, parse_spec

ATTRIBUTES = ("p_mean", "frac_snow", "area_gages2")
FORCING = ("prcp", "tmax", "srad")


def small_content(**changes: Any) -> dict[str, Any]:
    """A study of two arms on the synthetic basins, as plain data.

    Args:
        changes: Dotted keys with `__` for the dot (`search__cohorts=1`) and their values.
    """
    content: dict[str, Any] = {
        "name": "small",
        "data": {
            "forcing": list(FORCING),
            "attributes": list(ATTRIBUTES),
            "periods": {
                "train": "1981-10-01:1983-09-30",
                "validation": "1983-10-01:1985-09-30",
                "test": "1985-10-01:1988-09-30",
            },
        },
        "factors": {"model": ["lstm"], "snow": ["off", "observed"]},
        "training": {
            "epochs": 4,
            "warmup": 20,
            "targets_per_window": 100,
            "batch_size": 8,
            "hidden_size": 4,
        },
        "search": {
            "space": {
                "learning_rate": {"low": 0.003, "high": 0.03, "log": True},
                "dropout": {"low": 0.0, "high": 0.5},
            },
            "cohorts": 2,
            "cohort_size": 4,
            "rungs": [1, 2],
            "reduction": 2,
        },
        "confirmation": {"candidates": 2, "candidate_seeds": 2, "seeds": 3},
        "evidence": {"repetitions": 200},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = copy.deepcopy(value)  # a later key may change it
    return content


def small_spec(**changes: Any) -> StudySpec:
    """`small_content`, validated."""
    return parse_spec(small_content(**changes), "the small study")


INPUTS = Inputs(dynamic=("prcp", "tmax"), static=("p_mean",))


def small_config(**changes: Any) -> TrainingSpec:
    """A training job of a second or less."""
    defaults: dict[str, Any] = {
        "epochs": 4,
        "warmup": 10,
        "targets_per_window": 30,
        "batch_size": 4,
        "hidden_size": 4,
    }
    return TrainingSpec.model_validate(defaults | changes)


def small_arrays(*, basins: int = 3, warmup: int = 10, train: int = 200, validation: int = 90,
                 seed: int = 1) -> StudyArrays:  # fmt: skip
    """Basins whose discharge is a leaky store of their precipitation: easy to learn.

    Some days of the training period have no observation.
    """
    draws = np.random.default_rng(seed)
    num_days = warmup + train + validation
    prcp = draws.gamma(0.5, 4.0, (basins, num_days))
    tmax = draws.normal(10.0, 5.0, (basins, num_days))
    leak = np.linspace(0.3, 0.6, basins)
    qobs, stored = np.empty((basins, num_days)), np.zeros(basins)
    for day in range(num_days):
        stored = stored + prcp[:, day]
        qobs[:, day] = leak * stored
        stored = stored - qobs[:, day]
    qobs[:, :warmup] = np.nan  # a day that is only fed has no target
    qobs[draws.random(qobs.shape) < 0.05] = np.nan
    span = slice(warmup, warmup + train)
    scaler = Scaler(
        means={"prcp": float(prcp.mean()), "tmax": 10.0, "p_mean": 0.0},
        stds={"prcp": float(prcp.std()), "tmax": 5.0, "p_mean": 1.0},
        qobs_mean=float(np.nanmean(qobs[:, span])),
        qobs_std=float(np.nanstd(qobs[:, span])),
    )
    dynamic = np.stack([scaler.scale("prcp", prcp), scaler.scale("tmax", tmax)], axis=-1)
    return StudyArrays(
        basins=tuple(f"{i:08d}" for i in range(basins)),
        first_day=np.datetime64("1999-09-21").item(),
        inputs=INPUTS,
        dynamic=dynamic.astype(np.float32),
        static=((leak - 0.45) / 0.1).astype(np.float32)[:, None],
        qobs=qobs.astype(np.float32),
        periods={"train": span, "validation": slice(span.stop, num_days)},
        scaler=scaler,
        qobs_std=np.nanstd(qobs[:, span], axis=1).astype(np.float32),
    )
