"""Shyft's features of one basin, so that a network can trust them on training days as elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from study.seeding import derive
from study.shyft.forcing import NEEDED, shyft_forcing
from study.shyft.process import SidecarError, run_sidecar
from study.shyft.stacks import find_stack

WARMUP_DAYS = 730
HOURS_A_DAY = 24.0
MM_A_DAY = 86_400.0 * 1000.0
"""mm/d on one m2 that are one m3/s."""

FEATURES: Mapping[str, str] = {
    "shyft_discharge": "mm/d",
    "shyft_swe": "mm",
    "shyft_sca": "1",
    "shyft_aet": "mm/d",
    "shyft_outflow": "mm/d",
    "shyft_storage": "mm",
}
"""Daily series that Shyft gives, and their units; `outflow` is what leaves the snow, `storage` the
water below it relative to its mean on the training days."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How basins are calibrated: the same for all."""

    stack: str = "pt_st_k"
    goal: str = "nse"
    starts: int = 3
    evaluations: int = 2000
    """Of a start, at most."""
    crossfit: bool = True
    seed: int = 1
    train_days: tuple[int, int]
    """The first training day on the record's axis, and one after the last."""

    def jobs(self) -> dict[str, tuple[int, int]]:
        """Calibrations by name, each with the days it is scored on."""
        first, stop = self.train_days
        middle = (first + stop) // 2
        blocks = {"early": (first, middle), "late": (middle, stop)} if self.crossfit else {}
        return {"full": self.train_days, **blocks}


@dataclass(frozen=True, kw_only=True)
class BasinData:
    """One basin's record; series are (day,)."""

    gauge_id: str
    area: float
    """m2"""
    elevation: float
    """m"""
    first_day: datetime.date
    forcing: Mapping[str, np.ndarray]
    """By name in `forcing.NEEDED`, in the store's units."""
    qobs: np.ndarray
    """mm/d; NaN on all days that must not be known."""


@dataclass(frozen=True, kw_only=True)
class BasinFeatures:
    gauge_id: str
    series: Mapping[str, np.ndarray]
    """Name in `FEATURES` -> (day,) float32; empty if Shyft failed."""
    scores: Mapping[str, float]
    """`nse_calibration`, `kge_calibration` of the full calibration; `nse_crossfit` and
    `kge_crossfit` of the cross-fitted series; both on training days."""
    parameters: Mapping[str, float]
    """Of the full calibration."""
    log: Mapping[str, Any]
    """What every job's starts came to; `error` if Shyft failed."""


def simulate_basin(python: str, basin: BasinData, plan: Plan) -> BasinFeatures:
    """Calibrate and simulate one basin.

    Days of the early half of the training period get the series of parameters calibrated on the
    late half and the other way round; all other days those of the full calibration. So a training
    day's simulation never knew that day's discharge, as a test day's does not.
    """
    try:
        response = run_sidecar(python, _request(basin, plan, plan.jobs(), {}), _arrays(basin))
    except SidecarError as error:
        return BasinFeatures(
            gauge_id=basin.gauge_id, series={}, scores={}, parameters={}, log={"error": str(error)}
        )
    converted = {
        job: convert(series, basin.area, plan.train_days) for job, series in response.series.items()
    }
    series = {name: values.copy() for name, values in converted["full"].items()}
    jobs = plan.jobs()
    if plan.crossfit:
        for block, other in (("early", "late"), ("late", "early")):
            days = slice(*jobs[block])
            for name in series:
                series[name][days] = converted[other][name][days]
    train = slice(*plan.train_days)
    observed = basin.qobs[train]
    scores = _scores("calibration", converted["full"]["shyft_discharge"][train], observed)
    if plan.crossfit:
        scores |= _scores("crossfit", series["shyft_discharge"][train], observed)
    return BasinFeatures(
        gauge_id=basin.gauge_id,
        series={name: values.astype(np.float32) for name, values in series.items()},
        scores=scores,
        parameters=response.calibrations["full"]["parameters"],
        log={"plan": asdict(plan), "calibrations": response.calibrations},
    )


def simulate_with(
    python: str, basin: BasinData, plan: Plan, parameters: Mapping[str, float]
) -> BasinFeatures:
    """Simulate a basin with another one's parameters."""
    try:
        request = _request(basin, plan, {}, {"donor": dict(parameters)})
        response = run_sidecar(python, request, _arrays(basin))
    except SidecarError as error:
        return BasinFeatures(
            gauge_id=basin.gauge_id, series={}, scores={}, parameters={}, log={"error": str(error)}
        )
    series = convert(response.series["donor"], basin.area, plan.train_days)
    return BasinFeatures(
        gauge_id=basin.gauge_id,
        series={name: values.astype(np.float32) for name, values in series.items()},
        scores={},
        parameters=parameters,
        log={"plan": asdict(plan)},
    )


def convert(
    series: Mapping[str, np.ndarray], area: float, train_days: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Shyft's series as features.

    Args:
        series: `discharge` and `outflow` m3/s, `aet` mm/h, `swe` mm, `sca` as a share; (day,).
        area: m2.
        train_days: First training day and one after the last.

    Returns:
        (day,) by name in `FEATURES`.
    """
    discharge, outflow = (series[name] * MM_A_DAY / area for name in ("discharge", "outflow"))
    aet = series["aet"] * HOURS_A_DAY
    storage = np.cumsum(outflow - aet - discharge)
    return {
        "shyft_discharge": discharge,
        "shyft_swe": series["swe"],
        "shyft_sca": series["sca"],
        "shyft_aet": aet,
        "shyft_outflow": outflow,
        "shyft_storage": storage - storage[slice(*train_days)].mean(),
    }


def _request(
    basin: BasinData,
    plan: Plan,
    jobs: Mapping[str, tuple[int, int]],
    parameter_sets: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    stack = find_stack(plan.stack)
    since_1970 = (basin.first_day - datetime.date(1970, 1, 1)).days
    calibrate = {
        name: {
            "days": days,
            "seeds": [None, *(derive(plan.seed, "shyft", basin.gauge_id, name, start)
                              for start in range(1, plan.starts))],
        }
        for name, days in jobs.items()
    }  # fmt: skip
    return {
        "stack": plan.stack,
        "area": basin.area,
        "first_day_seconds": since_1970 * 86_400,
        "goal": plan.goal,
        "bounds": dict(stack.bounds),
        "series": dict(stack.series),
        "warmup": WARMUP_DAYS,
        "evaluations": plan.evaluations,
        "calibrate": calibrate,
        "simulate": {name: dict(values) for name, values in parameter_sets.items()},
    }


def _arrays(basin: BasinData) -> dict[str, np.ndarray]:
    forcing = shyft_forcing({name: basin.forcing[name] for name in NEEDED})
    return {
        **forcing,
        "qobs": np.asarray(basin.qobs, np.float64),
        "elevation": np.array(basin.elevation),
    }


def _scores(name: str, sim: np.ndarray, obs: np.ndarray) -> dict[str, float]:
    """NSE and KGE (Gupta et al. 2009, doi 10.1016/j.jhydrol.2009.08.003) of one basin."""
    both = np.isfinite(sim) & np.isfinite(obs)
    s, o = sim[both].astype(np.float64), obs[both].astype(np.float64)
    nse = 1 - np.square(s - o).sum() / np.square(o - o.mean()).sum()
    parts = (np.corrcoef(s, o)[0, 1], s.std() / o.std(), s.mean() / o.mean())
    kge = 1 - np.sqrt(sum((part - 1) ** 2 for part in parts))
    return {f"nse_{name}": float(nse), f"kge_{name}": float(kge)}
