# SPDX-License-Identifier: BSD-3-Clause
"""State changes are all or nothing: wherever an exception may arrive, and for other threads.

A signal's handler runs between two bytecodes. `interrupted_everywhere` lets one arrive before each
bytecode of our own Python code in turn, the last time of none.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import _core
from support import bytecodes, processes

pytestmark = pytest.mark.sanitize

Array = np.ndarray[Any, Any]
SHAPE = (4, 5, 2)
X = np.random.default_rng(3).standard_normal((6, 3, 4)).astype(np.float32)


class Arrived(BaseException):
    """In place of KeyboardInterrupt, which pytest would take for the user's."""


def interrupted(n: int, call: Callable[[], object]) -> bool:
    """Whether the n-th bytecode of ours, where the exception arrives, is reached by the call."""

    def arrive() -> None:
        raise Arrived

    try:
        with bytecodes.before_bytecode(n, arrive):
            call()
    except Arrived:
        return True
    return False


def interrupted_everywhere(make: Callable[[], Callable[[], object]]) -> Iterator[bool]:
    """Makes a call anew for each place; yields after it whether it was interrupted."""
    n, more = 0, True
    while more:
        more = interrupted(n, make())
        n += 1
        yield more
    assert n > 20, "nothing of ours was interrupted"


def model(seed: int, mode: str = "never trained") -> fastlstm.LSTM:
    lstm = fastlstm.LSTM(*SHAPE, dropout=0.5, seed=seed)
    if mode != "never trained":
        lstm.train()
    if mode == "eval":
        lstm.eval()
    return lstm


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


NEW = model(1).state_dict()
OLD = model(0).state_dict()


def consistent(lstm: fastlstm.LSTM) -> None:
    """Calls use the parameters that the model shows, all of which are writable or none."""
    shown = model(2)
    shown.load_state_dict(lstm.state_dict())
    assert np.array_equal(lstm(X)[0], shown(X)[0])
    writable = {values.flags.writeable for values in lstm.parameters().values()}
    assert writable == {lstm.training}


@pytest.mark.parametrize("mode", ["never trained", "eval", "training"])
def test_load_state_dict(mode: str) -> None:
    lstm = model(0, mode)
    packed = model(0)(X)[0]

    def make() -> Callable[[], object]:
        nonlocal lstm
        lstm = model(0, mode)
        assert np.array_equal(lstm(X)[0], packed)
        return lambda: lstm.load_state_dict(NEW)

    seen = set()
    for more in interrupted_everywhere(make):
        now = lstm.state_dict()
        assert same(now, OLD) or same(now, NEW)
        assert more or same(now, NEW)
        seen.add(same(now, NEW))
        consistent(lstm)
    assert seen == {False, True}


@pytest.mark.parametrize("first", ["never trained", "eval", "training"])
@pytest.mark.parametrize("change", ["train", "eval"])
def test_train_and_eval(first: str, change: str) -> None:
    lstm = model(0, first)

    def make() -> Callable[[], object]:
        nonlocal lstm
        lstm = model(0, first)
        return getattr(lstm, change)  # type: ignore[no-any-return]

    for more in interrupted_everywhere(make):
        assert same(lstm.state_dict(), OLD)
        assert lstm.training in (first == "training", change == "train")
        assert more or lstm.training == (change == "train")
        consistent(lstm)


def test_a_call() -> None:
    lstm = model(0)
    expected = model(0)(X)[0]

    def make() -> Callable[[], object]:
        nonlocal lstm
        lstm = model(0)
        return lambda: lstm(X, lengths=[6, 2, 0])

    for _ in interrupted_everywhere(make):
        assert np.array_equal(lstm(X)[0], expected)


