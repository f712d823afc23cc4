# SPDX-License-Identifier: BSD-3-Clause
"""Every plain argument of every public call, given what it must refuse.

A refusal is a TypeError or ValueError whose message names the argument; nothing is computed then
and the callee goes on working. Arrays have test_bad_arrays.py, huge sizes test_huge.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.labels import label
from support.refusals import BAD_COUNTS, CELL, LSTM, X_STEP, B, T, X, refused, unharmed

pytestmark = pytest.mark.sanitize

__all__ = ["unharmed"]  # a fixture of every test here

NAN = float("nan")

# ---- counts, flags and other plain values ----

COUNTS: dict[str, tuple[str, int, Callable[[Any], object]]] = {
    "LSTM input_size": ("input_size", 1, lambda v: fastlstm.LSTM(v, 3)),
    "LSTM hidden_size": ("hidden_size", 1, lambda v: fastlstm.LSTM(3, v)),
    "LSTM num_layers": ("num_layers", 1, lambda v: fastlstm.LSTM(3, 3, v)),
    "LSTM proj_size": ("proj_size", 0, lambda v: fastlstm.LSTM(3, 3, proj_size=v)),
    "LSTMCell input_size": ("input_size", 1, lambda v: fastlstm.LSTMCell(v, 3)),
    "LSTMCell hidden_size": ("hidden_size", 1, lambda v: fastlstm.LSTMCell(3, v)),
    "call num_threads": ("num_threads", 1, lambda v: LSTM(X, num_threads=v)),
    "stream batch_size": ("batch_size", 1, lambda v: LSTM.stream(v)),
    "stream num_threads": ("num_threads", 1, lambda v: LSTM.stream(1, num_threads=v)),
    "explain T": ("T", 0, lambda v: LSTM.explain(v, 1)),
    "explain B": ("B", 0, lambda v: LSTM.explain(1, v)),
    "explain num_threads": ("num_threads", 1, lambda v: LSTM.explain(1, 1, num_threads=v)),
    "set_num_threads": ("n", 1, fastlstm.set_num_threads),
}


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize("what", COUNTS)
def test_bad_count(what: str, bad: str) -> None:
    name, _, call = COUNTS[what]
    value, error = BAD_COUNTS[bad]
    if value is None and name == "num_threads":
        pytest.skip("None is the default")
    threads = fastlstm.get_num_threads()
    refused(name, error, lambda: call(value))
    assert fastlstm.get_num_threads() == threads


@pytest.mark.parametrize("what", [what for what, (_, least, _) in COUNTS.items() if least == 1])
def test_zero_count(what: str) -> None:
    name, _, call = COUNTS[what]
    refused(name, ValueError, lambda: call(0))


@pytest.mark.parametrize("what", ["call", "stream", "explain", "set_num_threads"])
def test_too_many_threads(what: str) -> None:
    name, _, call = COUNTS[what if what == "set_num_threads" else f"{what} num_threads"]
    refused(name, ValueError, lambda: call(1025))


@pytest.mark.parametrize("value", [np.int8(3), np.uint64(3), np.array(3)], ids=label)
def test_any_integer_is_a_count(value: Any) -> None:
    assert fastlstm.LSTM(value, 2).input_size == 3
    assert type(fastlstm.LSTM(value, 2).input_size) is int


FLAGS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "LSTM bias": ("bias", lambda v: fastlstm.LSTM(3, 3, bias=v)),
    "LSTM batch_first": ("batch_first", lambda v: fastlstm.LSTM(3, 3, batch_first=v)),
    "LSTM bidirectional": ("bidirectional", lambda v: fastlstm.LSTM(3, 3, bidirectional=v)),
    "LSTMCell bias": ("bias", lambda v: fastlstm.LSTMCell(3, 3, v)),
    "call return_cells": ("return_cells", lambda v: LSTM(X, return_cells=v)),
    "load strict": ("strict", lambda v: LSTM.load_state_dict(LSTM.state_dict(), v)),
    "load strict of a cell": ("strict", lambda v: CELL.load_state_dict(CELL.state_dict(), v)),
}


@pytest.mark.parametrize(
    "value", [0, 1, None, 1.0, NAN, "True", [True], np.array([True])], ids=label
)
@pytest.mark.parametrize("what", FLAGS)
def test_bad_flag(what: str, value: Any) -> None:
    name, call = FLAGS[what]
    refused(name, TypeError, lambda: call(value))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-0.1, ValueError),
        (1.1, ValueError),
        (NAN, ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        (True, TypeError),
        (None, TypeError),
        ("0.5", TypeError),
        ([0.5], TypeError),
        (0.5j, TypeError),
        (np.complex64(0.5), TypeError),
        (np.array([0.5]), TypeError),
    ],
    ids=lambda v: repr(v)[:20],
)
def test_bad_dropout(value: Any, error: type[Exception]) -> None:
    refused("dropout", error, lambda: fastlstm.LSTM(3, 3, 2, dropout=value))


@pytest.mark.parametrize("make", [fastlstm.LSTM, fastlstm.LSTMCell])
@pytest.mark.parametrize(
    "value",
    [
        None,
        "float16",
        "longdouble",
        "complex64",
        "int32",
        "bool",
        "object",
        ">f4",
        "f4,f4",
        "(2,)f4",
        "no such dtype",
        "",
        ",",
        7,
        1.5,
        [("a",)],
        {"names": ["a"]},
        np.array([1.0]),
    ],
    ids=label,
)
def test_bad_dtype(make: Any, value: Any) -> None:
    refused("dtype", TypeError, lambda: make(3, 3, dtype=value))


@pytest.mark.parametrize("make", [fastlstm.LSTM, fastlstm.LSTMCell])
@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), ([1, -1], ValueError)]
    + [(v, TypeError) for v in (1.5, NAN, "1", b"1", {}, object(), [0.5], 1j, True)],
    ids=label,
)
def test_bad_seed(make: Any, value: Any, error: type[Exception]) -> None:
    refused("seed", error, lambda: make(3, 3, seed=value))


def test_most_layers() -> None:
    refused("num_layers", ValueError, lambda: fastlstm.LSTM(1, 1, 10_001))
    assert fastlstm.LSTM(1, 1, 10_000)(np.zeros((1, 1, 1), np.float32))[0].shape == (1, 1, 1)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, "BLAS", "", b"auto", ["auto"], ("auto", "native")),
        np.array(["auto", "x"]),
    ],
    ids=label,
)
def test_bad_gemm(value: Any) -> None:
    refused("gemm", ValueError, lambda: fastlstm.LSTM(3, 3, gemm=value))


def test_calls_with_wrong_arguments() -> None:
    for call in (
        lambda: fastlstm.LSTM(),
        lambda: fastlstm.LSTM(3),
        lambda: fastlstm.LSTM(3, 3, 1, True, False, 0.0, False, 0, np.float32),
        lambda: fastlstm.LSTM(3, 3, nonlinearity="relu"),
        lambda: LSTM(),
        lambda: LSTM(X, None, [T] * B),
        lambda: LSTM(X, length=[T] * B),
        lambda: LSTM.stream(1, 1),
        lambda: LSTM.stream(1)(),
        lambda: LSTM.stream(B)(X_STEP, X_STEP),
        lambda: LSTM.stream(B)(X_STEP, out=None),
        lambda: CELL(),
        lambda: fastlstm.set_num_threads(),
        lambda: LSTM.explain(1),
    ):
        with pytest.raises(TypeError, match="argument"):
            call()


# ---- parameters and files ----

MODELS: dict[str, Any] = {"LSTM": LSTM, "LSTMCell": CELL}


@pytest.mark.parametrize("value", [None, 1, "w", [], [("weight_ih_l0", 1)], {1, 2}, X], ids=type)
@pytest.mark.parametrize("model", MODELS)
def test_bad_state_dict(model: str, value: Any) -> None:
    refused("state_dict", TypeError, lambda: MODELS[model].load_state_dict(value))


class Failing:
    """Fails at what it is asked for first."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__array__", "__dlpack__"):
            return self.fail
        raise AttributeError(name)

    def fail(self, *args: Any, **kwargs: Any) -> Any:
        raise BufferError("no access")


