"""A study's data as plain arrays: scaled once, shared read-only by all trials of a node."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from study.data.climate import CLIMATE_FORCING, climate_attributes
from study.data.features import INPUT_UNITS, Inputs
from study.data.scaling import Scaler, fit_scaler, stack_scaled
from study.data.splits import day_range, warmed_up
from study.data.store import variables_of
from study.errors import DataError, SpecError
from study.spec import Period, StudySpec, nearest


@dataclass(frozen=True, kw_only=True)
class StudyArrays:
    """Inputs and targets of all arms on one calendar, without any feature selected yet."""

    basins: tuple[str, ...]
    first_day: datetime.date
    """Day of position 0 on the time axis: the warm-up of the earliest period."""
    inputs: Inputs
    """Names along the last axes of `dynamic` and `static`: the union of all arms."""
    dynamic: np.ndarray
    """(basin, day, input) float32, standardised; 0 where a gap was masked."""
    static: np.ndarray
    """(basin, attribute) float32, standardised."""
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    """Name -> (basin,) float64 of `static`, not standardised: published or recomputed."""
    qobs: np.ndarray
    """(basin, day) float32 mm/d; NaN where missing, outside the given periods, or not scored
    because some arm's inputs do not allow it."""
    periods: dict[str, slice]
    """`train`, `validation` and, for the confirmation's last reading only, `test`."""
    scaler: Scaler
    qobs_std: np.ndarray
    """(basin,) float32: standard deviation of each basin's training discharge, mm/d."""

    def days(self, period: str) -> pd.DatetimeIndex:
        span = self.periods[period]
        start = pd.Timestamp(self.first_day) + pd.Timedelta(days=span.start)
        return pd.date_range(start, periods=span.stop - span.start)

    def observed(self, period: str) -> np.ndarray:
        """(basin, day) discharge of the period's scored days, mm/d."""
        return self.qobs[:, self.periods[period]]


def union(inputs: Sequence[Inputs]) -> Inputs:
    """All inputs that any of these models sees, in order of first appearance."""
    return Inputs(
        dynamic=tuple(dict.fromkeys(n for i in inputs for n in i.dynamic)),
        static=tuple(dict.fromkeys(n for i in inputs for n in i.static)),
    )


def assemble(
    store: xr.Dataset, spec: StudySpec, inputs: Inputs, *, read_test: bool = False
) -> StudyArrays:
    """Read a store for a study.

    Args:
        store: An open data store.
        spec: The study.
        inputs: Union of the inputs of all its arms; fixes the common mask.
        read_test: Put the test period's discharge in. Nothing that trains or selects does.

    Raises:
        DataError: A variable, basin, day or value that the study needs is not in the store; the
            inputs of the test period are asked for from the start.
    """
    store = _select(store, spec, inputs)
    periods = {name: period for name, period in spec.data.periods if period is not None}
    read = {name for name in periods if name != "test" or read_test}
    warmup = spec.training.warmup
    _check_record(store, periods, warmup)
    attributes = _attributes(store, spec, inputs)
    first_day = min(p.start for p in periods.values()) - datetime.timedelta(days=warmup)
    days = pd.date_range(first_day, max(p.end for p in periods.values()))
    store = store.reindex(time=days)
    spans = {name: day_range(period, first_day) for name, period in periods.items()}

    dynamic = {n: np.asarray(store[n].values, np.float32) for n in inputs.dynamic}
    valid = np.all([np.isfinite(v) for v in dynamic.values()], axis=0)
    if spec.data.missing_inputs == "error":
        _check_inputs(dynamic, store, spec, spans)
    scored = warmed_up(valid, warmup)
    qobs = np.full(valid.shape, np.nan, np.float32)
    for span in (spans[name] for name in read):
        window = np.asarray(store["qobs"].values[:, span], np.float32)
        qobs[:, span] = np.where(scored[:, span], window, np.nan)
    train = spans["train"]
    _check_targets(qobs, store, spans)
    scaler = fit_scaler({n: v[:, train] for n, v in dynamic.items()}, attributes, qobs[:, train])
    return StudyArrays(
        basins=tuple(map(str, store["basin"].values)),
        first_day=first_day,
        inputs=inputs,
        dynamic=stack_scaled(dynamic, scaler, *valid.shape),
        static=stack_scaled(attributes, scaler, valid.shape[0]),
        attributes=attributes,
        qobs=qobs,
        periods={name: span for name, span in spans.items() if name in read},
        scaler=scaler,
        qobs_std=np.nanstd(qobs[:, train].astype(np.float64), axis=1).astype(np.float32),
    )


