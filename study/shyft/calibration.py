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
"""Days that Shyft runs before its first day that counts."""
FED_DAYS = 365
"""Days before the training period that a network may be fed with to warm up; see `segment`."""
HOURS_A_DAY = 24.0
MM_A_DAY = 86_400.0 * 1000.0
"""mm/d on one m2 that are one m3/s."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How basins are calibrated: the same for all."""

    stack: str = "pt_st_k"
    """One of `stacks.STACKS`."""
    goal: str = "nse"
    """`nse` or `kge`."""
    starts: int = 3
    """Of each calibration."""
    draws: int = 50
    """Points among which the starts of a calibration are found."""
    evaluations: int = 2000
    """Of a start, at most."""
    crossfit: bool = True
    """See `simulate_basin`."""
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan(Method):
    """A method and the days it may know."""

    train_days: tuple[int, int]
    """The first training day on the record's axis, and one after the last."""

    def jobs(self) -> dict[str, tuple[int, int]]:
        """Calibrations by name, each with the days it is scored on."""
        first, stop = self.train_days
        middle = (first + stop) // 2
        blocks = {"early": (first, middle), "late": (middle, stop)} if self.crossfit else {}
        return {"full": self.train_days, **blocks}

    def segment(self) -> tuple[int, int]:
        """Days of a run that warms up for the training days and the days fed before them.

        Their series come from this run, not from the whole record's, so that nothing a network
        is trained with follows from forcing of days before: those may be held out.
        """
        first, stop = self.train_days
        return max(0, first - FED_DAYS - WARMUP_DAYS), stop


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
    """Name in `SHYFT_FEATURES` -> (day,) float32; empty if Shyft failed."""
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
    jobs = plan.jobs()
    try:
        response = run_sidecar(python, _request(basin, plan, jobs, {}), _arrays(basin))
    except SidecarError as error:
        return _failed(basin, error)
    parts = {jobs["early"]: "late", jobs["late"]: "early"} if plan.crossfit else {}
    series = _joined(response.series, basin, plan, parts)
    train = slice(*plan.train_days)
    observed = basin.qobs[train]
    calibrated = response.series["train"]["discharge"] * MM_A_DAY / basin.area
    scores = scores_of(calibrated[train.start - plan.segment()[0] :], observed, "calibration")
    if plan.crossfit:
        scores |= scores_of(series["shyft_discharge"][train], observed, "crossfit")
    return BasinFeatures(
        gauge_id=basin.gauge_id,
        series=series,
        scores=scores,
        parameters=response.calibrations["full"]["parameters"],
        log={"plan": asdict(plan), "calibrations": response.calibrations},
    )


def simulate_with(
    python: str, basin: BasinData, plan: Plan, parameters: Mapping[str, float]
) -> BasinFeatures:
    """Simulate a basin with another one's parameters."""
    try:
        request = _request(basin, plan, {}, {"full": dict(parameters)})
        response = run_sidecar(python, request, _arrays(basin))
    except SidecarError as error:
        return _failed(basin, error)
    return BasinFeatures(
        gauge_id=basin.gauge_id,
        series=_joined(response.series, basin, plan, {}),
        scores={},
        parameters=parameters,
        log={"plan": asdict(plan)},
    )


def _failed(basin: BasinData, error: SidecarError) -> BasinFeatures:
    return BasinFeatures(
        gauge_id=basin.gauge_id, series={}, scores={}, parameters={}, log={"error": str(error)}
    )


def _joined(
    runs: Mapping[str, Mapping[str, np.ndarray]],
    basin: BasinData,
    plan: Plan,
    parts: Mapping[tuple[int, int], str],
) -> dict[str, np.ndarray]:
    """One series of each feature: the whole record's; on training days and those fed before them
    the segment's; on `parts` (days -> run) another run's. (day,) float32."""
    start, stop = plan.segment()
    whole = convert(runs["whole"], basin.area, plan.train_days)
    within = (plan.train_days[0] - start, stop - start)
    segments = {name: convert(runs[name], basin.area, within) for name in runs if name != "whole"}
    fed = max(start, plan.train_days[0] - FED_DAYS)
    for days, run in {(fed, stop): "train", **parts}.items():
        for name, values in whole.items():
            values[slice(*days)] = segments[run][name][days[0] - start : days[1] - start]
    return {name: values.astype(np.float32) for name, values in whole.items()}


def convert(
    series: Mapping[str, np.ndarray], area: float, train_days: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Shyft's series as features.

    Args:
        series: `discharge` and `outflow` m3/s, `aet` mm/h, `swe` mm, `sca` as a share; (day,).
        area: m2.
        train_days: First training day of these series and one after the last.

    Returns:
        (day,) by name in `SHYFT_FEATURES`.
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
    parameters: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    stack = find_stack(plan.stack)
    since_1970 = (basin.first_day - datetime.date(1970, 1, 1)).days
    segment = plan.segment()
    return {
        "stack": plan.stack,
        "area": basin.area,
        "first_day_seconds": since_1970 * 86_400,
        "goal": plan.goal,
        "bounds": dict(stack.bounds),
        "series": dict(stack.series),
        "warmup": WARMUP_DAYS,
        "draws": plan.draws,
        "starts": plan.starts,
        "evaluations": plan.evaluations,
        "calibrate": {
            name: {"days": days, "seed": derive(plan.seed, "shyft", basin.gauge_id, name)}
            for name, days in jobs.items()
        },
        "parameters": {name: dict(values) for name, values in parameters.items()},
        "simulate": {
            "whole": {"days": (0, len(basin.qobs)), "parameters": "full"},
            "train": {"days": segment, "parameters": "full"},
            **{n: {"days": segment, "parameters": n} for n in jobs if n != "full"},
        },
    }


def _arrays(basin: BasinData) -> dict[str, np.ndarray]:
    forcing = shyft_forcing({name: basin.forcing[name] for name in NEEDED})
    return {
        **forcing,
        "qobs": np.asarray(basin.qobs, np.float64),
        "elevation": np.array(basin.elevation),
    }


def scores_of(sim: np.ndarray, obs: np.ndarray, days: str) -> dict[str, float]:
    """NSE and KGE (Gupta et al. 2009, doi 10.1016/j.jhydrol.2009.08.003) of one basin, named by
    the days they are of; none where discharge does not vary."""
    both = np.isfinite(sim) & np.isfinite(obs)
    s, o = sim[both].astype(np.float64), obs[both].astype(np.float64)
    if not (o.size and o.std() > 0):
        return {}
    nse = 1 - np.square(s - o).sum() / np.square(o - o.mean()).sum()
    parts = (np.corrcoef(s, o)[0, 1], s.std() / o.std(), s.mean() / o.mean())
    kge = 1 - np.sqrt(sum((part - 1) ** 2 for part in parts))
    return {f"nse_{days}": float(nse), f"kge_{days}": float(kge)}
