# SPDX-License-Identifier: BSD-3-Clause
"""Masks: against a loop that holds states over masked steps, their gradients against each other."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastlstm

T, B, F, H = 9, 6, 3, 4


def some_mask(seed: int) -> np.ndarray:
    """A mask with holes, one sequence that is wholly masked, and one that is whole."""
    mask = np.random.default_rng(seed).random((T, B)) < 0.6
    mask[:, 1] = False
    mask[:, 2] = True
    mask[3:, 3] = False
    return mask


def held(model: Any, x: np.ndarray, mask: np.ndarray, zero: bool) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and final h of a model of one layer, step by step, states held over masked steps."""
    both = model.bidirectional
    y = np.zeros((T, B, (1 + both) * H))
    last = np.zeros((1 + both, B, H))
    for direction in range(1 + both):
        one = type(model)(F, H, dtype=model.dtype.type)
        end = "_reverse" if direction else ""
        one.load_state_dict({name: model.state_dict()[name + end] for name in one.state_dict()})
        state: Any = None
        output = np.zeros((B, H))
        for t in range(T - 1, -1, -1) if direction else range(T):
            out, after = one(x[t : t + 1], state)
            counts = mask[t][:, None]
            before = state
            if isinstance(after, tuple):
                before = (np.zeros((1, B, H)),) * 2 if before is None else before
                state = tuple(np.where(counts, a, b) for a, b in zip(after, before, strict=True))
            else:
                state = np.where(counts, after, 0 if before is None else before)
            output = np.where(counts, out[0], 0 if zero else output)
            y[t, :, direction * H : (direction + 1) * H] = output
        last[direction] = (state[0] if isinstance(state, tuple) else state)[0]
    return y, last


@pytest.mark.parametrize("kind", [fastlstm.LSTM, fastlstm.GRU, fastlstm.RNN])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_states_pass_masked_steps(kind: Any, both: bool, zero: bool) -> None:
    model = kind(F, H, bidirectional=both, dtype="float64", seed=1)
    x = np.random.default_rng(0).standard_normal((T, B, F))
    given = some_mask(0)
    x[~given] = np.nan  # what masked steps hold does not matter
    mask = fastlstm.Mask(given, zero_outputs=zero)
    y, state = model(mask.gather(x), lengths=mask.lengths)
    expected, last = held(model, np.nan_to_num(x), given, zero)
    np.testing.assert_array_equal(mask.spread(y, bidirectional=both), expected)
    np.testing.assert_array_equal(state[0] if kind is fastlstm.LSTM else state, last)


def test_batch_first_is_the_same() -> None:
    x = np.random.default_rng(0).standard_normal((T, B, F)).astype(np.float32)
    given = some_mask(3)
    one, other = fastlstm.Mask(given), fastlstm.Mask(given.T, batch_first=True)
    turned = x.transpose(1, 0, 2)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    for name in ("gather", "ungather", "spread", "collect"):
        result = getattr(other, name)(turned)
        assert result.flags.c_contiguous
        assert result.dtype == np.float32
        np.testing.assert_array_equal(getattr(one, name)(x), result.transpose(1, 0, 2))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_gradients_are_transposes(both: bool, zero: bool) -> None:
    """<spread(a), b> = <a, collect(b)> for rows a that a run leaves, 0 past a sequence's end; and
    likewise of gather and ungather."""
    rng = np.random.default_rng(1)
    mask = fastlstm.Mask(some_mask(1), zero_outputs=zero)
    a, b = rng.integers(-9, 10, (2, T, B, 4)).astype(float)  # integers: sums are exact
    a[np.arange(T)[:, None] >= mask.lengths] = 0
    spread, collect = (
        method(value, bidirectional=both) for method, value in ((mask.spread, a), (mask.collect, b))
    )
    assert (spread * b).sum() == (a * collect).sum()
    assert (mask.gather(b) * a).sum() == (b * mask.ungather(a)).sum()
    assert not mask.ungather(b)[~some_mask(1)].any()


