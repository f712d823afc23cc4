# SPDX-License-Identifier: BSD-3-Clause
"""Chains run whole: layers in NumPy against their definitions, masks, streams, refusals."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from fastlstm.interop import elementwise
from support.labels import label

RNG = np.random.default_rng(0)
LAST = float(np.finfo(np.float32).eps)


def some(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": kind, **config}}


def chain(*layers: dict[str, Any], weights: dict[str, list[np.ndarray]]) -> Any:
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}
    return interop.from_keras(config, weights).sequential()


LSTM = layer("LSTM", return_sequences=True)
WEIGHTS = [some(3, 16), some(4, 16), some(16)]
X = some(2, 9, 3)


def lstm(x: np.ndarray, **options: Any) -> np.ndarray:
    """The plain layer's outputs."""
    model = interop.from_keras(LSTM, WEIGHTS).model
    return model(x, **options)[0]


def convolved(
    x: np.ndarray, kernel: np.ndarray, stride: int, apart: int, groups: int
) -> np.ndarray:
    """Sum by sum, in float64, of padded inputs."""
    reach, (taps, inner, outer) = (len(kernel) - 1) * apart, kernel.shape
    steps = (x.shape[1] - reach - 1) // stride + 1
    y = np.zeros((len(x), steps, outer))
    for t in range(steps):
        for out in range(outer):
            first = out // (outer // groups) * inner
            for k in range(taps):
                given = x[:, t * stride + k * apart, first : first + inner]
                y[:, t, out] += given.astype(np.float64) @ kernel[k, :, out].astype(np.float64)
    return y


CONVOLUTIONS = [
    ("valid", 1, 1, 1, (0, 0)),
    ("valid", 2, 1, 1, (0, 0)),
    ("valid", 1, 1, 2, (0, 0)),
    ("same", 1, 1, 1, (1, 1)),
    ("same", 2, 1, 1, (1, 1)),
    ("same", 1, 2, 1, (2, 2)),
    ("causal", 1, 2, 2, (4, 0)),
]


@pytest.mark.parametrize("padding, stride, apart, groups, around", CONVOLUTIONS, ids=label)
def test_convolutions(
    padding: str, stride: int, apart: int, groups: int, around: tuple[int, int]
) -> None:
    kernel, shift = some(3, 4 // groups, 6), some(6)
    config = {"padding": padding, "strides": [stride], "dilation_rate": [apart], "groups": groups}
    found = chain(
        LSTM, layer("Conv1D", **config), weights={"LSTM": WEIGHTS, "Conv1D": [kernel, shift]}
    )
    given = np.pad(lstm(X), ((0, 0), around, (0, 0)))
    expected = convolved(given, kernel, stride, apart, groups) + shift
    np.testing.assert_allclose(found(X), expected, rtol=0, atol=16 * LAST)


def test_what_follows_whole_sequences() -> None:
    y = lstm(X)
    for kind, expected in (
        ("Flatten", y.reshape(2, -1)),
        ("GlobalAveragePooling1D", y.mean(axis=1)),
        ("GlobalMaxPooling1D", y.max(axis=1)),
        ("MaxPooling1D", y[:, :8].reshape(2, 4, 2, 4).max(axis=2)),
        ("AveragePooling1D", y[:, :8].reshape(2, 4, 2, 4).mean(axis=2)),
    ):
        found = chain(LSTM, layer(kind), weights={"LSTM": WEIGHTS})
        np.testing.assert_allclose(found(X), expected, rtol=0, atol=4 * LAST, err_msg=kind)
        with pytest.raises(interop.Unsupported, match=f"{kind}: it cannot be streamed"):
            found.stream()


def test_masks_and_lengths() -> None:
    """A mask at the end is lengths; one within leaves states and outputs as they were."""
    found = chain(layer("Masking"), LSTM, weights={"LSTM": WEIGHTS})
    x = X.copy()
    x[0, 5:] = 0
    x[1, 3] = 0
    y = found(x)
    np.testing.assert_array_equal(y[0, :5], lstm(x[:1, :5])[0])
    np.testing.assert_array_equal(y[0, 5:], np.broadcast_to(y[0, 4], (4, 4)))
    rest = np.delete(x[1:], 3, axis=1)
    np.testing.assert_array_equal(np.delete(y[1], 3, axis=0), lstm(rest)[0])
    np.testing.assert_array_equal(y[1, 3], y[1, 2])
    plain = chain(LSTM, weights={"LSTM": WEIGHTS})
    short = plain(X, lengths=[5, 9])
    np.testing.assert_array_equal(short[0, :5], y[0, :5])
    np.testing.assert_array_equal(short[1], lstm(X)[1])
    last = chain(layer("LSTM"), weights={"LSTM": WEIGHTS})
    np.testing.assert_array_equal(last(X, lengths=[5, 9])[0], y[0, 4])


def test_embeddings() -> None:
    table = some(7, 3)
    at = RNG.integers(0, 7, (2, 9))
    found = chain(layer("Embedding"), LSTM, weights={"Embedding": [table], "LSTM": WEIGHTS})
    np.testing.assert_array_equal(found(at), lstm(table[at]))
    stream = found.stream(2)
    parts = [stream(at[:, :4]), stream(at[:, 4:])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), lstm(table[at]))
    for odd in (np.array([[7]]), np.array([[-1]]), np.array([[0.5]])):
        with pytest.raises(ValueError, match="Embedding takes integers from 0 to 6"):
            found(odd)


