# SPDX-License-Identifier: BSD-3-Clause
"""Step-by-step inference."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from . import _core, checks
from .checks import Array, SupportsArray


class _Signature:
    """What `inspect` finds at a stream and at the class, whose calls are the core's own."""

    def __get__(self, stream: object, owner: type) -> inspect.Signature:
        only = inspect.Parameter.POSITIONAL_ONLY
        if stream is None:
            names = ("engine", "batch", "threads", "batch_first")
            return inspect.Signature([inspect.Parameter(name, only) for name in names])
        x = inspect.Parameter("x", only, annotation=SupportsArray)
        return inspect.Signature([x], return_annotation=Array)


class Stream(_core.Stream):
    """Running sequences whose state lives here; made by the `stream` of a model.

    ``stream(x)`` takes one step (B, I) and returns h_t of the last layer, (B, H), or (B, P) with a
    projection; or a chunk (t, B, I) and returns (t, B, H). The stream of a batch_first model takes
    chunks (B, t, I) and returns (B, t, H); that of one sequence also takes a step (I,) and returns
    (H,). x is as for a call of the model: an array, or what has `__array__`, of the model's dtype,
    which is float32 unless the model was made with another (float64 is a TypeError then), or of a
    narrower float. The bits are those of one call over the whole sequence.

    A step allocates nothing as long as the caller lets go of earlier results: an output array
    that nobody refers to any more is used again, one that is kept stays as it is.

    Parameters
    ----------
    engine, batch, threads, batch_first
        What the `stream` of a model hands over.

    Attributes
    ----------
    state : (h, c), each an ndarray of shape (L, B, H), or h alone where the cell has no c
        Copies; assigning the like sets the state. With a projection h is (L, B, P).
    batch : int
        Sequences B.
    dtype : numpy.dtype
        The model's: of inputs, outputs and the state.

    Raises
    ------
    TypeError
        x has another dtype than the model, and is no narrower float: convert it by `astype`.
    ValueError
        Another shape.
    RuntimeError
        Two threads use one stream at the same time.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, seed=0)
    >>> stream = lstm.stream(batch_size=2)
    >>> stream(np.ones((2, 3), np.float32)).shape  # one step
    (2, 4)
    >>> stream(np.ones((10, 2, 3), np.float32)).shape  # a chunk of ten
    (10, 2, 4)
    >>> h, c = stream.state
    >>> stream.reset()
    >>> stream.state = h, c
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
        projected = self.engine.outputs != self.engine.hidden_size
        proj_size = f", proj_size={self.engine.outputs}" if projected else ""
        first = ", batch_first=True" if self.batch_first else ""
        options = f"{layers}{proj_size}{first}, dtype={self.dtype}"
        return f"<Stream({sizes}{options}) of {self.batch} at once>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be pickled or copied: hand on its state instead")

    def reset(self) -> None:
        """Start anew: all states to zero."""
        self._set_state(None, None)

    @property
    def state(self) -> Any:
        """Copies of (h, c), each (L, B, H), or of h alone where the cell has no c.

        Assigning the like sets the state.
        """
        return self._state_now()

    @state.setter
    def state(self, value: Any) -> None:
        names = ("h_0", "c_0") if self.engine.has_c else ("h_0",)
        h, c = checks.given_state("state", names, value, self.dtype)
        rows = (self.engine.num_layers, self.batch)
        h, c = (
            checks.whole("h_0", h, self.dtype, (*rows, self.engine.outputs)),
            checks.whole("c_0", c, self.dtype, (*rows, self.engine.hidden_size)),
        )
        self._set_state(h, c)

    def _converted(self, x: SupportsArray) -> Array:
        x = checks.given("x", x, self.dtype)
        return checks.array("x", x, self.dtype)
