# SPDX-License-Identifier: BSD-3-Clause
"""The fastest dependable LSTM engine for CPUs: torch.nn.LSTM's semantics on NumPy arrays."""

from .cell import LSTMCell
from .lstm import LSTM
from .runtime import (
    __version__,
    available_isas,
    config,
    get_num_threads,
    set_num_threads,
    show_config,
)
from .storage import load
from .stream import Stream

__all__ = [
    "LSTM",
    "LSTMCell",
    "Stream",
    "__version__",
    "available_isas",
    "config",
    "get_num_threads",
    "load",
    "set_num_threads",
    "show_config",
]
