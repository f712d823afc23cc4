# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures that every test module shares, and the markers that no module gives itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fastlstm
from support import tiers

os.environ.setdefault("KERAS_BACKEND", "torch")  # which Keras reads when it is imported
CELLS = ["lstm", "rnn_tanh", "rnn_relu", "gru"]
TESTS = Path(__file__).resolve().parent


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    smoke = tiers.Smoke()
    for item in items:
        module = item.path.relative_to(TESTS).as_posix() if TESTS in item.path.parents else ""
        if module.startswith("pytorch/"):
            item.add_marker("torch")
        if smoke.has(module, getattr(item, "originalname", item.name)):
            item.add_marker("smoke")


@pytest.fixture(params=fastlstm.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every instruction set of this machine by turns: models made in the test are packed for it."""
    monkeypatch.setattr("fastlstm.runtime._isa", request.param)
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Both dtypes by turns."""
    return request.param


@pytest.fixture(params=CELLS if hasattr(fastlstm, "RNN") else CELLS[:1])
def cell(request: pytest.FixtureRequest) -> str:
    """Every recurrent cell by turns, as `helpers.Config` names them."""
    return request.param
