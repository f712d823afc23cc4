# SPDX-License-Identifier: BSD-3-Clause
"""Merging the outputs of two directions and turning sequences round, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm.directions import MODES

T, B, F, H = 5, 4, 3, 6
LENGTHS = [5, 0, 3, 1]


def numbers(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


# ---- merging ----


def test_what_the_modes_are(dtype: str) -> None:
    y = numbers(T, B, 2 * H, dtype=dtype)
    f, b = y[..., :H], y[..., H:]
    assert fastlstm.merge(y, "concat") is y
    for mode, expected in (("sum", f + b), ("mul", f * b), ("ave", (f + b) / 2)):
        merged = fastlstm.merge(y, mode)  # type: ignore[call-overload]
        assert merged.dtype == dtype
        assert np.array_equal(merged, expected)
    first, second = fastlstm.merge(y, None)
    assert np.array_equal(first, f)
    assert np.array_equal(second, b)
    assert np.array_equal(
        fastlstm.merge(y[-1, 0], "sum"), (f + b)[-1, 0]
    )  # of `last`, one sequence


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_merging(mode: Any) -> None:
    """Every mode is at most quadratic in y: central differences with any step are exact."""
    y, way = numbers(T, B, 2 * H), numbers(B, T, 2 * H).reshape(T, B, 2 * H)
    made = fastlstm.merge(y, mode)
    parts = made if mode is None else (made,)
    given = [numbers(*part.shape, 1)[..., 0] for part in parts]

    def loss(at: np.ndarray) -> float:
        found = fastlstm.merge(at, mode)
        found = found if mode is None else (found,)
        return float(sum((part * g).sum() for part, g in zip(found, given, strict=True)))

    dy = fastlstm.merge_backward(given if mode is None else given[0], y, mode)
    assert dy.shape == y.shape
    slope = (loss(y + way) - loss(y - way)) / 2
    terms = 4 * y.size * 10  # sums of at most 4 n terms below 10, an epsilon each
    assert abs(slope - float((dy * way).sum())) < terms * np.finfo(float).eps


def test_one_half_without_a_gradient() -> None:
    y, g = numbers(T, B, 2 * H), numbers(T, B, H)
    dy = fastlstm.merge_backward((None, g), y, None)
    assert not dy[..., :H].any()
    assert np.array_equal(dy[..., H:], g)


def test_merged_layers_train() -> None:
    """The gradients of a model's parameters through the mean of its directions."""
    gru = fastlstm.GRU(F, H, bidirectional=True, dtype="float64", seed=0)
    x, g = numbers(T, B, F), numbers(T, B, H)
    y, _, tape = gru.forward(x)
    grads = gru.backward(tape, fastlstm.merge_backward(g, y, "mul"))
    way = {name: numbers(*value.shape) for name, value in gru.state_dict().items()}

    def loss(step: float) -> float:
        other = fastlstm.GRU(F, H, bidirectional=True, dtype="float64", seed=0)
        other.load_state_dict({n: v + step * way[n] for n, v in gru.state_dict().items()})
        return float((fastlstm.merge(other(x)[0], "mul") * g).sum())

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    exact = sum(float((grads.params[name] * way[name]).sum()) for name in way)
    # The third derivative times 1e-10, and a loss of some 100 epsilons by 1e-5.
    assert slope == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda y: fastlstm.merge(y, "max"), ValueError, "mode must be one of 'concat', 'sum', "),
        (lambda y: fastlstm.merge(y, ["sum"]), ValueError, r"mode must be .*, got \['sum'\]"),
        (lambda y: fastlstm.merge(y[..., 1:], "sum"), ValueError, "y must have as many columns"),
        (lambda y: fastlstm.merge(y[0, 0, 0], "sum"), ValueError, "y must have as many columns"),
        (lambda y: fastlstm.merge(y.astype(int), "sum"), TypeError, "y must be .*got dtype int"),
        (lambda y: fastlstm.merge_backward(y, y, "sum"), ValueError, "dmerged must have shape"),
        (lambda y: fastlstm.merge_backward(y, y, None), TypeError, "dmerged must be a pair"),
        (lambda y: fastlstm.merge_backward((y, y), y, None), ValueError, "dmerged must have shap"),
        (lambda y: fastlstm.merge_backward([[1]], y, "concat"), TypeError, "dmerged .*dtype int"),
    ],
)
def test_bad_merges(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(numbers(T, B, 2 * H))


# ---- turning round ----


def test_steps_stand_where_they_should(dtype: str) -> None:
    x = numbers(T, B, F, dtype=dtype)
    whole, own = fastlstm.reverse(x), fastlstm.reverse(x, LENGTHS)
    assert np.shares_memory(whole, x)
    assert own.dtype == dtype
    for b, length in enumerate(LENGTHS):
        for t in range(T):
            assert np.array_equal(whole[t, b], x[T - 1 - t, b])
            assert np.array_equal(own[t, b], x[length - 1 - t if t < length else t, b])
    assert np.array_equal(fastlstm.reverse(own, LENGTHS), x)
    turned = x.transpose(1, 0, 2)
    for lengths in (None, LENGTHS):
        found = fastlstm.reverse(turned, lengths, batch_first=True)
        assert np.array_equal(found.transpose(1, 0, 2), fastlstm.reverse(x, lengths))
    mask = np.arange(T)[:, None] < LENGTHS
    assert np.array_equal(fastlstm.reverse(mask, LENGTHS), mask)
    assert np.array_equal(fastlstm.reverse(x[:, 0, 0]), x[::-1, 0, 0])


@pytest.mark.parametrize("kind", [fastlstm.LSTM, fastlstm.GRU, fastlstm.RNN])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_it_is_the_second_direction(kind: Any, lengths: Any) -> None:
    """A forward model on turned sequences gives the second direction's outputs, and gradients."""
    both = kind(F, H, bidirectional=True, seed=0)
    one = kind(F, H, seed=0)
    names = list(one.state_dict())
    one.load_state_dict({name: both.state_dict()[f"{name}_reverse"] for name in names})
    x, dy = numbers(T, B, F, dtype="float32"), numbers(T, B, H, dtype="float32")
    expected, _, tape = both.forward(x, lengths=lengths)
    grads = both.backward(tape, fastlstm.merge_backward((None, dy), expected, None))
    y, _, tape = one.forward(fastlstm.reverse(x, lengths), lengths=lengths)
    mine = one.backward(tape, fastlstm.reverse(dy, lengths))
    assert np.array_equal(fastlstm.reverse(y, lengths), fastlstm.merge(expected, None)[1])
    assert np.array_equal(fastlstm.reverse(mine.x, lengths), grads.x)
    for name in names:
        assert np.array_equal(mine.params[name], grads.params[f"{name}_reverse"])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((np.zeros(3), [1]), ValueError, "x must have axes of steps and sequences"),
        ((np.float64(3), None), ValueError, "x must have axes of steps and sequences"),
        ((np.zeros((3, 2)), [1]), ValueError, r"lengths must have shape \(2,\)"),
        ((np.zeros((3, 2)), [1, 4]), ValueError, "lengths must be between 0 and 3"),
        ((np.zeros((3, 2)), ["a", "b"]), TypeError, "lengths must be integers"),
    ],
)
def test_bad_turns(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fastlstm.reverse(*given)
    with pytest.raises(TypeError, match="batch_first must be True or False"):
        fastlstm.reverse(np.zeros((3, 2)), batch_first=1)  # type: ignore[arg-type]
