"""Networks whose output is in each basin's own unit: zero flow is 0, its spread is 1."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import INPUTS, small_arrays, small_config

from study.data.arrays import StudyArrays
from study.evaluation.simulate import simulate_period
from study.training.loop import DeviceData, Trainer

OWN = small_config(dropout=0.0, discharge_scale="basin")


def constant(arrays: StudyArrays, value: float) -> np.ndarray:
    """(basin, day) mm/d of the validation period, by a network that says a number on all days."""
    inputs = dataclasses.replace(INPUTS, baseline=None if arrays.baseline is None else "qsim")
    trainer = Trainer(DeviceData(arrays), model="lstm", inputs=inputs, config=OWN, seed=1)
    with torch.no_grad():
        trainer.model.head.weight.zero_()
        trainer.model.head.bias.fill_(value)
    return simulate_period(trainer.model, trainer.data, inputs, OWN, "validation")


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_output_is_in_each_basins_spread_above_zero_flow(value: float) -> None:
    arrays = small_arrays()
    sim = constant(arrays, value)
    own = np.nanstd(arrays.observed("train"), axis=1) + 0.1
    assert own.max() > 1.3 * own.min()
    np.testing.assert_allclose(sim, np.repeat(value * own[:, None], sim.shape[1], 1), atol=1e-5)


def test_output_corrects_a_baseline() -> None:
    guess = np.full(small_arrays().qobs.shape, 3.0, np.float32)
    arrays = small_arrays()
    arrays = dataclasses.replace(arrays, baseline=arrays.scaler.scale_qobs(guess))
    np.testing.assert_allclose(constant(arrays, 0.0), 3.0, atol=1e-5)
    expected = 3.0 + 0.5 * arrays.basin_scale
    np.testing.assert_allclose(constant(arrays, 0.5)[:, 0], expected, atol=1e-5)


def test_loss_does_not_depend_on_the_unit() -> None:
    """Two networks that simulate the same discharge have the same loss, whatever their units."""
    arrays = small_arrays()
    losses = []
    for scale in ("common", "basin"):
        config = small_config(dropout=0.0, discharge_scale=scale, learning_rate=1e-12)
        trainer = Trainer(DeviceData(arrays), model="lstm", inputs=INPUTS, config=config, seed=1)
        zero_flow = -arrays.scaler.qobs_mean / arrays.scaler.qobs_std
        with torch.no_grad():
            trainer.model.head.weight.zero_()
            trainer.model.head.bias.fill_(zero_flow if scale == "common" else 0.0)
        losses.append(trainer.run_epoch())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