OPTIMISERS: dict[str, Callable[[Any], fastlstm.optim.Optimizer]] = {
    "SGD": lambda params: fastlstm.optim.SGD(params, lr=0.1, momentum=0.9),
    "AdamW": lambda params: fastlstm.optim.AdamW(params, lr=0.1, amsgrad=True),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_step_of_an_optimiser(kind: str) -> None:
    def start() -> tuple[fastlstm.LSTM, fastlstm.optim.Optimizer]:
        lstm = model(0, "training")
        opt = OPTIMISERS[kind](lstm)
        opt.step(NEW)
        return lstm, opt

    lstm, opt = start()
    before = lstm.state_dict(), opt.state_dict()
    opt.step(NEW)
    after = lstm.state_dict(), opt.state_dict()

    def make() -> Callable[[], object]:
        nonlocal lstm, opt
        lstm, opt = start()
        return lambda: opt.step(NEW)

    seen = set()
    for more in interrupted_everywhere(make):
        now = lstm.state_dict(), opt.state_dict()
        done = opt.steps == 2
        wanted = after if done else before
        assert same(now[0], wanted[0])
        assert same(now[1], wanted[1])
        assert more or done
        seen.add(done)
        opt.step(NEW)  # it is not in use any more
    assert seen == {False, True}


def test_load_state_dict_of_an_optimiser() -> None:
    params = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    grads = {name: np.ones_like(value) for name, value in params.items()}
    other = fastlstm.optim.Adam(params, lr=0.5, betas=(0.5, 0.6))
    other.step(grads)
    new = other.state_dict()
    opt = fastlstm.optim.Adam(params)
    old = opt.state_dict()

    def make() -> Callable[[], object]:
        nonlocal opt
        opt = fastlstm.optim.Adam(params)
        return lambda: opt.load_state_dict(new)

    for more in interrupted_everywhere(make):
        now = opt.state_dict()
        assert same(now, new) or same(now, old)
        assert more or same(now, new)
        opt.step(grads)


@pytest.mark.parametrize("used", ["for the first time", "again"])
def test_a_tape(used: str) -> None:
    """A tape of an interrupted pass is refused by backward, and taken by the next forward pass."""
    lstm = model(0, "training")
    y, _, expected_tape = lstm.forward(X, seed=3)
    expected = lstm.backward(expected_tape, y).params
    tape = fastlstm.Tape()

    def make() -> Callable[[], object]:
        nonlocal tape
        tape = fastlstm.Tape()
        if used == "again":
            lstm.forward(X[:4], tape=tape)
        return lambda: lstm.forward(X, tape=tape, seed=3)

    for _ in interrupted_everywhere(make):
        try:
            grads = lstm.backward(tape, y[: 4 if len(tape._record.x) == 4 else 6]).params  # type: ignore[union-attr]
            assert len(tape._record.x) == 4 or same(grads, expected)  # type: ignore[union-attr]
        except (ValueError, AttributeError):
            assert tape._record is None
        lstm.forward(X, tape=tape, seed=3)
        assert same(lstm.backward(tape, y).params, expected)


def test_backward() -> None:
    lstm = model(0, "training")
    y, _, tape = lstm.forward(X, seed=3)
    expected = lstm.backward(tape, y).params
    for _ in interrupted_everywhere(lambda: lambda: lstm.backward(tape, y)):
        assert same(lstm.backward(tape, y).params, expected)
        lstm.forward(X, tape=tape, seed=3)  # nobody reads it any more


@pytest.mark.parametrize("what", ["a step", "a chunk", "reset", "state"])
def test_a_stream(what: str) -> None:
    lstm = model(0)
    old = lstm(X)[1]
    new = tuple(-part for part in old)
    stream = lstm.stream(3)
    calls: dict[str, Callable[[], object]] = {
        "a step": lambda: stream(X[0]),
        "a chunk": lambda: stream(X),
        "reset": lambda: stream.reset(),
        "state": lambda: setattr(stream, "state", new),
    }
    stream.state = old
    calls[what]()
    after = stream.state

    def make() -> Callable[[], object]:
        nonlocal stream
        stream = lstm.stream(3)
        stream.state = old
        return calls[what]

    n, more = 0, True
    while more:
        more = interrupted(n, make())
        n += 1
        now = stream.state
        assert any(
            all(np.array_equal(a, b) for a, b in zip(now, wanted, strict=True))
            for wanted in (old, after)
        )
        stream(X[0])


# ---- other threads ----


@pytest.mark.parametrize("mode", ["never trained", "eval", "training"])
def test_calls_and_loads_in_threads(mode: str) -> None:
    """While two threads load, each its own parameters, a call computes with those of one or the
    other, and a state dict holds those of one or the other."""
    states = [fastlstm.LSTM(16, 96, 2, seed=seed).state_dict() for seed in (0, 1)]
    x = np.random.default_rng(0).standard_normal((2, 2, 16)).astype(np.float32)
    allowed = []
    for state in states:
        lstm = fastlstm.LSTM(16, 96, 2, seed=2)
        lstm.load_state_dict(state)
        allowed.append(lstm(x)[0])
    lstm.train(mode == "training")
    if mode == "eval":
        lstm.train().eval()
    stop = threading.Event()
    failures: list[BaseException] = []

    def load(state: dict[str, Array]) -> None:
        try:
            while not stop.is_set():
                lstm.load_state_dict(state)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=(state,)) for state in states]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(150):
            y = lstm(x)[0]
            assert any(np.array_equal(y, one) for one in allowed)
            now = lstm.state_dict()
            assert any(same(now, one) for one in states)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failures


