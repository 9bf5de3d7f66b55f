"""Runs of neuralhydrology: `cudalstm` and `ealstm` without embeddings.

A run is a folder with `config.yml`, `model_epochNNN.pt` and `train_data/train_data_scaler.yml`. Its
LSTM is torch's; its EA-LSTM keeps the gates f, o, g side by side in matrices that are multiplied
from the right, and the input gate as a linear layer. Attributes are fed in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from torch import Tensor

from study.errors import DataError
from study.export.manifest import InputEntry, Simulation
from study.export.pretrained.ealstm_run import fog_to_fgo
from study.export.pretrained.run import (
    KNOWN_INPUTS,
    ImportedRun,
    canonical,
    make_manifest,
    read_weights,
    take,
)

MADE_BY = "neuralhydrology"
MODELS = {"cudalstm": "lstm", "ealstm": "ealstm"}
REFUSED = (
    *("statics_embedding", "dynamics_embedding", "use_basin_id_encoding", "autoregressive_inputs"),
    *("evolving_attributes", "mass_inputs", "nan_handling_method", "timestep_counter"),
    *("hindcast_inputs", "forecast_inputs", "dynamic_conceptual_inputs", "mc_dropout"),
)
"""Settings that make the network another one than an LSTM or EA-LSTM with a linear head."""
PERIODS = ("train", "validation", "test")


def read_run(folder: Path, epoch: int | None = None) -> ImportedRun:
    """Read a run.

    Args:
        folder: The run's.
        epoch: Which weights; the last if None.

    Raises:
        DataError: A file is missing, or the run is of a kind that cannot be imported.
    """
    config = _config(folder)
    model, size = MODELS[str(config["model"]).lower()], int(config["hidden_size"])
    static = sorted([*_list(config, "static_attributes"), *_list(config, "hydroatlas_attributes")])
    dynamic = _list(config, "dynamic_inputs")
    scaler = _Scaler(folder / "train_data" / "train_data_scaler.yml")
    loaded, epoch = read_weights(folder, epoch)
    convert = _lstm if model == "lstm" else _ealstm
    weights = convert(loaded, len(dynamic), len(static), size, folder)
    names = canonical(dynamic)
    target = _list(config, "target_variables")[0]
    last = int(config.get("predict_last_n", 1))
    manifest = make_manifest(
        folder=folder,
        made_by=MADE_BY,
        epoch=epoch,
        model=model,
        hidden_size=size,
        simulation=Simulation(
            mode="windows", warmup=int(config["seq_length"]) - last, targets_per_window=last
        ),
        training={k: v for k, v in config.items() if _plain(v) and not k.endswith("_dir")},
        dynamic=[
            InputEntry(name=names[n], units=KNOWN_INPUTS.get(names[n]), source=n, **scaler.daily(n))
            for n in dynamic
        ],
        static=[InputEntry(name=n, **scaler.attribute(n)) for n in static],
        target=InputEntry(name="qobs", units="mm/d", source=target, **scaler.daily(target)),
        periods=_periods(config),
        basins=(),
    )
    table = pd.DataFrame(columns=static, index=pd.Index([], name="gauge_id"), dtype="float64")
    return ImportedRun(manifest=manifest, weights=weights, attributes=table)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yml"
    try:
        config = yaml.safe_load(path.read_text())
        missing = [k for k in ("model", "hidden_size", "seq_length", "dynamic_inputs",
                               "target_variables") if k not in config]  # fmt: skip
        if missing:
            raise ValueError(f"it lacks `{missing[0]}`")
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: is no configuration of neuralhydrology ({reason}); give the folder of a run"
        ) from None
    kinds = {
        "model": tuple(MODELS),
        "head": ("regression",),
        "output_activation": ("linear",),
    }
    for key, allowed in kinds.items():
        value = str(config.get(key, allowed[0])).lower()
        if value not in allowed:
            raise DataError(
                f"{path}: `{key}: {value}` cannot be imported; only {', '.join(allowed)} can"
            )
    for key in REFUSED:
        if config.get(key):
            raise DataError(f"{path}: a run with `{key}` cannot be imported")
    if len(_list(config, "target_variables")) != 1 or isinstance(config["seq_length"], dict):
        raise DataError(f"{path}: only runs with one target and one time step can be imported")
    if not all(isinstance(n, str) for n in _list(config, "dynamic_inputs")):
        raise DataError(f"{path}: `dynamic_inputs` must be one list of names")
    return dict(config)


def _list(config: Mapping[str, Any], key: str) -> list[Any]:
    value = config.get(key) or []
    return list(value) if isinstance(value, list) else [value]


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list | dict | None)


class _Scaler:
    """`train_data_scaler.yml`: centre and scale of everything."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._content = yaml.safe_load(path.read_text())
            if not isinstance(self._content, dict):
                raise ValueError("it is no mapping")
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{path}: the run's scaling cannot be read ({reason}); runs of neuralhydrology "
                "before 1.0 keep it as a pickle, which is not loaded since it could run code"
            ) from None

    def daily(self, name: str) -> dict[str, float]:
        """Of a daily input or of discharge."""
        return self._pair("xarray_feature_center", "xarray_feature_scale", name)

    def attribute(self, name: str) -> dict[str, float]:
        return self._pair("attribute_means", "attribute_stds", name)

    def _pair(self, centre: str, scale: str, name: str) -> dict[str, float]:
        try:
            mean, std = (self._number(self._content[key], name) for key in (centre, scale))
            if not std > 0:
                raise ValueError(f"its scale is {std}")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self._path}: has no usable scaling of `{name}` ({error})") from None
        return {"mean": mean, "std": std}

    @staticmethod
    def _number(table: Any, name: str) -> float:
        """A plain number, or an xarray dataset written as a mapping."""
        if "data_vars" in table:
            return float(table["data_vars"][name]["data"])
        return float(table[name])


