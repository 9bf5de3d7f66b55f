"""Shyft's features of all basins of a data store: the group `shyft`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from study.data.features import SHYFT_FEATURES
from study.data.groups import group_path, write_group
from study.data.store import digests_of, open_store
from study.errors import DataError, InputError, StudyError
from study.shyft.calibration import (
    WARMUP_DAYS,
    BasinData,
    BasinFeatures,
    Method,
    Plan,
    scores_of,
    simulate_basin,
    simulate_with,
)
from study.shyft.forcing import NEEDED, WIND_SPEED
from study.shyft.process import find_python
from study.spec import KRATZERT_2019, Period

GROUP = "shyft"

Task: TypeAlias = tuple[Any, ...]
Each: TypeAlias = Callable[[Callable[..., Any], Sequence[Task]], Iterator[tuple[int, Any]]]
"""Calls a function with each task's arguments, anywhere and in any order; yields the position of a
task and its result as they come."""


def here(function: Callable[..., Any], tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    """An `Each` that works in this process, one task after the other."""
    for i, task in enumerate(tasks):
        yield i, function(*task)


def add_features(
    path: Path,
    train: Period,
    method: Method,
    *,
    held_out: Iterable[str] = (),
    validation: Period | None = None,
    replace: bool = False,
    each: Each = here,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, BasinFeatures]:
    """Calibrate and simulate every basin and add the group `shyft` to the store.

    Basins that are done are kept beside the store until all are, so that the same call goes on
    after a crash.

    Args:
        path: The store.
        train: Discharge is read on these days only.
        method: How to calibrate.
        held_out: Basins whose discharge must not be known. If there are any, *every* basin takes
            the parameters of the calibrated basin, other than itself, that is nearest by its
            attributes: so a network trusts Shyft as much where it was trained as where it was not.
        validation: Days outside the training period to score the simulations on, once all are
            made. Nothing follows from these scores.
        replace: Whether to put the features in the place of those that are there.
        each: How to spread the basins.
        progress: Called with the number of basins done and their total.

    Returns:
        Each basin's features and scores; a basin on which Shyft failed has no series.

    Raises:
        InputError: Shyft is not there, the store has its features already, or lacks something.
        StudyError: Shyft failed on all basins.
    """
    held_out = set(held_out)
    store = open_store(path)
    if group_path(path, GROUP).exists() and not replace:
        raise DataError(
            f"{path}: has Shyft's features already ({_described(store)}); give --replace to put "
            "others in their place"
        )
    python = find_python()
    # A basin that takes another's parameters has no discharge in them to be left out.
    method = dataclasses.replace(method, crossfit=method.crossfit and not held_out)
    plan = Plan(**vars(method), train_days=_days(store, train, "--train-period"))
    scored = _validation_days(store, train, validation)
    _check_held_out(store, held_out)
    basins = [_basin(store, row, plan) for row in range(store.sizes["basin"])]
    work = path.with_name(f".{path.name}.shyft")
    run = partial(_restartable, work=work, each=each, progress=progress)
    found, donors = _simulated(store, basins, plan, python, held_out, run)
    if not any(f.series for f in found.values()):
        reason = next(iter(found.values())).log["error"]
        raise StudyError(f"{path}: Shyft failed on all basins; on the first: {reason}")
    if scored is not None:
        found = {b: _with_validation(f, store, scored) for b, f in found.items()}
    _write(path, store, plan, train, found, donors, held_out)
    shutil.rmtree(work, ignore_errors=True)
    return {basin.gauge_id: found[basin.gauge_id] for basin in basins}


def _simulated(
    store: xr.Dataset,
    basins: Sequence[BasinData],
    plan: Plan,
    python: str,
    held_out: set[str],
    run: Callable[[Callable[..., BasinFeatures], list[Task]], Iterator[tuple[str, BasinFeatures]]],
) -> tuple[dict[str, BasinFeatures], dict[str, str]]:
    """Each basin's features, and whose parameters it took, if any basin is held out."""
    tasks: list[Task] = [(python, b, plan) for b in basins if b.gauge_id not in held_out]
    own = dict(run(simulate_basin, tasks))
    if not held_out:
        return own, {}
    donors = nearest_donors(store, [b for b, f in own.items() if f.series])
    tasks = [(python, b, plan, own[donors[b.gauge_id]].parameters) for b in basins]
    lent = dict(run(simulate_with, tasks))
    return {b: dataclasses.replace(f, scores=own[b].scores if b in own else {})
            for b, f in lent.items()}, donors  # fmt: skip


