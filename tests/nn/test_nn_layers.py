# SPDX-License-Identifier: BSD-3-Clause
"""Linear and Embedding: torch's numbers, gradients, and the conventions of all models."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fastlstm import nn, optim
from support.slopes import assert_slope


def made(kind: str, dtype: str = "float64") -> tuple[Any, np.ndarray]:
    """A layer and what it takes; ids come again and again."""
    rng = np.random.default_rng(1)
    if kind == "embedding":
        return nn.Embedding(5, 3, dtype=dtype, seed=0), rng.integers(0, 5, (4, 6))
    bias = kind == "linear"
    return nn.Linear(3, 4, bias, dtype=dtype, seed=0), rng.standard_normal((4, 6, 3)).astype(dtype)


KINDS = ["linear", "linear without bias", "embedding"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    layer, x = made(kind)
    layer.train()
    y, tape = layer.forward(x)
    assert np.array_equal(y, layer(x))
    dy = np.random.default_rng(2).standard_normal(y.shape)
    grads = layer.backward(tape, dy)

    def loss() -> float:
        return float((layer(x) * dy).sum())

    for name, values in layer.parameters().items():
        assert_slope(loss, values, grads.params[name])
    if kind == "embedding":
        assert grads.x is None
    else:
        assert_slope(loss, x, grads.x)
        assert layer.backward(tape, dy, input_grad=False).x is None
    sums = {name: values.copy() for name, values in grads.params.items()}
    again = layer.backward(tape, dy, into=sums)
    for name, values in grads.params.items():
        assert again.params[name] is sums[name]
        assert np.array_equal(sums[name], 2 * values)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_torch(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer, x = made(kind, dtype)
    if kind == "embedding":
        theirs = torch.nn.Embedding(5, 3, dtype=getattr(torch, dtype))
    else:
        theirs = torch.nn.Linear(3, 4, kind == "linear", dtype=getattr(torch, dtype))
    layer.load_state_dict(theirs.state_dict())
    y, tape = layer.forward(x)
    wanted = theirs(torch.from_numpy(x))
    dy = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    wanted.backward(torch.from_numpy(dy))
    # Sums of 24 products of numbers of the order of 1, in another order.
    close = {"rtol": 0, "atol": 24 * 4 * float(np.finfo(dtype).eps)}
    np.testing.assert_allclose(y, wanted.detach().numpy(), **close)
    for name, values in layer.backward(tape, dy).params.items():
        grad = getattr(theirs, name).grad.numpy()
        np.testing.assert_allclose(values, grad, **close)


def test_first_values_are_torch_s() -> None:
    linear, table = nn.Linear(100, 400, seed=0), nn.Embedding(400, 100, seed=0)
    assert np.abs(linear.weight).max() <= 0.1
    assert linear.weight.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    assert table.weight.std() == pytest.approx(1, rel=0.02)
    assert np.array_equal(linear.weight, nn.Linear(100, 400, seed=0).weight)
    assert not np.array_equal(linear.weight, nn.Linear(100, 400, seed=1).weight)


@pytest.mark.parametrize("kind", KINDS)
def test_conventions_of_models(kind: str) -> None:
    layer, x = made(kind)
    assert not layer.training
    assert not any(values.flags.writeable for values in layer.parameters().values())
    with pytest.raises(AttributeError, match="load_state_dict"):
        layer.weight = layer.weight
    copy = pickle.loads(pickle.dumps(layer))
    assert np.array_equal(copy(x), layer(x))
    sgd = optim.SGD(layer.train(), lr=0.1)
    y, tape = layer.forward(x)
    sgd.step(layer.backward(tape, np.ones_like(y)))
    assert not np.array_equal(copy(x), layer.eval()(x))
    copy.load_state_dict(layer.state_dict())
    assert np.array_equal(copy(x), layer(x))
    assert repr(layer).endswith("dtype=float64)")


def test_padding_idx() -> None:
    table = nn.Embedding(4, 3, padding_idx=1, seed=0)
    assert not table.weight[1].any()
    y, tape = table.forward([1, 2, 2])
    grad = table.backward(tape, np.ones_like(y)).params["weight"]
    assert grad.tolist() == [[0] * 3, [0] * 3, [2] * 3, [0] * 3]


def test_ids_of_no_sequence() -> None:
    table = nn.Embedding(4, 3, seed=0)
    y, tape = table.forward(np.zeros((0, 2), int))
    assert y.shape == (0, 2, 3)
    assert not table.backward(tape, y).params["weight"].any()


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.Linear(0, 1), ValueError, "in_features"),
        (lambda: nn.Linear(1, 1, dtype="int32"), TypeError, "dtype"),
        (lambda: nn.Linear(1, 1, seed=-1), ValueError, "seed"),
        (lambda: nn.Linear(2, 1)(np.ones((3, 3), np.float32)), ValueError, "(..., 2)"),
        (lambda: nn.Linear(2, 1)(np.ones((3, 2))), TypeError, "x must"),
        (
            lambda: nn.Linear(2, 1).backward(np.ones((3, 2), "f4"), np.ones((4, 1), "f4")),
            ValueError,
            "dy must have shape (3, 1)",
        ),
        (lambda: nn.Embedding(3, 1, padding_idx=3), ValueError, "padding_idx"),
        (lambda: nn.Embedding(3, 1)([0, 3]), ValueError, "between 0 and 2"),
        (lambda: nn.Embedding(3, 1)([0.0]), TypeError, "ids must be integers"),
        (
            lambda: nn.Embedding(3, 1).backward([0], np.ones((2, 1), "f4")),
            ValueError,
            "dy must have shape (1, 1)",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
