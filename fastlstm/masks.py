# SPDX-License-Identifier: BSD-3-Clause
"""Steps that count for nothing, wherever they stand: what Keras calls a mask.

A masked step leaves the states alone, and its output is that of the step before it (or 0, as the
caller likes). So a sequence with masked steps is the sequence of its other steps, its outputs read
at other places: rows are gathered before a run and spread out after it, and models know of lengths
only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .checks import Array


def _bools(mask: ArrayLike) -> NDArray[np.bool_]:
    """An array of our own, which nobody changes after the check."""
    checks.no_mask("mask", mask)
    found = np.asarray(mask)
    if found.dtype != np.bool_:
        raise TypeError(f"mask must be bool (True: the step counts), got dtype {found.dtype}")
    if found.ndim != 2:
        raise ValueError(f"mask must have two axes, steps and sequences, got shape {found.shape}")
    return np.array(found, order="C", copy=True, subok=False)


class Mask:
    """Which steps of each sequence of a batch count, for a model's call around it.

    The states pass a masked step unchanged. Its output is that of the step before (in the second
    direction: of the next step that counts), 0 where there is none. This is what Keras's recurrent
    layers do with a mask; one that masks nothing but the ends of sequences is their ``lengths``.

    Parameters
    ----------
    mask : array_like of bool, (T, B), or (B, T) with batch_first
        True where a step counts. It is copied.
    batch_first : bool, default False
        Whether the mask, and all arrays that it is asked to work on, have the batch first.
    zero_outputs : bool, default False
        Whether outputs of masked steps are 0 instead (``zero_output_for_mask`` of Keras).

    Attributes
    ----------
    lengths : ndarray of int64, (B,)
        How many steps of each sequence count: the ``lengths`` of the call. Read-only.

    Raises
    ------
    TypeError
        `mask` is not of bools, a flag is no bool.
    ValueError
        `mask` has not two axes.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, seed=0)
    >>> x = np.ones((5, 2, 3), np.float32)
    >>> valid = np.array([[1, 0], [1, 1], [0, 1], [1, 1], [0, 1]], bool)
    >>> mask = fastlstm.Mask(valid)
    >>> y, (h_n, c_n) = lstm(mask.gather(x), lengths=mask.lengths)
    >>> y = mask.spread(y)
    >>> bool((y[2, 0] == y[1, 0]).all()), bool((y[0, 1] == 0).all())
    (True, True)
    """

    def __init__(
        self, mask: ArrayLike, *, batch_first: bool = False, zero_outputs: bool = False
    ) -> None:
        self._batch_first = checks.flag("batch_first", batch_first)
        self._zero = checks.flag("zero_outputs", zero_outputs)
        valid = _bools(mask)
        self._shape = valid.shape
        valid = np.ascontiguousarray(valid.T) if self._batch_first else valid
        self._valid = valid
        self.lengths: NDArray[np.int64] = valid.sum(axis=0, dtype=np.int64)
        self.lengths.setflags(write=False)  # gathering and spreading go by them
        # (T, B, 1) the k-th step that counts; behind the last one, those that do not.
        self._source = np.argsort(~valid, axis=0, kind="stable")[:, :, None]
        # (T, B) how many steps up to this one count.
        self._after: NDArray[np.int64] = valid.cumsum(axis=0, dtype=np.int64)

    def __repr__(self) -> str:
        steps, batch = self._valid.shape
        flags = (("batch_first", self._batch_first), ("zero_outputs", self._zero))
        words = "".join(f", {name}=True" for name, value in flags if value)
        return f"<Mask of {steps} steps, {batch} sequences{words}>"

    def gather(self, x: Array) -> Array:
        """Move the steps that count to the front.

        Parameters
        ----------
        x : ndarray of shape (T, B, n), or (B, T, n) with batch_first
            Inputs of a model; what masked steps hold does not matter.

        Returns
        -------
        ndarray of the shape of `x`
            A new array: the input of a call with `lengths`; 0 behind each sequence's end.

        Raises
        ------
        TypeError, ValueError
            `x` is no array of floats, or of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> mask = fastlstm.Mask([[False], [True], [False], [True]])
        >>> mask.gather(np.arange(4.0).reshape(4, 1, 1)).ravel(), mask.lengths
        (array([1., 3., 0., 0.]), array([2]))
        """
        steps = self._time_major("x", x)
        rows = np.take_along_axis(steps, self._source, axis=0)
        rows[np.arange(len(rows))[:, None] >= self.lengths] = 0
        return self._given_back(rows)

    def ungather(self, dx: Array) -> Array:
        """Put gradients of gathered inputs where the inputs stood.

        Parameters
        ----------
        dx : ndarray of the shape of what `gather` made
            Gradients of it.

        Returns
        -------
        ndarray of the shape of `dx`
            Gradients of what `gather` was given: 0 in masked steps.

        Raises
        ------
        TypeError, ValueError
            As `gather`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> mask = fastlstm.Mask([[False], [True], [False], [True]])
        >>> mask.ungather(np.array([[[5.0]], [[6.0]], [[0.0]], [[0.0]]])).ravel()
        array([0., 5., 0., 6.])
        """
        rows = self._time_major("dx", dx)
        x = np.empty(rows.shape, rows.dtype)
        np.put_along_axis(x, self._source, rows, axis=0)
        x[~self._valid] = 0
        return self._given_back(x)

    def spread(self, y: Array, *, bidirectional: bool = False) -> Array:
        """Read the outputs of a run on gathered inputs at every step.

        Parameters
        ----------
        y : ndarray of shape (T, B, D*n), or (B, T, D*n) with batch_first
            Outputs, or cells, of the call.
        bidirectional : bool, default False
            Whether the model is: D = 2, and the second half of the columns ran from the end.

        Returns
        -------
        ndarray of the shape of `y`
            Outputs of every step.

        Raises
        ------
        TypeError, ValueError
            As `gather`, or an odd number of columns of two directions.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> mask = fastlstm.Mask([[False], [True], [False], [True]])
        >>> mask.spread(np.array([[[5.0]], [[6.0]], [[0.0]], [[0.0]]])).ravel()
        array([0., 5., 5., 6.])
        """
        rows = self._time_major("y", y)
        out = np.zeros(rows.shape, rows.dtype)
        for columns, place, known in self._reads("y", rows, bidirectional):
            part = np.take_along_axis(rows[:, :, columns], place[:, :, None], axis=0)
            out[:, :, columns] = np.where(known[:, :, None], part, 0)
        return self._given_back(out)

    def collect(self, dy: Array, *, bidirectional: bool = False) -> Array:
        """Gradients of what `spread` was given, from those of what it made.

        Parameters
        ----------
        dy : ndarray of the shape of the outputs
            Gradients of all steps' outputs.
        bidirectional : bool, default False
            As for `spread`.

        Returns
        -------
        ndarray of the shape of `dy`
            The ``dy`` of the model's backward pass: each row is the sum, in the order of time, over
            the steps that read it.

        Raises
        ------
        TypeError, ValueError
            As `spread`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastlstm
        >>> mask = fastlstm.Mask([[False], [True], [False], [True]])
        >>> mask.collect(np.ones((4, 1, 1))).ravel()  # the first output was read twice
        array([2., 1., 0., 0.])
        """
        grads = self._time_major("dy", dy)
        rows = np.zeros(grads.shape, grads.dtype)
        batch = np.arange(grads.shape[1])
        for columns, place, known in self._reads("dy", grads, bidirectional):
            for t in range(len(grads)):
                given = np.where(known[t][:, None], grads[t, :, columns], 0)
                rows[place[t], batch, columns] += given
        return self._given_back(rows)

    def _reads(
        self, name: str, rows: Array, bidirectional: bool
    ) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.bool_]]]:
        """For each direction its columns, which gathered step each step reads, and whether it reads
        one at all."""
        directions = 2 if checks.flag("bidirectional", bidirectional) else 1
        width, odd = divmod(rows.shape[2], directions)
        if odd:
            raise ValueError(
                f"{name} must have as many columns of each direction, got {rows.shape[2]}"
            )
        for direction in range(directions):
            if direction:
                place = self._after - self._valid
                known = place < self.lengths
            else:
                place = self._after - 1
                known = place >= 0
            if self._zero:
                known = known & self._valid
            yield (
                slice(direction * width, (direction + 1) * width),
                np.where(known, place, 0),
                known,
            )

    def _time_major(self, name: str, value: Array) -> Array:
        checks.no_mask(name, value)
        array: Array = np.asarray(value)
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must be an array of floats, got dtype {array.dtype}")
        if array.ndim != 3 or array.shape[:2] != self._shape:
            raise ValueError(
                f"{name} must have three axes, the first two of shape {self._shape} as the mask, "
                f"got shape {array.shape}"
            )
        return array.transpose(1, 0, 2) if self._batch_first else array

    def _given_back(self, array: Array) -> Array:
        return np.ascontiguousarray(array.transpose(1, 0, 2)) if self._batch_first else array

    def __reduce__(self) -> tuple[Any, ...]:
        mask = self._valid.T if self._batch_first else self._valid
        return _made, (mask, self._batch_first, self._zero)


def _made(mask: NDArray[np.bool_], batch_first: bool, zero_outputs: bool) -> Mask:
    return Mask(mask, batch_first=batch_first, zero_outputs=zero_outputs)
