"""torch's optimisers without its compiler.

torch wraps these methods to exclude them from torch.compile; the wrapper imports the compiler at
the first call (2 s and 70 MB of every worker). Nothing is compiled here, so the unwrapped methods
serve.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class Uncompiled(torch.optim.Optimizer):
    """An optimiser of which the compiler is told nothing; the first of a class's parents."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class AdamW(Uncompiled, torch.optim.AdamW):
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
