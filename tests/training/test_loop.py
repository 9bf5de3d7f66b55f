"""Training learns, is reproducible to the bit, and listens to every field of its configuration."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import INPUTS, small_arrays, small_config

from study import native
from study.errors import TrialError
from study.evaluation.metrics import nse
from study.evaluation.simulate import simulate_period
from study.spec import TrainingSpec
from study.training import checkpoint
from study.training.loop import DeviceData, Trainer

MODELS = ("lstm", "ealstm")


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData(small_arrays())


def make(
    data: DeviceData, config: TrainingSpec | None = None, *, model: str = "lstm", seed: int = 1
) -> Trainer:
    return Trainer(data, model=model, inputs=INPUTS, config=config or small_config(), seed=seed)


def trained(data: DeviceData, epochs: int = 2, **kwargs: Any) -> Trainer:
    trainer = make(data, **kwargs)
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


@pytest.mark.parametrize("model", MODELS)
def test_training_learns(data: DeviceData, model: str) -> None:
    config = small_config(epochs=25, hidden_size=8, learning_rate=0.03, dropout=0.0)
    trainer = make(data, config, model=model)
    losses = [trainer.run_epoch() for _ in range(25)]
    assert losses[-1] < losses[0] / 10
    sim = simulate_period(trainer.model, data, INPUTS, config, "validation")
    assert np.min(nse(sim=sim, obs=data.arrays.observed("validation"))) > 0.7


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("kernel", "optimizer"), [("auto", "adam"), ("torch", "adam"), ("auto", "muon")]
)
def test_threads_share_a_batch(data: DeviceData, model: str, kernel: str, optimizer: str) -> None:
    """Their gradients are those of one thread; and whichever is first, the bytes are the same.
    Where torch computes, there is nothing to share."""
    config = small_config(dropout=0.0, batch_size=5, optimizer=optimizer)
    # Of 5 windows, 2 and 3, or 1, 2 and 2, or one each; the last batch has 1.

    def weights(threads: int) -> list[torch.Tensor]:
        trainer = Trainer(
            data, model=model, inputs=INPUTS, config=config, seed=1, threads=threads, kernel=kernel
        )
        trainer.run_epoch()
        return [p.detach() for p in trainer.model.parameters()]

    one = weights(1)
    for threads in (2, 3, 8):
        first, again = weights(threads), weights(threads)
        for a, b, c in zip(one, first, again, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)
            assert torch.equal(b, c)
        same = all(torch.equal(a, b) for a, b in zip(one, first, strict=True))
        assert same == (kernel == "torch" or native.library() is None), "were there threads?"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("optimizer", "threads", "gradient_warmup"),
    [("adam", 1, None), ("adamw", 1, None), ("muon", 1, None), ("muon", 2, 4)],
)
def test_resume_after_any_epoch_gives_the_same_bytes(
    data: DeviceData, model: str, optimizer: str, threads: int, gradient_warmup: int | None
) -> None:
    config = small_config(
        epochs=5, optimizer=optimizer, weight_decay=0.01, gradient_warmup=gradient_warmup
    )

    def fresh() -> Trainer:
        return Trainer(data, model=model, inputs=INPUTS, config=config, seed=1, threads=threads)

    whole = fresh()
    saved, losses = [checkpoint.dump(whole)], []
    for _ in range(5):
        losses.append(whole.run_epoch())
        saved.append(checkpoint.dump(whole))
    for epoch in range(6):
        again = fresh()
        checkpoint.restore(again, saved[epoch])
        assert checkpoint.dump(again) == saved[epoch]
        assert [again.run_epoch() for _ in range(5 - epoch)] == losses[epoch:]
        assert checkpoint.dump(again) == saved[5], f"resumed after epoch {epoch}"


REPRODUCE = """
import hashlib, torch
from small import small_arrays
from test_loop import trained
from study.training import checkpoint
from study.training.loop import DeviceData
torch.rand({noise}); torch.set_num_threads(1)
data = DeviceData(small_arrays())
print(hash("x"), *(hashlib.sha256(checkpoint.dump(trained(data, model=m))).hexdigest()
                   for m in ("lstm", "ealstm")))
"""


def test_same_seed_same_bytes_in_every_process() -> None:
    """Whatever else a process did with torch's global generator before."""
    tests = Path(__file__).parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent)])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", REPRODUCE.format(noise=noise)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )
        for noise in (0, 7)
    ]  # fmt: skip
    answers = [process.communicate()[0].split() for process in running]
    assert answers[0][0] != answers[1][0], "the processes are alike: proves nothing"
    assert answers[0][1:] == answers[1][1:]


def test_another_seed_is_another_network(data: DeviceData) -> None:
    one, other = (trained(data, 1, seed=seed) for seed in (1, 2))
    assert checkpoint.dump(one) != checkpoint.dump(other)


