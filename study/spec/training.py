"""How a network is trained, and how its hyperparameters are searched and confirmed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from study.spec.base import SpecModel, shown

PROTOCOL_FIELDS = ("epochs", "warmup", "simulation")
"""Training fields that are part of the protocol: the same in every arm and trial."""


class TrainingSpec(SpecModel):
    """One training job: hyperparameters and protocol. A trial's configuration is one of these."""

    epochs: int = Field(30, ge=1)
    """The cap: passes over the training days of a trial that halving never stops."""
    warmup: int = Field(365, ge=0)
    """Days fed before the first scored day of a period, and of a training window, too, unless
    `window_warmup` says otherwise."""
    window_warmup: int | None = Field(None, ge=0)
    """Days fed before the first scored day of a training window, at most `warmup`. Windows with a
    short one cost less, and in the same time a network learns more from them; periods are
    simulated after the whole `warmup` all the same."""
    gradient_warmup: int | None = Field(None, ge=0)
    """Days at the end of a training window's warm-up that a gradient flows back through; all,
    unless it says otherwise. The days before fill the memory, for a third of the arithmetic."""
    targets_per_window: int = Field(365, ge=1)
    """Scored days in one training window; 1 is the classic sequence-to-one."""
    batch_size: int = Field(16, ge=1)
    """Windows in one optimiser step."""
    hidden_size: int = Field(64, ge=1)
    """Memory cells of the network."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of hidden values that are dropped before the head, in training."""
    forget_bias: float = 3.0
    """Initial bias of the forget gate: positive values let cells begin by remembering."""
    recurrent_init: Literal["orthogonal", "identity", "uniform"] = "orthogonal"
    """How the gates' weights start: `orthogonal` blocks, `identity` as the published EA-LSTM, or
    `uniform`, torch's default."""
    output: Literal["linear", "sinh"] = "linear"
    """What turns the head's value into discharge: `sinh` lets a network tell floods from droughts
    with smaller weights."""
    discharge_scale: Literal["common", "basin"] = "common"
    """Unit of a network's output: `common`, the standard deviation of all basins' discharge about
    its mean; `basin`, each basin's own above zero flow. Networks learn in fewer passes with it,
    but an arm without attributes then knows how much a basin's discharge varies, too, and no arm
    knows basins that it was not trained on."""
    loss: Literal["nse", "mse", "rsr"] = "nse"
    """What training minimises: `nse`, squared errors over each basin's variance (Kratzert et al.
    2019); `mse`; `rsr`, each window's root of `nse`, which single floods lead less."""
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    """`muon` makes more of every pass over many basins."""
    learning_rate: float = Field(5e-3, gt=0)
    """The peak of a one-cycle schedule, the start of the others."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of the weights: decoupled in `adamw` and `muon`, a penalty in `adam`."""
    schedule: Literal["one_cycle", "steps", "constant"] = "one_cycle"
    """How the learning rate goes: up and down once, by `steps`, or not at all."""
    steps: dict[int, float] = Field({11: 0.5, 21: 0.1})
    """With `schedule: steps`: from this epoch on (counted from 1), this share of the learning rate.
    The default is the papers': 1e-3, 5e-4 from epoch 11, 1e-4 from epoch 21."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""
    simulation: Literal["continuous", "windows"] = "continuous"
    """How a period is simulated: in one pass over its days, or, as the papers do, window by
    window, each with its own warm-up."""

    @property
    def window_days(self) -> int:
        """Days of a training window before its first scored day."""
        return self.warmup if self.window_warmup is None else self.window_warmup

    @property
    def carried_days(self) -> int:
        """Days at the start of a training window that no gradient flows back through."""
        return 0 if self.gradient_warmup is None else self.window_days - self.gradient_warmup

    @model_validator(mode="after")
    def _window_within_warmup(self) -> TrainingSpec:
        if self.window_days > self.warmup:
            raise ValueError(
                f"needs `window_warmup <= warmup`, but got window_warmup={self.window_warmup}, "
                f"warmup={self.warmup}"
            )
        if self.carried_days < 0:
            raise ValueError(
                f"needs `gradient_warmup <= window_warmup`, but got "
                f"gradient_warmup={self.gradient_warmup}, window_warmup={self.window_days}"
            )
        return self


def _levels(value: Any) -> Any:
    """`{shyft: residual}` and `{snow: off}` as `{shyft: [residual], snow: [off]}`."""
    if not isinstance(value, dict):
        return value
    listed = {factor: v if isinstance(v, list | tuple) else [v] for factor, v in value.items()}
    words = {True: "on", False: "off"}  # as YAML reads bare ones
    return {
        factor: [words[v] if isinstance(v, bool) else v for v in levels]
        for factor, levels in listed.items()
    }


class Conditional(SpecModel):
    """A part of the space that not every arm has."""

    when: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_levels)] = Field({})
    """Factor -> levels: only arms with one of these levels of every factor named have the
    hyperparameter; the others keep what `training` says. `{model: lstm, snow: [off, observed]}`"""

    def exists_for(self, levels: Mapping[str, str]) -> bool:
        """Whether the arm with these levels has it."""
        return all(levels[factor] in among for factor, among in self.when.items())


class RangeSpec(Conditional):
    """A numeric range of a hyperparameter, both ends included."""

    low: float
    """Least value."""
    high: float
    """Greatest value."""
    log: bool = False
    """Sampled uniformly in the logarithm."""

    @model_validator(mode="after")
    def _possible(self) -> RangeSpec:
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold with `log: true`, but got low={self.low}")
        return self


def _one_value(value: Any) -> Any:
    endless = isinstance(value, float) and not math.isfinite(value)
    if endless or not isinstance(value, bool | int | float | str):
        raise ValueError(f"a choice is a number or a word, but is {shown(value)}")
    return value


def _form(value: Any) -> str | None:
    if isinstance(value, OptionsSpec) or (isinstance(value, dict) and "choices" in value):
        return "(options)"
    if isinstance(value, dict | RangeSpec):
        return "(range)"
    return "(choices)" if isinstance(value, list | tuple) else None


Scalar = Annotated[bool | int | float | str, BeforeValidator(_one_value)]
ChoicesSpec = Annotated[tuple[Scalar, ...], Field(min_length=2)]


class OptionsSpec(Conditional):
    """A list of choices for some arms only: `{choices: [32, 64], when: {model: lstm}}`."""

    choices: ChoicesSpec
    """Two values or more."""


Choice = Annotated[
    Annotated[RangeSpec, Tag("(range)")]
    | Annotated[OptionsSpec, Tag("(options)")]
    | Annotated[ChoicesSpec, Tag("(choices)")],
    Discriminator(
        _form,
        custom_error_type="neither",
        custom_error_message="write a range, {low: 0.001, high: 0.01}, or a list of choices, "
        "[32, 64]",
    ),
]


class SearchSpec(SpecModel):
    space: dict[str, Choice] = Field({})
    """Hyperparameter -> range or list of choices; the same for every arm that has it (`when`)."""
    sampler: Literal["tpe", "random", "quasirandom"] = "tpe"
    """How hyperparameters are drawn: `tpe` learns from closed cohorts (tree-structured Parzen
    estimator), `random` and `quasirandom` (scrambled Sobol) do not."""
    cohorts: int = Field(2, ge=1)
    """Cohorts of each arm; the sampler learns from closed ones."""
    cohort_size: int = Field(9, ge=1)
    """Trials that compete with each other at the rungs."""
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Epochs after which a cohort keeps its best; the epoch cap is the last one by itself."""
    reduction: int = Field(3, ge=2)
    """A rung keeps one in this many."""
    halving: Literal["synchronous", "asynchronous"] = "synchronous"
    """Synchronous: a rung is decided when its whole cohort is there, by scores alone; the number of
    workers, their order, kills and restarts change nothing. Asynchronous (Li et al. 2020, arXiv
    1810.05934): a trial goes on as soon as it is among the best of its arm's that have come to the
    rung so far, and no worker waits for a cohort. Its promise is weaker: decisions depend on the
    order of reports, so that a study run again is another study; replaying a log repeats the
    decisions it holds. Arms have the same number of trials then, but not quite of epochs; a cohort
    learns from what is known of earlier cohorts' trials when it is begun."""
    seed: int = Field(1, ge=0)
    """Of everything that is drawn: hyperparameters, weights, windows, dropout, placebos."""
    repeats: int = Field(1, ge=1)
    """Whole searches of every arm, each with seeds of its own and its own confirmation. The first
    is the study's; the others tell how much a search's luck decides, and cost as much again."""

    def space_of(self, levels: Mapping[str, str]) -> dict[str, Choice]:
        """The hyperparameters of the arm with these levels."""
        return {
            name: choice
            for name, choice in self.space.items()
            if isinstance(choice, tuple) or choice.exists_for(levels)
        }

    @field_validator("rungs")
    @classmethod
    def _increasing(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs must increase, but got {list(rungs)}")
        return rungs


class ConfirmationSpec(SpecModel):
    candidates: int = Field(3, ge=1)
    """An arm's best trials that are trained again before one is chosen."""
    candidate_seeds: int = Field(3, ge=1)
    """Networks of each candidate, whose mean score chooses."""
    seeds: int = Field(8, ge=1)
    """Replicates of each arm's winner, with seeds that chose nothing; 5 for a verdict."""


class ResourcesSpec(SpecModel):
    """What one trial reserves, and what it may use. `gpus` and `threads` change the last bits of
    results; a limit that is hit makes them depend on the machine."""

    cpus: float = Field(1, gt=0)
    """Processors that a trial reserves of a host."""
    gpus: float = Field(0, ge=0, le=1)
    """Of one GPU: 0.25 lets four trials share each."""
    threads: int = Field(1, ge=1)
    """Threads of one trial. On a CPU, with the kernel below, they share every batch; two trials of
    one thread each are faster together. The number changes the last bits."""
    kernel: Literal["auto", "torch"] = "auto"
    """What computes recurrences on a CPU. `auto`: the machine's C compiler builds one that is two
    to three times as fast as torch's; without a compiler, torch's. They differ in the last bits."""
    trial_seconds: float | None = Field(None, gt=0)
    """Training time of one job. One that takes longer fails by its own doing, after the epoch in
    which it did; one that hangs in an epoch is ended with its worker."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory of one worker without what it shares with others (GB of 1e9 bytes, on Linux). A job
    whose worker holds more after an epoch fails by its own doing."""
    checkpoint_seconds: float = Field(60, gt=0)
    """A trial saves itself at rungs and at least this often."""
