# SPDX-License-Identifier: BSD-3-Clause
"""Cells here are those of `helpers.Config`: an LSTM with a projection is one of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["lstm", "lstmp", "rnn_tanh", "rnn_relu", "gru"])
def cell(request: pytest.FixtureRequest) -> str:
    """Every recurrent cell by turns."""
    return request.param