def _lstm(
    loaded: Mapping[str, Tensor], num_dynamic: int, num_static: int, size: int, folder: Path
) -> dict[str, Tensor]:
    shapes = {
        "lstm.weight_ih_l0": (4 * size, num_dynamic + num_static),
        "lstm.weight_hh_l0": (4 * size, size),
        "lstm.bias_ih_l0": (4 * size,),
        "lstm.bias_hh_l0": (4 * size,),
        **_head_shapes(size),
    }
    taken = take(loaded, shapes, folder)
    return {n: t for n, t in taken.items() if n.startswith("lstm.")} | _head(taken)


def _ealstm(
    loaded: Mapping[str, Tensor], num_dynamic: int, num_static: int, size: int, folder: Path
) -> dict[str, Tensor]:
    shapes = {
        "input_gate.weight": (size, num_static),
        "input_gate.bias": (size,),
        "dynamic_gates.weight_ih": (num_dynamic, 3 * size),
        "dynamic_gates.weight_hh": (size, 3 * size),
        "dynamic_gates.bias": (3 * size,),
        **_head_shapes(size),
    }
    taken = take(loaded, shapes, folder)
    return {
        "weight_x": fog_to_fgo(taken["dynamic_gates.weight_ih"].T),
        "weight_h": fog_to_fgo(taken["dynamic_gates.weight_hh"].T),
        "bias": fog_to_fgo(taken["dynamic_gates.bias"]),
        "weight_s": taken["input_gate.weight"],
        "bias_s": taken["input_gate.bias"],
        **_head(taken),
    }


def _head_shapes(size: int) -> dict[str, tuple[int, ...]]:
    return {"head.net.0.weight": (1, size), "head.net.0.bias": (1,)}


def _head(taken: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"head.weight": taken["head.net.0.weight"], "head.bias": taken["head.net.0.bias"]}


def _periods(config: Mapping[str, Any]) -> dict[str, str]:
    periods = {}
    for name in PERIODS:
        first, last = config.get(f"{name}_start_date"), config.get(f"{name}_end_date")
        if isinstance(first, str) and isinstance(last, str):
            days = (
                pd.to_datetime(d, format="%d/%m/%Y").strftime("%Y-%m-%d") for d in (first, last)
            )
            periods[name] = ":".join(days)
    return periods
