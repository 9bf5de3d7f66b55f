"""Entity-aware LSTM: static attributes choose, once, which memory cells a basin uses.

Kratzert, F., et al. (2019): Towards learning universal, regional, and local hydrological
behaviors via machine learning applied to large-sample datasets. Hydrol. Earth Syst. Sci., 23,
5089-5110. https://doi.org/10.5194/hess-23-5089-2019

Shape suffixes: B basins (or windows) of a batch, T days, D daily inputs, S static attributes,
H hidden size.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from study.models.base import LstmWeights, NetworkConfig, RunoffModel, append_static, init_gates_
from study.models.recurrence import Gates, State


class EALSTM(RunoffModel):
    """LSTM with an input gate that sees the static attributes `a` and nothing else.

        i       = sigmoid(W_s a + b_s)                        one value per basin and cell
        f, g, o = sigmoid, tanh, sigmoid(W_x x[t] + W_h h[t-1] + b)
        c[t]    = f * c[t-1] + i * g
        h[t]    = o * tanh(c[t])

    This is a standard LSTM fed with [x[t], a], in whose weights some blocks are zero:

                 x     a     h     bias
        i        0    W_s    0     b_s
        f, g, o  W_x   0    W_h    b

    So the free parameters are put into that frame, differentiably, and the fused kernel does
    the days. Clipping and weight decay see the free parameters only. An input gate known in
    advance has no kernel of its own; the zero blocks are the price of having one at all.
    """

    def __init__(self, config: NetworkConfig, *, generator: torch.Generator) -> None:
        if config.num_static < 1:
            raise ValueError(
                "`num_static >= 1` must hold for the EA-LSTM, whose input gate sees nothing "
                f"else, but got {config.num_static}."
            )
        super().__init__(config, generator=generator)
        hidden_size = config.hidden_size
        self.weight_x = nn.Parameter(torch.empty(3 * hidden_size, self.num_dynamic))
        self.weight_h = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.weight_s = nn.Parameter(torch.empty(hidden_size, self.num_static))
        self.bias_s = nn.Parameter(torch.empty(hidden_size))
        init_gates_(
            config.recurrent_init,
            inputs=[self.weight_x, self.weight_s],
            recurrent=self.weight_h,
            biases=[self.bias_s, self.bias],
            generator=generator,
        )
        with torch.no_grad():
            self.bias[:hidden_size] = config.forget_bias  # gate order: f, g, o

    def assemble(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weight_ih [4H, D+S], weight_hh [4H, H], bias_ih and bias_hh [4H] of the twin.

        The four are views of one flat buffer in the order in which cuDNN packs the weights of
        an LSTM layer (both matrices, then both biases; gates i, f, g, o). So they are one chunk
        of memory already, and torch has no reason to copy them or to warn about it. On a CPU
        the assembly is a matter of microseconds a call.
        """
        width, size = self.num_dynamic + self.num_static, self.hidden_size
        flat = torch.cat(
            [
                pad(self.weight_s, (self.num_dynamic, 0)).ravel(),
                pad(self.weight_x, (0, self.num_static)).ravel(),
                self.weight_h.new_zeros(size * size),
                self.weight_h.ravel(),
                self.bias_s,
                self.bias,
                self.bias.new_zeros(4 * size),  # the second bias is redundant, hence fixed
            ]
        )
        gates = 4 * size
        input_part, hidden_part, first_bias, second_bias = torch.split(
            flat, [gates * width, gates * size, gates, gates]
        )
        return (
            input_part.view(gates, width),
            hidden_part.view(gates, size),
            first_bias,
            second_bias,
        )

    def _recur(
        self, dynamic_TBD: Tensor, static_BS: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        if state is None:
            zeros_BH = dynamic_TBD.new_zeros(dynamic_TBD.shape[1], self.hidden_size)
            state = (zeros_BH, zeros_BH)
        hidden_TBH, h_1BH, c_1BH = torch.lstm(
            append_static(dynamic_TBD, static_BS),
            [values_BH.unsqueeze(0) for values_BH in state],
            self.assemble(),
            has_biases=True,
            num_layers=1,
            dropout=0.0,  # between layers; this model's own dropout sits before the head
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )
        return hidden_TBH, (h_1BH.squeeze(0), c_1BH.squeeze(0))

    def _gates(self, static_BS: Tensor) -> Gates:
        return Gates(
            weight_x=self.weight_x,
            weight_h=self.weight_h,
            bias=self.bias.expand(len(static_BS), -1),
            input_gate=torch.sigmoid(static_BS @ self.weight_s.T + self.bias_s),
        )

    def as_lstm(self) -> LstmWeights:
        input_part, hidden_part, first_bias, second_bias = self.assemble()
        return LstmWeights(
            input_GX=input_part, recurrent_GH=hidden_part, bias_G=first_bias + second_bias
        )