def test_streams_are_apart() -> None:
    """Two streams of one chain, one of them copied steps, and a chain that is called between."""
    found = chain(LSTM, weights={"LSTM": WEIGHTS})
    first, second = found.stream(2), found.stream(2)
    whole = lstm(X)
    for t in range(9):
        np.testing.assert_array_equal(first(X[:, t : t + 1]), whole[:, t : t + 1])
        found(X)
        if t % 2:
            np.testing.assert_array_equal(second(X[:, t - 1 : t + 1]), whole[:, t - 1 : t + 1])


_GELU = 0.5 * -0.7 * (1 + math.erf(-0.7 / math.sqrt(2)))
# At -0.7, by definition.
ACTIVATIONS: list[tuple[Any, float]] = [
    (None, -0.7),
    ("tanh", math.tanh(-0.7)),
    ("sigmoid", 1 / (1 + math.exp(0.7))),
    (("hard_sigmoid", 0.2, 0.5), 0.36),
    ("relu", 0.0),
    (("relu", 0.1, 6.0, -0.5), -0.02),
    ("relu6", 0.0),
    (("leaky_relu", 0.2), -0.14),
    (("elu", 2.0), 2 * math.expm1(-0.7)),
    ("selu", 1.0507009873554805 * 1.6732632423543772 * math.expm1(-0.7)),
    ("exponential", math.exp(-0.7)),
    ("softplus", math.log1p(math.exp(-0.7))),
    ("softsign", -0.7 / 1.7),
    ("silu", -0.7 / (1 + math.exp(0.7))),
    ("gelu", _GELU),
    ("softmax", 1.0),
    ("log_softmax", 0.0),
]


@pytest.mark.parametrize(
    "activation, expected", ACTIVATIONS, ids=[label(a) for a, _ in ACTIVATIONS]
)
def test_activations(activation: Any, expected: float) -> None:
    for dtype in (np.float32, np.float64):
        x = np.full((3, 1), -0.7, dtype)
        y = elementwise.function(activation)(x)
        assert (y.dtype, y.shape) == (dtype, (3, 1))
        assert np.abs(y - expected).max() <= 4 * np.finfo(dtype).eps


BAD_CALLS: list[tuple[Any, dict[str, Any], str]] = [
    ("x", {}, "x must be numbers of shape (B, T, ...)"),
    (np.zeros(3), {}, "got float64 of shape (3,)"),
    (np.zeros((2, 3)), {}, "LSTM takes (B, T, 3), got shape (2, 3)"),
    (np.zeros((2, 3, 4)), {}, "LSTM takes (B, T, 3), got shape (2, 3, 4)"),
    (X, {"lengths": [1]}, "lengths must be 2 integers"),
    (X, {"lengths": [1, 10]}, "lengths must be from 0 to 9"),
    (X, {"lengths": [1.0, 2.0]}, "lengths must be 2 integers"),
]


@pytest.mark.parametrize("x, options, message", BAD_CALLS, ids=[case[2] for case in BAD_CALLS])
def test_bad_calls(x: Any, options: dict[str, Any], message: str) -> None:
    found = chain(LSTM, weights={"LSTM": WEIGHTS})
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        found(x, **options)


def test_streams_say_what_they_take() -> None:
    found = chain(LSTM, weights={"LSTM": WEIGHTS})
    with pytest.raises(ValueError, match="x must be of 1 sequences, got 2"):
        found.stream()(X)
    with pytest.raises(ValueError, match="batch_size"):
        found.stream(0)
    for config, why in (
        ({"go_backwards": True, "return_sequences": True}, "it reads from the end"),
        ({}, "it puts out the last step alone"),
    ):
        with pytest.raises(interop.Unsupported, match=f"LSTM: it cannot be streamed: {why}"):
            chain(layer("LSTM", **config), weights={"LSTM": WEIGHTS}).stream()


REFUSED: list[tuple[dict[str, Any], list[np.ndarray], str]] = [
    (layer("Dense", activation="mish"), [some(4, 2), some(2)], "activation must be one of linear"),
    (layer("Lambda"), [], "'Lambda' is none of activation"),
    (layer("Conv1D", padding="full"), [some(3, 4, 2), some(2)], "padding must be valid"),
    (layer("Conv1D", groups=3), [some(3, 4, 2), some(2)], "groups must divide 2 filters"),
    (layer("Conv1D", data_format="channels_first"), [some(3, 4, 2), some(2)], "data_format"),
    (layer("MaxPooling1D", padding="same"), [], "padding='valid'"),
]


@pytest.mark.parametrize("odd, weights, message", REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_not_known(odd: dict[str, Any], weights: list[np.ndarray], message: str) -> None:
    arrays = {"LSTM": WEIGHTS, odd["class_name"]: weights}
    with pytest.raises(interop.Unsupported, match=re.escape(message)) as caught:
        chain(LSTM, odd, weights=arrays)
    assert caught.value.place == odd["class_name"]
