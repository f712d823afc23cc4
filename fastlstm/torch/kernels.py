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
from ..arrays import POOLED, empty
from ..spec import FORWARD, Spec
from .engines import (
    backward_engine,
    check_memory,
    dtype_of,
    engine_for,
    grouped,
    located,
    resolved,
)

Tensor = Any  # torch is an optional dependency, which mypy sees as Any
Array = np.ndarray[Any, Any]

RANKS = {"tbi": 3, "bti": 3, "ti": 2, "packed": 2, "cell": 2}  # of x in each layout
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
    def of(cls, layout: str, shape: Any, batch_sizes: Tensor | None, batch: int) -> Rows:
        """shape: of x; batch: the caller's, for "packed". ValueError where the sizes cannot belong
        to them.
        """
        if batch_sizes is None:
            return cls(layout, *extent(layout, shape, None, 0))
        if batch_sizes.dtype is not torch.int64 or batch_sizes.dim() != 1:
            raise ValueError("batch_sizes must be an int64 tensor of one axis")
        check_memory(batch_sizes)
        sizes: Array = batch_sizes.numpy().copy()  # other threads may write to the caller's
        if len(sizes) and sizes[0] != batch:
            raise ValueError(f"batch must be batch_sizes[0], got {batch} and {sizes[0]}")
        ends, falling = np.cumsum(sizes), bool((sizes[1:] <= sizes[:-1]).all())
        if not (len(ends) and falling and sizes[-1] > 0 and ends[-1] == shape[0]):
            raise ValueError("batch_sizes must fall, end above 0 and sum up to the rows of x")
        steps = len(ends)
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
        return Strided(tensor.data_ptr(), self.steps, self.batch, t, b, tensor.shape[0])


def output_shape(layout: str, x_shape: Any, spec: Spec) -> tuple[int, ...]:
    """Of y."""
    return (*x_shape[:-1], spec.directions * spec.outputs)


