# SPDX-License-Identifier: BSD-3-Clause
"""Running recurrent layers where nothing is kept for a backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from . import checks, runtime
from .arrays import new_state
from .checks import Array, SupportsArray
from .layer import Layer
from .spec import FORWARD

Given = TypeVar("Given")  # what a caller may hand over as a state
State = TypeVar("State")  # what a call returns as one


def apart(given: Array | None, arrays: Sequence[Array]) -> Array | None:
    """`given`, or a copy where it shares memory with one of the arrays."""
    if given is None or not any(np.may_share_memory(given, array) for array in arrays):
        return given
    return given.copy()


class Inference(Layer, Generic[Given, State]):
    """A stack of recurrent layers that runs inference.

    The type variables say what a state is: a pair (h, c), or h alone.
    """

    @overload
    def __call__(
        self,
        x: SupportsArray,
        state: Given | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[False] = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State]: ...
    @overload
    def __call__(
        self,
        x: SupportsArray,
        state: Given | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: Literal[True],
        num_threads: int | None = None,
    ) -> tuple[Array, State, Array]: ...
    def __call__(
        self,
        x: SupportsArray,
        state: Given | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        out: Array | None = None,
        return_cells: bool = False,
        num_threads: int | None = None,
    ) -> tuple[Array, State] | tuple[Array, State, Array]:
        """Run inference; nothing is kept.

        Parameters
        ----------
        x : array of shape (T, B, I), (B, T, I) with batch_first, or (T, I) for one sequence
            A NumPy array, or what has `__array__` (a torch tensor on the CPU that needs no
            gradient), of the model's dtype. A narrower float (float16 or, for a float64 model,
            float32) is converted, and an array whose last axis is not contiguous is copied; lists,
            integers and wider floats are a TypeError.
        state : (h_0, c_0), or h_0 alone where the cell has no c, optional
            Arrays as `x`, each (D*L, B, H), or (D*L, H) for one sequence; zeros if None. With a
            projection h_0 has P columns, `proj_size`, for H.
        lengths : array_like of B integers, optional
            Steps of each sequence, from 0 to T in any order; all have T if None.
        out : ndarray, optional
            Where to put `y`: of its shape and dtype, the last axis contiguous.
        return_cells : bool, default False
            Also return every c_t of the last layer.
        num_threads : int, optional
            Threads for this call, 1 to 1024; the process's setting if None.

        Returns
        -------
        y : ndarray of shape (T, B, D*H), in the layout of `x`
            h_t of the last layer, (T, B, D*P) with a projection; zero past a sequence's end. `out`
            if it was given.
        state : (h_n, c_n), or h_n alone where the cell has no c
            The state after each sequence's last step, shaped as `state`.
        cells : ndarray of shape (T, B, D*H), in the layout of `x`
            With `return_cells` only: c_t of the last layer; zero past a sequence's end.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, named in the message.
        MemoryError
            A result or the workspace cannot be allocated.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> lstm = fastlstm.LSTM(3, 4, seed=0)
        >>> x = np.ones((5, 2, 3), np.float32)
        >>> y, (h_n, c_n) = lstm(x, lengths=[5, 2])  # a ragged batch: the second one has two steps
        >>> bool((h_n[0, 1] == y[1, 1]).all()), bool((y[2:, 1] == 0).all())
        (True, True)
        >>> y, state = lstm(x, (h_n, c_n))  # goes on from there
        """
        if checks.flag("return_cells", return_cells):
            self._require_c("return_cells")
        threads = runtime.call_threads(num_threads)
        x, h_0, c_0, steps_of, y_shape, h_shape, c_shape = self._checked(x, state, lengths)
        engine = self._engine(FORWARD, threads)
        if out is None:
            y = np.empty(y_shape, self.dtype)
        else:
            y = checks.writable("out", out, self.dtype, y_shape)
            if np.may_share_memory(x, y):
                x = x.copy()
            h_0, c_0 = apart(h_0, [y]), apart(c_0, [y])
        h_n, c_n, final = new_state(h_shape, c_shape, self.dtype, self._has_c)
        cells = np.empty(self._cells_shape(y_shape), self.dtype) if return_cells else None
        engine.forward(
            x,
            self._time_major(y),
            h_0,
            c_0,
            h_n,
            c_n,
            None if cells is None else self._time_major(cells),
            steps_of,
            threads,
            out is not None,
        )
        y = y if out is None else out
        return (y, final) if cells is None else (y, final, cells)

    def last(
        self,
        x: SupportsArray,
        state: Given | None = None,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Run inference for each sequence's last output alone, in memory that does not grow with T.

        Parameters
        ----------
        x, state, lengths, num_threads
            As for a call of the model.

        Returns
        -------
        y : ndarray of shape (B, D*H), or (D*H,) for one sequence
            h of the last layer after the last step; of the second direction, after the first one.
            Of a sequence without a step it is h_0.
        state
            As from a call of the model.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call does.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> gru = fastlstm.GRU(3, 4, bidirectional=True, seed=0)
        >>> y, h_n = gru.last(np.ones((5, 2, 3), np.float32), lengths=[5, 2])
        >>> y.shape
        (2, 8)
        """
        threads = runtime.call_threads(num_threads)
        x, h_0, c_0, steps_of, y_shape, h_shape, c_shape = self._checked(x, state, lengths)
        engine = self._engine(FORWARD, threads)
        h_n, c_n, final = new_state(h_shape, c_shape, self.dtype, self._has_c)
        row = np.empty(
            (x.shape[1], y_shape[-1]), self.dtype
        )  # every step writes over the one before
        y = np.lib.stride_tricks.as_strided(row, (len(x), *row.shape), (0, *row.strides))
        engine.forward(x, y, h_0, c_0, h_n, c_n, None, steps_of, threads, True)
        return np.concatenate(list(h_n[-self._directions :]), axis=-1), final

    def _require_c(self, name: str) -> None:
        if not self._has_c:
            raise ValueError(f"{name} needs a cell state c, and this model ({self._kind}) has none")