@pytest.mark.parametrize("model", MODELS)
def test_sequence_to_one(model: str) -> None:
    """One scored day a window: each observed training day is one sample of an epoch."""
    data = DeviceData(small_arrays(train=40))
    trainer = make(data, small_config(targets_per_window=1, learning_rate=0.02), model=model)
    losses = [trainer.run_epoch() for _ in range(4)]
    assert losses[-1] < losses[0]
    steps = trainer.state()["optimizer.0.step"]
    observed = np.isfinite(data.arrays.observed("train")).sum()
    assert int(steps) == 4 * -(-observed // 4)


@pytest.mark.parametrize("targets", [200, 365])
def test_a_window_as_long_as_the_training_period(targets: int) -> None:
    """A window cannot score more days than there are; nothing after them may be touched."""
    data = DeviceData(small_arrays(validation=1))
    assert np.isfinite(trained(data, config=small_config(targets_per_window=targets)).run_epoch())


def test_training_arrays_are_only_read() -> None:
    """Ray's object store hands out arrays that must not be written to."""
    arrays = small_arrays()
    for array in (arrays.dynamic, arrays.static, arrays.qobs, arrays.qobs_std):
        array.flags.writeable = False
    trained(DeviceData(arrays))


def test_validation_targets_do_not_matter() -> None:
    arrays = small_arrays()
    before = checkpoint.dump(trained(DeviceData(arrays)))
    arrays.qobs[:, arrays.periods["validation"]] = 1e6
    assert checkpoint.dump(trained(DeviceData(arrays))) == before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kernel", ["auto", "torch"])
@pytest.mark.parametrize("days", [0, 4, 10])
def test_a_gradient_ends_where_it_is_told_to(
    data: DeviceData, model: str, kernel: str, days: int
) -> None:
    """As if the state after the days before had been given."""
    config = small_config(warmup=10, batch_size=1000, dropout=0.0, gradient_warmup=days)
    trainer = Trainer(data, model=model, inputs=INPUTS, config=config, seed=1, kernel=kernel)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.epoch = 1
    (batch,) = trainer._draw_batches()
    dynamic, static = trainer._inputs_of(batch)
    trainer.epoch = 0
    loss = trainer.run_epoch()
    found = [p.grad for p in trainer.model.parameters()]
    trainer.model.load_state_dict(before)
    state = None
    if days < 10:
        with torch.no_grad():
            _, state = trainer.model(dynamic[:, : 10 - days], static)
    y, _ = trainer.model(dynamic[:, 10 - days :], static, warmup=days, state=state)
    expected = trainer._loss.mean(y, batch.target, trainer._weights[batch.basin])
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    parameters = list(trainer.model.parameters())
    gradients = torch.autograd.grad(expected, parameters)
    norm = torch.linalg.vector_norm(torch.cat([g.ravel() for g in gradients]))
    scale = min(1.0, config.clip_norm / float(norm))
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b * scale, rtol=1e-4, atol=1e-7)


def test_gradients_are_clipped(data: DeviceData, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    trainer = make(data, small_config(clip_norm=0.01))
    step = trainer.optimizer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))
        return step(*args, **kwargs)

    monkeypatch.setattr(trainer.optimizer, "step", watched)
    trainer.run_epoch()
    assert max(norms) <= 0.01 * (1 + 1e-5)
    assert max(norms) > 0.0099  # it was needed


def test_divergence_is_the_trials_own_fault(data: DeviceData) -> None:
    trainer = make(data, small_config(learning_rate=1e30, schedule="constant"))
    with pytest.raises(TrialError, match=r"diverged: the training loss of epoch \d is (nan|inf)"):
        for _ in range(3):
            trainer.run_epoch()


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({}, {"epochs": 8}),  # stretches the schedule
    "warmup": ({}, {"warmup": 9}),
    "window_warmup": ({}, {"window_warmup": 5}),
    "gradient_warmup": ({}, {"gradient_warmup": 5}),
    "targets_per_window": ({}, {"targets_per_window": 29}),
    "batch_size": ({}, {"batch_size": 5}),
    "hidden_size": ({}, {"hidden_size": 5}),
    "dropout": ({}, {"dropout": 0.3}),
    "forget_bias": ({}, {"forget_bias": 2.0}),
    "recurrent_init": ({}, {"recurrent_init": "uniform"}),
    "output": ({}, {"output": "sinh"}),
    "discharge_scale": ({}, {"discharge_scale": "basin"}),
    "loss": ({}, {"loss": "mse"}),
    "optimizer": ({"weight_decay": 0.1}, {"optimizer": "adamw"}),  # alike without decay
    "learning_rate": ({}, {"learning_rate": 0.006}),
    "weight_decay": ({}, {"weight_decay": 0.1}),
    "schedule": ({}, {"schedule": "constant"}),
    "steps": ({"schedule": "steps"}, {"steps": {2: 0.5}}),
    "clip_norm": ({}, {"clip_norm": 0.01}),
    "simulation": ({}, {"simulation": "windows"}),
}
"""Field -> what else must be set for it to matter, and a change of it."""


def fingerprint(data: DeviceData, config: TrainingSpec) -> str:
    """Of a job's weights after two epochs and of what it then simulates."""
    trainer = trained(data, config=config)
    sim = simulate_period(trainer.model, data, INPUTS, config, "validation")
    return hashlib.sha256(checkpoint.dump(trainer) + sim.tobytes()).hexdigest()


@pytest.mark.parametrize("field", TrainingSpec.model_fields)
def test_every_field_changes_something(data: DeviceData, field: str) -> None:
    """A field that nothing reads would be tuned and reported for nothing."""
    needed, change = CHANGES[field]
    base, changed = small_config(**needed), small_config(**needed | change)
    assert fingerprint(data, base) == fingerprint(data, base)
    assert fingerprint(data, base) != fingerprint(data, changed)