def test_a_call_waits_for_a_step() -> None:
    """A call does not read what an optimiser's step, or a load, is writing in another thread."""
    lstm = model(0, "training")
    entered, results = threading.Event(), []

    def call() -> None:
        entered.set()
        results.append(lstm(X)[0])

    thread = threading.Thread(target=call)
    with lstm._params.guard.writing():
        thread.start()
        entered.wait()
        for values in lstm.parameters().values():
            assert not results
            values += 1
    thread.join()
    assert np.array_equal(results[0], lstm(X)[0])


def test_a_guard() -> None:
    guard = _core.Guard("the thing")
    with guard.reading(), guard.reading(), pytest.raises(RuntimeError, match="the thing is in use"):
        guard.writing().__enter__()
    with guard.writing(), pytest.raises(RuntimeError, match="the thing is in use"):
        guard.reading().__enter__()
    hold = guard.writing()
    hold.__enter__()
    del hold  # for want of memory __exit__ may never be called
    with guard.writing():
        pass


def test_a_child_does_not_wait_for_threads_of_its_parent() -> None:
    """A thread that held a guard at the fork does not exist in the child."""
    out = processes.check(
        """
        import os, threading
        import numpy as np, fastlstm
        lstm = fastlstm.LSTM(4, 5, seed=0).train()
        tape = lstm.forward(np.ones((3, 2, 4), np.float32))[2]
        held, done = threading.Event(), threading.Event()
        def hold():
            with lstm._params.guard.writing(), tape._guard.writing():
                held.set()
                done.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        own = lstm._params.guard
        pid = os.fork()
        if pid == 0:
            x = np.ones((3, 2, 4), np.float32)
            y, _, _ = lstm.forward(x, tape=tape)
            lstm.load_state_dict(lstm.state_dict())
            print(np.array_equal(lstm(x)[0], y), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        done.set()
        thread.join()
        with own.writing():
            print("free again")
        """
    )
    assert out.split("\n")[:2] == ["True", "free again"]


def test_a_child_may_use_a_stream_that_a_thread_of_its_parent_uses() -> None:
    out = processes.check(
        """
        import os, signal, threading, time
        import numpy as np, fastlstm
        lstm = fastlstm.LSTM(256, 256, seed=0)
        x = np.ones((1, 256), np.float32)
        expected = lstm.stream(1)(x)
        stream = lstm.stream(1)
        long = np.broadcast_to(x, (300_000, 1, 256))
        thread = threading.Thread(target=stream, args=(long,))
        thread.start()
        while True:  # until the thread is in the core
            try:
                stream.reset()
            except RuntimeError:
                break
        pid = os.fork()
        if pid == 0:
            stream.reset()
            print(np.array_equal(stream(x), expected), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        os._exit(0)
        """
    )
    assert out.split() == ["True"]
