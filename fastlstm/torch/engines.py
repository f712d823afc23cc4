# SPDX-License-Identifier: BSD-3-Clause
"""Packed weights for the tensors of a call, kept while the same weights come again.

Tensors can be written behind PyTorch's back (``p.data``, shared memory, NumPy views), where no
version counter moves. So a kept engine is used only if every byte still gives the hash that the
weights had when they were packed. Where a version did move, as in a training loop, the weights are
packed anew unread, and no engine is kept until the same weights have come twice. Weights that
`accelerate(model, freeze=True)` froze are not read again as long as no version moves.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _core, runtime
from ..spec import BACKWARD, CELLS, FLOAT32, FORWARD, Spec
from ..weights import by_layer
from . import variants

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

BOTH = FORWARD | BACKWARD
_DOUBLE = np.dtype(np.float64)
SMALL = 1 << 16  # bytes of weights that are worth packing for both passes at once


def spec_of(weights: list[Tensor], cell: str, bidirectional: bool) -> Spec:
    """What the shapes say of w_ih, w_hh[, b_ih, b_hh][, w_hr] of each layer and direction.

    `cell`: a name of `CELLS`, or options as `variants.text_of` writes them. Raises ValueError where
    the number of tensors is impossible, or the cell unknown.
    """
    if cell.startswith("{"):
        return _general_spec(weights, cell, bidirectional)
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    directions = 2 if bidirectional else 1
    count = len(weights)
    bias = count > 2 and weights[2].dim() == 1
    tensors = 4 if bias else 2
    proj_size = 0
    if cell == "lstm" and count > tensors and weights[0].dim() == weights[1].dim() == 2:
        hidden, outputs = int(weights[0].shape[0]) // CELLS[cell].gates, int(weights[1].shape[1])
        proj_size = outputs if outputs != hidden else 0
    tensors += proj_size > 0
    layers = count // (tensors * directions)
    if layers == 0 or layers * tensors * directions != count or weights[0].dim() != 2:
        raise ValueError(f"weights must hold all parameters of a model, got {count} tensors")
    rows, inputs = weights[0].shape
    dtype = _DOUBLE if weights[0].dtype is torch.float64 else FLOAT32
    hidden = int(rows) // CELLS[cell].gates
    return Spec(cell, int(inputs), hidden, layers, directions, bias, dtype, proj_size=proj_size)


def _general_spec(weights: list[Tensor], text: str, bidirectional: bool) -> Spec:
    """The one specification with these options whose parameters have these shapes."""
    equations = variants.equations_of(text)
    cell, directions = "lstm" if equations is None else "lstm_general", 2 if bidirectional else 1
    shapes = [tuple(map(int, weight.shape)) for weight in weights]
    if len(shapes) > 1 and len(shapes[0]) == len(shapes[1]) == 2:
        (rows, inputs), outputs = shapes[0], shapes[1][1]
        hidden = rows // CELLS[cell].gates
        dtype = _DOUBLE if weights[0].dtype is torch.float64 else FLOAT32
        proj_size = outputs if outputs != hidden else 0
        for bias in (True, False):
            spec = Spec(
                cell, inputs, hidden, 1, directions, bias, dtype, "native", proj_size, equations
            )
            layers = len(shapes) // len(spec.shapes)
            spec = dataclasses.replace(spec, num_layers=layers)
            if min(hidden, inputs, layers) > 0 and shapes == list(spec.shapes.values()):
                return spec
    raise ValueError(
        f"weights must hold all parameters of an LSTM with options {text}, got {len(shapes)} "
        f"tensors of shapes {shapes[:8]}"
    )


def dtype_of(spec: Spec) -> Any:
    """torch's dtype of all tensors."""
    return torch.float64 if spec.double else torch.float32


def grouped(addresses: list[int], spec: Spec) -> list[tuple[int | None, ...]]:
    """Those of each layer and direction as the core takes them; None for a bias not there."""
    return [tuple([None if at is None else addresses[at] for at in one]) for one in _places(spec)]


@functools.lru_cache(maxsize=256)
def _places(spec: Spec) -> list[tuple[int | None, ...]]:
    """As `grouped`, which parameter of the model each one is."""
    return by_layer(spec, {name: at for at, name in enumerate(spec.shapes)})


