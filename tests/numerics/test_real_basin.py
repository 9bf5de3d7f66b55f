"""One real basin with the protocol of a published tutorial lands near its published score.

Kratzert's tutorial of 2018 (a notebook of the Pangeo gallery) trains an LSTM of ten cells on
basin 01022500, sequence to one over 365 days, 20 passes, no seed, and reports a test NSE of 0.700.
It uses Daymet forcing and tests on 2000 to 2010; the extended Maurer forcing used here ends with
2008, hence "near".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from study.data.arrays import assemble
from study.data.features import inputs_of
from study.data.store import build_camels_us
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.spec import parse_spec
from study.training.loop import DeviceData, Trainer

BASIN = "01022500"
NEAR = (0.62, 0.80)
"""Around the published 0.700. Seeds 1 to 3 score 0.67 to 0.68 here, and 0.63 to 0.66 in validation
(published: 0.66)."""

SPEC = {
    "name": "tutorial_2018",
    "data": {
        "attributes": [],
        "periods": {
            # The first window begins on the first day of the tutorial's training period.
            "train": "1981-09-30:1995-09-30",
            "validation": "1995-10-01:2000-09-30",
            "test": "2000-10-01:2008-09-30",
        },
    },
    "factors": {"statics": ["off"]},
    "training": {
        "epochs": 20,
        "warmup": 364,
        "targets_per_window": 1,
        "batch_size": 256,
        "hidden_size": 10,
        "dropout": 0.0,
        "recurrent_init": "uniform",
        "forget_bias": 0.0,
        "loss": "mse",
        "schedule": "constant",
        "learning_rate": 1e-3,
        "clip_norm": 1e6,  # the tutorial does not clip
    },
}


@pytest.mark.slow
def test_tutorial_of_2018(camels_root: Path | None, tmp_path: Path) -> None:
    if camels_root is None:
        pytest.skip("needs CAMELS-US: set CAMELS_US_ROOT to its folder")
    store = build_camels_us(camels_root, tmp_path / "one.zarr", basins=[BASIN])
    spec = parse_spec(SPEC, "the tutorial")
    inputs = inputs_of({"snow": "off", "statics": "off", "shyft": "off"}, spec.data)
    data = DeviceData(assemble(store, spec, inputs, read_test=True))
    trainer = Trainer(data, model="lstm", inputs=inputs, config=spec.training, seed=1)
    scores = []
    for _ in range(spec.training.epochs):
        trainer.run_epoch()
        scores.append(score(trainer, "validation"))
    assert scores[-1] > scores[0] + 0.2, f"did not learn: validation NSE {scores}"
    low, high = NEAR
    assert low < score(trainer, "test") < high


def score(trainer: Trainer, period: str) -> float:
    sim = simulate_period(trainer.model, trainer.data, trainer.inputs, trainer.config, period)
    return float(nse(sim=sim, obs=trainer.data.arrays.observed(period))[0])
