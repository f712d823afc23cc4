# SPDX-License-Identifier: BSD-3-Clause
"""Memory over many calls: nothing leaks, and a step of a stream allocates nothing.

Two measures: `in_use` is what malloc has handed out and not got back (exact), resident memory is
what a user sees grow (it includes fragmentation).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np
import pytest

import fastlstm
from support import processes
from support.memory import MALLINFO, assert_no_growth, needs_mallinfo, traced
from support.refusals import C_0, CELL, H_0, LSTM, X_STEP, B, F, H, T, X

pytestmark = pytest.mark.sanitize

# Each defines `call(i)`: the i-th of many calls.
CALLS = {
    "shapes": """
        lstms = [fastlstm.LSTM(3, 5, seed=0), fastlstm.LSTM(7, 33, 2, bidirectional=True, seed=0)]
        rng = np.random.default_rng(0)
        x = rng.standard_normal((40 * 10 * 7,)).astype(np.float32)
        shapes = rng.integers(0, [41, 11], (CALLS, 2)).tolist()
        def call(i):
            lstm, (t, b) = lstms[i % 2], shapes[i]
            part = x[: t * b * lstm.input_size].reshape(t, b, lstm.input_size)
            lengths = [i % (t + 1)] * b if i % 3 else None
            y, state, *_ = lstm(part, lengths=lengths, return_cells=i % 5 == 0)
            if t and b and i % 7 == 0:
                lstm(part, state)""",
    "two threads": """
        lstm = fastlstm.LSTM(16, 256, seed=0)
        x = np.zeros((3, 40, 16), np.float32)
        def call(i):
            lstm(x[:, : 8 + i % 32], num_threads=2)""",
    "blas": """
        lstm = fastlstm.LSTM(40, 8, seed=0, gemm="blas")
        x = np.zeros((30, 8, 40), np.float32)
        def call(i):
            lstm(x[: 1 + i % 30, : 1 + i % 7])""",
    "copied inputs": """
        lstm = fastlstm.LSTM(3, 5, seed=0)
        x = np.zeros((60, 30, 12), np.float16)
        state = (np.zeros((1, 30, 5), np.float16)[:, ::2],) * 2
        def call(i):
            t = 1 + i % 60
            lstm(x[:t, ::2, ::4], state, out=np.empty((t, 15, 5), np.float32))""",
    "refusals": """
        lstm = fastlstm.LSTM(3, 5, seed=0)
        stream = lstm.stream(2)
        x = np.zeros((4, 2, 3), np.float32)
        wrong = [
            lambda: lstm(x[..., 1:]), lambda: lstm(x, lengths=[1, 5]), lambda: lstm(x, (x, x)),
            lambda: lstm(x, out=x), lambda: lstm(None), lambda: lstm(x, num_threads=0),
            lambda: stream(x[0, :, :2]), lambda: stream(None), lambda: stream(x.astype(float)),
            lambda: fastlstm.LSTM(0, 1), lambda: lstm.load_state_dict({}),
            lambda: lstm(np.broadcast_to(x[:1, :1], (2**40, 1, 3))), lambda: lstm.stream(2**31 - 1),
        ]
        def call(i):
            try:
                wrong[i % len(wrong)]()
            except (TypeError, ValueError, MemoryError):
                return
            raise AssertionError("not refused")""",
    "models": """
        x = np.zeros((2, 2, 9), np.float32)
        def call(i):
            lstm = fastlstm.LSTM(9, 1 + i % 40, 1 + i % 2, bidirectional=i % 3 == 0, seed=0)
            lstm(x)
            lstm.load_state_dict(lstm.state_dict())
            lstm(x)
            pickle.loads(pickle.dumps(lstm))""",
    "streams": """
        lstm = fastlstm.LSTM(9, 20, 2, seed=0)
        x = np.zeros((7, 3, 9), np.float32)
        def call(i):
            stream = lstm.stream(3)
            stream(x)
            h = stream(x[0])
            stream.state = stream.state
            stream(x[:, :, ::-1])""",
    "steps of a cell": """
        cell = fastlstm.LSTMCell(9, 20, seed=0)
        x = np.zeros((3, 9), np.float32)
        def call(i):
            cell(x, cell(x))""",
}


@needs_mallinfo
@pytest.mark.parametrize("what", CALLS)
def test_no_growth(what: str) -> None:
    """After 1,000 as warm-up, three times 3,500 calls leave behind less than 10 bytes each: the
    smallest leak would be of 16. Resident memory may grow by a third of what leaking one result
    of 1 KiB a call would make it grow."""
    count = {"models": 1_000, "two threads": 700}.get(what, 3_500)
    assert_no_growth("call", CALLS[what], count=count, warm=min(1000, count))


@needs_mallinfo
def test_the_pool_gives_way() -> None:
    """Where memory is short, blocks that were kept are given back before a call fails."""
    out = processes.check(
        """
        import resource
        import numpy as np, fastlstm
        from fastlstm import _core
        _core.Block(200 << 20)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
        print(_core.Block(120 << 20).nbytes >> 20)
        """
    )
    assert int(out) == 120


@needs_mallinfo
def test_no_growth_would_be_seen() -> None:
    """The measures above, on a leak of 16 bytes a call."""
    out = processes.check(MALLINFO + "print(*least_growth(lambda _: libc.malloc(16), 1000, 1000))")
    assert int(out.split()[0]) >= 16_000


CALLS_WITH_ARRAYS: dict[str, Callable[[dict[str, Any]], object]] = {
    "call": lambda a: LSTM(a["x"], (a["h_0"], a["c_0"]), lengths=a["lengths"], out=a["out"]),
    "refused lengths": lambda a: LSTM(a["x"], (a["h_0"], a["c_0"]), lengths=a["lengths"] + 9),
    "refused h_0": lambda a: LSTM(a["x"], (a["x"], a["c_0"])),
    "refused out": lambda a: LSTM(a["x"], (a["h_0"], a["c_0"]), out=a["x"]),
    "cell": lambda a: CELL(a["step"], (a["h_0"][0], a["c_0"][0])),
    "stream": lambda a: a["stream"](a["step"]),
    "stream of a chunk": lambda a: a["stream"](a["x"]),
    "refused step": lambda a: a["stream"](a["h_0"]),
    "refused dtype": lambda a: a["stream"](a["lengths"]),
    "set state": lambda a: setattr(a["stream"], "state", (a["h_0"], a["c_0"])),
}


@pytest.mark.parametrize("what", CALLS_WITH_ARRAYS)
def test_nothing_is_kept(what: str) -> None:
    """After a call, refused or not, nobody holds on to its arguments."""
    arrays: dict[str, Any] = {
        "x": X.copy(),
        "step": X_STEP.copy(),
        "h_0": H_0.copy(),
        "c_0": C_0.copy(),
        "lengths": np.array([T, 0, 2]),
        "out": np.empty((T, B, H), np.float32),
        "stream": LSTM.stream(B),
    }
    before = {name: sys.getrefcount(array) for name, array in arrays.items()}
    for _ in range(3):
        try:
            CALLS_WITH_ARRAYS[what](arrays)
        except (TypeError, ValueError):
            assert what.startswith("refused")
    assert {name: sys.getrefcount(array) for name, array in arrays.items()} == before


# ---- streams ----


@pytest.mark.skipif(processes.SANITIZED, reason="tracemalloc sees the same, only slower")
@pytest.mark.parametrize("batch", [1, 8])
def test_step_allocates_nothing(batch: int) -> None:
    """Neither arrays nor anything that lasts. (NumPy describes an array's buffer to whoever asks
    in a scrap of some hundred bytes, which it frees at once.)"""
    lstm = fastlstm.LSTM(64, 256, 2, seed=0)
    stream = lstm.stream(batch)
    x = np.zeros((batch, 64), np.float32)
    smallest_array = batch * 64 * 4
    for _ in repeat(None, 10):
        stream(x)
    growth, peak = traced(lambda: stream(x), warm=100, count=4_000)
    assert growth < 200  # the measurement's own numbers
    assert peak < max(200, smallest_array)


@needs_mallinfo
@pytest.mark.parametrize("threads", [1, 2])
def test_step_allocates_nothing_in_c(threads: int) -> None:
    out = processes.check(
        "import sys\nfrom itertools import repeat\nimport numpy as np, fastlstm\n"
        + MALLINFO
        + """
