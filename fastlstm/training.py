# SPDX-License-Identifier: BSD-3-Clause
"""What a training pass keeps, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _core, _optim, checks, runtime
from .arrays import empty
from .checks import Array
from .spec import Spec


@dataclass(frozen=True)
class Gradients:
    """Gradients of a scalar loss; each has the shape of what it belongs to.

    Attributes
    ----------
    x : ndarray or None
        Shaped as x; None if it was not asked for.
    h_0 : ndarray
        Shaped as h_0.
    c_0 : ndarray or None
        Shaped as c_0; None where the cell has no c.
    params : dict of str to ndarray
        The gradient of every parameter, by its name.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, bias=False, seed=0)
    >>> y, state, tape = lstm.forward(np.ones((5, 2, 3), np.float32))
    >>> grads = lstm.backward(tape, np.ones_like(y))
    >>> grads.x.shape, grads.c_0.shape, list(grads.params)
    ((5, 2, 3), (1, 2, 4), ['weight_ih_l0', 'weight_hh_l0'])
    """

    x: Array | None
    h_0: Array
    c_0: Any
    params: dict[str, Array]

    def __repr__(self) -> str:
        x = None if self.x is None else self.x.shape
        c_0 = None if self.c_0 is None else self.c_0.shape
        params = {name: array.shape for name, array in self.params.items()}
        return f"<Gradients of shapes x={x}, h_0={self.h_0.shape}, c_0={c_0}, {params=}>"


class Record(NamedTuple):
    """One complete forward pass on a tape. Immutable, since several passes backward may read it."""

    model: tuple[object, ...]
    """What a model must have in common with the one that ran."""
    engine: _core.Engine
    x: Array
    lengths: Any
    y_shape: tuple[int, ...]
    h_shape: tuple[int, ...]
    c_shape: tuple[int, ...]
    dropout: float
    seed: int
    noisy: bool
    """whether the noise of options acted"""
    weight_drop: float


class Tape:
    """What `forward` of a model keeps for its `backward`.

    That is gates and states of every step, a copy of x, and the parameters as they were.

    It owns its memory, may be used for any number of backward passes, and may be given to a later
    `forward`, which then writes into the same memory: a training loop need not allocate. Several
    threads may run backward from it at once; RuntimeError where one of them writes to it meanwhile.

    Attributes
    ----------
    nbytes : int
        Bytes that the tape holds.
    seed : int
        Of the masks of the pass, of dropout and noise.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> gru, x = fastlstm.GRU(3, 4, seed=0), np.ones((5, 2, 3), np.float32)
    >>> tape = fastlstm.Tape()
    >>> for _ in range(3):
    ...     y, h_n, tape = gru.forward(x, tape=tape)
    ...     grads = gru.backward(tape, np.ones_like(y))
    >>> tape.nbytes > x.nbytes
    True
    """

    def __init__(self) -> None:
        self._guard = _core.Guard("the tape")  # any number of passes read it, or one writes to it
        self._record: Record | None = None  # None: nothing, or not all, is recorded
        self._memory: _core.Block | None = None
        self._x: Array | None = None  # memory for the next copy of an input

    @property
    def nbytes(self) -> int:
        """Bytes that the tape holds, the copy of x included."""
        memory = 0 if self._memory is None else self._memory.nbytes
        return memory + (0 if self._x is None else self._x.nbytes)

    @property
    def seed(self) -> int:
        """Of the masks of this pass."""
        return 0 if self._record is None else self._record.seed

    def __repr__(self) -> str:
        return f"<Tape of {self.nbytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError("a Tape cannot be pickled or copied: run forward again")

    def _room(self, x: Array, size: int) -> tuple[_core.Block, Array]:
        """Memory of `size` bytes at least, and a copy of x."""
        if self._memory is None or self._memory.nbytes < size:
            self._memory = None  # let it go before there is another
            self._memory = _core.Block(size)
        if self._x is None or self._x.shape != x.shape or self._x.dtype != x.dtype:
            self._x = None
            checks.fits(x.nbytes)
            self._x = empty(x.shape, x.dtype)
        np.copyto(self._x, x)
        return self._memory, self._x


def given_mapping(
    into: Mapping[str, Array] | Gradients, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """The arrays of `into` by name, each asked for once: the mapping may run code of the caller."""
    arrays = getattr(into, "params", into)
    if not isinstance(arrays, Mapping):
        raise TypeError(f"into must map names to arrays, got {type(into).__name__}")
    names = [str(name) for name in arrays]
    missing = [name for name in shapes if name not in names]
    unexpected = [name for name in names if name not in shapes]
    if missing or unexpected:
        raise ValueError(f"into does not fit: missing {missing}, unexpected {unexpected}")
    return {name: arrays[name] for name in shapes}


def grads_to_fill(
    given: dict[str, Array] | None,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> dict[str, Array]:
    """Plain arrays of what was given, checked, or new ones."""
    if given is None:
        return {name: empty(shape, dtype) for name, shape in shapes.items()}
    arrays = {}
    for name, shape in shapes.items():
        array = checks.writable(f"into[{name!r}]", given[name], dtype, shape)
        if not array.flags.c_contiguous:
            raise ValueError(f"into[{name!r}] must be C-contiguous, got strides {array.strides}")
        arrays[name] = array
    begins = {_optim.address(array): array.nbytes for array in arrays.values()}
    order = sorted(begins)
    ends = [begin + begins[begin] for begin in order]
    if len(order) < len(shapes) or any(a > b for a, b in zip(ends, order[1:], strict=False)):
        raise ValueError("into must hold arrays of their own memory, got some that overlap")
    return arrays


def backward(
    memory: _core.Block | None,
    record: Record,
    grads: list[tuple[Array | None, ...]],
    dy: Array | None,
    dstate: tuple[Array | None, Array | None],
    dcells: Array | None,
    *,
    has_c: bool,
    accumulate: bool,
    input_grad: bool,
    threads: int,
) -> tuple[Array | None, Array, Array | None]:
    """Run the core on checked arrays, all time-major; gives dx (T, B, I), dh_0 and dc_0."""
    x = record.x
    dx = empty(x.shape, x.dtype) if input_grad else None
    dh_0 = np.empty(record.h_shape, x.dtype)
    dc_0 = np.empty(record.c_shape, x.dtype) if has_c else None
    record.engine.backward(
        memory,
        x,
        record.lengths,
        dy,
        dcells,
        *dstate,
        dx,
        dh_0,
        dc_0,
        grads,
        accumulate,
        threads,
        record.dropout,
        record.seed,
        noisy=record.noisy,
    )
    return dx, dh_0, dc_0


def drop_weights(arrays: Mapping[str, Array], spec: Spec, p: float, seed: int) -> None:
    """Weight drop of all W_hh, or of their gradients, in place."""
    for place, end in enumerate(spec.suffixes):
        _core.drop_weights(arrays["weight_hh" + end], p, seed, place, runtime.active_isa())


def tape_size(spec: Spec, steps: int, batch: int) -> int:
    """Bytes that a tape of this model needs."""
    return _core.tape_bytes(spec, runtime.active_isa(), steps, batch)
