# SPDX-License-Identifier: BSD-3-Clause
"""Step-by-step inference."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import _core, checks
from .checks import Array, SupportsArray


class _Signature:
    """What `inspect` finds at a stream and at the class, whose calls are the core's own."""

    def __get__(self, stream: object, owner: type) -> inspect.Signature:
        only = inspect.Parameter.POSITIONAL_ONLY
        if stream is None:
            names = ("engine", "batch", "threads", "h", "c")
            return inspect.Signature([inspect.Parameter(name, only) for name in names])
        x = inspect.Parameter("x", only, annotation=SupportsArray)
        return inspect.Signature([x], return_annotation=Array)


class Stream(_core.Stream):
    """Running sequences whose state lives here; made by `LSTM.stream` and `LSTMCell.stream`.

    ``stream(x)`` takes one step (B, I) and returns h_t of the last layer, (B, H); or a chunk
    (t, B, I) and returns (t, B, H). The stream of a batch_first model takes chunks (B, t, I) and
    returns (B, t, H). x must be an array of the model's dtype. The bits are those of one call over
    the whole sequence.

    A step allocates nothing as long as the caller lets go of earlier results: an output array
    that nobody refers to any more is used again, one that is kept stays as it is.

    Raises TypeError for another dtype, ValueError for another shape, RuntimeError when two
    threads use one stream at the same time.
    """

    __slots__ = ()
    __signature__ = _Signature()

    if TYPE_CHECKING:

        def __call__(self, x: SupportsArray, /) -> Array: ...

    def __repr__(self) -> str:
        if self.engine is None:
            return f"<{type(self).__name__} that no model made>"
        sizes = f"{self.engine.input_size}, {self.engine.hidden_size}"
        layers = f", num_layers={self.engine.num_layers}" if self.engine.num_layers > 1 else ""
        first = ", batch_first=True" if self.batch_first else ""
        return f"<Stream({sizes}{layers}{first}, dtype={self.dtype}) of {self.batch} at once>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be pickled or copied: hand on its state instead")

    @property
    def batch_first(self) -> bool:
        """Whether chunks are (B, t, I), as the model's."""
        return False

    def reset(self) -> None:
        """Start anew: all states to zero."""
        self.h[...] = 0
        self.c[...] = 0

    @property
    def state(self) -> tuple[Array, Array]:
        """Copies of (h, c), each (L, B, H). Assigning a pair of such arrays sets the state."""
        return self.h.copy(), self.c.copy()

    @state.setter
    def state(self, value: tuple[Array, Array]) -> None:
        h, c = checks.state_pair(value, self.dtype, self.h.shape)
        self.h[...] = h
        self.c[...] = c


class BatchFirstStream(Stream):
    """The `Stream` of a batch_first model: the core's chunks, seen the other way round."""

    __slots__ = ()

    @property
    def batch_first(self) -> bool:
        """Whether chunks are (B, t, I), as the model's."""
        return True

    def __call__(self, x: Any, /) -> Array:
        """One step (B, I) -> (B, H), or a chunk (B, t, I) -> (B, t, H)."""
        try:
            if type(x) is np.ndarray and x.ndim == 2:
                return _call(self, x)
            x = _with_axes(x)
            if getattr(x, "ndim", 0) != 3 or self.engine is None:
                return _call(self, x)
            if (x.shape[0], x.shape[2]) != (self.batch, self.engine.input_size):
                raise ValueError
            return _call(self, x.transpose(1, 0, 2)).transpose(1, 0, 2)
        except ValueError:  # the core tells the shape of a time-major chunk
            sizes = self.batch, self.engine.input_size
            raise ValueError(
                f"x must have shape ({sizes[0]}, {sizes[1]}) or ({sizes[0]}, t, {sizes[1]}), "
                f"got {np.shape(x)}"
            ) from None


_call = _core.Stream.__call__


def _with_axes(x: Any) -> Any:
    """An array of what holds one: the core would take its axes as they are. Lists stay lists."""
    if type(x) is np.ndarray or isinstance(x, (list, tuple)):
        return x
    checks.no_mask("x", x)
    try:
        return np.asarray(x)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"x must be an array, got {type(x).__name__}: {error}") from error
