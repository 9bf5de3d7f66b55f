"""A network that corrects a simulated discharge: the sum is trained, clipped and scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import INPUTS, small_arrays, small_config

from study.data.arrays import StudyArrays
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.training.loop import DeviceData, Trainer

RESIDUAL = dataclasses.replace(INPUTS, baseline="shyft_discharge")
CONFIG = small_config(dropout=0.0)


def with_baseline(baseline: np.ndarray) -> StudyArrays:
    """The small arrays with a baseline (basin, day) in mm/d."""
    arrays = small_arrays()
    scaled = arrays.scaler.scale_qobs(baseline).astype(np.float32)
    return dataclasses.replace(arrays, baseline=scaled)


def trainer_of(arrays: StudyArrays) -> Trainer:
    inputs = INPUTS if arrays.baseline is None else RESIDUAL
    return Trainer(DeviceData(arrays), model="lstm", inputs=inputs, config=CONFIG, seed=1)


def silence(trainer: Trainer) -> None:
    """Let the network say 0 on all days."""
    with torch.no_grad():
        for parameter in trainer.model.head.parameters():
            parameter.zero_()


@pytest.fixture
def guess() -> np.ndarray:
    """Half of what was observed, as a hydrological model may say; (basin, day) mm/d."""
    return np.nan_to_num(small_arrays().qobs, nan=1.0) / 2


def test_silent_network_leaves_the_baseline_as_it_is(guess: np.ndarray) -> None:
    trainer = trainer_of(with_baseline(guess))
    silence(trainer)
    sim = simulate_period(trainer.model, trainer.data, RESIDUAL, CONFIG, "validation")
    np.testing.assert_allclose(sim, guess[:, trainer.data.arrays.periods["validation"]], atol=1e-5)


def test_perfect_baseline_leaves_nothing_to_learn() -> None:
    perfect = np.nan_to_num(small_arrays().qobs, nan=1.0)
    trainer = trainer_of(with_baseline(perfect))
    silence(trainer)
    before = {n: t.clone() for n, t in trainer.model.state_dict().items()}
    assert trainer.run_epoch() == pytest.approx(0.0, abs=1e-12)
    for name, tensor in trainer.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=1e-3, rtol=0)
    sim = simulate_period(trainer.model, trainer.data, RESIDUAL, CONFIG, "validation")
    assert np.min(nse(sim=sim, obs=trainer.data.arrays.observed("validation"))) > 0.99


def test_it_is_trained_on_what_the_baseline_lacks(guess: np.ndarray) -> None:
    """The same losses and weights as a network whose target is qobs - baseline, in the same
    scale and with the basins' weights of qobs."""
    corrected = trainer_of(with_baseline(guess))
    arrays = small_arrays()
    # Scaling takes the mean of discharge off; a difference has none of it.
    target = (arrays.qobs - guess + arrays.scaler.qobs_mean).astype(np.float32)
    plain = trainer_of(dataclasses.replace(arrays, qobs=target))
    for _ in range(3):
        assert corrected.run_epoch() == pytest.approx(plain.run_epoch(), rel=1e-4)
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(corrected.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_sum_is_clipped_not_its_parts(guess: np.ndarray) -> None:
    """Minus 3 added to 2 is no flow; added to 5 it is 2: neither part is clipped alone."""
    baseline = np.full_like(guess, 2.0)
    baseline[1] = 5.0
    trainer = trainer_of(with_baseline(baseline))
    silence(trainer)
    with torch.no_grad():
        trainer.model.head.bias.fill_(-3.0 / trainer.data.arrays.scaler.qobs_std)
    sim = simulate_period(trainer.model, trainer.data, RESIDUAL, CONFIG, "validation")
    assert np.all(sim[0] == 0.0)
    np.testing.assert_allclose(sim[1], 2.0, atol=1e-5)


def test_windows_and_one_pass_add_the_same_baseline(guess: np.ndarray) -> None:
    trainer = trainer_of(with_baseline(guess))
    silence(trainer)
    windows = small_config(dropout=0.0, simulation="windows")
    a, b = (simulate_period(trainer.model, trainer.data, RESIDUAL, c, "validation")
            for c in (CONFIG, windows))  # fmt: skip
    np.testing.assert_allclose(a, b, atol=1e-6)