def _select(store: xr.Dataset, spec: StudySpec, inputs: Inputs) -> xr.Dataset:
    """The study's basins, after a look at whether the store has all that is asked for."""
    for name in inputs.dynamic:
        if name not in store or name not in INPUT_UNITS:
            raise DataError(f"the store has no daily input `{name}`; {_cure(name)}")
        if store[name].attrs.get("units") != INPUT_UNITS[name]:
            raise DataError(
                f"the store's `{name}` is in {store[name].attrs.get('units')}, "
                f"models expect {INPUT_UNITS[name]}; build the store again"
            )
    known = [n for n in variables_of(store, "attributes") if store[n].dtype.kind == "f"]
    for name in inputs.static:
        if name not in known:
            raise DataError(
                f"the store has no numeric attribute `{name}`{nearest(name, known)}; "
                "correct data.attributes"
            )
    if spec.data.basins == "all":
        return store
    absent = sorted(set(spec.data.basins) - set(map(str, store["basin"].values)))
    if absent:
        raise SpecError(
            f"data.basins names {absent[0]}, which the store does not hold "
            f"(it has {store.sizes['basin']} basins); remove it or build a store with it"
        )
    return store.sel(basin=list(spec.data.basins))


def _cure(name: str) -> str:
    if name == "swe":
        return "build the store with --snow DIR"
    if name == "swe_simulated":
        return "it is older than this input, build it again with `study data build`"
    return f"change data.forcing{nearest(name, INPUT_UNITS)}"


def _check_record(store: xr.Dataset, periods: dict[str, Period], warmup: int) -> None:
    """Periods and their warm-ups must lie within the store's days."""
    first, last = (pd.Timestamp(store["time"].values[i]).date() for i in (0, -1))
    for name, period in periods.items():
        if not first <= period.start or not period.end <= last:
            raise DataError(
                f"data.periods.{name} ({period}) does not lie within the days of the store, "
                f"{first} to {last}; change the period, or build a store with these days"
            )
        before = (period.start - first).days
        if warmup > before:
            raise DataError(
                f"the {name} period ({period}) is to be warmed up on {warmup} days before it, but "
                f"the store has only {before} (it begins on {first}); begin data.periods.{name} "
                "later, or shorten training.warmup"
            )


def _attributes(store: xr.Dataset, spec: StudySpec, inputs: Inputs) -> dict[str, np.ndarray]:
    """Attributes as published, or the climatic ones from the training period's forcing."""
    static = {n: np.asarray(store[n].values, np.float64) for n in inputs.static}
    if spec.data.attributes_source == "recomputed":
        static |= {n: v for n, v in _recomputed(store, spec).items() if n in static}
    for name, values in static.items():
        if not np.isfinite(values).all():
            basin = store["basin"].values[~np.isfinite(values)][0]
            raise DataError(
                f"basin {basin} has no value of attribute `{name}`; leave the basin out "
                "(data.basins) or the attribute (data.attributes)"
            )
    return static


def _recomputed(store: xr.Dataset, spec: StudySpec) -> dict[str, np.ndarray]:
    for name in (*CLIMATE_FORCING, "gauge_lat", "elev_mean"):
        if name not in store:
            raise DataError(
                f"the store has no `{name}`, from which data.attributes_source: recomputed "
                "computes the climate; use a store that has it, or `published`"
            )
    train = spec.data.periods.train
    days = store["time"].sel(time=slice(str(train.start), str(train.end)))
    return climate_attributes(
        {name: store[name].sel(time=days).values for name in CLIMATE_FORCING},
        days.values,
        latitude=store["gauge_lat"].values,
        elevation=store["elev_mean"].values,
    )


def _check_inputs(
    dynamic: dict[str, np.ndarray], store: xr.Dataset, spec: StudySpec, spans: dict[str, slice]
) -> None:
    """Every input must be there on all scored days and on the warm-up before each period."""
    for name, values in dynamic.items():
        for period, span in spans.items():
            needed = slice(span.start - spec.training.warmup, span.stop)
            gaps = ~np.isfinite(values[:, needed])
            if gaps.any():
                row = int(np.flatnonzero(gaps.any(axis=1))[0])
                day = store["time"].values[needed][gaps[row]][0]
                raise DataError(
                    f"basin {store['basin'].values[row]}: input `{name}` is missing on "
                    f"{np.datetime_as_string(day, 'D')}, which the {period} period needs "
                    f"(it is fed from {spec.training.warmup} days before its first scored day); "
                    f"begin data.periods.{period} later, leave the basin out, or set "
                    "data.missing_inputs: mask"
                )


def _check_targets(qobs: np.ndarray, store: xr.Dataset, spans: dict[str, slice]) -> None:
    for row, basin in enumerate(store["basin"].values):
        target = qobs[row, spans["train"]]
        if not np.nanmax(target, initial=-1.0) > np.nanmin(target, initial=np.inf):
            raise DataError(
                f"basin {basin} has no varying discharge on the scored days of the train period; "
                "leave the basin out (data.basins) or change data.periods.train"
            )
    if not np.isfinite(qobs[:, spans["validation"]]).any():
        raise DataError(
            "no basin has discharge on a scored day of the validation period; "
            "change data.periods.validation"
        )
