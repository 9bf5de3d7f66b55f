"""LSTM whose static attributes, if any, are repeated beside each day's forcing.

Shape suffixes: B basins (or windows) of a batch, T days, D daily inputs, S static attributes,
H hidden size.
"""

import torch
from torch import Tensor, nn

from study.models.base import LstmWeights, NetworkConfig, RunoffModel, append_static, init_gates_
from study.models.recurrence import Gates, State


class LSTM(RunoffModel):
    """The standard LSTM, `torch.nn.LSTM` underneath; `num_static=0` makes it static-free.

    torch keeps two biases per gate. The forget bias goes into the first and the second starts
    there at zero, so that their sum is the value asked for.
    """

    def __init__(self, config: NetworkConfig, *, generator: torch.Generator) -> None:
        super().__init__(config, generator=generator)
        hidden_size, width = self.hidden_size, self.num_dynamic + self.num_static
        # Made without values, so that torch's own initialisation draws nothing.
        self.lstm = nn.LSTM(width, hidden_size, device="meta").to_empty(device="cpu")
        parameters = dict(self.lstm.named_parameters())
        first_bias, second_bias = parameters["bias_ih_l0"], parameters["bias_hh_l0"]
        init_gates_(
            config.recurrent_init,
            inputs=[parameters["weight_ih_l0"]],
            recurrent=parameters["weight_hh_l0"],
            biases=[first_bias, second_bias],
            generator=generator,
        )
        forget = slice(hidden_size, 2 * hidden_size)  # torch's gate order: i, f, g, o
        with torch.no_grad():
            first_bias[forget] = config.forget_bias
            second_bias[forget] = 0

    def _recur(
        self, dynamic_TBD: Tensor, static_BS: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        inputs = append_static(dynamic_TBD, static_BS) if self.num_static else dynamic_TBD
        # nn.LSTM's states carry a leading axis of layers.
        start = None if state is None else (state[0].unsqueeze(0), state[1].unsqueeze(0))
        hidden_TBH, (h_1BH, c_1BH) = self.lstm(inputs, start)
        return hidden_TBH, (h_1BH.squeeze(0), c_1BH.squeeze(0))

    def _gates(self, static_BS: Tensor) -> Gates:
        weight_xs, weight_h, first_bias, second_bias = self.lstm.all_weights[0]
        weight_x, weight_s = torch.split(weight_xs, [self.num_dynamic, self.num_static], 1)
        bias = first_bias + second_bias
        bias_BG = (
            bias + static_BS @ weight_s.T if self.num_static else bias.expand(len(static_BS), -1)
        )
        return Gates(weight_x=weight_x, weight_h=weight_h, bias=bias_BG)

    def as_lstm(self) -> LstmWeights:
        weight_xs, weight_h, first_bias, second_bias = self.lstm.all_weights[0]
        return LstmWeights(
            input_GX=weight_xs, recurrent_GH=weight_h, bias_G=first_bias + second_bias
        )
