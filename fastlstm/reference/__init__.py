# SPDX-License-Identifier: BSD-3-Clause
"""All layers in plain NumPy: the executable specification that the engine is tested against.

Each is written to be read, never to be fast, and uses nothing of the compiled core. `lstm`, `gru`
and `rnn` hold the equations of a cell with the derivation of their gradients and their sources,
`options` those of the LSTM's variants, whose `activations` and `normalization` stand apart;
`layers` the steps, layers and directions around them; `dropout` the masks between layers.
"""

from .activations import sigmoid
from .dropout import Array, dropout_mask, philox4x32
from .gru import GRUGradients, GRUResult, gru_backward, gru_forward
from .lstm import (
    Gradients,
    Result,
    cell_backward,
    cell_forward,
    lstm_backward,
    lstm_forward,
)
from .rnn import RNNGradients, RNNResult, rnn_backward, rnn_forward

__all__ = [
    "Array",
    "GRUGradients",
    "GRUResult",
    "Gradients",
    "RNNGradients",
    "RNNResult",
    "Result",
    "cell_backward",
    "cell_forward",
    "dropout_mask",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "philox4x32",
    "rnn_backward",
    "rnn_forward",
    "sigmoid",
]
