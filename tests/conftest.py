# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures that every test module shares."""

from __future__ import annotations

import pytest

import fastlstm


@pytest.fixture(params=fastlstm.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every instruction set of this machine by turns: models made in the test are packed for it."""
    monkeypatch.setattr("fastlstm.runtime._isa", request.param)
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Both dtypes by turns."""
    return request.param