def _check_held_out(store: xr.Dataset, held_out: set[str]) -> None:
    there = set(map(str, store["basin"].values))
    unknown = sorted(held_out - there)
    if unknown:
        raise InputError(f"--held-out names {unknown[0]}, which the store does not hold")
    if held_out == there:
        raise InputError("--held-out names all basins; leave some to be calibrated")


def _validation_days(store: xr.Dataset, train: Period, validation: Period | None) -> slice | None:
    if validation is None:
        return None
    if validation.overlaps(train):
        raise InputError(f"--validation-period {validation}: overlaps the training days ({train})")
    return slice(*_days(store, validation, "--validation-period"))


def nearest_donors(store: xr.Dataset, known: Sequence[str]) -> dict[str, str]:
    """Basin -> the one of the known basins, never itself, with the most similar attributes.

    Attributes are those of Kratzert et al. (2019) that the store has, each standardised.
    """
    names = [n for n in KRATZERT_2019 if n in store]
    table = np.stack([store[n].values.astype(np.float64) for n in names], axis=1)
    spread = table.std(axis=0)
    table = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    ids = [str(b) for b in store["basin"].values]
    rows = np.array([ids.index(b) for b in known])
    result = {}
    for row, basin in enumerate(ids):
        distance = np.square(table[rows] - table[row]).sum(axis=1)
        distance[rows == row] = np.inf
        if not np.isfinite(distance).any():
            raise InputError(f"basin {basin} has no other calibrated basin to take parameters from")
        result[basin] = known[int(distance.argmin())]
    return result


def _with_validation(features: BasinFeatures, store: xr.Dataset, days: slice) -> BasinFeatures:
    """With `nse_validation` and `kge_validation`, where there is a simulation."""
    if not features.series:
        return features
    observed = store["qobs"].sel(basin=features.gauge_id).values[days]
    scores = scores_of(features.series["shyft_discharge"][days], observed, "validation")
    return dataclasses.replace(features, scores={**features.scores, **scores})


def _days(store: xr.Dataset, period: Period, option: str) -> tuple[int, int]:
    time = store["time"].values.astype("datetime64[D]")
    first, stop = (
        int((np.datetime64(d) - time[0]).astype(int)) for d in (period.start, period.end)
    )
    if first < WARMUP_DAYS or stop >= len(time):
        raise InputError(
            f"{option} {period}: must lie within the days of the store ({time[0]} to "
            f"{time[-1]}) and begin {WARMUP_DAYS} days after the first, which warm Shyft up"
        )
    return first, stop + 1


def _basin(store: xr.Dataset, row: int, plan: Plan) -> BasinData:
    chosen = store.isel(basin=row)
    gauge_id = str(chosen["basin"].values)
    for name in (*NEEDED, "area", "elev_mean", "qobs"):
        if name not in store:
            raise DataError(f"the store has no `{name}`, which Shyft needs; build it with it")
    for name in NEEDED:
        gaps = ~np.isfinite(chosen[name].values)
        if gaps.any():
            day = np.datetime_as_string(chosen["time"].values[gaps][0], "D")
            raise DataError(
                f"basin {gauge_id}: `{name}` is missing on {day}, and Shyft takes no gaps; fill "
                "it, or leave the basin out of the store"
            )
    area = float(chosen["area"])
    if not area > 0:
        raise DataError(f"basin {gauge_id}: its area is {area:g} m2; Shyft needs the catchment's")
    qobs = np.full(store.sizes["time"], np.nan)
    train = slice(*plan.train_days)
    qobs[train] = chosen["qobs"].values[train]
    if np.isfinite(qobs).sum() < 365 or not np.nanstd(qobs) > 0:
        raise DataError(
            f"basin {gauge_id}: has less than a year of varying discharge on the training days; "
            "give another --train-period, or leave the basin out of the store"
        )
    return BasinData(
        gauge_id=gauge_id,
        area=area,
        elevation=float(chosen["elev_mean"]),
        first_day=chosen["time"].values[0].astype("datetime64[D]").item(),
        forcing={name: chosen[name].values for name in NEEDED},
        qobs=qobs,
    )


