# SPDX-License-Identifier: BSD-3-Clause
"""Both passes on plain CPU tensors, whose memory the core reads and writes in place.

A `layout` says what x is; y and the states follow it (L layers, D directions):

    "tbi"     x (T, B, I)   y (T, B, D*H)   states (L*D, B, H)
    "bti"     x (B, T, I)   y (B, T, D*H)   states (L*D, B, H)
    "ti"      x (T, I)      y (T, D*H)      states (L*D, H)
    "packed"  x (N, I)      y (N, D*H)      states (L*D, B, H)   the data of a PackedSequence
    "cell"    x (B, I)      y (B, H), the new h                  states (B, H)
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _core, runtime
from .._core import Engine, Strided
from ..training import POOLED, empty
from .engines import (
    FORWARD,
    Spec,
    address,
    backward_engine,
    engine_for,
    grouped,
    in_memory,
    shapes,
    whole,
)

Tensor = Any  # torch is an optional dependency, which mypy sees as Any
Array = np.ndarray[Any, Any]

LAYOUTS = ("tbi", "bti", "ti", "packed", "cell")
ALIGN = 64  # of a tape
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


class Rows(NamedTuple):
    """Where the core finds the rows of x, y and their gradients: as (T, B, F), or, in the data of a
    ragged PackedSequence, step t of sequence b as row starts[t] + b.
    """

    layout: str
    steps: int
    batch: int
    lengths: Array | None = None
    starts: Array | None = None

    @classmethod
    def of(cls, layout: str, shape: Any, batch_sizes: Tensor | None) -> Rows:
        """shape: of x. ValueError where the sizes cannot belong to it."""
        if batch_sizes is None:
            return cls(layout, *extent(layout, shape, None, 0))
        sizes: Array = batch_sizes.numpy()
        ends, falling = np.cumsum(sizes), bool((sizes[1:] <= sizes[:-1]).all())
        if not (len(ends) and falling and sizes[-1] > 0 and ends[-1] == shape[0]):
            raise ValueError("batch_sizes must fall, end above 0 and sum up to the rows of x")
        steps, batch = len(ends), int(sizes[0])
        if steps * batch == shape[0]:
            return cls(layout, steps, batch)
        # Sequence b lives at the steps whose batch size exceeds b.
        shorter = np.searchsorted(sizes[::-1], np.arange(batch), side="right")
        return cls(layout, steps, batch, steps - shorter, ends - sizes)

    def find(self, tensor: Tensor) -> Strided:
        """x, y or a gradient of theirs, the last axis with a unit stride, as the core takes it."""
        strides: tuple[int, ...] = tensor.stride()
        if self.layout == "tbi":
            t, b = strides[:2]
        elif self.layout == "bti":
            b, t = strides[:2]
        elif self.layout == "ti":
            t, b = strides[0], 0
        else:  # "packed" or "cell"
            t, b = strides[0] * self.batch, strides[0]
        return Strided(address(tensor), self.steps, self.batch, t, b, tensor.shape[0])


def output_shape(layout: str, x_shape: Any, spec: Spec) -> tuple[int, ...]:
    """Of y."""
    return (*x_shape[:-1], spec.directions * spec.hidden_size)


def state_shape(layout: str, batch: int, spec: Spec) -> tuple[int, ...]:
    """Of h_0, c_0, h_n, c_n; `batch` counts the sequences."""
    layers = spec.num_layers * spec.directions
    if layout == "cell":
        return batch, spec.hidden_size
    return (layers, spec.hidden_size) if layout == "ti" else (layers, batch, spec.hidden_size)


def extent(layout: str, x_shape: Any, batch_sizes: Tensor | None, batch: int) -> tuple[int, int]:
    """(T, B). `batch` is used for "packed" only, where no shape shows it."""
    if layout == "tbi":
        return x_shape[0], x_shape[1]
    if layout == "bti":
        return x_shape[1], x_shape[0]
    if layout == "packed" and batch_sizes is not None:
        return batch_sizes.shape[0], batch
    return (x_shape[0], 1) if layout == "ti" else (1, x_shape[0])


def tape_bytes(spec: Spec, steps: Any, batch: Any) -> Any:
    """Size of the tape of a call, an expression that symbolic sizes of a compiler go through.

    It is bilinear in T and B, which the core's own size is but for its rounding.
    """
    one, per_step, per_sequence, per_both = _tape_terms(spec, runtime.active_isa())
    return one + per_step * steps + per_sequence * batch + per_both * steps * batch


@functools.lru_cache(maxsize=256)
def _tape_terms(spec: Spec, isa: str) -> tuple[int, int, int, int]:
    def size(steps: int, batch: int) -> int:
        return _core.tape_bytes(
            spec.input_size,
            spec.hidden_size,
            spec.num_layers,
            spec.directions,
            spec.double,
            isa,
            steps,
            batch,
        )

    # At multiples of the alignment nothing is rounded, so four points give the exact terms. The
    # core rounds three parts of each layer and direction and one more of each layer.
    n = ALIGN
    corner, down, right, far = size(n, n), size(2 * n, n), size(n, 2 * n), size(2 * n, 2 * n)
    both = (far - down - right + corner) // n**2
    step, sequence = (down - corner) // n - both * n, (right - corner) // n - both * n
    rounding = ALIGN * spec.num_layers * (3 * spec.directions + 1)
    return corner - n * (step + sequence + n * both) + rounding, step, sequence, both


def forward(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    with_tape: bool,
    spec: Spec | None = None,
    engine: Engine | None = None,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """(y, h_n, c_n, tape). The tape is None unless asked for, and so is h_n of a cell (it is y).

    seed: a scalar int64 tensor, or None for no dropout. spec, engine: of these weights, if there
    are any. Callers have checked shapes and dtypes.
    """
    if spec is None or engine is None:
        spec, engine, _ = engine_for(weights, bidirectional, FORWARD)
    x, h_0, c_0 = _last_unit(x), _whole(h_0), _whole(c_0)
    y = _pooled(output_shape(layout, x.shape, spec), spec)
    rows = Rows.of(layout, x.shape, batch_sizes)
    shape = state_shape(layout, rows.batch, spec)
    c_n = _new(shape, spec)
    h_n = None if layout == "cell" else _new(shape, spec)
    tape = None
    if with_tape or seed is not None:  # the core draws dropout masks only in a pass with a tape
        tape = _aligned(tape_bytes(spec, rows.steps, rows.batch))
    engine.forward(
        rows.find(x),
        rows.find(y),
        _address(h_0),
        _address(c_0),
        _address(h_n),
        _address(c_n),
        None,
        rows.lengths,
        runtime.call_threads(None),
        False,
        None if tape is None else tape.numpy(),
        0.0 if seed is None else dropout,
        0 if seed is None else int(seed),
        rows.starts,
    )
    return y, h_n, c_n, tape if with_tape else None


def backward(
    tape: Tensor,
    x: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    needs: list[bool],
    spec: Spec | None = None,
    engine: Engine | None = None,
) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights in this order, as far as `needs` asks for them.

    Of dy, dh_n and dc_n, those that are None are zero. spec, engine: as in `forward`.
    """
    if spec is None or engine is None:
        spec, engine = backward_engine(weights, bidirectional)
    x, dh_n, dc_n = _last_unit(x), _whole(dh_n), _whole(dc_n)
    dy = None if dy is None else _last_unit(dy)
    dx = _pooled(x.shape, spec) if needs[0] else None
    rows = Rows.of(layout, x.shape, batch_sizes)
    shape = state_shape(layout, rows.batch, spec)
    dh_0 = _new(shape, spec) if needs[1] else None
    dc_0 = _new(shape, spec) if needs[2] else None
    flat: list[Tensor] = []
    if any(needs[3:]):
        flat = [_pooled(shape, spec) for shape in shapes(spec)]
    if tape.data_ptr() % ALIGN:  # hooks on saved tensors may have moved it
        tape = _aligned(tape.numel()).copy_(tape)
    engine.backward(
        tape.numpy(),
        rows.find(x),
        rows.lengths,
        None if dy is None else rows.find(dy),
        None,
        _address(dh_n),
        _address(dc_n),
        None if dx is None else rows.find(dx),
        _address(dh_0),
        _address(dc_0),
        grouped([address(grad) for grad in flat], spec) if flat else None,
        False,
        runtime.call_threads(None),
        0.0 if seed is None else dropout,
        0 if seed is None else int(seed),
        rows.starts,
    )
    results = [dx, dh_0, dc_0, *(flat or weights)]
    return [result for result, need in zip(results, needs, strict=True) if need]


def _last_unit(x: Tensor) -> Tensor:
    """x, of which the core wants the last axis contiguous."""
    x = in_memory(x)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _whole(state: Tensor | None) -> Tensor | None:
    """A state, which the core wants contiguous."""
    return None if state is None else whole(state)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else address(tensor)


def _pooled(shape: Any, spec: Spec) -> Tensor:
    """A new tensor. A large one has the memory that `empty` gives, which cannot be resized."""
    dtype = _DOUBLE if spec.double else _SINGLE
    if math.prod(shape) * dtype.itemsize < POOLED:
        return _new(shape, spec)
    return torch.from_numpy(empty(shape, dtype))


def _new(shape: Any, spec: Spec) -> Tensor:
    """A new tensor."""
    return torch.empty(shape, dtype=spec.dtype, device="cpu")


def _aligned(size: int) -> Tensor:
    """A new tape."""
    if size < POOLED:
        tape = torch.empty(size, dtype=torch.uint8, device="cpu")
        if tape.data_ptr() % ALIGN == 0:
            return tape
    return torch.from_numpy(np.frombuffer(memoryview(_core.Block(size)), np.uint8, size))
