"""The training loop: passes over windows gathered by index from one shared array."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from study import models
from study.data.arrays import StudyArrays
from study.data.features import Inputs
from study.data.windows import Windows, draw_windows
from study.errors import TrialError
from study.native.threads import subnormals_are_zero
from study.seeding import derive, generator
from study.spec import TrainingSpec
from study.training.loss import LOSSES
from study.training.muon import Muon
from study.training.schedule import learning_rate


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
            num_dynamic=len(inputs.dynamic),
            num_static=len(inputs.static),
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            forget_bias=config.forget_bias,
            recurrent_init=config.recurrent_init,
            generator=torch.Generator().manual_seed(derive(seed, "weights")),
            output=config.output,
            kernel=kernel,
        ).to(data.device)
        self.threads = self.model.threads = threads
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
        parameters, decay = self.model.parameters(), self.config.weight_decay
        if self.config.optimizer == "muon":
            return Muon(parameters, hidden_size=self.config.hidden_size, weight_decay=decay,
                        compiled=self.model.kernel == "auto", threads=self.threads)  # fmt: skip
        kind = torch.optim.AdamW if self.config.optimizer == "adamw" else torch.optim.Adam
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
        arrays = self.data.arrays
        windows = draw_windows(
            np.isfinite(arrays.qobs),
            arrays.periods["train"],
            len(self._scored),
            generator(self.seed, "windows", self.epoch),
        )
        dropout = torch.Generator(self.data.device)
        dropout.manual_seed(derive(self.seed, "dropout", self.epoch))
        batches = list(self._batches(windows))
        total = torch.zeros((), device=self.data.device)
        for number, batch in enumerate(batches):
            rate = learning_rate(self.config, self.epoch, number, len(batches))
            total += self._update(batch, rate, dropout) / len(batches)
        loss = float(total)
        if not np.isfinite(loss):
            raise TrialError(f"diverged: the training loss of epoch {self.epoch} is {loss}")
        return loss

    def _update(self, batch: Windows, rate: float, dropout: torch.Generator) -> Tensor:
        """One optimiser step; returns its loss."""
        parameters = list(self.model.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with subnormals_are_zero():
            loss = self._batch_loss(batch, dropout)
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                # A tensor of its own, as torch may hand out one for two parameters; and in memory
                # as the parameter is, which fused optimisers take for granted.
                parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            self.optimizer.step()
        return loss.detach()

    def _batch_loss(self, windows: Windows, dropout: torch.Generator) -> Tensor:
        dynamic, static, target, weight = self._gather(windows)
        carried, state = self.config.carried_days, None
        if carried:
            with torch.no_grad():
                _, state = self.model(
                    dynamic[:, :carried], static, warmup=carried, dropout_mask_generator=dropout
                )
        y, _ = self.model(
            dynamic[:, carried:],
            static,
            warmup=self.config.window_days - carried,
            state=state,
            dropout_mask_generator=dropout,
        )
        return self._loss.mean(self._discharge(y, windows), target, weight)

    def _batches(self, windows: Windows) -> Iterator[Windows]:
        for at in range(0, len(windows), self.config.batch_size):
            part = slice(at, at + self.config.batch_size)
            yield windows[part]

    def _gather(self, batch: Windows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs (window, day, input), (window, attribute), targets (window, day), weights."""
        basin, start, first, last = (
            torch.from_numpy(a).to(self.data.device)
            for a in (batch.basin, batch.start, batch.first, batch.last)
        )
        warmup, scored = self.config.window_days, self._scored
        columns, attributes = self._columns
        # Views (basin, first day, ..., day of the window): only what is taken out is copied.
        fed = self.data.dynamic.unfold(1, warmup + len(scored), 1)
        dynamic = fed[basin[:, None], start[:, None] - warmup, columns].transpose(1, 2)
        static = self.data.static[basin[:, None], attributes]
        target = self.data.target.unfold(1, len(scored), 1)[basin, start]
        inside = (scored >= first[:, None]) & (scored < last[:, None])
        return dynamic, static, torch.where(inside, target, torch.nan), self._weights[basin]

    def _discharge(self, y: Tensor, batch: Windows) -> Tensor:
        """(window, scored day) discharge in standard units, from the model's output."""
        basin, start = (
            torch.from_numpy(a).to(self.data.device) for a in (batch.basin, batch.start)
        )
        baseline = None
        if self.inputs.baseline is not None:
            assert self.data.baseline is not None  # the arrays were assembled for these inputs
            baseline = self.data.baseline.unfold(1, len(self._scored), 1)[basin, start]
        return self.data.discharge(y, self.config, basin=basin, baseline=baseline)

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
