# SPDX-License-Identifier: BSD-3-Clause
"""Cells here are those of `helpers.Config`: an LSTM with a projection or options is one too."""

from __future__ import annotations

import pytest

CELLS = ["lstm", "lstmp", "rnn_tanh", "rnn_relu", "gru", "lstm_general", "gru_reset_before"]


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> str:
    """Every recurrent cell by turns."""
    return request.param
