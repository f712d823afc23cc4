# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm inside PyTorch: the same modules, parameters and gradients, run by the core on the CPU.

`accelerate` changes the recurrent layers of a model in place; `report` says what runs in the core
and what does not, and why; `restore` undoes it. `LSTM`, `GRU`, `RNN` and their cells are the same
modules made directly; each is a subclass of the one of that name in ``torch.nn``. Autograd,
optimisers, state dicts, ``torch.compile`` and DDP go on working.

>>> import torch
>>> import fastlstm.torch
>>> model = torch.nn.Sequential(torch.nn.LSTM(6, 3, batch_first=True))
>>> model = fastlstm.torch.accelerate(model)
>>> y, (h_n, c_n) = model(torch.zeros(2, 5, 6))
>>> y.square().mean().backward()
>>> print(fastlstm.torch.report(model))
1 module runs in fastlstm, 0 were left
  0: LSTM(6, 3, batch_first=True)

What the core does not run (other devices and dtypes, for example) runs in PyTorch's own forward,
with one warning that says why. Needs PyTorch 2.6 or later. The guide's page on fastlstm inside
PyTorch has the rest: frozen weights, autocast, export, files.
"""

from . import dispatch, dynamo, flops
from .module import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .swap import Report, accelerate, report, restore

del dispatch, flops  # imported for what they register

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Report",
    "accelerate",
    "report",
    "restore",
]

dynamo.install()
