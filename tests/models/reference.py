"""The recurrences as the textbook writes them, one day at a time: slow, and easy to believe.

Shape suffixes: B basins, T days, D daily inputs, S static attributes, H hidden size.
"""

import torch
from torch import Tensor

from study.models.ealstm import EALSTM
from study.models.lstm import LSTM


def loop_lstm(model: LSTM, dynamic_BTD: Tensor, static_BS: Tensor) -> Tensor:
    """Return the runoff [B, T] of a standard LSTM fed with forcing and static attributes."""
    cell = dict(model.lstm.named_parameters())
    weight_x, weight_h = cell["weight_ih_l0"], cell["weight_hh_l0"]
    bias = cell["bias_ih_l0"] + cell["bias_hh_l0"]
    h_BH = c_BH = dynamic_BTD.new_zeros(len(dynamic_BTD), model.hidden_size)
    runoff = []
    for today_BD in dynamic_BTD.unbind(dim=1):
        x = torch.cat([today_BD, static_BS], dim=1)
        i, f, g, o = (x @ weight_x.T + h_BH @ weight_h.T + bias).chunk(4, dim=1)
        c_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()
        h_BH = o.sigmoid() * c_BH.tanh()
        runoff.append(model.head(h_BH))
    return torch.cat(runoff, dim=1)


def loop_ealstm(model: EALSTM, dynamic_BTD: Tensor, static_BS: Tensor) -> Tensor:
    """Return the runoff [B, T] of the EA-LSTM; its input gate is computed once."""
    input_gate_BH = (static_BS @ model.weight_s.T + model.bias_s).sigmoid()
    h_BH = c_BH = dynamic_BTD.new_zeros(len(dynamic_BTD), model.hidden_size)
    runoff = []
    for x in dynamic_BTD.unbind(dim=1):
        f, g, o = (x @ model.weight_x.T + h_BH @ model.weight_h.T + model.bias).chunk(3, dim=1)
        c_BH = f.sigmoid() * c_BH + input_gate_BH * g.tanh()
        h_BH = o.sigmoid() * c_BH.tanh()
        runoff.append(model.head(h_BH))
    return torch.cat(runoff, dim=1)
