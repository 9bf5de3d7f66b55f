"""Optimisers do what torch's do, and leave its compiler where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study.training import optimizers

TRAINING = """
import sys
from small import INPUTS, small_arrays, small_config
from study.evaluation.simulate import simulate_period
from study.training import checkpoint
from study.training.loop import DeviceData, Trainer

data, config = DeviceData(small_arrays()), small_config(optimizer={optimizer!r})
first, second = (Trainer(data, model="lstm", inputs=INPUTS, config=config, seed=1) for _ in "ab")
first.run_epoch()
checkpoint.restore(second, checkpoint.dump(first))
second.run_epoch()
simulate_period(second.model, data, INPUTS, config, "validation", threads=2)
print("loaded:", sorted({{"torch._dynamo", "torch._inductor"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_training_does_not_load_the_compiler(optimizer: str) -> None:
    """It would be 2 s and 70 MB of every worker."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", TRAINING.format(optimizer=optimizer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "loaded: []\n", done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_steps_are_those_of_torch(name: str) -> None:
    start = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    weights = []
    for kind in (getattr(optimizers, name), getattr(torch.optim, name)):
        weight = torch.nn.Parameter(start.clone())
        optimizer = kind([weight], lr=0.1, weight_decay=0.3, fused=True)
        for _ in range(3):
            weight.grad = weight.detach() ** 2 - 1
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        weights.append(weight.detach())
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], start)
