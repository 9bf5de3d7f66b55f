"""Published models come in: what another package's network says, its bundle says."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from parity import Parity
from typer.testing import CliRunner

from study.cli import app
from study.data.store import open_store
from study.errors import DataError
from study.export.bundle import read_bundle
from study.export.example import largest_difference
from study.export.forcing import read_forcing
from study.export.predict import predict
from study.export.pretrained import ealstm_run, neuralhydrology_run
from study.spec import Period
from study.spec.data import KRATZERT_2019

PYTHON = Path(__file__).parents[2] / ".venv-neuralhydrology" / "bin" / "python"
SCRIPT = Path(__file__).with_name("peer_neuralhydrology.py")
TOLERANCE = 1e-4
"""mm/d; the peers compute in float32, too, and in another order."""


def invoke(*arguments: object) -> str:
    ended = CliRunner().invoke(app, [str(a) for a in arguments])
    assert ended.exit_code == 0, ended.output + str(ended.exception)
    return ended.output


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def published_ealstm(
    weights: dict[str, np.ndarray], x_td: np.ndarray, a_s: np.ndarray
) -> np.ndarray:
    """Equations 7 to 12 of Kratzert et al. 2019 on one window; hidden state after the last day."""
    size = len(weights["lstm.bias_s"])
    h, c = np.zeros(size), np.zeros(size)
    i = sigmoid(a_s @ weights["lstm.weight_sh"] + weights["lstm.bias_s"])
    for x in x_td:
        gates = x @ weights["lstm.weight_ih"] + h @ weights["lstm.weight_hh"] + weights["lstm.bias"]
        f, o, g = np.split(gates, 3)
        c = sigmoid(f) * c + i * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def published_lstm(weights: dict[str, np.ndarray], x_td: np.ndarray) -> np.ndarray:
    """Equations 1 to 6; hidden state after the last day."""
    size = weights["lstm.weight_hh"].shape[0]
    h, c = np.zeros(size), np.zeros(size)
    for x in x_td:
        gates = x @ weights["lstm.weight_ih"] + h @ weights["lstm.weight_hh"] + weights["lstm.bias"]
        f, i, o, g = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


SEQUENCE, HIDDEN = 40, 6
INPUTS = ("prcp", "srad", "tmax", "tmin", "vp")
SHAPES: dict[str, Callable[[int], dict[str, tuple[int, ...]]]] = {
    "ealstm": lambda h: {
        "lstm.weight_ih": (5, 3 * h), "lstm.weight_hh": (h, 3 * h), "lstm.bias": (3 * h,),
        "lstm.weight_sh": (27, h), "lstm.bias_s": (h,)},
    "concat_static": lambda h: {
        "lstm.weight_ih": (32, 4 * h), "lstm.weight_hh": (h, 4 * h), "lstm.bias": (4 * h,)},
    "no_static": lambda h: {
        "lstm.weight_ih": (5, 4 * h), "lstm.weight_hh": (h, 4 * h), "lstm.bias": (4 * h,)},
}  # fmt: skip


def write_published_run(folder: Path, kind: str, store: Path, seed: int = 1) -> dict[str, Any]:
    """A run in the layout of the 2019 release, its weights drawn; returns them as float64."""
    draws = np.random.default_rng(seed)
    shapes = SHAPES[kind](HIDDEN) | {"fc.weight": (1, HIDDEN), "fc.bias": (1,)}
    weights = {n: draws.normal(0, 0.3, s).astype(np.float32) for n, s in shapes.items()}
    folder.mkdir(parents=True)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    torch.save({n: torch.zeros_like(t) for n, t in state.items()}, folder / "model_epoch9.pt")
    torch.save(state, folder / "model_epoch30.pt")
    config = {
        "camels_root": "/data/camels", "hidden_size": HIDDEN, "seq_length": SEQUENCE,
        "no_static": kind == "no_static", "concat_static": kind == "concat_static",
        "train_start": "01101999", "train_end": "30092008",
        "val_start": "01101989", "val_end": "30091999", "seed": seed, "dropout": 0.4,
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))
    data = open_store(store)
    names = list(reversed(KRATZERT_2019))  # the release keeps the order in which files were found
    table = data[["gauge_lat", *names]].to_dataframe().rename_axis("gauge_id")
    table["gauge_name"] = "somewhere"
    with closing(sqlite3.connect(folder / "attributes.db")) as database:
        table.to_sql("basin_attributes", database)
    return {name: values.astype(np.float64) for name, values in weights.items()}


@pytest.mark.parametrize("kind", list(SHAPES))
def test_a_run_of_the_2019_release(
    kind: str, synthetic_store: Path, tmp_path: Path, parity: Parity
) -> None:
    weights = write_published_run(tmp_path / "run", kind, synthetic_store)
    data = open_store(synthetic_store)
    basins = [str(b) for b in data["basin"].values]
    trained = basins[:5]  # the sixth is new to it
    (tmp_path / "basins.txt").write_text("\n".join(trained))
    invoke("import", "ealstm-run", tmp_path / "run", "--basins", tmp_path / "basins.txt",
           "--out", tmp_path / "bundle")  # fmt: skip
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.periods["test"] == "1989-10-01:1999-09-30"
    assert largest_difference(bundle, "onnx")[1] <= 1
    period = Period.model_validate("1985-10-01:1985-10-12")
    found = predict(bundle, read_forcing(synthetic_store), period).data["qsim"]

    dynamic = np.stack([data[name].values for name in INPUTS], axis=-1).astype(np.float64)
    means, stds = np.array(list(ealstm_run.FORCING.values())).T
    dynamic = (dynamic - means) / stds
    attributes = data[list(reversed(KRATZERT_2019))].to_dataframe().astype(np.float64)
    of_training = attributes.loc[trained]
    static = ((attributes - of_training.mean()) / of_training.std(ddof=1)).to_numpy()
    first = int(np.flatnonzero(data["time"].values == np.datetime64("1985-10-01"))[0])
    expected = np.empty((6, 12))
    for b in range(6):
        for day in range(12):
            window = dynamic[b, first + day - SEQUENCE + 1 : first + day + 1]
            if kind == "ealstm":
                h = published_ealstm(weights, window, static[b])
            else:
                beside = np.tile(static[b], (SEQUENCE, 1))
                fed = window if kind == "no_static" else np.hstack([window, beside])
                h = published_lstm(weights, fed)
            y = weights["fc.weight"][0] @ h + weights["fc.bias"][0]
            expected[b, day] = max(0, y * ealstm_run.DISCHARGE[1] + ealstm_run.DISCHARGE[0])
    assert (expected > 0).mean() > 0.5 and expected.std() > 0.05
    parity.check_flow(
        "equations of the 2019 release", f"imported {kind}", found, expected, mm_per_day=TOLERANCE
    )


def test_several_runs_are_an_ensemble(synthetic_store: Path, tmp_path: Path) -> None:
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    (tmp_path / "basins.txt").write_text("\n".join(basins))
    runs = [tmp_path / f"run{seed}" for seed in (1, 2)]
    for seed, run in enumerate(runs):
        write_published_run(run, "ealstm", synthetic_store, seed)
    ids = ["--basins", tmp_path / "basins.txt"]
    told = invoke("import", "ealstm-run", *runs, *ids, "--out", tmp_path / "both.tar")
    assert "2 members" in told
    assert read_bundle(tmp_path / "both.tar").manifest.members == 2
    write_published_run(tmp_path / "run3", "no_static", synthetic_store)
    mixed = ["import", "ealstm-run", runs[0], tmp_path / "run3", *ids, "--out", tmp_path / "x"]
    ended = CliRunner().invoke(app, [str(a) for a in mixed])
    assert isinstance(ended.exception, DataError) and "differs from run1" in str(ended.exception)


class Evil:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def evil_weights(run: Path) -> None:
    torch.save({"lstm.bias": Evil(run / "trace")}, run / "model_epoch30.pt")


def config(**changes: Any) -> Callable[[Path], Any]:
    def apply(run: Path) -> None:
        content = json.loads((run / "cfg.json").read_text()) | changes
        (run / "cfg.json").write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (evil_weights, "is not loaded, since that could run code"),
        (lambda r: (r / "model_epoch30.pt").write_bytes(b"x"), "is not loaded"),
        (lambda r: [p.unlink() for p in r.glob("*.pt")], "has no model_epochNNN.pt"),
        (lambda r: (r / "cfg.json").unlink(), "is no configuration of the 2019 release"),
        (lambda r: (r / "cfg.json").write_text("{}"), "it lacks `hidden_size`"),
        (config(hidden_size=7), "its weights are not those of the model"),
        (config(no_static=True), "its weights are not those of the model"),
        (lambda r: (r / "attributes.db").unlink(), "is no table of attributes"),
        (lambda r: (r / "attributes.db").write_bytes(b"x" * 5000), "is no table of attributes"),
    ],
)
def test_a_run_that_is_none(
    synthetic_store: Path, tmp_path: Path, damage: Callable[[Path], Any], told: str
) -> None:
    run = tmp_path / "run"
    write_published_run(run, "ealstm", synthetic_store)
    damage(run)
    basins = [str(b) for b in open_store(synthetic_store)["basin"].values]
    with pytest.raises(DataError) as refused:
        ealstm_run.read_run(run, basins)
    assert told in str(refused.value) and str(run) in str(refused.value)
    assert not (run / "trace").exists()


def test_basins_and_epochs_that_are_not_there(synthetic_store: Path, tmp_path: Path) -> None:
    write_published_run(tmp_path / "run", "ealstm", synthetic_store)
    with pytest.raises(DataError, match="has no basin 00000000 of --basins"):
        ealstm_run.read_run(tmp_path / "run", ["00000000"])
    with pytest.raises(DataError, match="has no weights of epoch 3, but those of 9, 30"):
        ealstm_run.read_run(tmp_path / "run", [], epoch=3)


@pytest.fixture(scope="module")
def _peer() -> None:
    if not PYTHON.exists():
        reason = f"{PYTHON} is missing: `make neuralhydrology` builds it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def peer_config(root: Path, folder: Path, model: str, last: int, statics: list[str]) -> Path:
    basins = folder / "basins.txt"
    basins.write_text("\n".join(sorted(p.name[:8] for p in root.rglob("*_streamflow_qc.txt"))))
    content = {
        "experiment_name": model, "run_dir": str(folder / "runs"), "device": "cpu",
        **{f"{p}_basin_file": str(basins) for p in ("train", "validation", "test")},
        "train_start_date": "01/10/1982", "train_end_date": "30/09/1984",
        "validation_start_date": "01/10/1984", "validation_end_date": "30/09/1985",
        "test_start_date": "01/10/1985", "test_end_date": "30/11/1985",
        "dataset": "camels_us", "data_dir": str(root), "forcings": ["maurer_extended"],
        "dynamic_inputs": ["prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)"],
        "target_variables": ["QObs(mm/d)"], "static_attributes": statics,
        "model": model, "head": "regression", "output_activation": "linear", "hidden_size": 10,
        "initial_forget_bias": 3, "output_dropout": 0.2, "loss": "NSE", "optimizer": "Adam",
        "learning_rate": {0: 0.01}, "batch_size": 64, "epochs": 2, "max_updates_per_epoch": 6,
        "clip_gradient_norm": 1, "seq_length": 60, "predict_last_n": last, "seed": 3,
        "validate_every": 0, "num_workers": 0, "log_tensorboard": False, "metrics": ["NSE"],
        "save_weights_every": 1,
    }  # fmt: skip
    (folder / "config.yml").write_text(yaml.safe_dump(content))
    return folder / "config.yml"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "last", "statics"),
    [
        ("cudalstm", 1, ["p_mean", "elev_mean", "area_gages2"]),
        ("cudalstm", 10, []),
        ("ealstm", 1, ["p_mean", "elev_mean", "area_gages2"]),
    ],
)
def test_a_run_of_neuralhydrology(
    _peer: None,
    model: str,
    last: int,
    statics: list[str],
    synthetic_root: Path,
    synthetic_store: Path,
    tmp_path: Path,
    parity: Parity,
) -> None:
    """Trained by itself for a few steps; its own predictions of the test period are matched."""
    made = peer_config(synthetic_root, tmp_path, model, last, statics)
    environment = os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    command = [str(PYTHON), str(SCRIPT), str(made), str(tmp_path / "out.npz")]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = dict(np.load(tmp_path / "out.npz"))
    run = Path(str(said.pop("run_dir")))
    invoke("import", "neuralhydrology-run", run, "--out", tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    assert [e.name for e in bundle.manifest.dynamic_inputs] == list(INPUTS)
    period = Period.model_validate("1985-10-01:1985-11-30")
    found = predict(bundle, read_forcing(synthetic_store), period).data["qsim"]
    expected = np.stack([said[basin] for basin in found["basin"].values]).clip(min=0)
    days = expected.shape[1]  # whole windows only
    assert days >= 60 and expected.std() > 0.01
    kind = f"imported {model}, {len(statics)} attributes, {last} day(s) a window"
    parity.check_flow(
        "neuralhydrology", kind, found.values[:, :days], expected, mm_per_day=TOLERANCE
    )
    refuse_what_cannot_be_imported(run, tmp_path / "copy")


def refuse_what_cannot_be_imported(run: Path, copy: Path) -> None:
    scaling = Path("train_data", "train_data_scaler.yml")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": "mclstm"}, "`model: mclstm` cannot be imported"),
        ({"head": "gmm"}, "`head: gmm` cannot be imported"),
        ({"statics_embedding": {"type": "fc"}}, "with `statics_embedding` cannot"),
        ({"target_variables": ["a", "b"]}, "one target"),
        ({"dynamic_inputs": [["a"], ["b"]]}, "must be one list of names"),
        ({"dynamic_inputs": ["prcp(mm/day)"]}, "its weights are not those of the model"),
    ]
    for changes, told in cases:
        shutil.copytree(run, copy)
        content = yaml.safe_load((copy / "config.yml").read_text()) | changes
        (copy / "config.yml").write_text(yaml.safe_dump(content))
        with pytest.raises(DataError) as refused:
            neuralhydrology_run.read_run(copy)
        assert told in str(refused.value)
        shutil.rmtree(copy)
    for damaged in ("!!python/object/apply:os.system ['true']", "[", "a: 1"):
        shutil.copytree(run, copy)
        (copy / scaling).write_text(damaged)
        with pytest.raises(DataError, match="scaling"):
            neuralhydrology_run.read_run(copy)
        shutil.rmtree(copy)


def test_inputs_of_several_products_keep_their_names() -> None:
    from study.export.pretrained.run import canonical

    assert canonical(["PRCP(mm/day)", "Tmax(C)"]) == {"PRCP(mm/day)": "prcp", "Tmax(C)": "tmax"}
    both = ["prcp(mm/day)_daymet", "prcp(mm/day)_nldas"]
    assert canonical(both) == {name: name for name in both}
    assert canonical(["pet", "prcp"]) == {"pet": "pet", "prcp": "prcp"}
