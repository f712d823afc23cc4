# SPDX-License-Identifier: BSD-3-Clause
"""Ctrl-C and other signals in the midst of calls, each in a process of its own."""

from __future__ import annotations

import pytest

from support import processes

pytestmark = pytest.mark.sanitize

LONG_CALLS = {
    "one thread": ("fastlstm.LSTM(4096, 64, seed=0)", "model(x, num_threads=1)"),
    "two threads": ("fastlstm.LSTM(4096, 256, seed=0)", "model(x, num_threads=2)"),
    "layers": ("fastlstm.LSTM(4096, 64, 3, seed=0)", "model(x, num_threads=1)"),
    "both directions": (
        "fastlstm.LSTM(4096, 64, bidirectional=True, seed=0)",
        "model(x, num_threads=2)",
    ),
    "ragged": ("fastlstm.LSTM(4096, 64, seed=0)", "model(x, lengths=[len(x)], num_threads=1)"),
    "BLAS": ("fastlstm.LSTM(4096, 64, seed=0, gemm='blas')", "model(x, num_threads=1)"),
    "tiny": ("fastlstm.LSTM(4096, 8, seed=0)", "model(x, num_threads=1)"),
    "a stream": ("fastlstm.LSTM(4096, 64, seed=0)", "stream(x)"),
}


@pytest.mark.parametrize("what", LONG_CALLS)
def test_interrupt(what: str) -> None:
    """Ctrl-C ends a call that would take minutes. Everything works afterwards, and a stream stands
    where it stood."""
    model, call = LONG_CALLS[what]
    out = processes.check(
        f"""
        import os, signal, threading
        import numpy as np, fastlstm
        model = {model}
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        few = np.random.default_rng(0).standard_normal((20, 1, 4096)).astype(np.float32)
        expected = model(few)[0]
        plain = not model.bidirectional and model.gemm != 'blas'  # those may differ in chunks
        stream = model.stream(1) if plain else None
        if stream: stream(few[:10])
        x = np.broadcast_to(few[:1], (3_000_000, 1, 4096))
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            {call}
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted")
        assert np.array_equal(model(few)[0], expected)
        if stream: assert np.array_equal(stream(few[10:]), expected[10:])
        """,
        timeout=60,
    )
    assert out.split() == ["interrupted"]


# Each takes a good part of a second, most of it within one step, one layer or one packing.
LARGE_CALLS = {
    "a step of many rows": ("fastlstm.LSTM(1024, 256, seed=0)", "(1, 50_000, 1024)"),
    "a step, two threads": (
        "fastlstm.LSTM(1024, 256, seed=0)",
        "(1, 100_000, 1024), num_threads=2",
    ),
    "a large layer": ("fastlstm.LSTM(4096, 2048, seed=0)", "(1, 2000, 4096)"),
    "a wide input": ("fastlstm.LSTM(20_000, 64, seed=0)", "(1, 8000, 20_000)"),
    "BLAS": ("fastlstm.LSTM(20_000, 64, seed=0, gemm='blas')", "(1, 2000, 20_000)"),
    "a cell": ("fastlstm.LSTMCell(1024, 256, seed=0)", "(50_000, 1024)"),
    "a stream": ("fastlstm.LSTM(1024, 256, seed=0).stream(50_000)", "(50_000, 1024)"),
    "packing": ("fastlstm.LSTM(100_000, 512, seed=0).forward", "(1, 1, 100_000)"),
    "many layers": ("fastlstm.LSTM(1, 1, 4000, seed=0)", "(6000, 1, 1)"),
    "backward": ("backward()", "(1, 50_000, 512), num_threads=1"),
    "backward, two threads": ("backward()", "(1, 50_000, 512), num_threads=2"),
}


@pytest.mark.parametrize("what", LARGE_CALLS)
def test_signals_are_looked_for(what: str) -> None:
    """Several handlers run while one call does: more than before and after its stages."""
    make, shape = LARGE_CALLS[what]
    shape, _, options = shape.partition("), ")
    out = processes.check(
        f"""
        import signal
        import numpy as np, fastlstm
        fastlstm.set_num_threads(1)
        def backward():
            lstm = fastlstm.LSTM(512, 256, seed=0)
            y, _, tape = lstm.forward(x)
            return lambda _, **options: lstm.backward(tape, y, **options)
        x = np.broadcast_to(np.float32(0), {shape.rstrip(")")}))
        call = {make}
        calls = 0
        def handler(*_):
            global calls
            calls += 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        call(x, {options})
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(calls)
        """,
        timeout=120,
    )
    assert int(out) >= 4


def test_handlers_compute_in_the_callers_mode() -> None:
    """Inside, denormals are flushed; not in the code of others."""
    out = processes.check(
        """
        import signal
        import numpy as np, fastlstm
        model = fastlstm.LSTM(64, 64, seed=0)
        x = np.broadcast_to(np.zeros((1, 1, 64), np.float32), (3_000_000, 1, 64))
        def handler(*_):
            halves = np.full(64, np.finfo(np.float32).smallest_normal) / np.float32(2)
            print(bool(halves.all()))
            raise InterruptedError
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            model(x, num_threads=1)
        except InterruptedError:
            print("interrupted")
        """,
        timeout=60,
    )
    assert out.split() == ["True", "interrupted"]


def test_handler_that_raises_or_uses_the_model() -> None:
    """A signal handler runs in the midst of a call: it may use the model, and not the stream."""
    out = processes.check(
        """
        import signal
        import numpy as np, fastlstm
        model = fastlstm.LSTM(4096, 64, seed=0)
        stream = model.stream(1)
        x = np.zeros((1, 1, 4096), np.float32)
        long = np.broadcast_to(x, (3_000_000, 1, 4096))
        def handler(*_):
            assert model(x)[0].shape == (1, 1, 64)
            try:
                stream(x)
            except RuntimeError as error:
                print("stream:", error)
            raise TimeoutError("too long")
        signal.signal(signal.SIGALRM, handler)
        for call in (model, stream):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                call(long)
            except TimeoutError as error:
                print("call:", error)
        print(stream(x).shape)
        """
    )
    lines = out.splitlines()
    assert lines[0] == "call: too long"  # the stream is idle in the first call: it may be used
    assert lines[1].startswith("stream: ")
    assert lines[2:] == ["call: too long", "(1, 1, 64)"]
