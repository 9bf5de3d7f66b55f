"""What every architecture shares: the call, the dropout, the head and the initial values.

Shape suffixes: B basins (or windows) of a batch, T days, D daily inputs, S static attributes,
H hidden size.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from study import native
from study.models.recurrence import Gates, State, recurrence, usable

KERNELS = ("auto", "torch")
"""What may compute the recurrence, see `study.models.build`."""

OUTPUTS: Mapping[str, Callable[[Tensor], Tensor]] = {"linear": lambda y: y, "sinh": torch.sinh}
"""What turns the head's value into runoff. A flood is thirty standard deviations high, and hidden
values end at one: `linear` needs large weights for it, `sinh` grows as a straight line in drought
and as an exponential in flood. Its inverse is a usual transformation of skewed data (Burbidge et
al. 1988, https://doi.org/10.1080/01621459.1988.10478575)."""

RECURRENT_INITS = ("orthogonal", "identity", "uniform")
"""How the gates' weights start, see `init_gates_`."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes and settings of a network: what the constructor of every architecture takes.

    Raises:
        ValueError: A value breaks a rule; the message states both.
    """

    num_dynamic: int
    """Daily inputs."""
    num_static: int
    """Static attributes; 0 for a model without them."""
    hidden_size: int
    """Memory cells."""
    dropout: float = 0.0
    """Probability of dropping a hidden value before the head, in training."""
    forget_bias: float = 3.0
    """Initial bias of the forget gate; positive values let the cells start out remembering, which
    basins with snow and groundwater need."""
    recurrent_init: str = "orthogonal"
    """One of `RECURRENT_INITS`."""
    output: str = "linear"
    """One of `OUTPUTS`."""
    kernel: str = "auto"
    """One of `KERNELS`. `auto`: on a CPU, the recurrence of `study.native`, where a C compiler can
    build it, and torch's everywhere else; `torch`: always torch's."""

    def __post_init__(self) -> None:
        if self.num_dynamic < 1:
            raise ValueError(f"`num_dynamic >= 1` must hold, but got {self.num_dynamic}.")
        if self.num_static < 0:
            raise ValueError(f"`num_static >= 0` must hold, but got {self.num_static}.")
        if self.hidden_size < 1:
            raise ValueError(f"`hidden_size >= 1` must hold, but got {self.hidden_size}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`0 <= dropout < 1` must hold, but got {self.dropout}.")
        for name, known in (
            ("recurrent_init", RECURRENT_INITS),
            ("output", tuple(OUTPUTS)),
            ("kernel", KERNELS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"`{name}` must be one of {list(known)}, but got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class LstmWeights:
    """A standard LSTM layer, gates in torch's order i, f, g, o, its two biases added."""

    input_GX: Tensor
    """[4H, D + S]: daily inputs first, then static attributes."""
    recurrent_GH: Tensor
    bias_G: Tensor


class RunoffModel(nn.Module):
    """A recurrent network that turns daily inputs and static attributes into daily runoff.

    A subclass supplies `_recur`, the hidden state of every day. The output is in whatever scale
    the model is trained on; scaling belongs to the caller.
    """

    def __init__(self, config: NetworkConfig, *, generator: torch.Generator) -> None:
        """
        Args:
            config: Sizes and settings.
            generator: CPU generator that every initial parameter is drawn from.
        """
        super().__init__()
        self.kernel = config.kernel
        """What computes the recurrence, one of `KERNELS`."""
        self.threads = 1
        """Threads that share a batch in training, where `study.native` computes."""
        self.output = config.output
        """One of `OUTPUTS`."""
        self.num_dynamic = config.num_dynamic
        self.num_static = config.num_static
        self.hidden_size = config.hidden_size
        self.dropout = config.dropout
        # Made without values, so that torch's own initialisation draws nothing.
        self.head = nn.Linear(config.hidden_size, 1, device="meta").to_empty(device="cpu")
        init_uniform_(self.head.parameters(), hidden_size=config.hidden_size, generator=generator)

    def forward(
        self,
        dynamic_BTD: Tensor,
        static_BS: Tensor,
        *,
        warmup: int = 0,
        carried: int = 0,
        state: State | None = None,
        dropout_mask_generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """Predict every day after the warm-up.

        Args:
            dynamic_BTD: Scaled daily inputs.
            static_BS: Scaled static attributes; [B, 0] for a model without them.
            warmup: Number of leading days that only fill the memory. They get no output and
                cost no head.
            carried: Number of leading days, of the warm-up, through which no gradient flows back.
            state: What an earlier call returned, to go on where it stopped; zeros when absent.
            dropout_mask_generator: Source of the dropout mask, on the model's device. Needed in
                training mode with dropout, never used otherwise.

        Returns:
            Predictions [B, T - warmup], and the state after the last day.

        Raises:
            ValueError: If the warm-up is longer than the series, more days are carried than it
                has or no day is left after them, or dropout has no generator.
        """
        num_days = dynamic_BTD.shape[1]
        if not 0 <= warmup <= num_days:
            raise ValueError(f"`0 <= warmup <= {num_days} days` must hold, but got {warmup}.")
        most = min(warmup, max(num_days - 1, 0))
        if not 0 <= carried <= most:
            raise ValueError(f"`0 <= carried <= {most} days` must hold, but got {carried}.")
        # Days come first inside: what the kernels want, so that nothing large is transposed.
        dynamic_TBD = dynamic_BTD.transpose(0, 1)
        compiled = self.kernel == "auto" and usable(dynamic_TBD, state)
        gates = self._gates(static_BS) if compiled else None
        if gates is not None:
            hidden_TBH, state = recurrence(
                dynamic_TBD,
                gates,
                state=state,
                warmup=warmup,
                carried=carried,
                threads=self.threads if self.training else 1,
            )
        else:
            if carried:
                with torch.no_grad():
                    _, state = self._recur(dynamic_TBD[:carried], static_BS, state)
            hidden_TBH, state = self._recur(dynamic_TBD[carried:], static_BS, state)
            hidden_TBH = hidden_TBH[warmup - carried :]
        hidden_TBH = self._drop(hidden_TBH, dropout_mask_generator)
        runoff_TB = OUTPUTS[self.output](self.head(hidden_TBH).squeeze(-1))
        return runoff_TB.T, state

    @abstractmethod
    def _recur(
        self, dynamic_TBD: Tensor, static_BS: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        """Return the hidden values of every day [T, B, H] and the state after the last."""

    def _gates(self, static_BS: Tensor) -> Gates | None:
        """What `recurrence` computes the days with; None where a subclass has but `_recur`."""
        return None

    @property
    def compiled(self) -> bool:
        """Whether `study.native` computes the recurrence where tensors are on a CPU."""
        has_gates = type(self)._gates is not RunoffModel._gates
        return self.kernel == "auto" and has_gates and native.library() is not None

    def as_lstm(self) -> LstmWeights | None:
        """The standard LSTM layer that gives the same hidden values, of which an ONNX graph is
        made; None where there is none: bundles of such a model need torch."""
        return None

    def _drop(self, hidden_TBH: Tensor, generator: torch.Generator | None) -> Tensor:
        """Zero hidden values at random and scale up the rest, so that the mean is kept."""
        if not self.training or self.dropout == 0:
            return hidden_TBH
        if generator is None:
            raise ValueError(
                "`dropout_mask_generator` must be given in training mode with dropout > 0, "
                f"but got None with dropout {self.dropout}."
            )
        return hidden_TBH * _dropout_mask(hidden_TBH, self.dropout, generator)


def _dropout_mask(like: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """Return 0 where a value is dropped and, where it is kept, one over the share of kept ones.

    A value is kept by 16 random bits of its own. Drawn four at a time, they cost a fraction of
    `Tensor.bernoulli_`, the largest item of a training step on a CPU beside the recurrence.
    """
    kept = max(round((1 - dropout) * 2**16), 1)
    quadruples = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    bits = quadruples.random_(-(2**63), None, generator=generator).view(torch.int16)
    values = bits[: like.numel()].view(like.shape).to(like.dtype)  # whole, from -2**15 on
    return values.lt_(kept - 2**15).mul_(2**16 / kept)


def append_static(dynamic_TBD: Tensor, static_BS: Tensor) -> Tensor:
    """Return the daily inputs with the static attributes beside those of each day [T, B, D+S]."""
    return torch.cat([dynamic_TBD, static_BS.expand(len(dynamic_TBD), -1, -1)], dim=-1)


@torch.no_grad()
def init_uniform_(
    parameters: Iterable[Tensor], *, hidden_size: int, generator: torch.Generator
) -> None:
    """Draw from U(-1/sqrt(H), 1/sqrt(H)), torch's default for an LSTM and for the head on it."""
    bound = hidden_size**-0.5
    for parameter in parameters:
        parameter.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def init_gates_(
    scheme: str,
    *,
    inputs: Sequence[Tensor],
    recurrent: Tensor,
    biases: Sequence[Tensor],
    generator: torch.Generator,
) -> None:
    """Fill the gates' parameters in place. The forget gate's bias is left to the caller.

    ============  ==================  =====================================  ========
    scheme        input weights       recurrent weights, one block per gate  biases
    ============  ==================  =====================================  ========
    orthogonal    torch's uniform     orthogonal, drawn block by block       zero
    identity      orthogonal, whole   the identity in every block            zero
    uniform       torch's uniform     torch's uniform                        uniform
    ============  ==================  =====================================  ========

    `identity` is what the published EA-LSTM study trained with (Kratzert et al. 2019,
    https://doi.org/10.5194/hess-23-5089-2019): every cell starts as an integrator.
    `orthogonal` keeps the norm of the state from day to day, whatever the direction (Saxe et
    al. 2014, https://arxiv.org/abs/1312.6120).

    Args:
        scheme: One of `RECURRENT_INITS`.
        inputs: Matrices with one row per gate unit, one column per input.
        recurrent: [number of gates x H, H].
        biases: Vectors.
        generator: Source of every draw.
    """
    hidden_size = recurrent.shape[1]
    if scheme == "uniform":
        everything = (*inputs, recurrent, *biases)
        init_uniform_(everything, hidden_size=hidden_size, generator=generator)
        return
    for bias in biases:
        bias.zero_()
    if scheme == "identity":
        for weight in inputs:
            nn.init.orthogonal_(weight, generator=generator)
        for block in torch.split(recurrent, hidden_size):
            nn.init.eye_(block)
    else:
        init_uniform_(inputs, hidden_size=hidden_size, generator=generator)
        for block in torch.split(recurrent, hidden_size):
            nn.init.orthogonal_(block, generator=generator)
