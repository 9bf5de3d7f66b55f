"""Prediction from a bundle: forcing in, discharge out; needs neither Ray nor MLflow, and torch only
for architectures that have no ONNX graphs."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from study.errors import BundleError, DataError, InputError
from study.export.backends import load_networks
from study.export.bundle import Bundle
from study.export.forcing import Forcing, daily_series, told_once
from study.export.manifest import InputEntry
from study.export.running import Fed, run
from study.export.state import Carried
from study.spec import Period, parse_period


@dataclass(frozen=True, kw_only=True)
class Prediction:
    data: xr.Dataset
    """`qsim (basin, time)` mm/d, mean of the members, and what was asked for beside it."""
    state: Carried | None
    """After the last day; None where every window starts anew."""
    notes: tuple[str, ...]
    """What a forecaster should know of the forcing."""

    def carried(self) -> Carried:
        """The state after the last day.

        Raises:
            DataError: There is none.
        """
        if self.state is None:
            raise DataError(
                "a model that is simulated window by window leaves no state; leave out "
                "--state-out, or add --continuous"
            )
        return self.state


def predict(
    bundle: Bundle,
    forcing: Forcing,
    period: Period | None = None,
    *,
    backend: str | None = None,
    state: Carried | None = None,
    continuous: bool = False,
    quantiles: Sequence[float] = (),
) -> Prediction:
    """Simulate discharge.

    Args:
        bundle: The model.
        forcing: Its inputs, and attributes for basins that the bundle does not know.
        period: Days to predict; all that the forcing allows after the warm-up if None.
        backend: What runs the networks: `onnx`, `torch` or `exported`; `onnx` if None, or `torch`
            where there are no graphs.
        state: What an earlier prediction left, to go on the day after it without a warm-up.
        continuous: One pass over the days, also for a model that was made to be run window by
            window.
        quantiles: Of the members, between 0 and 1.

    Returns:
        `qsim (basin, time)`, mean of the members, `qsim_members (member, basin, time)`, with more
        than one member their standard deviation `qsim_std`, and `qsim_quantiles
        (quantile, basin, time)`; mm/d.

    Raises:
        DataError: An input or attribute is missing or impossible; says which, where and when.
        InputError: The backend cannot be used.
    """
    manifest = bundle.manifest
    simulation = manifest.simulation
    if continuous:
        simulation = simulation.model_copy(update={"mode": "continuous"})
    if state is not None:
        state = state.of(forcing.basins, bundle, "the carried state")
        if simulation.mode != "continuous":
            raise DataError(
                "a model that is simulated window by window starts every window anew and carries "
                "no state; leave out --state-in, or add --continuous"
            )
    days, skipped = _days(forcing, period, simulation.warmup, state)
    fed = _feed(bundle, forcing, days)
    networks = load_networks(bundle, backend or ("onnx" if bundle.has_graphs else "torch"))
    members, left = run(networks, fed, simulation, manifest.hidden_size, state, skipped)
    carried = None
    if simulation.mode == "continuous":
        carried = Carried(
            networks=bundle.networks_digest,
            basins=tuple(forcing.basins),
            day=days[-1].date(),
            hidden=np.stack([h for h, _ in left]),
            cell=np.stack([c for _, c in left]),
        )
    data = _dataset(bundle, forcing.basins, days[skipped:], members, quantiles)
    return Prediction(data=data, state=carried, notes=tuple(_notes(bundle, forcing, fed, days)))


def named_period(bundle: Bundle, text: str) -> Period:
    """A period by name (`test`) as the bundle knows it, or as `first day:last day`.

    Raises:
        InputError: The bundle has no period of this name, or the days are none.
    """
    if ":" in text:
        return parse_period(text, "--period")
    if text not in bundle.manifest.periods:
        known = ", ".join(bundle.manifest.periods)
        raise BundleError(f"the bundle has no period `{text}`; it has {known}")
    return Period.model_validate(bundle.manifest.periods[text])


def parse_quantiles(text: str | None) -> tuple[float, ...]:
    """`0.1,0.5,0.9` as numbers.

    Raises:
        InputError: One is none, or not between 0 and 1.
    """
    if text is None:
        return ()
    try:
        shares = tuple(float(part) for part in text.split(","))
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("not between 0 and 1")
    except ValueError:
        raise InputError(
            f"--quantiles {text}: give numbers between 0 and 1, such as 0.1,0.5,0.9"
        ) from None
    return shares


def refuse_taken(out: Path) -> None:
    """Refuse a place to which no prediction can be written, before any is made.

    Raises:
        DataError: The file exists, or its ending is of no kind that can be written.
    """
    if out.exists():
        raise DataError(f"{out}: exists already; remove it, or give another --out")
    if out.suffix not in (".csv", ".nc", ".zarr"):
        raise DataError(f"{out}: the file's ending must be .csv, .nc or .zarr")


def write_prediction(prediction: xr.Dataset, out: Path, *, members: bool = False) -> None:
    """Write a prediction as CSV, NetCDF (`.nc`) or Zarr (`.zarr`), by the name of the file.

    Args:
        prediction: What `predict` gave.
        out: New file.
        members: Write every member's discharge, too.

    Raises:
        DataError: The file exists, or its ending is none of these.
    """
    refuse_taken(out)
    if not members:
        prediction = prediction.drop_vars(["qsim_members", "member"], errors="ignore")
    if out.suffix == ".csv":
        as_table(prediction).to_csv(out, index=False)
    elif out.suffix == ".nc":
        prediction.to_netcdf(out, engine="h5netcdf")
    else:
        prediction.to_zarr(out, zarr_format=2, consolidated=True)


def as_table(prediction: xr.Dataset) -> pd.DataFrame:
    """One line a basin and day; quantiles and members as columns."""
    basins, days = prediction["basin"].values, prediction["time"].values
    table = pd.DataFrame(
        {
            "gauge_id": np.repeat(basins, len(days)),
            "date": np.tile(np.datetime_as_string(days, "D"), len(basins)),
        }
    )
    for name, variable in prediction.data_vars.items():
        extra = [str(d) for d in variable.dims if d not in ("basin", "time")]
        if not extra:
            table[str(name)] = variable.values.ravel()
            continue
        for value, part in zip(prediction[extra[0]].values, variable.values, strict=True):
            table[f"{str(name).removesuffix('s')}_{value:g}"] = part.ravel()
    return table


def _days(
    forcing: Forcing, period: Period | None, warmup: int, state: Carried | None
) -> tuple[pd.DatetimeIndex, int]:
    """All days that are fed, and how many of them come before the first that is predicted."""
    there = forcing.days
    if not len(there):
        raise DataError(f"{forcing.source}: has no day")
    if state is None:
        if period is not None:
            first = period.start - datetime.timedelta(days=warmup)
            return pd.date_range(first, period.end), warmup
        if len(there) <= warmup:
            raise DataError(
                f"{forcing.source}: has {len(there)} days; the model needs {warmup} to warm up "
                "before the first it predicts; give more, or the state of the day before "
                "(--state-in)"
            )
        return pd.date_range(there[0], there[-1]), warmup
    first = pd.Timestamp(state.day) + pd.Timedelta(days=1)
    last = there[-1] if period is None else pd.Timestamp(period.end)
    start = first if period is None else pd.Timestamp(period.start)
    if last < first or start < first:
        raise DataError(
            f"{forcing.source}: the carried state is of the end of {state.day}, so the first day "
            f"it can predict is {first:%Y-%m-%d}; "
            f"asked for is {min(start, last):%Y-%m-%d}"
        )
    return pd.date_range(first, last), (start - first).days


def _feed(bundle: Bundle, forcing: Forcing, days: pd.DatetimeIndex) -> Fed:
    manifest = bundle.manifest
    missing = [n for n in manifest.daily if n not in forcing.data]
    if missing:
        entry = manifest.daily[missing[0]]
        raise DataError(
            f"{forcing.source}: has no input `{entry.name}` ({entry.units}); the model needs "
            f"{', '.join(dict.fromkeys((*manifest.inputs.daily,)))}"
        )
    series = {name: daily_series(forcing, entry, days) for name, entry in manifest.daily.items()}
    return Fed(
        forcing=np.stack([series[e.name] for e in manifest.dynamic_inputs], axis=-1),
        attributes=told_once(forcing, manifest, bundle.attributes),
        baseline=None if manifest.baseline is None else series[manifest.baseline.name],
    )


def _dataset(
    bundle: Bundle,
    basins: list[str],
    days: pd.DatetimeIndex,
    members: np.ndarray,
    quantiles: Sequence[float],
) -> xr.Dataset:
    manifest = bundle.manifest
    dims, units = ("basin", "time"), {"units": "mm/d"}
    mean = {"long_name": "simulated discharge, mean of the members", **units}
    variables: dict[str, object] = {"qsim": (dims, members.mean(axis=0), mean)}
    coords = {"basin": np.array(basins, object), "time": days, "member": np.arange(len(members))}
    if len(members) > 1:
        spread = {"long_name": "standard deviation of the members", **units}
        variables["qsim_std"] = (dims, members.std(axis=0, ddof=1), spread)
    if quantiles:
        values = np.quantile(members, quantiles, axis=0).astype(np.float32)
        coords["quantile"] = np.array(quantiles, np.float64)
        variables["qsim_quantiles"] = (("quantile", *dims), values, units)
    variables["qsim_members"] = (("member", *dims), members, units)
    about = {"model": manifest.name, "bundle": bundle.digest}
    return xr.Dataset(variables, coords=coords, attrs=about)


def _notes(bundle: Bundle, forcing: Forcing, fed: Fed, days: pd.DatetimeIndex) -> Iterator[str]:
    """Inputs beyond the extremes of training, where the networks guess."""
    for number, entry in enumerate(bundle.manifest.dynamic_inputs):
        if entry.low is not None and entry.high is not None:
            series = fed.forcing[..., number]
            beyond = (series < entry.low) | (series > entry.high)
            if beyond.any():
                yield _note(entry, forcing, series, beyond, days)
    for number, entry in enumerate(bundle.manifest.static_inputs):
        if entry.low is not None and entry.high is not None:
            values = fed.attributes[:, number]
            slack = 1e-6 * (entry.high - entry.low)
            beyond = (values < entry.low - slack) | (values > entry.high + slack)
            if beyond.any():
                row = int(np.flatnonzero(beyond)[0])
                yield (
                    f"{entry.name}: basin {forcing.basins[row]} has {values[row]:g}, the model was "
                    f"trained on {entry.low:g} to {entry.high:g}"
                )


def _note(
    entry: InputEntry,
    forcing: Forcing,
    series: np.ndarray,
    beyond: np.ndarray,
    days: pd.DatetimeIndex,
) -> str:
    row = int(np.flatnonzero(beyond.any(axis=1))[0])
    day = int(np.flatnonzero(beyond[row])[0])
    return (
        f"{entry.name}: {int(beyond.sum())} of {beyond.size} values lie beyond what the model was "
        f"trained on ({entry.low:g} to {entry.high:g} {entry.units}), such as {series[row, day]:g} "
        f"in basin {forcing.basins[row]} on {days[day]:%Y-%m-%d}"
    )
