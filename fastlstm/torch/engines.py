# SPDX-License-Identifier: BSD-3-Clause
"""Packed weights for the tensors of a call, kept while the same weights come again.

Tensors can be written behind PyTorch's back (``p.data``, shared memory, NumPy views), where no
version counter moves. So a kept engine is used only after a comparison of every byte with the copy
that it was packed from. An unfinished comparison ends at the first difference: in a training loop,
where the weights change from step to step, it costs nothing, and no copy is made either, for an
engine is kept only once the same weights have come twice.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import Any, NamedTuple

import torch

from .. import _core, runtime

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

FORWARD, BACKWARD, BOTH = 1, 2, 3  # `passes` of an engine

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcmp.restype = ctypes.c_int


class Spec(NamedTuple):
    """What the shapes of the weights say."""

    input_size: int
    hidden_size: int
    num_layers: int
    directions: int
    tensors: int
    """Parameters of one layer and direction: 4, or 2 without biases."""
    double: bool

    @classmethod
    def of(cls, weights: list[Tensor], bidirectional: bool) -> Spec:
        """From w_ih, w_hh[, b_ih, b_hh] of each layer and direction, in torch's order.

        Raises ValueError where the number of tensors is impossible.
        """
        directions = 2 if bidirectional else 1
        count = len(weights)
        tensors = 4 if count > 2 and weights[2].dim() == 1 else 2
        layers = count // (tensors * directions)
        if layers == 0 or layers * tensors * directions != count or weights[0].dim() != 2:
            raise ValueError(f"weights must hold all parameters of an LSTM, got {count} tensors")
        rows, input_size = weights[0].shape
        double = weights[0].dtype is torch.float64
        return cls(int(input_size), int(rows) // 4, layers, directions, tensors, double)

    @property
    def dtype(self) -> Any:
        """torch's dtype of all tensors."""
        return torch.float64 if self.double else torch.float32


@functools.lru_cache(maxsize=256)
def shapes(spec: Spec) -> list[tuple[int, ...]]:
    """The shape that every one of the weights must have."""
    rows, found = 4 * spec.hidden_size, []
    for layer in range(spec.num_layers):
        below = spec.directions * spec.hidden_size if layer else spec.input_size
        one: list[tuple[int, ...]] = [(rows, below), (rows, spec.hidden_size), (rows,), (rows,)]
        found += one[: spec.tensors] * spec.directions
    return found


class _Kept:
    """An engine and the values that it was packed from. Immutable, for other threads look too."""

    __slots__ = ("copies", "engine", "passes")

    def __init__(self, weights: list[Tensor], spec: Spec, isa: str, passes: int) -> None:
        copies = [w.detach().clone() for w in weights]
        self.copies = [(copy, copy.data_ptr(), copy.nbytes, copy.shape) for copy in copies]
        self.passes = passes
        self.engine = _pack(copies, spec, isa, passes)  # not from `weights`: they may change

    def holds(self, weights: list[Tensor], dtype: Any) -> bool:
        for weight, (_, address, size, shape) in zip(weights, self.copies, strict=True):
            if weight.dtype is not dtype or weight.shape != shape or not weight.is_cpu:
                return False
            if _memcmp(weight.data_ptr(), address, size):
                return False
        return True


class _Entry:
    """What is known of the weights whose first tensor is `owner`."""

    __slots__ = ("kept", "owner", "spec", "stamp")

    def __init__(self, owner: Any, spec: Any, stamp: Any) -> None:
        self.owner, self.spec, self.stamp = owner, spec, stamp
        self.kept: _Kept | None = None


_entries: dict[int, _Entry] = {}


def engine_for(weights: list[Tensor], spec: Spec, passes: int) -> _core.Engine:
    """An engine for `passes` with exactly these values, packed now or kept from an earlier call.

    Raises ValueError for a weight of the wrong shape, dtype or device.
    """
    owner = weights[0]
    weights = [w if w.is_contiguous() else w.contiguous() for w in weights]
    isa = runtime.active_isa()
    key = id(owner)
    entry = _entries.get(key)
    if entry is not None and (entry.owner() is not owner or entry.spec != (spec, isa)):
        entry = None
    kept = None if entry is None else entry.kept
    if kept is not None and kept.passes & passes == passes and kept.holds(weights, spec.dtype):
        return kept.engine
    _check(weights, spec)
    stamp = [(w.data_ptr(), _version(w)) for w in weights]
    if entry is not None and entry.stamp == stamp:
        entry.kept = kept = _Kept(weights, spec, isa, passes)
        return kept.engine
    forget = weakref.ref(owner, lambda _: _entries.pop(key, None))
    _entries[key] = _Entry(forget, (spec, isa), stamp)
    return _pack(weights, spec, isa, passes)


def _version(weight: Tensor) -> int:
    return 0 if weight.is_inference() else weight._version


def _check(weights: list[Tensor], spec: Spec) -> None:
    dtype = spec.dtype
    for index, (weight, shape) in enumerate(zip(weights, shapes(spec), strict=True)):
        if weight.shape != shape or weight.dtype is not dtype or not weight.is_cpu:
            raise ValueError(
                f"weights[{index}] must be a {dtype} tensor of shape {shape} on the CPU, got "
                f"{weight.dtype}, {tuple(weight.shape)}, {weight.device}"
            )


def _pack(weights: list[Tensor], spec: Spec, isa: str, passes: int) -> _core.Engine:
    arrays = [w.detach().numpy() for w in weights]
    groups = [
        (*arrays[at : at + spec.tensors], None, None)[:4]
        for at in range(0, len(arrays), spec.tensors)
    ]
    return _core.Engine(
        spec.input_size,
        spec.hidden_size,
        spec.num_layers,
        spec.directions,
        spec.double,
        isa,
        groups,
        0,
        passes,
    )
