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
from fastlstm.bench.shapes import Shape, make_arrays, make_input, make_lengths, make_params

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
TRAINING = [
    shape("small batch", 100, 8, 256, 256, train=True),
    shape("many small", 128, 64, 9, 32, train=True),
    shape("ragged both ways", 29, 32, 12, 64, bidirectional=True, ragged=True, train=True),
    shape("float64", 100, 8, 64, 64, dtype="float64", train=True),
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


@pytest.mark.parametrize("of", TRAINING, ids=lambda of: of.name)
def test_training_step(benchmark: Any, of: Shape) -> None:
    lstm, arrays = make(of).train(), make_arrays(of)
    x, lengths, dy = arrays.x, arrays.lengths, arrays.dy
    tape: Any = None

    def step() -> fastlstm.Gradients:
        nonlocal tape
        _, _, tape = lstm.forward(x, lengths=lengths, tape=tape)
        return lstm.backward(tape, dy)

    grads = benchmark(step)
    # The last step gave what a pass of its own gives: nothing was added up or left over.
    _, _, fresh = lstm.forward(x, lengths=lengths)
    expected = lstm.backward(fresh, dy)
    np.testing.assert_array_equal(grads.x, expected.x)
    for name, values in expected.params.items():
        assert values.any(), name
        np.testing.assert_array_equal(grads.params[name], values, err_msg=name)


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
