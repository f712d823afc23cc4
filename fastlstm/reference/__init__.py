# SPDX-License-Identifier: BSD-3-Clause
"""All layers in plain NumPy: the executable specification that the engine is tested against.

Each is written to be read, never to be fast, and uses nothing of the compiled core.

>>> import numpy as np
>>> import fastlstm
>>> from fastlstm import reference
>>> lstm = fastlstm.LSTM(3, 4, dtype="float64", seed=0)
>>> x = np.ones((5, 2, 3))
>>> expected = reference.lstm_forward(x, lstm.state_dict())
>>> np.allclose(lstm(x)[0], expected.y, rtol=0, atol=1e-12)
True

`lstm_forward`, `gru_forward` and `rnn_forward` run whole layers from a state dict; the functions
that end in ``_backward`` give the gradients. The modules ``lstm``, ``gru`` and ``rnn`` hold the
equations of a cell with the derivation of their gradients and their sources, ``options`` those of
the LSTM's variants, whose ``activations``, ``normalization`` and ``noise`` stand apart; ``layers``
the steps, layers and directions around them; ``dropout`` the masks between layers.
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