def state_shapes(layout: str, batch: int, spec: Spec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of h_0 and h_n, and of c_0 and c_n; `batch` counts the sequences."""
    layers = spec.num_layers * spec.directions
    lead = (batch,) if layout == "cell" else (layers,) if layout == "ti" else (layers, batch)
    return (*lead, spec.outputs), (*lead, spec.hidden_size)


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
        return _core.tape_bytes(spec, isa, steps, batch)

    # At multiples of the alignment nothing is rounded, so four points give the exact terms. The
    # core rounds three parts of each layer and direction, four with a projection and at most eight
    # with options, and one more of each layer.
    n = ALIGN
    corner, down, right, far = size(n, n), size(2 * n, n), size(n, 2 * n), size(2 * n, 2 * n)
    both = (far - down - right + corner) // n**2
    step, sequence = (down - corner) // n - both * n, (right - corner) // n - both * n
    parts = 8 if spec.options is not None else 4 if spec.proj_size else 3
    rounding = ALIGN * spec.num_layers * (parts * spec.directions + 1)
    return corner - n * (step + sequence + n * both) + rounding, step, sequence, both


def forward(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    cell: str,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    with_tape: bool,
    spec: Spec | None = None,
    engine: Engine | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """(y, h_n, c_n, tape). The tape is None unless asked for, and so is h_n in the layout "cell"
    (it is y), and c_n where the cell has no c.

    seed: a scalar int64 tensor, or None for no dropout and no noise of options. spec, engine: of
    these weights, if there are any. Callers have checked what is no tensor.

    Raises ValueError for a tensor of the wrong shape, dtype or device, RuntimeError for one whose
    storage is too short.
    """
    if spec is None or engine is None:
        spec, engine, _ = engine_for(weights, cell, bidirectional, FORWARD)
    extents, dtype = x.shape, dtype_of(spec)
    _check_x(x, extents, layout, spec, dtype)
    x = _last_unit(x)
    y = _pooled(x, output_shape(layout, extents, spec))
    rows = Rows.of(layout, extents, batch_sizes, batch)
    h_shape, c_shape = state_shapes(layout, rows.batch, spec)
    h_0, h_at = _state("h_0", h_0, h_shape, dtype)
    c_0, c_at = _state("c_0", c_0, c_shape, dtype)
    h_n = c_n = None
    if spec.has_c:
        c_n = x.new_empty(c_shape) if c_0 is None else torch.empty_like(c_0)
    if layout != "cell":
        like = h_0 if c_n is None or spec.proj_size else c_n
        h_n = x.new_empty(h_shape) if like is None else torch.empty_like(like)  # the faster one
    tape = None
    if with_tape or seed is not None:  # the core draws dropout masks only in a pass with a tape
        tape = _aligned(tape_bytes(spec, rows.steps, rows.batch))
    engine.forward(
        rows.find(x),
        rows.find(y),
        h_at,
        c_at,
        None if h_n is None else h_n.data_ptr(),
        None if c_n is None else c_n.data_ptr(),
        None,
        rows.lengths,
        runtime.call_threads(None),
        False,
        None if tape is None else tape.numpy(),
        0.0 if seed is None else dropout,
        0 if seed is None else int(seed),
        rows.starts,
        0 if tape is None else tape.numel(),
        _is_noisy(spec, seed),
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
    cell: str,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    needs: list[bool],
    spec: Spec | None = None,
    engine: Engine | None = None,
) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights in this order, as far as `needs` asks for them.

    Of dy, dh_n and dc_n, those that are None are zero. spec, engine: as in `forward`. Callers and
    errors: as there, and the tape is checked, since hooks on saved tensors may change all of them.
    """
    if spec is None or engine is None:
        spec, engine = backward_engine(weights, cell, bidirectional)
    extents, dtype = x.shape, dtype_of(spec)
    _check_x(x, extents, layout, spec, dtype)
    x = _last_unit(x)
    if dy is not None:
        _check("dy", dy, output_shape(layout, extents, spec), dtype)
        dy = _last_unit(dy)
    rows = Rows.of(layout, extents, batch_sizes, batch)
    h_shape, c_shape = state_shapes(layout, rows.batch, spec)
    dh_n, dh_at = _state("dh_n", dh_n, h_shape, dtype)
    dc_n, dc_at = _state("dc_n", dc_n, c_shape, dtype)
    tape = _sound_tape(tape)
    dx = _pooled(x, extents) if needs[0] else None
    dh_0 = x.new_empty(h_shape) if needs[1] else None
    dc_0 = x.new_empty(c_shape) if needs[2] else None
    flat: list[Tensor] = []
    if any(needs[3:]):
        flat = [_pooled(x, shape) for shape in spec.shapes.values()]
    engine.backward(
        tape.numpy(),
        rows.find(x),
        rows.lengths,
        None if dy is None else rows.find(dy),
        None,
        dh_at,
        dc_at,
        None if dx is None else rows.find(dx),
        None if dh_0 is None else dh_0.data_ptr(),
        None if dc_0 is None else dc_0.data_ptr(),
        grouped([grad.data_ptr() for grad in flat], spec) if flat else None,
        False,
        runtime.call_threads(None),
        0.0 if seed is None else dropout,
        0 if seed is None else int(seed),
        rows.starts,
        _is_noisy(spec, seed),
    )
    results = [dx, dh_0, dc_0, *(flat or weights)]
    return [result for result, need in zip(results, needs, strict=True) if need]


def _is_noisy(spec: Spec, seed: Tensor | None) -> bool:
    """Whether the noise of options acts in a pass with this seed."""
    return seed is not None and spec.options is not None and bool(spec.options.has_noise())


def _sound_tape(tape: Tensor) -> Tensor:
    """The tape, or a copy that is aligned: hooks on saved tensors may have moved or changed it. The
    core looks whether it is long enough.
    """
    if tape.dtype is not torch.uint8 or tape.dim() != 1 or not tape.is_cpu:
        raise ValueError(f"tape must be a torch.uint8 tensor of one axis, got {tape.dtype}")
    tape, at = located(tape)
    return _aligned(tape.numel()).copy_(tape) if at % ALIGN else tape


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: Any) -> None:
    """Once more, against the very weights of the engine: attributes of modules, hooks and other
    threads may have changed what a caller looked at.
    """
    if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu:
        raise ValueError(
            f"{name} must be a {dtype} tensor of shape {tuple(shape)} on the CPU, got "
            f"{tensor.dtype}, {tuple(tensor.shape)}, {tensor.device}"
        )


def _check_x(x: Tensor, extents: Any, layout: str, spec: Spec, dtype: Any) -> None:
    if len(extents) != RANKS[layout]:
        raise ValueError(f"x must have {RANKS[layout]} axes, got {tuple(extents)}")
    if extents[-1] != spec.input_size or x.dtype is not dtype or not x.is_cpu:
        _check("x", x, (*extents[:-1], spec.input_size), dtype)


def _last_unit(x: Tensor) -> Tensor:
    """x, of which the core wants the last axis contiguous."""
    if x.is_contiguous():
        return located(x)[0]
    x = resolved(x)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _state(
    name: str, state: Tensor | None, shape: tuple[int, ...], dtype: Any
) -> tuple[Tensor | None, int | None]:
    """A state, which the core wants contiguous, and its address."""
    if state is None:
        return None, None
    _check(name, state, shape, dtype)
    return located(state)


def _pooled(like: Tensor, shape: Any) -> Tensor:
    """A new tensor. A large one has the memory that `empty` gives, which cannot be resized."""
    dtype = _DOUBLE if like.dtype is torch.float64 else _SINGLE
    if math.prod(shape) * dtype.itemsize < POOLED:
        return like.new_empty(shape)
    return torch.from_numpy(empty(shape, dtype))


def _aligned(size: int) -> Tensor:
    """A new tape."""
    if size < POOLED:
        tape = torch.empty(size, dtype=torch.uint8, device="cpu")
        if tape.data_ptr() % ALIGN == 0:
            return tape
    return torch.from_numpy(np.frombuffer(memoryview(_core.Block(size)), np.uint8, size))
