# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs, GRUs and RNNs on CPUs: PyTorch's layers on NumPy arrays, for inference and training.

>>> import numpy as np
>>> import fastlstm
>>> lstm = fastlstm.LSTM(input_size=16, hidden_size=64, seed=0)
>>> x = np.zeros((100, 8, 16), np.float32)  # 100 steps of 8 sequences of 16 features
>>> y, (h_n, c_n) = lstm(x)  # as torch.nn.LSTM
>>> y.shape, h_n.shape, c_n.shape
((100, 8, 64), (1, 8, 64), (1, 8, 64))

Where to find what:

- `LSTM`, `GRU` and `RNN` are stacks of layers. Call one for inference; ``forward`` and ``backward``
  train it; ``stream`` runs it step by step; ``save`` and `load` are its way to a file and back.
  `LSTMCell`, `GRUCell` and `RNNCell` are one step of one layer.
- `LSTMOptions` makes an LSTM another one than the plain one: peepholes, clips, layer norm, noise.
- `Mask`, `merge` and `reverse` do around a call what Keras has as arguments of layers.
- `set_num_threads` bounds the threads of a call; `show_config` prints what runs on this machine.
- ``fastlstm.optim`` has optimisers, ``fastlstm.nn`` what else a training loop needs: heads, losses,
  batches, schedules, checkpoints.
- ``fastlstm.torch`` runs the layers of a PyTorch model, gradients included; ``LSTM.from_torch``
  takes a trained one out of PyTorch.
- ``fastlstm.sklearn`` has estimators whose X is sequences.
- ``fastlstm.interop`` reads and writes models of ONNX, Keras, PyTorch, TensorFlow Lite, RTNeural.
- ``fastlstm.reference`` is the specification: every equation in plain NumPy.
- ``python -m fastlstm info``, ``bench``, ``inspect``, ``convert`` and ``verify`` work from a shell.

Letters in shapes: T steps, B sequences (the batch), I inputs, H hidden units, L layers,
D directions, P values of a projection. ``help(fastlstm.LSTM)`` goes on from here; the documentation
begins with a page for each kind of reader, "Getting started".
"""

from typing import TYPE_CHECKING

from .cell import LSTMCell
from .directions import merge, merge_backward, reverse
from .gru import GRU, GRUCell
from .loading import load
from .lstm import LSTM
from .masks import Mask
from .options import LSTMOptions
from .rnn import RNN, RNNCell
from .runtime import (
    __version__,
    available_isas,
    config,
    get_num_threads,
    set_num_threads,
    show_config,
)
from .stream import Stream
from .training import Gradients, Tape

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "Gradients",
    "LSTMCell",
    "LSTMOptions",
    "Mask",
    "RNNCell",
    "Stream",
    "Tape",
    "__version__",
    "available_isas",
    "config",
    "get_num_threads",
    "load",
    "merge",
    "merge_backward",
    "reverse",
    "set_num_threads",
    "show_config",
]


_LAZY = ("interop", "nn", "optim", "reference", "sklearn", "torch")  # imported when first asked for

if TYPE_CHECKING:  # which else would take every name for one of ours
    from . import interop as interop
    from . import nn as nn
    from . import optim as optim
    from . import reference as reference
    from . import sklearn as sklearn
    from . import torch as torch
else:

    def __getattr__(name):
        if name in _LAZY:
            import importlib

            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