def located(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor, or a copy if its memory is not its values one after another, and the address.

    The memory stays as resizable as it was: `Tensor.numpy` would end that. Raises RuntimeError
    where there is none, and as `check_memory` does.
    """
    at: int = tensor.data_ptr()
    if at == 0 or tensor.is_neg() or not tensor.is_contiguous():
        tensor = resolved(tensor).contiguous()
        at = tensor.data_ptr()
        if at == 0:
            raise RuntimeError(f"a tensor of shape {tuple(tensor.shape)} has no memory")
        return tensor, at
    storage = tensor.untyped_storage()
    if at + tensor.nbytes > storage.data_ptr() + storage.nbytes():
        check_memory(tensor)
    return tensor, at


def resolved(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if its values are not what its memory holds."""
    if tensor._is_zerotensor():
        return tensor.clone()
    check_memory(tensor)
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def check_memory(tensor: Tensor) -> None:
    """RuntimeError where the storage is shorter than the tensor: one that was resized behind it, as
    sharded training gives up parameters between steps.
    """
    last = tensor.storage_offset()  # element
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        last += (size - 1) * stride
    least, held = (last + 1) * tensor.itemsize, tensor.untyped_storage().nbytes()
    if least > held:
        shape = tuple(tensor.shape)
        if held == 0:
            raise RuntimeError(f"a tensor of shape {shape} has no memory")
        raise RuntimeError(
            f"a tensor of shape {shape} needs {least} bytes of memory, its storage has {held}"
        )


class _Kept(NamedTuple):
    """An engine and what it was packed from. Immutable, for other threads look too."""

    engine: _core.Engine
    passes: int
    seen: tuple[list[int], list[int]]
    content: int
    """Hash of the weights."""


class _Entry:
    """What is known of the weights whose first tensor lies at `key`, in the storage `owner`.

    It goes when the storage goes. A weak reference to the tensor itself would keep PyTorch from
    swapping it (`torch.utils.swap_tensors`, by which modules may be converted).
    """

    def __init__(self, key: int, weights: list[Tensor], spec: Spec, cell: str) -> None:
        self.spec, self.dtype = spec, dtype_of(spec)
        self.cell, self.bidirectional = cell, spec.directions == 2
        self.shapes = list(spec.shapes.values())
        self.sizes = [math.prod(shape) * spec.dtype.itemsize for shape in self.shapes]
        self.nbytes, self.isa = sum(self.sizes), runtime.active_isa()
        self.owner = weakref.ref(weights[0].untyped_storage(), lambda _: _entries.pop(key, None))
        self.seen: Any = None  # addresses and versions of the last call
        self.kept: _Kept | None = None

    def fits(self, weights: list[Tensor], cell: str, bidirectional: bool) -> bool:
        if self.owner() is not weights[0].untyped_storage():
            return False
        if self.bidirectional is not bidirectional or self.cell != cell:
            return False
        dtype, expected = self.dtype, self.shapes
        if len(weights) != len(expected) or self.isa != runtime.active_isa():
            return False
        for weight, shape in zip(weights, expected, strict=True):
            if weight.shape != shape or weight.dtype is not dtype or not weight.is_cpu:
                return False
        return True


_entries: dict[int, _Entry] = {}


def engine_for(
    weights: list[Tensor],
    cell: str,
    bidirectional: bool,
    passes: int,
    lean: bool = False,
    frozen: bool = False,
) -> tuple[Spec, Any, int]:
    """An engine for `passes` with exactly these values, packed now or kept from an earlier call.

    lean: large weights that come for the first time are packed for the forward pass only, in half
    the memory. The last result is what the engine is packed for, at least.
    frozen: whoever froze the weights vouches that PyTorch sees every write to them, so addresses
    and versions tell whether they are the same, and the engine is kept from the first call on.

    Raises ValueError for a weight of the wrong shape, dtype or device.
    """
    entry = _entry_of(weights, cell, bidirectional)
    spec, isa = entry.spec, entry.isa
    found = [located(weight) for weight in weights]
    addresses = [at for _, at in found]
    try:
        versions = [weight._version for weight in weights]
    except RuntimeError:  # of an inference tensor, which has none
        versions = [0 if weight.is_inference() else weight._version for weight in weights]
    seen, kept, before = (addresses, versions), entry.kept, entry.seen
    fresh = FORWARD if lean and entry.nbytes > SMALL else passes
    if kept is not None and kept.seen == seen:
        content = kept.content if frozen else _core.hash_memory(addresses, entry.sizes, isa)
        if content == kept.content:
            if kept.passes & passes == passes:
                return spec, kept.engine, passes
        else:  # written where PyTorch does not see it, so perhaps before each call
            entry.kept = entry.seen = None
            return spec, _pack(entry, addresses, fresh), fresh
    elif seen != before and not frozen:
        entry.kept, entry.seen = None, seen
        return spec, _pack(entry, addresses, fresh), fresh
    else:
        content = _core.hash_memory(addresses, entry.sizes, isa)
    engine = _pack(entry, addresses, passes)
    entry.seen = seen
    # Another thread may have written them meanwhile.
    if _core.hash_memory(addresses, entry.sizes, isa) == content:
        entry.kept = _Kept(engine, passes, seen, content)
    return spec, engine, passes


def forget(weights: Any) -> None:
    """Keep nothing of these weights any longer, so that packed ones give their memory back."""
    for weight in weights:
        if weight.is_cpu and weight.layout is torch.strided:
            _entries.pop(weight.data_ptr(), None)


def backward_engine(weights: list[Tensor], cell: str, bidirectional: bool) -> tuple[Spec, Any]:
    """An engine for one backward pass, of which nothing is kept."""
    entry = _entry_of(weights, cell, bidirectional)
    found = [located(weight) for weight in weights]
    return entry.spec, _pack(entry, [at for _, at in found], BACKWARD)


def _entry_of(weights: list[Tensor], cell: str, bidirectional: bool) -> _Entry:
    """What is known of the weights: from an earlier call, or their shapes, checked now."""
    key = weights[0].data_ptr()
    entry = _entries.get(key)
    if entry is None or not entry.fits(weights, cell, bidirectional):
        spec = spec_of(weights, cell, bidirectional)
        _check(weights, spec)
        entry = _entries[key] = _Entry(key, weights, spec, cell)
    return entry


def _check(weights: list[Tensor], spec: Spec) -> None:
    dtype = dtype_of(spec)
    for index, (weight, shape) in enumerate(zip(weights, spec.shapes.values(), strict=True)):
        if weight.shape != shape or weight.dtype is not dtype or not weight.is_cpu:
            raise ValueError(
                f"weights[{index}] must be a {dtype} tensor of shape {shape} on the CPU, got "
                f"{weight.dtype}, {tuple(weight.shape)}, {weight.device}"
            )


_backoff = _core.StragglerBackoff()  # of all engines here: few of them live longer than a call


def _pack(entry: _Entry, addresses: list[int], passes: int) -> Any:
    """Callers keep the memory alive."""
    spec = entry.spec
    return _core.Engine(
        spec,
        entry.isa,
        grouped(addresses, spec),
        0,
        passes,
        runtime.call_threads(None),
        _backoff,
    )