def test_a_whole_training_step() -> None:
    """The gradient of x by finite differences through mask, model and mask."""
    rng = np.random.default_rng(2)
    model = fastlstm.GRU(F, H, 2, bidirectional=True, dtype="float64", seed=0)
    x, weight = rng.standard_normal((T, B, F)), rng.standard_normal((T, B, 2 * H))
    mask = fastlstm.Mask(some_mask(2))
    _, _, tape = model.forward(mask.gather(x), lengths=mask.lengths)
    grads = model.backward(tape, mask.collect(weight, bidirectional=True))
    assert grads.x is not None
    along, step = rng.standard_normal(x.shape), 1e-6

    def loss(at: np.ndarray) -> float:
        y, _ = model(mask.gather(at), lengths=mask.lengths)
        return float((mask.spread(y, bidirectional=True) * weight).sum())

    slope = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    # The truncation of order step^2 and the rounding of order 1e-16 / step stay below 1e-8.
    assert (mask.ungather(grads.x) * along).sum() == pytest.approx(slope, rel=1e-7)


def test_masked_ends_are_lengths() -> None:
    lstm = fastlstm.LSTM(F, H, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, F)).astype(np.float32)
    lengths = np.array([0, 1, 4, 9, 8, 9])
    mask = fastlstm.Mask(np.arange(T)[:, None] < lengths, zero_outputs=True)
    np.testing.assert_array_equal(mask.lengths, lengths)
    expected, (h_n, c_n) = lstm(x, lengths=lengths)
    y, (h, c) = lstm(mask.gather(x), lengths=mask.lengths)
    np.testing.assert_array_equal(mask.spread(y), expected)
    np.testing.assert_array_equal(h, h_n)
    np.testing.assert_array_equal(c, c_n)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_mask(shape: tuple[int, int]) -> None:
    mask = fastlstm.Mask(np.ones(shape, bool))
    assert mask.lengths.shape == shape[1:]
    for method in (mask.gather, mask.ungather, mask.spread, mask.collect):
        assert method(np.zeros((*shape, 2))).shape == (*shape, 2)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (np.ones((2, 3)), TypeError, "mask must be bool .*float64"),
        ([[0, 1]], TypeError, "mask must be bool"),
        (np.ones(3, bool), ValueError, r"two axes.*\(3,\)"),
        (None, TypeError, "mask must be bool"),
    ],
)
def test_bad_masks(mask: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fastlstm.Mask(mask)


def test_bad_arrays() -> None:
    mask = fastlstm.Mask(np.ones((2, 3), bool))
    with pytest.raises(ValueError, match=r"x must have three axes.*\(2, 3\).*\(3, 2, 4\)"):
        mask.gather(np.zeros((3, 2, 4)))
    with pytest.raises(TypeError, match="dy must be an array of floats, got dtype int64"):
        mask.collect(np.zeros((2, 3, 4), np.int64))
    with pytest.raises(ValueError, match="y must have as many columns of each direction, got 5"):
        mask.spread(np.zeros((2, 3, 5)), bidirectional=True)
    with pytest.raises(TypeError, match="zero_outputs"):
        fastlstm.Mask(np.ones((2, 3), bool), zero_outputs=1)  # type: ignore[arg-type]


def test_the_callers_mask_may_change() -> None:
    given = np.ones((2, 3), bool)
    mask = fastlstm.Mask(given)
    given[:] = False
    assert mask.lengths.tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="read-only"):
        mask.lengths[0] = 9


def test_pickle_and_repr() -> None:
    mask = fastlstm.Mask(some_mask(0).T, batch_first=True, zero_outputs=True)
    again = pickle.loads(pickle.dumps(mask))
    assert (
        repr(again)
        == repr(mask)
        == "<Mask of 9 steps, 6 sequences, batch_first=True, zero_outputs=True>"
    )
    x = np.random.default_rng(0).standard_normal((B, T, 2))
    np.testing.assert_array_equal(mask.spread(x), again.spread(x))
