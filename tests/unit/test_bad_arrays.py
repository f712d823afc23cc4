# SPDX-License-Identifier: BSD-3-Clause
"""Every array argument of every public call, in every type, shape and layout.

A refusal is a TypeError or ValueError whose message names the argument. What is accepted gives
the bits that a plain array gives, and no input is ever written to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastlstm
from support.refusals import (
    C_0,
    CELL,
    H_0,
    LSTM,
    X_STEP,
    B,
    F,
    H,
    L,
    NotAnArray,
    T,
    Unreadable,
    Wrapped,
    X,
    misaligned,
    random,
    read_only,
    refused,
    unharmed,
)

pytestmark = pytest.mark.sanitize_each_isa

__all__ = ["unharmed"]  # a fixture of every test here

NAN = float("nan")


BAD_ARRAYS: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception]]] = {
    "None": (lambda a: None, TypeError),
    "a number": (lambda a: 1.0, TypeError),
    "a string": (lambda a: "array", TypeError),
    "bytes": (lambda a: a.tobytes(), TypeError),
    "a list": (lambda a: a.tolist(), TypeError),
    "a dict": (lambda a: {"a": a}, TypeError),
    "an iterator": (lambda a: iter(a), TypeError),
    "float64": (lambda a: a.astype(np.float64), TypeError),
    "longdouble": (lambda a: a.astype(np.longdouble), TypeError),
    "complex": (lambda a: a.astype(np.complex64), TypeError),
    "int": (lambda a: a.astype(np.int32), TypeError),
    "bool": (lambda a: a.astype(bool), TypeError),
    "objects": (lambda a: a.astype(object), TypeError),
    "strings": (lambda a: a.astype("U5"), TypeError),
    "dates": (lambda a: a.astype(int).astype("M8[s]"), TypeError),
    "structured": (lambda a: a.view([("a", np.float32)]), TypeError),
    "masked": (lambda a: np.ma.masked_array(a, a > 0), TypeError),
    "what cannot be read": (lambda a: Unreadable(), TypeError),
    "what yields no array": (lambda a: NotAnArray(), TypeError),
    "no axes": (lambda a: np.array(a.flat[0]), ValueError),
    "one axis": (lambda a: a.reshape(-1), ValueError),
    "one axis too many": (lambda a: a[None, None], ValueError),
    "no features": (lambda a: a[..., :0], ValueError),
    "a feature too few": (lambda a: a[..., 1:], ValueError),
    "a feature too many": (lambda a: np.concatenate([a, a[..., :1]], -1), ValueError),
}
# Layouts and dtypes that are no reason to refuse.
GOOD_ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "every other feature": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "features reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "first axis reversed": lambda a: a[::-1].copy()[::-1],
    "a slice of a larger array": lambda a: np.pad(a, 3, constant_values=NAN)[
        (slice(3, -3),) * a.ndim
    ],
    "misaligned": misaligned,
    "an array's subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}
CONVERTIBLE: dict[str, Callable[[np.ndarray], Any]] = {
    "byte-swapped": lambda a: a.astype(">f4"),
    "something with __array__": Wrapped,
}

ARRAYS: dict[str, tuple[str, np.ndarray, Callable[[Any], Any]]] = {
    "LSTM x": ("x", X, lambda v: LSTM(v)[0]),
    "LSTM h_0": ("h_0", H_0, lambda v: LSTM(X, (v, C_0))[0]),
    "LSTM c_0": ("c_0", C_0, lambda v: LSTM(X, (H_0, v))[0]),
    "LSTMCell x": ("x", X_STEP, lambda v: CELL(v)[0]),
    "LSTMCell h_0": ("h_0", H_0[0], lambda v: CELL(X_STEP, (v, C_0[0]))[0]),
    "LSTMCell c_0": ("c_0", C_0[0], lambda v: CELL(X_STEP, (H_0[0], v))[0]),
    "stream x": ("x", X_STEP, lambda v: LSTM.stream(B)(v)),
    "stream chunk": ("x", X, lambda v: LSTM.stream(B)(v)),
    "stream.state h": ("h_0", H_0, lambda v: streamed_from(v, C_0)),
    "stream.state c": ("c_0", C_0, lambda v: streamed_from(H_0, v)),
}


def streamed_from(h: Any, c: Any) -> np.ndarray:
    stream = LSTM.stream(B)
    stream.state = (h, c)
    return stream(X_STEP)


@pytest.mark.parametrize("bad", BAD_ARRAYS)
@pytest.mark.parametrize("what", ARRAYS)
def test_bad_array(what: str, bad: str) -> None:
    name, good, call = ARRAYS[what]
    make, error = BAD_ARRAYS[bad]
    refused(name, error, lambda: call(make(good)))


@pytest.mark.parametrize("layout", GOOD_ARRAYS)
@pytest.mark.parametrize("what", ARRAYS)
def test_layouts(what: str, layout: str) -> None:
    _, good, call = ARRAYS[what]
    given = GOOD_ARRAYS[layout](good)
    assert np.array_equal(call(given), call(good))
    assert np.array_equal(given, good), "an input was written to"


@pytest.mark.parametrize("kind", CONVERTIBLE)
@pytest.mark.parametrize("what", ARRAYS)
def test_converted(what: str, kind: str) -> None:
    _, good, call = ARRAYS[what]
    assert np.array_equal(call(CONVERTIBLE[kind](good)), call(good))


@pytest.mark.parametrize("what", ARRAYS)
def test_narrower_floats_are_widened(what: str) -> None:
    _, good, call = ARRAYS[what]
    half = good.astype(np.float16)
    assert np.array_equal(call(half), call(half.astype(np.float32)))


@pytest.mark.parametrize("what", ["LSTM x", "stream chunk"])
def test_strides_where_there_is_one(what: str) -> None:
    """NumPy lets an axis of length 1 have any stride; nobody may make anything of it."""
    x = random(7, 1, 1)
    call = (
        fastlstm.LSTM(1, H, seed=0) if what == "LSTM x" else fastlstm.LSTM(1, H, seed=0).stream(1)
    )
    given = as_strided(x, x.shape, (4, 3, 10**9))
    expected = fastlstm.LSTM(1, H, seed=0)(x)[0]
    assert np.array_equal(call(given)[0] if what == "LSTM x" else call(given), expected)


@pytest.mark.parametrize("shape", [(0, B, F), (T, 0, F), (0, 0, F), (0, F)], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_empty(shape: tuple[int, ...], batch_first: bool, bidirectional: bool) -> None:
    lstm = fastlstm.LSTM(F, H, L, batch_first=batch_first, bidirectional=bidirectional, seed=0)
    x = np.zeros(shape, np.float32)
    if batch_first and x.ndim == 3:
        x = x.swapaxes(0, 1)
    width = (2 if bidirectional else 1) * H
    states = (L * width // H, *((shape[1],) if x.ndim == 3 else ()), H)
    h_0, c_0 = random(*states, seed=3), random(*states, seed=4)
    y, (h_n, c_n), cells = lstm(x, (h_0, c_0), return_cells=True)
    assert y.shape == cells.shape == (*x.shape[:-1], width)
    assert np.array_equal(h_n, h_0)
    assert np.array_equal(c_n, c_0)
    if x.ndim == 3:
        lengths = [0] * states[1]
        assert np.array_equal(lstm(x, (h_0, c_0), lengths=lengths)[1][0], h_0)


def test_empty_steps() -> None:
    stream = LSTM.stream(B)
    stream.state = (H_0, C_0)
    assert stream(X[:0]).shape == (0, B, H)
    assert np.array_equal(stream.state[0], H_0)
    h, c = CELL(X_STEP[:0])
    assert h.shape == c.shape == (0, H)


# ---- state, lengths, out ----

PAIR = (H_0, C_0)
BAD_STATES: dict[str, tuple[Any, type[Exception]]] = {
    "h_0 alone": (H_0, TypeError),
    "one of two": ((H_0,), TypeError),
    "three": ((H_0, C_0, C_0), TypeError),
    "none of two": ((), TypeError),
    "both in one array": (np.stack(PAIR), TypeError),
    "a dict": ({"h_0": H_0, "c_0": C_0}, TypeError),
    "a string of two": ("hc", TypeError),
    "a number": (2, TypeError),
    "an iterator": (iter(PAIR), TypeError),
    "False": (False, TypeError),
}


@pytest.mark.parametrize("bad", BAD_STATES)
def test_bad_state(bad: str) -> None:
    value, error = BAD_STATES[bad]
    refused("state", error, lambda: LSTM(X, value))
    refused("state", error, lambda: CELL(X_STEP, value))
    refused("state", error, lambda: setattr(LSTM.stream(B), "state", value))


def test_state_of_another_rank() -> None:
    one = H_0[:, 0], C_0[:, 0]
    assert LSTM(X[:, 0], one)[1][0].shape == (L, H)
    refused("h_0", ValueError, lambda: LSTM(X, one))
    refused("h_0", ValueError, lambda: LSTM(X[:, 0], PAIR))
    refused("c_0", ValueError, lambda: LSTM(X, (H_0, C_0[:1])))
    refused("h_0", ValueError, lambda: LSTM(X, (H_0.swapaxes(0, 1), C_0)))
    assert np.array_equal(LSTM(X, [H_0, C_0])[0], LSTM(X, PAIR)[0])


LENGTHS = np.array([T, 0, 2])
BAD_LENGTHS: dict[str, tuple[Any, type[Exception]]] = {
    "a number": (T, ValueError),
    "one too few": ([T, T], ValueError),
    "one too many": ([T, T, T, T], ValueError),
    "none": ([], ValueError),
    "a column": (LENGTHS[:, None], ValueError),
    "negative": ([T, -1, 2], ValueError),
    "beyond T": ([T, T + 1, 2], ValueError),
    "far beyond T": ([T, 2**62, 2], ValueError),
    "wrapping to 2": (np.array([T, 2**63 + 1, 2**64 - 1], np.uint64), ValueError),
    "beyond every integer type": ([T, 2**64 + 2, 2], TypeError),
    "floats": ([5.0, 0.0, 2.0], TypeError),
    "NaN": ([T, NAN, 2], TypeError),
    "bools": ([True, False, True], TypeError),
    "complex": ([T, 0j, 2], TypeError),
    "objects": (LENGTHS.astype(object), TypeError),
    "strings": (["5", "0", "2"], TypeError),
    "a string": ("502", TypeError),
    "times": (LENGTHS.astype("m8[s]"), TypeError),
    "with None": ([T, None, 2], TypeError),
    "ragged": ([[T], [0, 1], [2]], TypeError),
    "a set": ({5, 0, 2}, TypeError),
    "a dict": ({5: 0, 0: 0, 2: 0}, TypeError),
    "an iterator": (iter([5, 0, 2]), TypeError),
    "masked": (np.ma.masked_array(LENGTHS, [1, 0, 0]), TypeError),
    "what cannot be read": (Unreadable(), TypeError),
}
GOOD_LENGTHS: dict[str, Any] = {
    "a list": [T, 0, 2],
    "a tuple": (T, 0, 2),
    "NumPy integers": [np.int8(T), np.uint16(0), np.int64(2)],
    "int8": LENGTHS.astype(np.int8),
    "uint64": LENGTHS.astype(np.uint64),
    "byte-swapped": LENGTHS.astype(">i8"),
    "misaligned": misaligned(LENGTHS),
    "reversed": LENGTHS[::-1].copy()[::-1],
    "every other": np.repeat(LENGTHS, 2)[::2],
    "read-only": read_only(LENGTHS),
    "something with __array__": Wrapped(LENGTHS),
}


@pytest.mark.parametrize("bad", BAD_LENGTHS)
def test_bad_lengths(bad: str) -> None:
    value, error = BAD_LENGTHS[bad]
    refused("lengths", error, lambda: LSTM(X, lengths=value))


@pytest.mark.parametrize("kind", GOOD_LENGTHS)
def test_lengths(kind: str) -> None:
    expected = LSTM(X, lengths=LENGTHS)
    y, (h_n, c_n) = LSTM(X, lengths=GOOD_LENGTHS[kind])
    assert np.array_equal(y, expected[0])
    assert np.array_equal(h_n, expected[1][0])
    assert np.array_equal(c_n, expected[1][1])


def test_lengths_of_no_batch() -> None:
    refused("lengths", ValueError, lambda: LSTM(X[:, 0], lengths=[T]))
    assert LSTM(X[:, :0], lengths=[])[0].shape == (T, 0, H)


def out_array(**options: Any) -> np.ndarray:
    return np.full((T, B, H), NAN, np.float32, **options)


BAD_OUTS: dict[str, tuple[Any, type[Exception]]] = {
    "a list": (out_array().tolist(), TypeError),
    "a number": (0.0, TypeError),
    "a memoryview": (memoryview(out_array()), TypeError),
    "something with __array__": (Wrapped(out_array()), TypeError),
    "float64": (out_array().astype(np.float64), TypeError),
    "byte-swapped": (out_array().astype(">f4"), TypeError),
    "integers": (np.zeros((T, B, H), np.int32), TypeError),
    "masked": (np.ma.masked_array(out_array()), TypeError),
    "too few steps": (out_array()[1:], ValueError),
    "too many units": (np.empty((T, B, H + 1), np.float32), ValueError),
    "the other layout": (out_array().swapaxes(0, 1), ValueError),
    "flat": (out_array().reshape(-1), ValueError),
    "read-only": (read_only(out_array()), ValueError),
    "Fortran order": (out_array(order="F"), ValueError),
    "every other unit": (np.empty((T, B, 2 * H), np.float32)[..., ::2], ValueError),
    "units reversed": (out_array()[..., ::-1], ValueError),
    "misaligned": (misaligned(out_array()), ValueError),
    "all steps in one place": (as_strided(out_array(), strides=(0, 4 * H, 4)), ValueError),
    "all rows in one place": (as_strided(out_array(), strides=(4 * H * B, 0, 4)), ValueError),
    "all in one place": (as_strided(out_array(), strides=(0, 0, 4)), ValueError),
    "rows overlap": (as_strided(out_array(), strides=(4 * H * B, 4, 4)), ValueError),
    "steps overlap": (as_strided(out_array(), strides=(8, 4 * H, 4)), ValueError),
    "steps step on rows": (as_strided(out_array(), strides=(4 * H, 4 * H, 4)), ValueError),
}


@pytest.mark.parametrize("bad", BAD_OUTS)
def test_bad_out(bad: str) -> None:
    value, error = BAD_OUTS[bad]
    refused("out", error, lambda: LSTM(X, out=value))


OUTS: dict[str, Callable[[], np.ndarray]] = {
    "plain": out_array,
    "steps reversed": lambda: out_array()[::-1],
    "rows reversed": lambda: out_array()[:, ::-1],
    "the other order of axes": lambda: np.empty((B, T, H), np.float32).swapaxes(0, 1),
    "part of wider rows": lambda: np.full((T, B, H + 3), 7, np.float32)[..., 1:-2],
    "every other step": lambda: np.full((2 * T, B, H), 7, np.float32)[::2],
}


@pytest.mark.parametrize("lengths", [None, [T, 0, 2]], ids=["whole", "ragged"])
@pytest.mark.parametrize("kind", OUTS)
def test_out(kind: str, lengths: Any) -> None:
    out = OUTS[kind]()
    y, _ = LSTM(X, PAIR, lengths=lengths, out=out)
    assert y is out
    assert np.array_equal(y, LSTM(X, PAIR, lengths=lengths)[0])
    if out.base is not None and out.base.size > out.size:
        rest = out.base.size - out.size
        assert np.count_nonzero(out.base == 7) == rest, "written beside out"


@pytest.mark.parametrize("shape", [(0, B, F), (T, 0, F)], ids=["no steps", "no rows"])
def test_empty_out(shape: tuple[int, ...]) -> None:
    """NumPy makes all strides of an empty array 0."""
    out = np.empty((*shape[:2], H), np.float32)
    assert LSTM(np.zeros(shape, np.float32), out=out)[0] is out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_nothing_beside_out(isa: str, dtype: Any, batch: int) -> None:
    """Every width of the last panel, between canaries that overlap no vector of an output."""
    pad = 17
    for hidden in [*range(1, 71), 96, 100]:
        for directions in (1, 2):
            lstm = fastlstm.LSTM(2, hidden, bidirectional=directions == 2, dtype=dtype, seed=0)
            width = directions * hidden
            x = np.ones((3, batch, 2), dtype)
            space = np.full((5, batch + 2, width + 2 * pad), 7, dtype)
            for lengths in (None, [0] * (batch - 1) + [3]):
                y, _ = lstm(x, lengths=lengths, out=space[1:-1, 1:-1, pad:-pad], num_threads=1)
                assert np.abs(y).max() < 1
                assert np.count_nonzero(space == 7) == space.size - y.size, (hidden, directions)


@pytest.mark.parametrize("what", ["x", "h_0", "c_0", "lengths", "everything"])
@pytest.mark.parametrize("shift", [0, 1, F, H * B])
def test_out_shares_memory(what: str, shift: int) -> None:
    """out may lie over any input: the result is that of inputs that lie elsewhere."""
    lengths = np.array([T, 0, 2])
    expected = LSTM(X, PAIR, lengths=lengths)
    memory = np.zeros(1000, np.float32)
    inputs: dict[str, np.ndarray] = {"x": X, "h_0": H_0, "c_0": C_0, "lengths": lengths}
    at = 0
    for name, value in inputs.items():
        if what in (name, "everything"):
            place = memory[at : at + value.nbytes // 4].view(value.dtype).reshape(value.shape)
            place[...] = value
            inputs[name] = place
            at += value.nbytes // 4
    out = memory[shift : shift + T * B * H].reshape(T, B, H)
    y, (h_n, c_n) = LSTM(
        inputs["x"], (inputs["h_0"], inputs["c_0"]), lengths=inputs["lengths"], out=out
    )
    assert np.array_equal(y, expected[0])
    assert np.array_equal(h_n, expected[1][0])
    assert np.array_equal(c_n, expected[1][1])
