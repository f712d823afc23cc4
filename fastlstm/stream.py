# SPDX-License-Identifier: BSD-3-Clause
"""Step-by-step inference."""

from __future__ import annotations

from typing import NoReturn

from . import _core, checks
from .checks import Array


class Stream(_core.Stream):
    """Running sequences whose state lives here; made by `LSTM.stream`.

    ``stream(x)`` takes one step (B, I) and returns h_t of the last layer, (B, H); or a chunk
    (t, B, I) and returns (t, B, H). x must be an array of the model's dtype. The bits are those
    of one call over the whole sequence.

    A step allocates nothing as long as the caller lets go of earlier results: an output array
    that nobody refers to any more is used again, one that is kept stays as it is.

    Raises TypeError for another dtype, ValueError for another shape, RuntimeError when two
    threads use one stream at the same time.
    """

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be pickled or copied: hand on its state instead")

    def reset(self) -> None:
        """Start anew: all states to zero."""
        self.set_state(None, None)

    @property
    def state(self) -> tuple[Array, Array]:
        """Copies of (h, c), each (L, B, H). Assigning a pair of such arrays sets the state."""
        return self.state_now()

    @state.setter
    def state(self, value: tuple[Array, Array]) -> None:
        pair = checks.given_pair("state", ("h_0", "c_0"), value, self.dtype)
        shape = (self.engine.num_layers, self.batch, self.engine.hidden_size)
        h, c = (
            checks.whole(name, one, self.dtype, shape)
            for name, one in zip(("h_0", "c_0"), pair, strict=True)
        )
        self.set_state(h, c)

    def converted(self, x: object) -> Array:
        x = checks.given("x", x, self.dtype)
        return checks.array("x", x, self.dtype)
