# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm inside PyTorch, gradients included.

    model = fastlstm.torch.accelerate(model)      every nn.LSTM and nn.LSTMCell in it, in place
    print(fastlstm.torch.report(model))           what runs in the core, what does not and why
    fastlstm.torch.restore(model)                 back again
    lstm = fastlstm.torch.LSTM(6, 3)              or directly, as a torch.nn.LSTM

    swap.py     accelerate, restore, report
    module.py   LSTM and LSTMCell: arguments as torch's, or a call of torch's own forward
    fallback.py what goes to torch's own forward, and the warning about it
    ops.py      operators with their gradients and fake implementations
    kernels.py  tensors to the core's buffers, without a copy
    engines.py  packed weights, kept while the same weights come again
    dynamo.py   torch.compile's question whether our LSTM may be traced

Needs PyTorch 2.6 or later.
"""

from . import dynamo
from .module import LSTM, LSTMCell
from .swap import Report, accelerate, report, restore

__all__ = ["LSTM", "LSTMCell", "Report", "accelerate", "report", "restore"]

dynamo.install()
