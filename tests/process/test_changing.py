# SPDX-License-Identifier: BSD-3-Clause
"""The caller's arrays, objects and floating-point mode may change under us."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import _core

pytestmark = pytest.mark.sanitize

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)


class Hook:
    """An argument whose conversion does something first."""

    def __init__(self, do: Callable[[], object], value: Array) -> None:
        self.do, self.value = do, value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        self.do()
        return self.value


def narrowed(array: Array, shape: tuple[int, ...]) -> Callable[[], None]:
    def do() -> None:
        array.shape = shape  # deprecated in NumPy, and possible

    return do


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_argument_that_reshapes_another() -> None:
    lstm = fastlstm.LSTM(4, 5, seed=0)
    expected = lstm(X)[0]
    h, c = np.zeros((1, 3, 5), np.float32), np.zeros((1, 3, 5), np.float32)
    x = X.copy()
    with pytest.raises(ValueError, match="x must have shape"):
        lstm(x, lengths=Hook(narrowed(x, (6, 12, 1)), np.array([6, 6, 6])))
    with pytest.raises(ValueError, match="h_0 must have shape"):
        lstm(X, (h, Hook(narrowed(h, (15,)), c)))
    y, _, tape = lstm.forward(X)
    dy = np.ones_like(y)
    with pytest.raises(ValueError, match="dy must have shape"):
        lstm.backward(tape, dy, dcells=Hook(narrowed(dy, (90,)), np.ones_like(y)))
    assert np.array_equal(lstm(X)[0], expected)


def test_the_core_checks_what_it_reads() -> None:
    """As if another thread had changed an array just before."""
    engine = fastlstm.LSTM(4, 5, seed=0)._engine(3)
    y, h = np.empty((6, 3, 5), np.float32), np.empty((1, 3, 5), np.float32)
    good = [X, y, None, None, h, h.copy(), None, None, 1]
    engine.forward(*good)
    for place, bad, name in [
        (0, X[:, :, :3], "x"),
        (0, X[:, 0], "x"),
        (0, X.astype(np.float64), "x"),
        (1, y[:5], "y"),
        (1, y[:, ::-1, ::-1], "y"),
        (2, h[0, 0], "h_0"),
        (2, h.view(np.int32), "h_0"),
        (4, h[:, :2], "h_n"),
        (6, y.astype(np.float64), "cells"),
        (7, np.array([6, 6], np.int64), "lengths"),
        (7, np.array([6, 7, 6], np.int64), "lengths"),
        (7, np.array([6, -1, 6], np.int64), "lengths"),
    ]:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            engine.forward(*[bad if i == place else one for i, one in enumerate(good)])
    frozen = h.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="changed while"):
        engine.forward(*good[:4], frozen, *good[5:])
    with pytest.raises(ValueError, match="changed while"):
        engine.forward(*good[:2], np.asfortranarray(np.ones((1, 3, 5), np.float32)), *good[3:])
    with pytest.raises(TypeError, match="x must be a plain array"):
        engine.forward(memoryview(X), *good[1:])
    starts = np.array([0, 3, 6, 9, 12, 18], np.int64)  # the last step lies outside of 18 rows
    rows = X.reshape(18, 4)
    lengths = np.array([6, 6, 6], np.int64)
    with pytest.raises(ValueError, match=r"starts\[5\] = 18"):
        engine.forward(rows, y.reshape(18, 5), *good[2:7], lengths, 1, starts=starts)


def test_a_mapping_that_makes_its_arrays_when_asked() -> None:
    """Each is asked for once: what is checked is what is written to."""
    lstm = fastlstm.LSTM(4, 5, seed=0)
    y, _, tape = lstm.forward(X)
    expected = lstm.backward(tape, y).params

    class Lazy(UserDict[str, Array]):
        asked = 0

        def __getitem__(self, name: str) -> Array:
            self.asked += 1
            return np.zeros_like(expected[name])

    into = Lazy(expected)
    grads = lstm.backward(tape, y, into=into).params
    assert into.asked == len(expected)
    assert all(np.array_equal(grads[name], expected[name]) for name in expected)


class Liar(np.ndarray):  # type: ignore[type-arg]
    shape = property(lambda self: (1,))  # type: ignore[assignment]
    dtype = property(lambda self: np.dtype(np.float64))  # type: ignore[assignment]


def test_an_array_that_lies_about_itself() -> None:
    lstm = fastlstm.LSTM(4, 5, seed=0)
    assert np.array_equal(lstm(X.view(Liar))[0], lstm(X)[0])
    params = {"p": np.ones(4096, np.float32).view(Liar)}
    opt = fastlstm.optim.Adam(params)
    with pytest.raises(ValueError, match=r"grads\['p'\] must have shape \(4096,\)"):
        opt.step({"p": np.ones(1, np.float32)})
    opt.step({"p": np.ones(4096, np.float32)})
    assert (np.asarray(params["p"]) < 1).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", ["strides", "shape", "dtype", "size"])
def test_parameters_changed_in_place(change: str) -> None:
    lstm = fastlstm.LSTM(4, 5, seed=0).train()
    before = lstm.state_dict()
    weights = lstm.parameters()["weight_hh_l0"]
    if change == "strides":
        weights.strides = (4, 80)
    elif change == "shape":
        weights.shape = (10, 10)
    elif change == "dtype":
        weights.dtype = np.int32
    else:
        weights.resize((7,), refcheck=False)
    with pytest.raises(ValueError, match="weight_hh_l0"):
        lstm(X)
    if change in ("strides", "size"):
        with pytest.raises(ValueError, match="weight_hh_l0"):
            lstm.load_state_dict(before)
        assert np.array_equal(lstm.parameters()["weight_ih_l0"], before["weight_ih_l0"])


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OSError, KeyboardInterrupt])
def test_errors_of_the_callers_own_pass(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("not our affair")

    lstm = fastlstm.LSTM(4, 5, seed=0)
    cell = fastlstm.LSTMCell(4, 5, seed=0)
    hook = Hook(fail, X)
    y, _, tape = lstm.forward(X)
    state: Any = (hook, np.zeros((1, 3, 5), np.float32))
    calls: list[Callable[[], object]] = [
        lambda: lstm(hook),
        lambda: lstm(X, state),
        lambda: lstm(X, lengths=hook),  # type: ignore[arg-type]
        lambda: cell(hook),
        lambda: lstm.stream(3)(hook),
        lambda: lstm.backward(tape, hook),
    ]
    for call in calls:
        with pytest.raises(error, match="not our affair"):
            call()
    lstm.backward(tape, y)


def test_lengths_that_another_thread_changes() -> None:
    """They are copied before they are checked."""
    lstm = fastlstm.LSTM(2, 3, seed=0)
    x, lengths = np.zeros((2, 4000, 2), np.float32), np.zeros(4000, np.int64)
    stop = threading.Event()

    def toggle() -> None:
        while not stop.is_set():
            lengths[-1] = 10**12
            lengths[-1] = 1

    thread = threading.Thread(target=toggle)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    words = set()
    try:
        for _ in range(300):
            try:
                lstm(x, lengths=lengths)
                words.add("")
            except ValueError as error:
                words.add(str(error)[:32])
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert words <= {"", "lengths must be between 0 and 2 "}  # and the process lives


UPWARD = 0x800  # FE_UPWARD on x86


@pytest.mark.skipif(sys.platform != "linux", reason="fesetround of glibc")
def test_bits_do_not_depend_on_the_rounding_mode() -> None:
    libm = ctypes.CDLL("libm.so.6")
    x = np.arange(7 * 40 * 9, dtype=np.float32).reshape(7, 40, 9) / 1000
    state = fastlstm.LSTM(9, 37, 2, seed=0).state_dict()  # NumPy's arithmetic follows the mode

    def all_bits(mode: int) -> list[bytes]:
        lstm = fastlstm.LSTM(9, 37, 2)
        lstm.load_state_dict(state)
        libm.fesetround(mode)
        try:
            y, _, tape = lstm.forward(x)
            grads = lstm.backward(tape, y)
            found = [y.tobytes(), *(value.tobytes() for value in grads.params.values())]
            params = lstm.train().parameters()
            fastlstm.optim.AdamW(params).step(grads)
            return [*found, *(p.tobytes() for p in params.values())]
        finally:
            libm.fesetround(0)

    assert all_bits(UPWARD) == all_bits(0)


def test_results_and_workspace_are_weighed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them fits, all of them do not."""
    fastlstm.LSTM(1, 512, seed=0)(np.zeros((1, 1, 1), np.float32))
    batch, size = 80_000, 80_000 * 512 * 4
    monkeypatch.setattr(_core, "available_memory", lambda: 4 * size)
    x = np.broadcast_to(np.zeros((1, 1, 1), np.float32), (1, batch, 1))
    with pytest.raises(MemoryError, match="results"):
        fastlstm.LSTM(1, 512, seed=0)(x)
    with pytest.raises(MemoryError):
        fastlstm.LSTMCell(1, 512, seed=0)(x[0])
    with pytest.raises(MemoryError):
        fastlstm.LSTM(1, 512, seed=0).forward(x)


def test_the_message_of_a_list() -> None:
    with pytest.raises(TypeError, match=r"np\.asarray\(x, np\.float32\)"):
        fastlstm.LSTM(4, 5)(X.tolist())