def _restartable(
    function: Callable[..., BasinFeatures],
    tasks: Sequence[Task],
    work: Path,
    each: Each,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[str, BasinFeatures]]:
    """The features of all tasks' basins; those that an earlier call has found are read."""
    files = [work / f"{task[1].gauge_id}-{_fingerprint(function, task)}.npz" for task in tasks]
    left = [i for i, file in enumerate(files) if not file.is_file()]
    done = len(tasks) - len(left)
    work.mkdir(parents=True, exist_ok=True)
    progress(done, len(tasks))
    for i in sorted(set(range(len(tasks))) - set(left)):
        yield tasks[i][1].gauge_id, _load(files[i])
    for number, features in each(function, [tasks[i] for i in left]):
        if features.series:  # a failure is tried again
            _save(files[left[number]], features)
        done += 1
        progress(done, len(tasks))
        yield features.gauge_id, features


def _fingerprint(function: Callable[..., Any], task: Task) -> str:
    """Of all that a basin's features follow from."""
    _, basin, plan, *rest = task
    digest = hashlib.sha256(f"{function.__name__} {plan} {rest} {basin.area}".encode())
    for series in (*basin.forcing.values(), basin.qobs):
        digest.update(np.ascontiguousarray(series).data)
    return digest.hexdigest()[:16]


def _save(path: Path, features: BasinFeatures) -> None:
    facts = {
        "gauge_id": features.gauge_id,
        "scores": dict(features.scores),
        "parameters": dict(features.parameters),
        "log": dict(features.log),
    }
    aside = path.with_suffix(".writing.npz")
    np.savez(aside, allow_pickle=False, facts=np.array(json.dumps(facts)), **features.series)
    aside.rename(path)


def _load(path: Path) -> BasinFeatures:
    with np.load(path) as file:
        facts = json.loads(str(file["facts"]))
        return BasinFeatures(series={name: file[name] for name in SHYFT_FEATURES}, **facts)


def _write(
    path: Path,
    store: xr.Dataset,
    plan: Plan,
    train: Period,
    found: Mapping[str, BasinFeatures],
    donors: Mapping[str, str],
    held_out: Iterable[str],
) -> None:
    ids = [str(b) for b in store["basin"].values]
    shape = (len(ids), store.sizes["time"])
    dataset = xr.Dataset(coords={"basin": store["basin"].values, "time": store["time"].values})
    for name, units in SHYFT_FEATURES.items():
        values = np.full(shape, np.nan, np.float32)
        for row, basin in enumerate(ids):
            if found[basin].series:
                values[row] = found[basin].series[name]
        dataset[name] = ("basin", "time"), values, {"units": units, "group": GROUP}
    about = {
        "stack": plan.stack,
        "goal": plan.goal,
        "starts": plan.starts,
        "draws": plan.draws,
        "evaluations": plan.evaluations,
        "seed": plan.seed,
        "crossfit": plan.crossfit,
        "train_period": str(train),
        "wind_speed": WIND_SPEED,
        "calibrated": sorted(set(donors.values()))
        if donors
        else [b for b in ids if found[b].series],
        "donors": dict(donors),
        "held_out": sorted(held_out),
        "failed": {b: f.log["error"] for b, f in found.items() if not f.series},
        "parameters": {b: dict(f.parameters) for b, f in found.items()},
        "scores": {b: dict(f.scores) for b, f in found.items()},
    }
    write_group(path, GROUP, dataset, digests_of(dataset)[GROUP], about)


def _described(store: xr.Dataset) -> str:
    about = store.attrs.get("about", {}).get(GROUP, {})
    return f"{about.get('stack')}, calibrated on {about.get('train_period')}"
