"""Runs of neuralhydrology, freshly trained for a few steps, and what it predicts with them itself.

Run by the environment that `make neuralhydrology` builds, never imported: it has other packages
than the tests.

    python peer_neuralhydrology.py CONFIG.yml OUT.npz

CONFIG   a configuration of neuralhydrology for CAMELS-US; its test period is predicted
OUT      GAUGE_ID -> (day,) discharge in mm/d, and run_dir, the run's folder
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from neuralhydrology.evaluation import get_tester
    from neuralhydrology.training.train import start_training
    from neuralhydrology.utils.config import Config


def main(config_file: str, out: str) -> None:
    warnings.simplefilter("ignore")
    config = Config(Path(config_file))
    start_training(config)
    trained = Config(config.run_dir / "config.yml")
    tester = get_tester(cfg=trained, run_dir=config.run_dir, period="test", init_model=True)
    results = tester.evaluate(save_results=False, metrics=[])
    name = f"{trained.target_variables[0]}_sim"
    # Every day ends a sequence, and each sequence has several scored days: take those that adjoin.
    last = trained.predict_last_n
    sims = {
        basin: result["1D"]["xr"][name].values[::last].reshape(-1)
        for basin, result in results.items()
    }
    np.savez(out, run_dir=str(config.run_dir), **sims)


if __name__ == "__main__":
    main(*sys.argv[1:])
