# SPDX-License-Identifier: BSD-3-Clause
"""pytest-benchmark cases of the calls that users make often: ``pytest bench``.

They record times and assert none: what a call may cost depends on the machine. Each one asserts
that the call still returns what it should, so that a broken fast path can't look fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm.bench.shapes import Shape, make_input, make_lengths, make_params

pytest.importorskip("pytest_benchmark", reason="times are taken by pytest-benchmark")


def shape(name: str, T: int, B: int, I: int, H: int, **options: Any) -> Shape:  # noqa: E741
    return Shape(name, "none", "none", T, B, I, H, **options)


SHAPES = [
    shape("one sequence", 100, 1, 128, 128),
    shape("small batch", 100, 8, 256, 256),
    shape("tiny hidden", 2048, 1, 1, 20),
    shape("many small", 128, 64, 9, 32),
    shape("ragged both ways", 29, 32, 12, 64, bidirectional=True, ragged=True),
    shape("float64", 100, 8, 64, 64, dtype="float64"),
]
STEP = shape("step", 1, 1, 128, 128)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = fastlstm.get_num_threads()
    fastlstm.set_num_threads(1)
    yield
    fastlstm.set_num_threads(before)


def make(of: Shape) -> fastlstm.LSTM:
    lstm = fastlstm.LSTM(
        of.I, of.H, of.layers, bidirectional=of.bidirectional, dtype=np.dtype(of.dtype).type
    )
    lstm.load_state_dict(make_params(of))
    return lstm


@pytest.mark.parametrize("of", SHAPES, ids=lambda of: of.name)
def test_call(benchmark: Any, of: Shape) -> None:
    lstm, x, lengths = make(of), make_input(of), make_lengths(of)
    y, _ = benchmark(lambda: lstm(x, lengths=lengths))
    assert y.shape == (of.T, of.B, of.directions * of.H)
    np.testing.assert_array_equal(y, lstm(x, lengths=lengths)[0])


def test_call_into_out(benchmark: Any) -> None:
    of = SHAPES[1]
    lstm, x = make(of), make_input(of)
    out = np.empty((of.T, of.B, of.H), np.float32)
    y, _ = benchmark(lambda: lstm(x, out=out))
    assert np.shares_memory(y, out)


def test_stream_step(benchmark: Any) -> None:
    lstm, x = make(STEP), make_input(STEP)[0]
    stream = lstm.stream(batch_size=1)
    h = benchmark(lambda: stream(x))
    assert h.shape == (1, STEP.H)
    # The state carried over: the step after a reset differs from the ones after it.
    settled = np.array(stream(x))
    stream.reset()
    assert not np.array_equal(np.array(stream(x)), settled)


def test_cell(benchmark: Any) -> None:
    cell = fastlstm.LSTMCell(STEP.I, STEP.H, seed=0)
    x = make_input(STEP)[0]
    state = (np.zeros((1, STEP.H), np.float32), np.zeros((1, STEP.H), np.float32))
    h, c = benchmark(lambda: cell(x, state))
    assert h.shape == c.shape == (1, STEP.H)


def test_load_state_dict(benchmark: Any) -> None:
    of = SHAPES[1]
    lstm, params = make(of), make_params(of, seed=1)
    benchmark(lambda: lstm.load_state_dict(params))
    np.testing.assert_array_equal(lstm.state_dict()["weight_hh_l0"], params["weight_hh_l0"])
