"""Prediction from a bundle: forcing in, discharge out; needs neither Ray nor MLflow."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from study.data.groups import read_groups
from study.data.scaling import stack_scaled
from study.errors import BundleError, DataError
from study.evaluation.simulate import simulate, simulate_windows
from study.export.bundle import Bundle, InputEntry
from study.spec import Period, parse_period


@dataclass(frozen=True, kw_only=True)
class Forcing:
    """Unscaled inputs of a prediction."""

    source: str
    """Named in errors."""
    data: xr.Dataset
    """Daily inputs `(basin, time)`; attributes `(basin,)`, where the source has them."""


def read_forcing(path: Path) -> Forcing:
    """Read daily inputs.

    Args:
        path: A data store or other Zarr folder, a NetCDF file (`.nc`), each with dims
            `(basin, time)`; or a CSV with columns `gauge_id`, `date` and the inputs by name.

    Raises:
        DataError: The file cannot be read as one of these.
    """
    try:
        if path.is_dir():
            data = xr.open_zarr(path, chunks=None)
            if "digests" in data.attrs:  # a data store, which may have groups added
                data = read_groups(path, data)
        elif path.suffix == ".nc":
            data = xr.open_dataset(path)
        else:
            table = pd.read_csv(path, dtype={"gauge_id": str}, parse_dates=["date"])
            data = table.set_index(["gauge_id", "date"]).to_xarray()
            data = data.rename(gauge_id="basin", date="time")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as forcing ({error}); give a data store, a NetCDF file with "
            "dims (basin, time), or a CSV with columns gauge_id, date and the inputs"
        ) from None
    if not {"basin", "time"} <= set(data.dims):
        raise DataError(f"{path}: must have the dims basin and time, but has {list(data.dims)}")
    return Forcing(source=str(path), data=data)


def predict(bundle: Bundle, forcing: Forcing, period: Period | None = None) -> xr.Dataset:
    """Simulate discharge.

    Args:
        bundle: The model.
        forcing: Its inputs, and attributes for basins that the bundle does not know.
        period: Days to predict; all that the forcing allows after the warm-up if None.

    Returns:
        `qsim (basin, time)`, mean of the members, and `qsim_members (member, basin, time)`; mm/d.

    Raises:
        DataError: An input or attribute is missing; says which, where and from when on.
    """
    config = bundle.manifest.training
    days = _days(forcing, period, config.warmup)
    dynamic = _dynamic(bundle, forcing, days)
    static = _static(bundle, forcing)
    y = [
        simulate(model, dynamic, static, warmup=config.warmup)
        if config.simulation == "continuous"
        else simulate_windows(
            model, dynamic, static, warmup=config.warmup, targets=config.targets_per_window
        )
        for model in bundle.members
    ]
    baseline = _baseline(bundle, forcing, days[config.warmup :])
    qsim = bundle.manifest.scaler.unscale_qsim(torch.stack(y) + baseline).numpy()
    units = {"units": "mm/d"}
    return xr.Dataset(
        {
            "qsim": (("basin", "time"), qsim.mean(axis=0), units),
            "qsim_members": (("member", "basin", "time"), qsim, units),
        },
        coords={
            "basin": forcing.data["basin"].values.astype(object),
            "time": days[config.warmup :],
        },
        attrs={"study": bundle.manifest.study, "arm": bundle.manifest.arm},
    )


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


def write_prediction(prediction: xr.Dataset, out: Path) -> None:
    """Write a prediction as CSV, NetCDF (`.nc`) or Zarr (`.zarr`), by the name of the file.

    Raises:
        DataError: The file exists, or its ending is none of these.
    """
    if out.exists():
        raise DataError(f"{out}: exists already; remove it, or give another --out")
    if out.suffix == ".csv":
        table = prediction["qsim"].to_series().rename_axis(["gauge_id", "date"])
        table.to_csv(out)
    elif out.suffix == ".nc":
        prediction.to_netcdf(out, engine="h5netcdf")
    elif out.suffix == ".zarr":
        prediction.to_zarr(out, zarr_format=2, consolidated=True)
    else:
        raise DataError(f"{out}: the file's ending must be .csv, .nc or .zarr")


def _days(forcing: Forcing, period: Period | None, warmup: int) -> pd.DatetimeIndex:
    """All days that are fed, warm-up first."""
    there = pd.DatetimeIndex(forcing.data["time"].values)
    if period is not None:
        first = period.start - datetime.timedelta(days=warmup)
        return pd.date_range(first, period.end)
    if len(there) <= warmup:
        raise DataError(
            f"{forcing.source}: has {len(there)} days; the model needs {warmup} to warm up "
            "before the first it predicts"
        )
    return pd.date_range(there[0], there[-1])


def _dynamic(bundle: Bundle, forcing: Forcing, days: pd.DatetimeIndex) -> torch.Tensor:
    """(basin, day, input), standardised."""
    data = forcing.data.reindex(time=days)
    entries = bundle.manifest.dynamic_inputs
    values = {entry.name: _series(bundle, entry, forcing.source, data) for entry in entries}
    shape = (data.sizes["basin"], len(days))
    return torch.from_numpy(stack_scaled(values, bundle.manifest.scaler, *shape))


def _baseline(bundle: Bundle, forcing: Forcing, days: pd.DatetimeIndex) -> torch.Tensor | float:
    """(basin, day) discharge that the networks correct, in standard units; 0 if they do not."""
    entry = bundle.manifest.baseline
    if entry is None:
        return 0.0
    series = _series(bundle, entry, forcing.source, forcing.data.reindex(time=days))
    return torch.from_numpy(bundle.manifest.scaler.scale_qobs(series))


def _series(bundle: Bundle, entry: InputEntry, source: str, data: xr.Dataset) -> np.ndarray:
    """(basin, day) float32 of one input, not standardised."""
    if entry.name not in data:
        needed = (*bundle.manifest.dynamic_inputs, bundle.manifest.baseline)
        listed = dict.fromkeys(i.name for i in needed if i is not None)
        raise DataError(
            f"{source}: has no input `{entry.name}` ({entry.units}); the model needs "
            f"{', '.join(listed)}"
        )
    units = data[entry.name].attrs.get("units", entry.units)
    if units != entry.units:
        raise DataError(f"{source}: `{entry.name}` is in {units}, the model takes {entry.units}")
    series = data[entry.name].transpose("basin", "time").values.astype(np.float32)
    gaps = ~np.isfinite(series)
    if gaps.any():
        row, day = (int(i[0]) for i in np.nonzero(gaps))
        raise DataError(
            f"{source}: basin {data['basin'].values[row]} has no `{entry.name}` on "
            f"{np.datetime_as_string(data['time'].values[day], 'D')}; fill the gap, or give "
            f"another --period (the model is fed from {bundle.manifest.training.warmup} days "
            "before it)"
        )
    return series


def _static(bundle: Bundle, forcing: Forcing) -> torch.Tensor:
    """Attributes of the basins: as the model was trained with where it knows a basin, of the file
    where it is new."""
    basins = [str(b) for b in forcing.data["basin"].values]
    known = bundle.attributes.reindex(basins)
    new = [b for b in basins if b not in bundle.attributes.index]
    if new and bundle.manifest.static_inputs and bundle.manifest.attributes_source != "published":
        raise DataError(
            f"{forcing.source}: basin {new[0]} is new to the model, whose climate attributes were "
            "recomputed from its own training days; predict basins that it was trained on"
        )
    values: dict[str, np.ndarray] = {}
    for entry in bundle.manifest.static_inputs:
        column = known[entry.name]
        if new:
            of_file = pd.Series(_attribute(forcing, entry.name, new[0]), index=basins)
            column = column.where(~column.index.isin(new), of_file)
        values[entry.name] = column.to_numpy(np.float64)
        if not np.isfinite(values[entry.name]).all():
            basin = basins[int(np.flatnonzero(~np.isfinite(values[entry.name]))[0])]
            raise DataError(f"{forcing.source}: basin {basin} has no value of `{entry.name}`")
    return torch.from_numpy(stack_scaled(values, bundle.manifest.scaler, len(basins)))


def _attribute(forcing: Forcing, name: str, new_basin: str) -> np.ndarray:
    """(basin,) values of an attribute; a CSV repeats them on every day."""
    if name not in forcing.data:
        raise DataError(
            f"{forcing.source}: basin {new_basin} is new to the model and the file has no "
            f"attribute `{name}`; add it as a variable with the dim basin, or a column of a CSV"
        )
    values = forcing.data[name].values.astype(np.float64)
    if "time" not in forcing.data[name].dims:
        return values
    if (values != values[:, :1]).any():
        raise DataError(
            f"{forcing.source}: attribute `{name}` changes with time; it has one value a basin"
        )
    return np.asarray(values[:, 0])
