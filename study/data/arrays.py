"""A study's data as plain arrays: scaled once, shared read-only by all trials of a node."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from study.data.climate import CLIMATE_FORCING, climate_attributes
from study.data.features import INPUT_UNITS, SHYFT_FEATURES, Inputs, source_of
from study.data.levels import is_series
from study.data.placebo import with_placebos
from study.data.scaling import SPREAD_EPS, Scaler, fit_scaler, stack_scaled
from study.data.simulated import check_calibration
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
    baseline: np.ndarray | None = None
    """(basin, day) float32, the simulated discharge that some arm corrects, in the standard units
    of discharge."""
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

    @cached_property
    def target(self) -> np.ndarray:
        """(basin, day) `qobs` in standard units. Asked for before the arrays go to the workers of
        a node, it goes along, and they share it."""
        target: np.ndarray = self.scaler.scale_qobs(self.qobs)
        return target

    @property
    def basin_scale(self) -> np.ndarray:
        """(basin,) mm/d: unit of a network's output with `discharge_scale: basin`."""
        return self.qobs_std + np.float32(SPREAD_EPS)

    def days(self, period: str) -> pd.DatetimeIndex:
        span = self.periods[period]
        start = pd.Timestamp(self.first_day) + pd.Timedelta(days=span.start)
        return pd.date_range(start, periods=span.stop - span.start)

    @property
    def num_bytes(self) -> int:
        """Of all that a model's device holds."""
        baseline = 0 if self.baseline is None else self.baseline.nbytes
        return self.dynamic.nbytes + self.static.nbytes + self.qobs.nbytes + baseline

    def observed(self, period: str) -> np.ndarray:
        """(basin, day) discharge of the period's scored days, mm/d."""
        return self.qobs[:, self.periods[period]]


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
    store = with_placebos(store, inputs.daily, spec.search.seed)
    store = _select(store, spec, inputs)
    check_calibration(store, spec, inputs)
    periods = {name: period for name, period in spec.data.periods if period is not None}
    read = {name for name in periods if name != "test" or read_test}
    warmup = spec.training.warmup
    _check_record(store, periods, warmup)
    attributes = _attributes(store, spec, inputs)
    first_day = min(p.start for p in periods.values()) - datetime.timedelta(days=warmup)
    days = pd.date_range(first_day, max(p.end for p in periods.values()))
    store = store.reindex(time=days)
    spans = {name: day_range(period, first_day) for name, period in periods.items()}

    series = {n: np.asarray(store[n].values, np.float32) for n in inputs.daily}
    valid = np.all([np.isfinite(v) for v in series.values()], axis=0)
    if spec.data.missing_inputs == "error":
        _check_inputs(series, store, spec, spans)
    taught = np.array([str(b) not in spec.data.held_out for b in store["basin"].values])
    wanted = {name: span for name, span in spans.items() if name in read}
    qobs = _targets(store, warmed_up(valid, warmup), taught, wanted)
    _check_targets(qobs, taught, store, spans)
    train = spans["train"]
    scaler = fit_scaler(
        {n: series[n][taught, train] for n in inputs.dynamic},
        {n: v[taught] for n, v in attributes.items()},
        qobs[taught, train],
    )
    return StudyArrays(
        basins=tuple(map(str, store["basin"].values)),
        first_day=first_day,
        inputs=inputs,
        dynamic=stack_scaled({n: series[n] for n in inputs.dynamic}, scaler, *valid.shape),
        static=stack_scaled(attributes, scaler, valid.shape[0]),
        baseline=None
        if inputs.baseline is None
        else np.nan_to_num(scaler.scale_qobs(series[inputs.baseline])),
        attributes=attributes,
        qobs=qobs,
        periods=wanted,
        scaler=scaler,
        qobs_std=_spread(qobs[:, train], taught),
    )


def _targets(
    store: xr.Dataset, scored: np.ndarray, taught: np.ndarray, spans: dict[str, slice]
) -> np.ndarray:
    """(basin, day) discharge of the scored days of these periods, mm/d; else NaN. With held-out
    basins, only they keep discharge in the test period, and they keep it nowhere else."""
    qobs = np.full(scored.shape, np.nan, np.float32)
    for name, span in spans.items():
        rows = ~taught if name == "test" and not taught.all() else taught
        window = np.asarray(store["qobs"].values[:, span], np.float32)
        qobs[:, span] = np.where(scored[:, span] & rows[:, None], window, np.nan)
    return qobs


def _spread(qobs: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """(basin,) float32 standard deviation of discharge; NaN where a basin is held out."""
    result = np.full(len(qobs), np.nan, np.float32)
    result[taught] = np.nanstd(qobs[taught].astype(np.float64), axis=1)
    return result


def _select(store: xr.Dataset, spec: StudySpec, inputs: Inputs) -> xr.Dataset:
    """The study's basins, after a look at whether the store has all that is asked for."""
    for name in inputs.daily:
        _check_series(store, name)
    known = [n for n in variables_of(store, "attributes") if store[n].dtype.kind == "f"]
    for name in inputs.static:
        if name not in known:
            raise DataError(
                f"the store has no numeric attribute `{name}`{nearest(name, known)}; "
                "correct data.attributes"
            )
    _check_basins(store, spec)
    if spec.data.basins == "all":
        return store
    return store.sel(basin=list(spec.data.basins))


def _check_series(store: xr.Dataset, name: str) -> None:
    """A daily input is there, and its unit is known."""
    if name not in store or not is_series(store, name):
        raise DataError(f"the store has no daily input `{name}`; {_cure(name, store)}")
    units, expected = store[name].attrs.get("units"), INPUT_UNITS.get(source_of(name))
    if expected is not None and units != expected:
        raise DataError(
            f"the store's `{name}` is in {units}, models expect {expected}; build the store again"
        )
    if not units:
        raise DataError(
            f"the store does not say in which unit `{name}` is; give the variable the attribute "
            "`units` (`1` if it has none) and write the store again"
        )


def _check_basins(store: xr.Dataset, spec: StudySpec) -> None:
    there = set(map(str, store["basin"].values))
    for key, named in (("basins", spec.data.basins), ("held_out", spec.data.held_out)):
        absent = sorted(set(named) - there) if named != "all" else []
        if absent:
            raise SpecError(
                f"data.{key} names {absent[0]}, which the store does not hold "
                f"(it has {len(there)} basins); remove it or build a store with it"
            )
    if there <= set(spec.data.held_out):
        raise SpecError("data.held_out names all basins of the store; leave some to train on")


def _cure(name: str, store: xr.Dataset) -> str:
    if name == "swe":
        return "build the store with --snow DIR"
    if name in SHYFT_FEATURES:
        return "add Shyft's series with `study shyft simulate STORE`"
    if name == "swe_simulated":
        return "it is older than this input, build it again with `study data build`"
    known = [n for n in map(str, store.data_vars) if is_series(store, n)]
    return f"change data.forcing{nearest(name, known)}"


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


def _check_targets(
    qobs: np.ndarray, taught: np.ndarray, store: xr.Dataset, spans: dict[str, slice]
) -> None:
    for row in np.flatnonzero(taught):
        basin, target = store["basin"].values[row], qobs[row, spans["train"]]
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
