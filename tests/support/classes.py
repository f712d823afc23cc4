# SPDX-License-Identifier: BSD-3-Clause
"""The classes of each recurrent cell, by the names of `fastlstm.spec`."""

from __future__ import annotations

from typing import Any, NamedTuple

import fastlstm


class Classes(NamedTuple):
    """What `fastlstm` has for a cell; ``torch.nn`` has classes of the same names, those of `TORCH`
    with the same options."""

    layer: Any
    step: Any
    options: dict[str, Any]  # that both constructors need to be of that cell
    has_c: bool = False

    def stepped(self, cell: Any, x: Any, state: Any = None) -> tuple[Any, ...]:
        """(h, c) of one step, or (h,); `state` likewise."""
        if state is not None and not self.has_c:
            (state,) = state
        new = cell(x, state)
        return tuple(new) if self.has_c else (new,)


CLASSES = {
    "lstm": Classes(fastlstm.LSTM, fastlstm.LSTMCell, {}, has_c=True),
    "rnn_tanh": Classes(fastlstm.RNN, fastlstm.RNNCell, {"nonlinearity": "tanh"}),
    "gru": Classes(fastlstm.GRU, fastlstm.GRUCell, {}),
    "rnn_relu": Classes(fastlstm.RNN, fastlstm.RNNCell, {"nonlinearity": "relu"}),
    "gru_reset_before": Classes(fastlstm.GRU, fastlstm.GRUCell, {"reset_after": False}),
}
TORCH = [cell for cell in CLASSES if cell != "gru_reset_before"]
