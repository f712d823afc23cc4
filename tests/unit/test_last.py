# SPDX-License-Identifier: BSD-3-Clause
"""`last`: the outputs at the ends of sequences, as a whole call has them, without the others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.memory import traced

pytestmark = pytest.mark.sanitize

MODELS = {
    "lstm": fastlstm.LSTM(5, 33, 2, seed=0),
    "both": fastlstm.LSTM(5, 20, 2, bidirectional=True, batch_first=True, seed=0),
    "projected": fastlstm.LSTM(5, 9, 1, proj_size=4, bidirectional=True, dtype="float64", seed=0),
    "gru": fastlstm.GRU(5, 70, bidirectional=True, seed=0),
    "rnn": fastlstm.RNN(5, 7, 3, seed=0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 6, 40])
def test_is_the_end_of_a_whole_call(name: str, threads: int, batch: int) -> None:
    model: Any = MODELS[name]
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 9, 5) if model.batch_first else (9, batch, 5))
    x = x.astype(model.dtype)
    for lengths in (None, rng.integers(0, 10, batch)):
        y, state = model(x, lengths=lengths, num_threads=threads)
        last, after = model.last(x, lengths=lengths, num_threads=threads)
        pairs = zip(state, after, strict=True) if isinstance(state, tuple) else [(state, after)]
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
        steps = y.transpose(1, 0, 2) if model.batch_first else y
        ends = np.full(batch, 9) if lengths is None else lengths
        width = steps.shape[2] // (1 + model.bidirectional)
        for row, end in enumerate(ends):
            forward = steps[end - 1, row, :width] if end else np.zeros(width)
            backward = steps[0, row, width:]
            np.testing.assert_array_equal(last[row], np.concatenate([forward, backward]))


def test_one_sequence_and_none() -> None:
    lstm = fastlstm.LSTM(3, 4, bidirectional=True, seed=0)
    x = np.ones((5, 3), np.float32)
    y, (h_n, _) = lstm(x)
    last, (h, _) = lstm.last(x)
    np.testing.assert_array_equal(last, np.concatenate([y[-1, :4], y[0, 4:]]))
    np.testing.assert_array_equal(h, h_n)
    start = np.ones((2, 2, 4), np.float32)
    last, _ = lstm.last(np.empty((0, 2, 3), np.float32), (start, start))
    np.testing.assert_array_equal(last, np.ones((2, 8)))
    last[:] = 7
    assert (start == 1).all()


def test_memory_does_not_grow_with_steps() -> None:
    gru = fastlstm.GRU(1, 64, seed=0)
    peaks = []
    for steps in (100, 10_000):
        x = np.zeros((steps, 8, 1), np.float32)
        gru.last(x)
        peaks.append(traced(partial(gru.last, x), warm=0, count=1)[1])
    assert peaks[1] < peaks[0] + 10_000  # outputs of all steps: 20 MB more


def test_bad_input() -> None:
    lstm = fastlstm.LSTM(3, 4, seed=0)
    with pytest.raises(ValueError, match="x must have shape"):
        lstm.last(np.zeros((5, 2, 4), np.float32))
    with pytest.raises(ValueError, match="num_threads"):
        lstm.last(np.zeros((5, 2, 3), np.float32), num_threads=0)
