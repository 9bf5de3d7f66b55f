"""The training loop: passes over windows gathered by index from one shared array."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from study import models
from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.windows import draw_windows
from study.errors import TrialError
from study.native.threads import subnormals_are_zero
from study.seeding import derive, generator
from study.spec import TrainingSpec
from study.training.loss import LOSSES
from study.training.muon import Muon
from study.training.optimizers import Adam, AdamW
from study.training.schedule import learning_rate

CLIP_EPS = 1e-6
"""Added to a gradient's norm before it divides, as torch's own clipping does."""


class DeviceData:
    """A study's arrays on a device; on a CPU they share the memory of the arrays given."""

    def __init__(self, arrays: StudyArrays, device: torch.device | str = "cpu"):
        self.arrays = arrays
        self.device = torch.device(device)
        self.dynamic = _tensor(arrays.dynamic).to(self.device)
        """(basin, day, input)"""
        self.static = _tensor(arrays.static).to(self.device)
        """(basin, attribute)"""
        self.baseline = None if arrays.baseline is None else _tensor(arrays.baseline).to(device)
        """(basin, day), standard units: simulated discharge that some models correct"""
        self.target = _tensor(arrays.target).to(self.device)
        """(basin, day), standard units, NaN where there is none"""
        self.qobs_std = _tensor(arrays.qobs_std).to(self.device)
        """(basin,) mm/d"""
        self.basin_scale = _tensor(arrays.basin_scale).to(self.device)
        """(basin,) mm/d"""

    def discharge(
        self, y: Tensor, config: TrainingSpec, *, basin: Tensor | slice, baseline: Tensor | None
    ) -> Tensor:
        """A network's output as discharge in standard units.

        Args:
            y: (window, day) output.
            config: Tells its unit.
            basin: (window,) positions of the windows' basins.
            baseline: (window, day) discharge that the output is added to.
        """
        if config.discharge_scale == "basin":
            scaler = self.arrays.scaler
            y = y * (self.basin_scale[basin, None] / scaler.qobs_std)
            y = y - scaler.qobs_mean / scaler.qobs_std if baseline is None else y
        return y if baseline is None else y + baseline

    def columns(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Positions of a model's daily inputs and attributes along the arrays' last axes."""
        known = self.arrays.inputs
        dynamic = [known.dynamic.index(n) for n in inputs.dynamic]
        static = [known.static.index(n) for n in inputs.static]
        return (
            torch.tensor(dynamic, dtype=torch.long, device=self.device),
            torch.tensor(static, dtype=torch.long, device=self.device),
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one optimiser step, on the device."""

    basin: Tensor
    """(window,) positions"""
    start: Tensor
    """(window,) first scored day, counted from the start of the calendar"""
    target: Tensor
    """(window, scored day) in standard units, NaN where none counts"""


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Arrays out of Ray's object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class Trainer:
    """One training job. The same arguments give the same weights, bit for bit on one kind of CPU.

    With `threads`, the windows of every batch are shared out among as many in the recurrence of
    `study.native`, and their gradients are added up in order: the last bits of a network depend on
    how many there are. Where torch computes the recurrence, they change nothing.

    All randomness is drawn from streams named by (seed, purpose, epoch): a job restored after any
    epoch goes on exactly as if it had never stopped.
    """

    def __init__(
        self,
        data: DeviceData,
        *,
        model: str,
        inputs: Inputs,
        config: TrainingSpec,
        seed: int,
        threads: int = 1,
        kernel: str = "auto",
    ):
        self.data, self.inputs, self.config, self.seed = data, inputs, config, seed
        self.model = models.build(
            model,
            models.NetworkConfig(
                num_dynamic=len(inputs.dynamic),
                num_static=len(inputs.static),
                hidden_size=config.hidden_size,
                dropout=config.dropout,
                forget_bias=config.forget_bias,
                recurrent_init=config.recurrent_init,
                output=config.output,
                kernel=kernel,
            ),
            generator=torch.Generator().manual_seed(derive(seed, "weights")),
        ).to(data.device)
        self.threads = self.model.threads = threads
        self._parameters = list(self.model.parameters())
        self.optimizer = self._make_optimizer()
        self.epoch = 0
        """Passes done."""
        self._columns = data.columns(inputs)
        self._loss = LOSSES[config.loss]
        self._weights = self._loss.weights(data.qobs_std)
        train = data.arrays.periods["train"]
        targets = min(config.targets_per_window, train.stop - train.start)
        self._scored = torch.arange(targets, device=data.device)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        parameters, decay = self._parameters, self.config.weight_decay
        if self.config.optimizer == "muon":
            return Muon(parameters, hidden_size=self.config.hidden_size, weight_decay=decay,
                        compiled=self.model.kernel == "auto", threads=self.threads)  # fmt: skip
        kind = AdamW if self.config.optimizer == "adamw" else Adam
        return kind(parameters, weight_decay=decay, fused=True)

    def run_epoch(self) -> float:
        """One pass over all scored training days.

        Returns:
            Mean loss of the pass.

        Raises:
            TrialError: The loss is not finite.
        """
        self.epoch += 1
        self.model.train()
        dropout = torch.Generator(self.data.device)
        dropout.manual_seed(derive(self.seed, "dropout", self.epoch))
        batches = self._draw_batches()
        total = torch.zeros((), device=self.data.device)
        for number, batch in enumerate(batches):
            rate = learning_rate(self.config, self.epoch, number, len(batches))
            total += self._update(batch, rate, dropout) / len(batches)
        loss = float(total)
        if not np.isfinite(loss):
            raise TrialError(f"diverged: the training loss of epoch {self.epoch} is {loss}")
        return loss

    def _draw_batches(self) -> list[Batch]:
        """All steps of one pass. Targets are taken out at once; they are no more than there are."""
        arrays = self.data.arrays
        windows = draw_windows(
            np.isfinite(arrays.qobs),
            arrays.periods["train"],
            len(self._scored),
            generator(self.seed, "windows", self.epoch),
        )
        basin, start, first, last = (
            torch.from_numpy(a).to(self.data.device)
            for a in (windows.basin, windows.start, windows.first, windows.last)
        )
        target = self.data.target.unfold(1, len(self._scored), 1)[basin, start]
        inside = (self._scored >= first[:, None]) & (self._scored < last[:, None])
        target = torch.where(inside, target, torch.nan)
        split = (torch.split(tensor, self.config.batch_size) for tensor in (basin, start, target))
        return [Batch(basin=b, start=s, target=t) for b, s, t in zip(*split, strict=True)]

    def _update(self, batch: Batch, rate: float, dropout: torch.Generator) -> Tensor:
        """One optimiser step; returns its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with subnormals_are_zero():
            loss = self._batch_loss(batch, dropout)
            gradients = torch.autograd.grad(loss, self._parameters)
            self._set_gradients(torch.cat([gradient.flatten() for gradient in gradients]))
            self.optimizer.step()
        return loss.detach()

    def _set_gradients(self, gradient: Tensor) -> None:
        """Give every parameter its part of the whole gradient, clipped as one vector."""
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((self.config.clip_norm / (norm + CLIP_EPS)).clamp(max=1))
        parts = torch.split(gradient, [parameter.numel() for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def _batch_loss(self, batch: Batch, dropout: torch.Generator) -> Tensor:
        dynamic, static = self._inputs_of(batch)
        y, _ = self.model(
            dynamic,
            static,
            warmup=self.config.window_days,
            carried=self.config.carried_days,
            dropout_mask_generator=dropout,
        )
        y = self.data.discharge(
            y, self.config, basin=batch.basin, baseline=self._baseline_of(batch)
        )
        return self._loss.mean(y, batch.target, self._weights[batch.basin])

    def _inputs_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Daily inputs (window, day, input) and attributes (window, attribute)."""
        basin, start = batch.basin[:, None], batch.start[:, None]
        columns, attributes = self._columns
        warmup = self.config.window_days
        # Views (basin, first day, ..., day of the window): only what is taken out is copied.
        fed = self.data.dynamic.unfold(1, warmup + len(self._scored), 1)
        dynamic = fed[basin, start - warmup, columns].transpose(1, 2)
        return dynamic, self.data.static[basin, attributes]

    def _baseline_of(self, batch: Batch) -> Tensor | None:
        """(window, scored day) discharge that the model's output is added to."""
        if self.inputs.baseline is None:
            return None
        assert self.data.baseline is not None  # the arrays were assembled for these inputs
        return self.data.baseline.unfold(1, len(self._scored), 1)[batch.basin, batch.start]

    def state(self) -> dict[str, Tensor]:
        """Everything that a later `restore` needs, as named tensors."""
        result = {f"model.{n}": t.detach() for n, t in self.model.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            result |= {f"optimizer.{number}.{n}": t for n, t in moments.items()}
        return result | {"epoch": torch.tensor(self.epoch)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a state saved by a job of the same arguments."""
        weights = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
        self.model.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimizer."):
                _, number, moment = name.split(".")
                moments.setdefault(int(number), {})[moment] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.epoch = int(state["epoch"])
