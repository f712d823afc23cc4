# SPDX-License-Identifier: BSD-3-Clause
"""Another thread changes values, shapes, strides and dtypes of the arguments while calls go on.

It does not move their memory: that is against NumPy's own rules for whoever holds a view. What
comes of a call is a result of the right shape or an error of a kind that is promised; the objects
go on working.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastlstm

from .hostile import Array, Rng, one_of
from .kinds import any_options
from .stage import ALLOWED, Values, fill, lay_out, layout, reshape, restride, retype
from .world import MAKERS, same

CHANGES = (reshape, restride, retype, fill, fill)
REVERSIBLE = (reshape, retype, fill)
SECONDS = 0.05  # of each call over and over


class Racer(threading.Thread):
    """Changes arrays, and gives them their layouts back, until it is told to stop."""

    def __init__(self, rng: Rng, arrays: list[Array]) -> None:
        super().__init__(daemon=True)
        self.rng, self.arrays, self.stop = rng, arrays, threading.Event()
        self.layouts = [layout(array) for array in arrays]

    def run(self) -> None:
        while not self.stop.is_set():
            i = int(self.rng.integers(len(self.arrays)))
            # An array with memory of its own would not get its strides back.
            change = one_of(self.rng, CHANGES if self.arrays[i].base is not None else REVERSIBLE)
            for _ in range(20):
                try:
                    change(self.rng, self.arrays[i])
                except (ValueError, TypeError, AttributeError, OverflowError):
                    pass
                lay_out(self.arrays[i], self.layouts[i])
                if self.arrays[i].dtype.kind == "i":
                    self.arrays[i].fill(1)


def on_buffer(value: Array) -> Array:
    """A copy in memory that is not its own."""
    return np.frombuffer(bytearray(value.tobytes()), value.dtype).reshape(value.shape)


def calls(rng: Rng) -> tuple[Values, dict[str, Callable[[], Any]], Callable[[], None]]:
    """Arrays to change, calls that use them, and what must hold afterwards."""
    dtype = one_of(rng, ["float32", "float64"])
    large = rng.random() < 0.5
    inputs, units, steps, batch = (
        (2, 3, 2, 3000) if large else tuple(int(n) for n in rng.integers(1, 9, 4))
    )
    both = bool(rng.integers(2))
    chosen = {"options": any_options(rng)}
    lstm = fastlstm.LSTM(inputs, units, bidirectional=both, dtype=dtype, seed=0, **chosen)
    cell = fastlstm.LSTMCell(inputs, units, dtype=dtype, seed=0, **chosen)
    x = rng.standard_normal((steps, batch, inputs)).astype(dtype)
    first = {name: value.copy() for name, value in lstm.state_dict().items()}
    expected = lstm(x), cell(x[0])
    shape = (2 if both else 1, batch, units)
    arrays: Values = {
        "x": x.copy(),
        "h": np.zeros(shape, dtype),
        "c": np.zeros(shape, dtype),
        "lengths": np.full(batch, 1, np.int64),
        "out": np.zeros((steps, batch, shape[0] * units), dtype),
        "dy": np.zeros((steps, batch, shape[0] * units), dtype),
        "step": x[0].copy(),
        "cell h": np.zeros((batch, units), dtype),
    }
    arrays = {name: on_buffer(value) for name, value in arrays.items()}
    into = {name: on_buffer(np.zeros_like(value)) for name, value in lstm.parameters().items()}
    params = {name: on_buffer(value) for name, value in lstm.parameters().items()}
    opt = one_of(rng, MAKERS)(params)
    trained = fastlstm.LSTM(inputs, units, dtype=dtype, seed=0, **chosen).train()
    arrays |= {f"into {name}": value for name, value in into.items()}
    arrays |= {f"param {name}": value for name, value in params.items()}
    arrays |= {f"trained {name}": value for name, value in trained.parameters().items()}
    _, _, tape = lstm.forward(x)
    stream = None if both else lstm.stream(batch)
    a = arrays
    found: dict[str, Callable[[], Any]] = {
        "call": lambda: lstm(a["x"], (a["h"], a["c"]), lengths=a["lengths"]),
        "lengths": lambda: lstm(x, lengths=a["lengths"]),
        "out": lambda: lstm(a["x"], out=a["out"]),
        "forward": lambda: lstm.forward(a["x"], (a["h"], a["c"]), lengths=a["lengths"], tape=tape),
        "backward": lambda: lstm.backward(
            lstm.forward(x)[2], a["dy"], (a["h"], a["c"]), dcells=a["dy"], into=into
        ),
        "cell": lambda: cell(a["step"], (a["cell h"], a["cell h"])),
        "step": lambda: opt.step(into),
        "load": lambda: lstm.load_state_dict(params),
        "trained": lambda: trained(x),
        "trained load": lambda: trained.load_state_dict(params),
        "state": lambda: trained.state_dict(),
        "clip": lambda: fastlstm.optim.clip_grad_norm(into, 0.1),
    }
    if stream is not None:
        found["stream"] = lambda: stream(one_of(rng, (a["step"], a["x"])))
        found["stream state"] = lambda: setattr(stream, "state", (a["h"], a["c"]))
        arrays |= {"stream.h": stream.h, "stream.c": stream.c}

    def works() -> None:
        lstm.load_state_dict(first)
        assert same(lstm(x), expected[0])
        assert same(cell(x[0]), expected[1])
        lstm.forward(x, tape=tape)
        lstm.backward(tape, expected[0][0])
        if stream is not None:
            new = lstm.stream(batch)
            stream.state = new.state
            assert same(stream(x), new(x))
        opt.step({name: np.zeros_like(value) for name, value in params.items()})
        trained.load_state_dict(
            {name: value.copy() for name, value in trained.state_dict().items()}
        )

    return arrays, found, works


def case(rng: Rng) -> None:
    arrays, found, works = calls(rng)
    name = one_of(rng, list(found))
    racer = Racer(np.random.default_rng(int(rng.integers(2**30))), list(arrays.values()))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    racer.start()
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                found[name]()
            except ALLOWED:
                pass
            except BaseException as error:
                raise AssertionError(f"{name}: {error!r}") from error
    finally:
        racer.stop.set()
        racer.join()
        sys.setswitchinterval(interval)
    for array, wanted in zip(racer.arrays, racer.layouts, strict=True):
        assert lay_out(array, wanted), (
            f"an array has not got its layout back: {layout(array)}, {wanted}"
        )
    works()
