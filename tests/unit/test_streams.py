# SPDX-License-Identifier: BSD-3-Clause
"""Streams of batch_first models and of cells, and what tools see of a stream."""

from __future__ import annotations

import gc
import inspect
import pickle
import pydoc
import re
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.classes import CLASSES
from support.labels import label

pytestmark = pytest.mark.sanitize

T, B, F, H = 7, 3, 4, 6


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def pair(**options: Any) -> tuple[fastlstm.LSTM, fastlstm.LSTM]:
    """Two models of the same numbers, batch_first and not."""
    first = fastlstm.LSTM(F, H, 2, batch_first=True, seed=0, **options)
    return first, fastlstm.LSTM(F, H, 2, seed=0, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chunks_of_a_batch_first_model(dtype: Any) -> None:
    first, _ = pair(dtype=dtype)
    x = random(B, T, F, dtype=dtype)
    expected, (h_n, c_n) = first(x)
    stream = first.stream(B)
    assert isinstance(stream, fastlstm.Stream)
    assert stream.batch_first
    parts = [stream(x[:, :3]), stream(x[:, 3])[:, None], stream(x[:, 4:4]), stream(x[:, 4:])]
    assert [part.shape for part in parts] == [(B, t, H) for t in (3, 1, 0, 3)]
    assert np.array_equal(np.concatenate(parts, axis=1), expected)
    assert np.array_equal(stream.state, (h_n, c_n))
    stream.reset()
    assert np.array_equal(stream(x), expected)


def test_chunks_where_every_axis_could_be_the_other() -> None:
    """As many steps as sequences: only the model says which axis is which."""
    first, last = pair()
    x = random(B, B, F)
    assert np.array_equal(first.stream(B)(x), first(x)[0])
    assert np.array_equal(last.stream(B)(x), last(x)[0])
    assert not last.stream(B).batch_first
    transposed = x.swapaxes(0, 1)  # a view with other strides
    assert np.array_equal(first.stream(B)(transposed), first(transposed)[0])
    reverse = x[:, ::-1]
    assert np.array_equal(first.stream(B)(reverse), first(reverse)[0])


class Holder:
    """Has an array to give, and no axes of its own."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


class Liar(np.ndarray):
    """Says that it has other axes than it has."""

    def transpose(self, *axes: Any) -> Any:
        return np.zeros((1, 1, 1), np.float32)


@pytest.mark.parametrize("kind", [memoryview, Holder, lambda a: a.view(Liar)], ids=label)
def test_whatever_holds_a_batch_first_chunk(kind: Any) -> None:
    """Nothing passes as if its axes were the other way round."""
    first, _ = pair()
    x = random(B, B, F)
    assert np.array_equal(first.stream(B)(kind(x)), first(x)[0])


def test_a_tensor_of_a_batch_first_chunk() -> None:
    torch = pytest.importorskip("torch")
    first, _ = pair()
    x = random(B, B, F)
    assert np.array_equal(first.stream(B)(torch.from_numpy(x)), first(x)[0])
    with pytest.raises(TypeError, match="x must be"):
        first.stream(B)(torch.from_numpy(x).requires_grad_())


X = random(B, T, F)
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "time first": (random(T, B, F), ValueError, r"\(3, 4\) or \(3, t, 4\), got \(7, 3, 4\)"),
    "other features": (random(B, T, 5), ValueError, r"\(3, t, 4\), got \(3, 7, 5\)"),
    "a wrong step": (random(B, 5), ValueError, r"\(3, t, 4\), got \(3, 5\)"),
    "four axes": (random(1, B, T, F), ValueError, r"\(3, t, 4\), got \(1, 3, 7, 4\)"),
    "no axes": (np.float32(1), ValueError, "x must have shape"),
    "float64": (X.astype(np.float64), TypeError, "x must have dtype"),
    "a wide step": (X[:, 0].astype(np.float64), TypeError, "x must have dtype"),
    "integers": (X.astype(np.int32), TypeError, "x must have dtype"),
    "a list": (X.tolist(), TypeError, "x must be"),
    "a masked array": (np.ma.masked_array(X), TypeError, "x must be"),
    "objects": (X.astype(object), TypeError, "x must have dtype"),
    "None": (None, TypeError, "x must be"),
    "a string": ("x", TypeError, "x must be"),
    "a dict": ({}, TypeError, "x must have dtype"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_a_batch_first_stream_refuses(what: str) -> None:
    x, error, words = BAD[what]
    first, _ = pair()
    stream = first.stream(B)
    with pytest.raises(error, match=words):
        stream(x)
    assert not np.any(stream.state)
    assert np.array_equal(stream(X), first(X)[0])


def test_a_stream_never_made() -> None:
    for stream_class in (fastlstm.Stream, type(pair()[0].stream())):
        empty = stream_class.__new__(stream_class)
        assert "that no model made" in repr(empty)
        for x in (X, X[0]):
            with pytest.raises(RuntimeError, match="made by the method stream of a model"):
                empty(x)


# ---- cells ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CLASSES)
def test_the_stream_of_a_cell(cell: str, dtype: Any, bias: bool) -> None:
    """Its steps are those of the cell, bit by bit; chunks are steps."""
    of = CLASSES[cell]
    step = of.step(F, H, bias, dtype=dtype, seed=0, **of.options)
    x = random(T, B, F, dtype=dtype)
    stream, chunked = step.stream(B), step.stream(B, num_threads=2)
    assert isinstance(stream, fastlstm.Stream)
    state, steps = None, []
    for x_t in x:
        state = of.stepped(step, x_t, state)
        assert np.array_equal(stream(x_t), state[0])
        steps.append(state[0])
    assert state is not None
    kept = np.stack(state)[:, None]  # with an axis of layers
    assert np.array_equal(stream.state, kept if of.has_c else kept[0])
    assert np.array_equal(chunked(x), steps)
    stream.reset()
    assert np.array_equal(stream(x[0]), steps[0])
    stream.state = tuple(kept) if of.has_c else kept[0]
    assert np.array_equal(stream(x[0]), of.stepped(step, x[0], state)[0])
    assert np.array_equal(step.stream()(x[0, :1]), steps[0][:1])


def test_the_stream_of_a_cell_keeps_its_parameters() -> None:
    cell = fastlstm.LSTMCell(F, H, seed=0)
    x, stream = random(B, F), cell.stream(B)
    expected = cell(x)[0]
    cell.load_state_dict(fastlstm.LSTMCell(F, H, seed=1).state_dict())
    assert np.array_equal(stream(x), expected)
    del cell
    gc.collect()
    stream.reset()
    assert np.array_equal(stream(x), expected)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 1.0}, TypeError, "batch_size"),
        ({"batch_size": True}, TypeError, "batch_size"),
        ({"num_threads": 0}, ValueError, "num_threads"),
        ({"num_threads": "2"}, TypeError, "num_threads"),
    ],
)
def test_bad_streams_of_a_cell(options: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        fastlstm.LSTMCell(F, H).stream(**options)


# ---- what tools see ----

STREAMS = {
    "LSTM": lambda: pair()[1].stream(B),
    "batch_first": lambda: pair()[0].stream(B),
    "LSTMCell": lambda: fastlstm.LSTMCell(F, H, dtype="float64").stream(2),
}


@pytest.mark.parametrize("what", STREAMS)
def test_a_stream_has_a_signature(what: str) -> None:
    stream = STREAMS[what]()
    signature = inspect.signature(stream)
    assert list(signature.parameters) == ["x"]
    signature.bind(X)
    with pytest.raises(TypeError):
        signature.bind(X, X)
    with pytest.raises(TypeError):
        signature.bind()
    assert callable(stream)
    assert inspect.signature(type(stream))
    assert "one step (B, I)" in re.sub(r"\x08.", "", pydoc.render_doc(fastlstm.Stream))


def test_a_stream_says_what_it_is() -> None:
    said = {what: repr(make()) for what, make in STREAMS.items()}
    assert said == {
        "LSTM": "<Stream(4, 6, num_layers=2, dtype=float32) of 3 at once>",
        "batch_first": "<Stream(4, 6, num_layers=2, batch_first=True, dtype=float32) of 3 at once>",
        "LSTMCell": "<Stream(4, 6, dtype=float64) of 2 at once>",
    }


@pytest.mark.parametrize("what", STREAMS)
def test_no_stream_is_copied_or_given_attributes(what: str) -> None:
    stream = STREAMS[what]()
    with pytest.raises(TypeError, match="Stream cannot be pickled"):
        pickle.dumps(stream)
    for name in ("batch_first", "anything"):
        with pytest.raises(AttributeError):
            setattr(stream, name, True)
