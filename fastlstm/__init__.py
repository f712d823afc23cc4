# SPDX-License-Identifier: BSD-3-Clause
"""A fast LSTM engine for CPUs: the semantics of torch's layers on NumPy arrays."""

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


_LAZY = ("interop", "optim", "torch")  # imported when first asked for

if TYPE_CHECKING:  # which else would take every name for one of ours
    from . import interop as interop
    from . import optim as optim
    from . import torch as torch
else:

    def __getattr__(name):
        if name in _LAZY:
            import importlib

            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
