# SPDX-License-Identifier: BSD-3-Clause
"""What a training pass keeps, and what it gives back."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _core, checks, runtime
from .checks import Array


@dataclass(frozen=True)
class Gradients:
    """Gradients of a scalar loss; each has the shape of what it belongs to."""

    x: Array | None
    """as x; None if it was not asked for"""
    h_0: Array
    c_0: Array
    params: dict[str, Array]
    """name -> gradient of every parameter"""

    def __repr__(self) -> str:
        x = None if self.x is None else self.x.shape
        params = {name: array.shape for name, array in self.params.items()}
        return f"<Gradients of shapes x={x}, h_0={self.h_0.shape}, c_0={self.c_0.shape}, {params=}>"


POOLED = 1 << 16  # bytes of an array that is worth the pool of the core


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """np.empty whose memory, if large, comes from blocks that were let go before."""
    size = math.prod(shape) * dtype.itemsize
    if size < POOLED:
        return np.empty(shape, dtype)
    block = memoryview(_core.Block(size))
    return np.frombuffer(block, dtype, math.prod(shape)).reshape(shape)


class Tape:
    """What `LSTM.forward` keeps for `LSTM.backward`: gates and states of every step, a copy of x,
    and the parameters as they were.

    It owns its memory, may be used for any number of backward passes, and may be given to a later
    `forward`, which then writes into the same memory: a training loop need not allocate. Several
    threads may run backward from it at once; RuntimeError where one of them writes to it meanwhile.
    """

    def __init__(self) -> None:
        self._memory: _core.Block | None = None
        self._x: Array | None = None
        self._engine: _core.Engine | None = None
        self._lengths: Any = None
        self._model: tuple[object, ...] | None = None  # None: nothing, or not all, is recorded
        self._y_shape: tuple[int, ...] = ()
        self._state_shape: tuple[int, ...] = ()
        self._dropout = 0.0
        self._seed = 0
        self._lock = threading.Lock()
        self._users = 0  # passes that read it now; -1: one writes to it

    @contextlib.contextmanager
    def used(self, *, writing: bool) -> Iterator[None]:
        """Read by any number of passes at once, or written to by one."""
        with self._lock:
            if self._users < 0 or (writing and self._users > 0):
                raise RuntimeError("the tape is in use by another thread")
            self._users = -1 if writing else self._users + 1
        try:
            yield
        finally:
            with self._lock:
                self._users = 0 if writing else self._users - 1

    @property
    def nbytes(self) -> int:
        """Bytes that the tape holds, the copy of x included."""
        memory = 0 if self._memory is None else self._memory.nbytes
        return memory + (0 if self._x is None else self._x.nbytes)

    @property
    def seed(self) -> int:
        """Of the dropout masks of this pass."""
        return self._seed

    def __repr__(self) -> str:
        return f"<Tape of {self.nbytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError("a Tape cannot be pickled or copied: run forward again")

    def _record(self, x: Array, lengths: Any, size: int) -> None:
        """Take over a run's input, and have memory for it."""
        if self._memory is None or self._memory.nbytes < size:
            self._memory = None  # let it go before there is another
            self._memory = _core.Block(size)
        if self._x is None or self._x.shape != x.shape or self._x.dtype != x.dtype:
            self._x = empty(x.shape, x.dtype)
        np.copyto(self._x, x)
        self._lengths = lengths


def grads_to_fill(
    into: Mapping[str, Array] | Gradients | None,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> dict[str, Array]:
    """The arrays of `into`, checked, or new ones."""
    if into is None:
        checks.fits(dtype.itemsize * sum(int(np.prod(shape)) for shape in shapes.values()))
        return {name: empty(shape, dtype) for name, shape in shapes.items()}
    arrays = getattr(into, "params", into)
    if not isinstance(arrays, Mapping):
        raise TypeError(f"into must map names to arrays, got {type(into).__name__}")
    missing = [name for name in shapes if name not in arrays]
    unexpected = [str(name) for name in arrays if name not in shapes]
    if missing or unexpected:
        raise ValueError(f"into does not fit: missing {missing}, unexpected {unexpected}")
    for name, shape in shapes.items():
        array = checks.writable(f"into[{name!r}]", arrays[name], dtype, shape)
        if not array.flags.c_contiguous:
            raise ValueError(f"into[{name!r}] must be C-contiguous, got strides {array.strides}")
    begins = {arrays[name].__array_interface__["data"][0]: name for name in shapes}
    order = sorted(begins)
    ends = [begin + arrays[begins[begin]].nbytes for begin in order]
    if len(order) < len(shapes) or any(a > b for a, b in zip(ends, order[1:], strict=False)):
        raise ValueError("into must hold arrays of their own memory, got some that overlap")
    return {name: arrays[name] for name in shapes}


def backward(
    tape: Tape,
    suffixes: list[str],
    dy: Array | None,
    dstate: tuple[Array | None, Array | None],
    dcells: Array | None,
    params: dict[str, Array],
    *,
    accumulate: bool,
    input_grad: bool,
    num_threads: int | None,
) -> tuple[Array | None, Array, Array]:
    """Run the core on checked arrays, all time-major; gives dx (T, B, I), dh_0 and dc_0."""
    assert tape._engine is not None
    assert tape._x is not None
    dx = empty(tape._x.shape, tape._x.dtype) if input_grad else None
    dh_0 = np.empty(tape._state_shape, tape._x.dtype)
    dc_0 = np.empty_like(dh_0)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    tape._engine.backward(
        tape._memory,
        tape._x,
        tape._lengths,
        dy,
        dcells,
        *dstate,
        dx,
        dh_0,
        dc_0,
        [tuple(params.get(name + end) for name in names) for end in suffixes],
        accumulate,
        runtime.call_threads(num_threads),
        tape._dropout,
        tape._seed,
    )
    return dx, dh_0, dc_0


def tape_size(lstm: Any, steps: int, batch: int) -> int:
    """Bytes that a tape of this model needs."""
    return _core.tape_bytes(
        lstm.input_size,
        lstm.hidden_size,
        lstm.num_layers,
        2 if lstm.bidirectional else 1,
        lstm.dtype == np.float64,
        runtime.active_isa(),
        steps,
        batch,
    )
