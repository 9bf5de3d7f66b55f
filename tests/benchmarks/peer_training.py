"""Accuracy over time of neuralhydrology on basins in CAMELS-US layout.

Run by the environment that `make neuralhydrology` builds, never imported: it has other packages
than the tests. Only the peer's own data set, model, loss and optimiser compute here.

    python peer_training.py ROOT BASINS --seq 365 --last-n 1 --batch 256 --updates 100 --rounds 20

A round is as many updates as said and a score: the median over basins of the NSE of one continuous
run over the validation period. Prints a line of JSON a round, with the seconds of training so far;
reading data and scoring do not count. The learning rate falls by half after half of the rounds, and
to a tenth after four fifths.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neuralhydrology.datasetzoo import get_dataset
    from neuralhydrology.training.basetrainer import BaseTrainer
    from neuralhydrology.utils.config import Config

TRAIN, VALIDATION = ("01/10/1999", "30/09/2008"), ("01/10/1981", "30/09/1989")
VALIDATION_DAYS, WARMUP = 2922, 365
ATTRIBUTES = [
    "p_mean",
    "pet_mean",
    "aridity",
    "p_seasonality",
    "frac_snow",
    "high_prec_freq",
    "high_prec_dur",
    "low_prec_freq",
    "low_prec_dur",
    "elev_mean",
    "slope_mean",
    "area_gages2",
    "frac_forest",
    "lai_max",
    "lai_diff",
    "gvf_max",
    "gvf_diff",
    "soil_depth_pelletier",
    "soil_depth_statsgo",
    "soil_porosity",
    "soil_conductivity",
    "max_water_content",
    "sand_frac",
    "silt_frac",
    "clay_frac",
    "carbonate_rocks_frac",
    "geol_permeability",
]


def settings(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The published ones, but for what the command line says."""
    rate, rounds = given.learning_rate, given.rounds
    falls = {0: rate, math.ceil(rounds / 2): rate / 2, math.ceil(rounds * 0.8): rate / 10}
    periods = {
        f"{name}_{end}_date": date
        for name, dates in (("train", TRAIN), ("validation", VALIDATION), ("test", VALIDATION))
        for end, date in zip(("start", "end"), dates, strict=True)
    }
    return periods | {
        "experiment_name": "peer",
        "run_dir": str(folder),
        "train_basin_file": given.basins,
        "validation_basin_file": given.basins,
        "test_basin_file": given.basins,
        "seed": given.seed,
        "device": "cpu",
        "validate_every": 10**6,
        "metrics": ["NSE"],
        "model": "cudalstm",
        "head": "regression",
        "output_activation": "linear",
        "hidden_size": given.hidden,
        "initial_forget_bias": 3,
        "output_dropout": 0.4,
        "optimizer": "Adam",
        "loss": "NSE",
        "learning_rate": falls,
        "batch_size": given.batch,
        "epochs": 1,
        "clip_gradient_norm": 1,
        "predict_last_n": given.last_n,
        "seq_length": given.seq,
        "num_workers": 0,
        "log_interval": 10**6,
        "log_tensorboard": False,
        "log_n_figures": 0,
        "save_weights_every": 10**6,
        "save_validation_results": False,
        "dataset": "camels_us",
        "data_dir": str(Path(given.root).resolve()),
        "forcings": ["maurer_extended"],
        "dynamic_inputs": ["prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)"],
        "target_variables": ["QObs(mm/d)"],
        "static_attributes": ATTRIBUTES,
        "max_updates_per_epoch": given.updates,
    }


def validation_batch(content: dict[str, Any], trainer: BaseTrainer) -> dict[str, Any]:
    """Every basin's validation period as one window, with a year before it."""
    whole = copy.deepcopy(content)
    whole |= {"seq_length": WARMUP + VALIDATION_DAYS, "predict_last_n": VALIDATION_DAYS}
    path = Path(content["run_dir"]) / "whole.yml"
    path.write_text(yaml.safe_dump(whole))
    data = get_dataset(
        cfg=Config(path), is_train=False, period="validation", scaler=trainer._scaler
    )
    last: dict[str, int] = {}
    for index, (basin, _) in data.lookup_table.items():
        last[basin] = index
    samples = [data[index] for index in last.values()]
    return data.collate_fn(samples)


@torch.no_grad()
def median_nse(model: torch.nn.Module, batch: dict[str, Any]) -> float:
    model.eval()
    sim = model(batch)["y_hat"][:, -VALIDATION_DAYS:, 0].numpy().astype(np.float64)
    obs = batch["y"][:, -VALIDATION_DAYS:, 0].numpy().astype(np.float64)
    gap = np.isnan(obs)
    errors = np.where(gap, 0, (sim - obs) ** 2).sum(1)
    spread = np.nansum((obs - np.nanmean(obs, axis=1, keepdims=True)) ** 2, axis=1)
    return float(np.median(1 - errors / spread))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("basins")
    for name, default in {"hidden": 64, "seq": 365, "last-n": 1, "batch": 256, "updates": 100,
                          "rounds": 20, "threads": 1, "seed": 1}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, default=math.inf)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        content = settings(given, Path(folder))
        path = Path(folder) / "config.yml"
        path.write_text(yaml.safe_dump(content))
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            trainer = BaseTrainer(Config(path))
            trainer.initialize_training()
            batch = validation_batch(content, trainer)
        seconds = processor = 0.0
        rates = content["learning_rate"]
        for number in range(given.rounds):
            for group in trainer.optimizer.param_groups:
                group["lr"] = rates[max(start for start in rates if start <= number)]
            started, used = time.perf_counter(), time.process_time()
            with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
                trainer._train_epoch(epoch=number + 1)
            seconds += time.perf_counter() - started
            processor += time.process_time() - used
            windows = (number + 1) * given.updates * given.batch
            found = {
                "seconds": seconds,
                "processor_seconds": processor,
                "windows": windows,
                "windows_in_pass": len(trainer.loader.dataset),
                "nse": median_nse(trainer.model, batch),
            }
            print(json.dumps(found), flush=True)
            if seconds > given.seconds:
                break


if __name__ == "__main__":
    main()