lstm = fastlstm.LSTM(64, 256, 2, seed=0)
stream = lstm.stream(32, num_threads=int(sys.argv[1]))
x = np.zeros((32, 64), np.float32)
for _ in range(10): stream(x)
first = in_use(), resident()
for _ in repeat(None, 1_000): stream(x)
print(in_use() - first[0], resident() - first[1])""",
        str(threads),
        timeout=120,
    )
    in_use, resident = map(int, out.split())
    assert in_use < 500  # the numbers of `first`
    assert resident < 256 << 10


def test_dropped_outputs_are_used_again() -> None:
    stream = LSTM.stream(B)
    places = {stream(X_STEP).ctypes.data for _ in range(100)}
    assert len(places) <= 3
    kept = [stream(X_STEP)]
    places = {kept[0].ctypes.data} | {stream(X_STEP).ctypes.data for _ in range(100)}
    assert len(places) <= 4


def held_by_list(y: np.ndarray) -> Any:
    return [y]


HOLDERS: dict[str, Callable[[np.ndarray], Any]] = {
    "the array": lambda y: y,
    "a list": held_by_list,
    "a view": lambda y: y[:1],
    "a view of a view": lambda y: y[:1].T[::-1],
    "a reshaped view": lambda y: y.reshape(-1),
    "a memoryview": memoryview,
    "an attribute": lambda y: type("Holder", (), {"y": y})(),
    "a closure": lambda y: lambda: y,
}


def values_of(holder: Any) -> np.ndarray:
    if isinstance(holder, list):
        holder = holder[0]
    elif callable(holder):
        holder = holder()
    return np.array(getattr(holder, "y", holder))


@pytest.mark.parametrize("kind", HOLDERS)
def test_kept_outputs_stay(kind: str) -> None:
    """However a result is held, later steps leave it alone."""
    x = np.random.default_rng(0).standard_normal((50, B, F)).astype(np.float32)
    stream = LSTM.stream(B)
    held, copies = [], []
    for x_t in x:
        held.append(HOLDERS[kind](stream(x_t)))
        copies.append(values_of(held[-1]).copy())
    for holder, copy in zip(held, copies, strict=True):
        assert np.array_equal(values_of(holder), copy)


def test_kept_torch_tensors_stay() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((20, B, F)).astype(np.float32)
    stream = LSTM.stream(B)
    held = [torch.from_numpy(stream(x_t)) for x_t in x]
    assert np.array_equal(np.stack([h.numpy() for h in held]), LSTM(x)[0])


@pytest.mark.parametrize(
    "change",
    [
        "y.fill(np.nan)",
        "y.shape = (-1,)",
        "y.dtype = np.int32",
        "y.flags.writeable = False",
        "y.resize((1,), refcheck=False)",
        "y.resize((9999,), refcheck=False)",
    ],
)
def test_what_becomes_of_dropped_outputs(change: str) -> None:
    """A user may change a result in place and drop it; the next one is a sound array again."""
    processes.check(
        """
        import sys, warnings
        import numpy as np, fastlstm
        warnings.simplefilter("ignore")
        x = np.random.default_rng(0).standard_normal((12, 3, 4)).astype(np.float32)
        lstm = fastlstm.LSTM(4, 6, seed=0)
        stream = lstm.stream(3)
        for x_t, y_t in zip(x, lstm(x)[0]):
            y = stream(x_t)
            assert y.shape == (3, 6) and y.dtype == np.float32 and y.flags.writeable
            assert np.array_equal(y, y_t)
            exec(sys.argv[1])
            del y
        """,
        change,
    )
