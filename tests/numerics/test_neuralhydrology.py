"""Sequence-to-one training against neuralhydrology: the same weights, the same batch.

The peer runs as a process of its own environment. Its batch is cut out of the arrays here, window
by window, so that ours is checked too: one pass of a `Trainer` is one optimiser step on it.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import Parity
from small import small_arrays, small_config
from torch import Tensor

from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.training.loop import DeviceData, Trainer

PYTHON = Path(__file__).parents[2] / ".venv-neuralhydrology" / "bin" / "python"
SCRIPT = Path(__file__).with_name("peer_neuralhydrology.py")


@dataclass(frozen=True, kw_only=True)
class Precision:
    dtype: torch.dtype
    steps: int
    """Optimiser steps compared; with more than one Adam's moments matter."""
    tolerance: float


INPUTS = Inputs(dynamic=("prcp", "srad", "tmax", "tmin", "vp"), static=("a", "b", "c", "d"))
CONFIG = small_config(
    warmup=89,
    targets_per_window=1,
    batch_size=10_000,  # the whole pass, hence one step
    hidden_size=24,
    dropout=0.0,
    loss="nse",
    schedule="constant",
    learning_rate=1e-3,
    clip_norm=1.0,
)

PRECISIONS = {
    "float32": Precision(dtype=torch.float32, steps=1, tolerance=2e-5),
    "float64": Precision(dtype=torch.float64, steps=3, tolerance=1e-10),
}
"""What is trained in, and a check that a difference there is rounding and nothing else."""

PEER_MODELS = {"lstm": "cudalstm", "ealstm": "ealstm"}


@pytest.fixture(scope="module", autouse=True)
def _environment() -> None:
    if not PYTHON.exists():
        reason = f"{PYTHON} is missing: `make neuralhydrology` builds it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def make_arrays(dtype: str) -> StudyArrays:
    """Four basins with gaps in their discharge and random inputs."""
    arrays = small_arrays(basins=4, warmup=CONFIG.warmup, train=40, validation=5)
    draws = np.random.default_rng(8)
    dynamic = draws.normal(size=(*arrays.qobs.shape, len(INPUTS.dynamic)))
    static = draws.normal(size=(len(arrays.basins), len(INPUTS.static)))
    return replace(
        arrays,
        inputs=INPUTS,
        dynamic=dynamic.astype(dtype),
        static=static.astype(dtype),
        qobs=arrays.qobs.astype(dtype),
        qobs_std=arrays.qobs_std.astype(dtype),
    )


def cut_windows(arrays: StudyArrays) -> dict[str, np.ndarray]:
    """All windows of the training period, in the order of basins and days, gaps included."""
    span = arrays.periods["train"]
    places = [(b, day) for b in range(len(arrays.basins)) for day in range(span.start, span.stop)]
    target = arrays.scaler.scale_qobs(arrays.qobs)
    return {
        "x_d": np.stack([arrays.dynamic[b, day - CONFIG.warmup : day + 1] for b, day in places]),
        "x_s": np.stack([arrays.static[b] for b, _ in places]),
        "y": np.array([target[place] for place in places]),
        "qobs_std": np.array([arrays.qobs_std[b] for b, _ in places]),
    }


def in_peer_names(model: str, values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Our parameters (or their gradients) under the peer's names and in its layout.

    The LSTMs differ in the name of the head only. The peer's EA-LSTM keeps its three gates in
    the order f, o, g, ours f, g, o, and its matrices are transposed.
    """
    result = {"head.net.0.weight": values["head.weight"], "head.net.0.bias": values["head.bias"]}
    if model == "lstm":
        result |= {name: value for name, value in values.items() if name.startswith("lstm.")}
    else:
        result |= {
            "input_gate.weight": values["weight_s"],
            "input_gate.bias": values["bias_s"],
            "dynamic_gates.weight_ih": _forget_output_cell(values["weight_x"]).T,
            "dynamic_gates.weight_hh": _forget_output_cell(values["weight_h"]).T,
            "dynamic_gates.bias": _forget_output_cell(values["bias"]),
        }
    return {name: value.detach().clone().numpy() for name, value in result.items()}


def _forget_output_cell(gates: Tensor) -> Tensor:
    forget, cell, output = gates.chunk(3)
    return torch.cat([forget, output, cell])


def run_peer(model: str, folder: Path, **given: np.ndarray) -> dict[str, np.ndarray]:
    source, out = folder / "in.npz", folder / "out.npz"
    np.savez(source, **given)
    command = [PYTHON, "-W", "ignore", SCRIPT, PEER_MODELS[model], source, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", PEER_MODELS)
def test_training_equals_the_peer(
    model: str, precision: str, tmp_path: Path, parity: Parity
) -> None:
    steps = PRECISIONS[precision].steps
    arrays = make_arrays(precision)
    batch = cut_windows(arrays)
    # Torch's kernel, as the peer's; `tests/models/test_native.py` holds the other one against it.
    trainer = Trainer(
        DeviceData(arrays), model=model, inputs=INPUTS, config=CONFIG, seed=3, kernel="torch"
    )
    trainer.model.to(PRECISIONS[precision].dtype)
    parameters = dict(trainer.model.named_parameters())
    before = in_peer_names(model, parameters)
    theirs = run_peer(
        model,
        tmp_path,
        hidden_size=np.array(CONFIG.hidden_size),
        learning_rate=np.array(CONFIG.learning_rate),
        clip_norm=np.array(CONFIG.clip_norm),
        steps=np.array(steps),
        **batch,
        **{f"weight.{name}": value for name, value in before.items()},
    )
    assert np.isnan(batch["y"]).any()
    assert (theirs["norm"] > CONFIG.clip_norm).all(), "nothing was clipped"

    x_d, x_s = torch.from_numpy(batch["x_d"]), torch.from_numpy(batch["x_s"])
    with torch.no_grad():
        y, _ = trainer.model(x_d, x_s, warmup=CONFIG.warmup)
    losses = [trainer.run_epoch() for _ in range(steps)]
    after = in_peer_names(model, parameters)
    gradients = in_peer_names(model, {n: p.grad for n, p in parameters.items()})

    peer = f"neuralhydrology {PEER_MODELS[model]} {precision}"
    tolerance = PRECISIONS[precision].tolerance
    parity.check(peer, "outputs", y[:, 0], theirs["y"], tolerance=tolerance)
    # A pass reports its loss in single precision, whatever it computed in.
    parity.check(peer, f"NSE* loss, {steps} step(s)", losses, theirs["loss"], tolerance=1e-6)
    for what, ours, allowed in (("grad", gradients, tolerance), ("weight", after, tolerance / 20)):
        names = sorted(ours)
        parity.check(
            peer,
            f"{what}s of {steps} step(s)",
            np.concatenate([ours[n].ravel() for n in names]),
            np.concatenate([theirs[f"{what}.{n}"].ravel() for n in names]),
            tolerance=allowed,
        )
    moved = max(np.abs(after[n] - before[n]).max() for n in before)
    assert moved > CONFIG.learning_rate / 2, "nothing was learnt, so nothing was compared"
