# SPDX-License-Identifier: BSD-3-Clause
"""A fast LSTM engine for CPUs: torch.nn.LSTM's semantics on NumPy arrays."""

from typing import Any

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
from .training import Gradients, Tape

__all__ = [
    "LSTM",
    "Gradients",
    "LSTMCell",
    "Stream",
    "Tape",
    "__version__",
    "available_isas",
    "config",
    "get_num_threads",
    "load",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> Any:
    if name in ("optim", "torch"):  # imported when first asked for
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
