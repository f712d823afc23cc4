# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm inside PyTorch, gradients included.

    model = fastlstm.torch.accelerate(model)      every nn.LSTM, GRU, RNN and cell, in place
    print(fastlstm.torch.report(model))           what runs in the core, what does not and why
    fastlstm.torch.restore(model)                 back again
    lstm = fastlstm.torch.LSTM(6, 3)              or directly, as a torch.nn.LSTM

    swap.py     accelerate, restore, report
    classes.py  which class of ours stands for which of torch's, users' subclasses included
    copies.py   copies that are ours, pickles that are torch's
    module.py   the classes: which of torch's each one is, and which cell
    layers.py   their forward: arguments as torch's, or a call of torch's own forward
    fallback.py what goes to torch's own forward, and the warning about it
    guards.py   what torch's own forward would not survive
    autocast.py calls under torch.autocast where torch has no kernels for them
    variants.py modules with LSTMOptions, which PyTorch has none like
    ops.py      running a model, with gradients: by the kernels, or by the operators
    schemas.py  the operators, and what they have in common for all cells
    dispatch.py their implementations, fake ones included
    operands.py checks of what the operators are given
    kernels.py  tensors to the core's buffers, without a copy
    engines.py  packed weights, kept while the same weights come again
    flops.py    what torch.utils.flop_counter counts for the operators
    dynamo.py   torch.compile's question whether our layers may be traced

Needs PyTorch 2.6 or later.
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
