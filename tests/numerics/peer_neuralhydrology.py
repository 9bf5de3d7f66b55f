"""Optimiser steps of neuralhydrology on a given batch, from given weights.

Run by the environment that `make neuralhydrology` builds, never imported: it has other packages
than the tests. Only the peer's own model, loss and optimiser compute here.

    python peer_neuralhydrology.py cudalstm|ealstm IN.npz OUT.npz

IN   hidden_size, learning_rate, clip_norm, steps: numbers
     x_d (window, day, input), x_s (window, attribute), y (window,), qobs_std (window,)
     weight.NAME for each of the model's parameters
OUT  y (window,) of the first step, loss and norm (step,), grad.NAME and weight.NAME after the last
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neuralhydrology.modelzoo import get_model
    from neuralhydrology.training import get_loss_obj, get_optimizer
    from neuralhydrology.utils.config import Config


def make_config(model: str, given: dict[str, np.ndarray]) -> Config:
    return Config(
        {
            "model": model,
            "head": "regression",
            "output_activation": "linear",
            "hidden_size": int(given["hidden_size"]),
            "initial_forget_bias": None,
            "output_dropout": 0.0,
            "dynamic_inputs": [f"input{i}" for i in range(given["x_d"].shape[-1])],
            "static_attributes": [f"attribute{i}" for i in range(given["x_s"].shape[-1])],
            "target_variables": ["qobs"],
            "seq_length": given["x_d"].shape[1],
            "predict_last_n": 1,
            "loss": "NSE",
            "optimizer": "Adam",
            "learning_rate": {0: float(given["learning_rate"])},
        }
    )


def make_batch(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """The peer's names and shapes; targets exist on the last day only."""
    x_d = torch.from_numpy(given["x_d"])
    y = torch.full((*x_d.shape[:2], 1), torch.nan, dtype=x_d.dtype)
    y[:, -1, 0] = torch.from_numpy(given["y"])
    return {
        "x_d": {f"input{i}": x_d[..., i : i + 1] for i in range(x_d.shape[-1])},
        "x_s": torch.from_numpy(given["x_s"]),
        "y": y,
        "per_basin_target_stds": torch.from_numpy(given["qobs_std"])[:, None, None],
    }


def main(kind: str, source: str, out: str) -> None:
    torch.set_num_threads(1)
    given = dict(np.load(source))
    config, batch = make_config(kind, given), make_batch(given)
    model = get_model(config).to(batch["x_s"].dtype)
    loss_of = get_loss_obj(config)
    model.load_state_dict(
        {n.removeprefix("weight."): torch.from_numpy(a) for n, a in given.items() if "weight." in n}
    )
    optimizer = get_optimizer(model, config)
    outputs, losses, norms = [], [], []
    for _ in range(int(given["steps"])):
        optimizer.zero_grad()
        prediction = model(batch)
        loss, _ = loss_of(prediction, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), float(given["clip_norm"])))
        optimizer.step()
        outputs.append(prediction["y_hat"][:, -1, 0].detach())
        losses.append(loss.detach())
    result = {f"weight.{n}": p.detach() for n, p in model.named_parameters()}
    result |= {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    result |= {"y": outputs[0], "loss": torch.stack(losses), "norm": torch.stack(norms)}
    np.savez(out, **{n: t.numpy() for n, t in result.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
