# SPDX-License-Identifier: BSD-3-Clause
"""Around a call: how the outputs of two directions become one, and sequences read backwards.

Both are what Keras has as arguments of layers, ``merge_mode`` and ``go_backwards``. They change
what goes into a model or comes out of it and nothing inside, so they are functions, each with the
gradient that belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import checks
from .checks import Array

MODES = ("concat", "sum", "mul", "ave", None)
Mode = Literal["concat", "sum", "mul", "ave"]
Halves = tuple[Array, Array]


@overload
def merge(y: Array, mode: Mode) -> Array: ...
@overload
def merge(y: Array, mode: None) -> Halves: ...
def merge(y: Array, mode: Mode | None) -> Array | Halves:
    """Make one output of those of two directions, as ``merge_mode`` of Keras's Bidirectional.

    Parameters
    ----------
    y : ndarray of shape (..., 2n)
        Outputs of a bidirectional model: of a call, of `last`, or what `Mask.spread` made of them.
        The first half of the columns is the forward direction's.
    mode : {"concat", "sum", "mul", "ave", None}
        "concat" leaves them side by side; "sum", "mul" and "ave" are the sum, the product and the
        mean of both halves; None is the two halves apart.

    Returns
    -------
    ndarray or tuple of two ndarrays
        Of shape (..., 2n) for "concat", else (..., n). What "concat" and None give shares memory
        with `y`.

    Raises
    ------
    TypeError, ValueError
        `y` is no array of floats, or its last axis is odd; there is no such mode.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, bidirectional=True, seed=0)
    >>> y, _ = lstm(np.ones((5, 2, 3), np.float32))
    >>> fastlstm.merge(y, "sum").shape
    (5, 2, 4)
    """
    _known(mode)
    y = _floats("y", y)
    forward, backward = _halves("y", y)
    if mode is None:
        return forward, backward
    if mode == "sum":
        return forward + backward
    if mode == "mul":
        return forward * backward
    return (forward + backward) / 2 if mode == "ave" else y


def merge_backward(dmerged: Any, y: Array, mode: Mode | None) -> Array:
    """The gradient of what `merge` was given, from that of what it made.

    Parameters
    ----------
    dmerged : ndarray, or for None a pair of them
        Gradient of the result of ``merge(y, mode)``, of its shape. Of a pair, one may be None,
        which means zeros.
    y : ndarray of shape (..., 2n)
        What `merge` was given.
    mode : {"concat", "sum", "mul", "ave", None}
        As for `merge`.

    Returns
    -------
    ndarray of the shape of `y`
        The ``dy`` of the model's backward pass.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> y = np.array([[1.0, 2.0, 3.0, 4.0]])  # two columns of each direction
    >>> fastlstm.merge(y, "mul")
    array([[3., 8.]])
    >>> fastlstm.merge_backward(np.ones((1, 2)), y, "mul")
    array([[3., 4., 1., 2.]])
    """
    _known(mode)
    y = _floats("y", y)
    halves = _halves("y", y)
    if mode is None:
        if not isinstance(dmerged, (tuple, list)) or len(dmerged) != 2:
            raise TypeError(f"dmerged must be a pair for mode=None, got {type(dmerged).__name__}")
        parts = [
            np.zeros_like(half) if part is None else _of_shape(part, half.shape)
            for part, half in zip(dmerged, halves, strict=True)
        ]
        return np.concatenate(parts, axis=-1)
    if mode == "concat":
        return _of_shape(dmerged, y.shape)
    given = _of_shape(dmerged, halves[0].shape)
    if mode == "mul":
        return np.concatenate([given * halves[1], given * halves[0]], axis=-1)
    given = given / 2 if mode == "ave" else given
    return np.concatenate([given, given], axis=-1)


def reverse(
    x: Array,
    lengths: ArrayLike | Sequence[int] | None = None,
    *,
    batch_first: bool = False,
) -> Array:
    """Turn sequences round in time, each within its own length.

    A model on turned sequences reads them backwards; its outputs stand in the order in which it
    made them, until `reverse` with the same lengths turns them round as well. Twice is as before,
    so it is its own gradient: gradients of what it made, turned round, are those of `x`.

    Parameters
    ----------
    x : ndarray of shape (T, B, ...), or (B, T, ...) with batch_first
        Inputs, outputs or gradients. Without lengths (T, ...), a sequence alone, will do.
    lengths : array_like of B integers, optional
        Steps of each sequence, 0 to T; all have T if None.
    batch_first : bool, default False
        Whether the batch is the first axis.

    Returns
    -------
    ndarray of the shape of `x`
        Step t of a sequence is its step length - 1 - t; steps past a sequence's end stay where they
        are. A view where lengths are None, else a new array.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Notes
    -----
    Keras's ``go_backwards`` turns whole arrays, masks too: ``reverse(x)`` without lengths, and
    ``Mask(reverse(mask))`` where there is a mask, so that the padding of short sequences comes
    first. With `lengths` it goes to the end instead, and real outputs are the same ones.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> x = np.arange(8.0).reshape(4, 2)
    >>> fastlstm.reverse(x, [4, 2])[:, 1].tolist()
    [3.0, 1.0, 5.0, 7.0]
    """
    first = checks.flag("batch_first", batch_first)
    checks.no_mask("x", x)
    array: Array = np.asarray(x)
    if array.ndim < 1 + (first or lengths is not None):
        raise ValueError(f"x must have axes of steps and sequences, got shape {array.shape}")
    if lengths is None:
        return array[:, ::-1] if first else array[::-1]
    batch, steps = array.shape[:2] if first else array.shape[1::-1]
    ends = checks.lengths(checks.given_lengths(lengths), batch, steps)
    places = np.broadcast_to(np.arange(steps)[:, None], (steps, batch))
    places = np.where(places < ends, ends - 1 - places, places)
    rows = np.arange(batch)
    return array[rows[:, None], places.T] if first else array[places, rows]


def _known(mode: object) -> None:
    if mode is not None and (not isinstance(mode, str) or mode not in MODES):
        raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")


def _floats(name: str, value: Any) -> Array:
    checks.no_mask(name, value)
    array: Array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be an array of floats, got dtype {array.dtype}")
    return array


def _halves(name: str, y: Array) -> Halves:
    if y.ndim == 0 or y.shape[-1] % 2:
        raise ValueError(
            f"{name} must have as many columns of each direction in its last axis, got shape "
            f"{y.shape}"
        )
    n = y.shape[-1] // 2
    return y[..., :n], y[..., n:]


def _of_shape(dmerged: Any, shape: tuple[int, ...]) -> Array:
    array = _floats("dmerged", dmerged)
    if array.shape != shape:
        raise ValueError(f"dmerged must have shape {shape}, got {array.shape}")
    return array
