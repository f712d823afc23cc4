# SPDX-License-Identifier: BSD-3-Clause
"""Batches of sequences of any lengths, and windows of series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlstm import nn

STEPS = [3, 9, 1, 5, 2, 8, 4, 7, 6, 9, 1]
X = [np.full((t, 2), k, np.float32) for k, t in enumerate(STEPS)]
Y = np.arange(len(STEPS))


@pytest.mark.parametrize("buckets", [0, 1, 2, 100])
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_every_sequence_once(buckets: int, shuffle: bool) -> None:
    found = list(nn.batches(X, Y, size=4, buckets=buckets, shuffle=shuffle, seed=0))
    assert sorted(len(batch.x) for batch in found) == [3, 4, 4]
    chosen = np.concatenate([batch.chosen for batch in found])
    assert sorted(chosen) == list(range(len(X)))
    for batch in found:
        assert batch.x.shape[1] == max(STEPS[k] for k in batch.chosen)
        assert batch.y.tolist() == batch.chosen.tolist()
        for row, length, k in zip(batch.x, batch.lengths, batch.chosen, strict=True):
            assert length == STEPS[k]
            assert (row[:length] == k).all()
            assert not row[length:].any()
    if not shuffle and not buckets:
        assert chosen.tolist() == list(range(len(X)))


def padding(buckets: int) -> int:
    found = nn.batches(X, size=4, buckets=buckets, seed=0)
    return sum(int(batch.x.shape[1] * len(batch.x) - batch.lengths.sum()) for batch in found)


def test_buckets_pad_less() -> None:
    assert padding(100) < padding(0) / 2


def test_a_seed_settles_the_order() -> None:
    orders = [
        np.concatenate([b.chosen for b in nn.batches(X, size=4, seed=seed)]).tolist()
        for seed in (3, 3, [3, 1], None, None)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[3] != orders[4]  # equal once in 11! runs


def test_targets_of_each_step_and_time_first() -> None:
    targets = [np.arange(t) for t in STEPS]
    for batch in nn.batches(X, targets, size=3, batch_first=False, seed=0):
        assert batch.x.shape[:2] == batch.y.shape
        for at, k in enumerate(batch.chosen):
            assert batch.y[: STEPS[k], at].tolist() == list(range(STEPS[k]))
            assert not batch.y[STEPS[k] :, at].any()


def test_one_array() -> None:
    x = np.random.default_rng(0).standard_normal((7, 4, 2))
    lengths = np.array([4, 2, 3, 1, 0, 4, 4])
    for batch in nn.batches(x, size=3, lengths=lengths, seed=0):
        assert np.array_equal(batch.x, x[batch.chosen])
        assert np.array_equal(batch.lengths, lengths[batch.chosen])
        assert batch.y is None
    (batch,) = nn.batches(x, size=9, shuffle=False)
    assert batch.lengths.tolist() == [4] * 7
    assert list(nn.batches(x[:0])) == []


def test_valid_steps() -> None:
    assert nn.valid_steps([2, 0, 3]).tolist() == [
        [True, True, False],
        [False, False, False],
        [True, True, True],
    ]
    assert nn.valid_steps([1], 2, batch_first=False).tolist() == [[True], [False]]


def test_windows() -> None:
    series = np.arange(20.0).reshape(10, 2)
    known = np.arange(10.0) * 100
    found = nn.windows(series, 3, 2, stride=2, exogenous=known)
    assert found.x.shape == (3, 3, 3)
    assert found.y.shape == (3, 2, 2)
    assert found.future is not None
    for k in range(3):
        at = 2 * k
        assert np.array_equal(found.x[k, :, :2], series[at : at + 3])
        assert np.array_equal(found.x[k, :, 2], known[at : at + 3])
        assert np.array_equal(found.y[k], series[at + 3 : at + 5])
        assert np.array_equal(found.future[k, :, 0], known[at + 3 : at + 5])
    assert nn.windows(series[:, 0], 9).x.shape == (1, 9, 1)
    assert nn.windows(series, 9).future is None


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.batches(X, Y[1:]), ValueError, "y must have 11 targets"),
        (lambda: nn.batches(X, size=0), ValueError, "size"),
        (lambda: nn.batches(X, lengths=STEPS), ValueError, "lengths must be None"),
        (lambda: nn.batches(np.zeros((2, 3))), ValueError, "(N, T, I)"),
        (lambda: nn.batches([X[0], X[0][:, :1]]), ValueError, "position 1"),
        (lambda: nn.batches(np.zeros((2, 3, 1)), lengths=[4, 1]), ValueError, "lengths"),
        (lambda: nn.windows(np.zeros(4), 3, 2), ValueError, "5 steps at least, got 4"),
        (lambda: nn.windows(np.zeros(4, int), 1), TypeError, "series must be floats"),
        (lambda: nn.windows(np.zeros((2, 2, 2)), 1), ValueError, "series must have shape"),
        (
            lambda: nn.windows(np.zeros(4), 1, exogenous=np.zeros(3)),
            ValueError,
            "exogenous must have 4",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