BAD_PARAMETERS: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception]]] = {
    "None": (lambda a: None, TypeError),
    "a number": (lambda a: 1.0, TypeError),
    "a list": (lambda a: a.tolist(), TypeError),
    "a string": (lambda a: "w", TypeError),
    "float64": (lambda a: a.astype(np.float64), TypeError),
    "integers": (lambda a: a.astype(np.int32), TypeError),
    "complex": (lambda a: a.astype(np.complex64), TypeError),
    "objects": (lambda a: a.astype(object), TypeError),
    "structured": (lambda a: a.view([("a", np.float32)]), TypeError),
    "masked": (lambda a: np.ma.masked_array(a, a > 0), TypeError),
    "what cannot be read": (lambda a: Failing(), TypeError),
    "no axes": (lambda a: a.flat[0], ValueError),
    "one axis too many": (lambda a: a[None], ValueError),
    "a row too few": (lambda a: a[1:], ValueError),
    "no rows": (lambda a: a[:0], ValueError),
    "bytes": (lambda a: a.tobytes(), ValueError),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("position", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("kind", BAD_PARAMETERS)
def test_bad_parameter(model: str, position: int, kind: str) -> None:
    make, error = BAD_PARAMETERS[kind]
    values: dict[str, Any] = MODELS[model].state_dict()
    name = list(values)[position]
    values[name] = make(values[name])
    refused(name, error, lambda: MODELS[model].load_state_dict(values))


@pytest.mark.parametrize("value", [None, 1, {}, X, LSTM.state_dict(), CELL], ids=type)
def test_bad_module(value: Any) -> None:
    refused("module", TypeError, lambda: fastlstm.LSTM.from_torch(value))


@pytest.mark.parametrize(
    "value", [None, 1.5, True, 3, ["a"], {}, object(), np.array("a")], ids=lambda v: repr(v)[:8]
)
@pytest.mark.parametrize("call", [fastlstm.load, LSTM.save], ids=["load", "save"])
def test_bad_path(call: Callable[[Any], object], value: Any) -> None:
    refused("PathLike", TypeError, lambda: call(value))
