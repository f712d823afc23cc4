# SPDX-License-Identifier: BSD-3-Clause
"""Batches of sequences of any lengths, and windows of series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..checks import Array
from .layers import generator


class Batch(NamedTuple):
    """Some sequences and their targets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> x = [np.ones((3, 2), np.float32), np.ones((1, 2), np.float32)]
    >>> batch = next(nn.batches(x, shuffle=False))
    >>> batch
    <Batch of 2 sequences, of shapes x=(2, 3, 2), y=None>
    >>> batch.lengths.tolist(), batch.chosen.tolist()
    ([3, 1], [0, 1])
    """

    x: Array
    """(B, T, I); of a list, with zeros past a sequence's end"""
    lengths: NDArray[np.int64]
    """(B,), steps of each"""
    y: Any
    """(B, ...), rows of an array; of a list (B, T, ...), zeros past an end; None without targets"""
    chosen: NDArray[np.int64]
    """(B,), which sequences these are"""

    def __repr__(self) -> str:
        y = None if self.y is None else np.shape(self.y)
        return f"<Batch of {len(self.lengths)} sequences, of shapes x={self.x.shape}, {y=}>"


class Windows(NamedTuple):
    """Parts of a series, each with what came after it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> found = nn.windows(np.zeros((10, 2)), steps=4, ahead=3)
    >>> found
    <Windows of shapes x=(4, 4, 2), y=(4, 3, 2), future=None>
    >>> x, y, future = found
    """

    x: Array
    """(N, steps, I + E): the series and what is known beside it"""
    y: Array
    """(N, ahead, I): the series' next steps"""
    future: Array | None
    """(N, ahead, E): what is known of these; None if nothing is"""

    def __repr__(self) -> str:
        future = None if self.future is None else self.future.shape
        return f"<Windows of shapes x={self.x.shape}, y={self.y.shape}, {future=}>"


def valid_steps(
    lengths: ArrayLike, steps: int | None = None, *, batch_first: bool = True
) -> NDArray[np.bool_]:
    """Which steps of padded sequences are theirs: the `mask` of a loss.

    Parameters
    ----------
    lengths : array_like of B integers
        Steps of each sequence.
    steps : int, optional
        T, the longest of them if None.
    batch_first : bool, default True
        Whether the mask is (B, T) or (T, B).

    Returns
    -------
    ndarray of bool
        True where a step is valid.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> from fastlstm import nn
    >>> nn.valid_steps([2, 3])
    array([[ True,  True, False],
           [ True,  True,  True]])
    """
    given = checks.given_lengths(lengths)
    if steps is None:
        steps = int(given.max(initial=0))
    valid = (
        np.arange(checks.count("steps", steps)) < checks.lengths(given, given.size, steps)[:, None]
    )
    return valid if checks.flag("batch_first", batch_first) else valid.T


def padded(
    sequences: Sequence[Array], longest: int, dtype: np.dtype[Any], batch_first: bool = True
) -> Array:
    """Sequences (T_k, ...) as one array with zeros past their ends."""
    width = sequences[0].shape[1:]
    x = np.zeros((len(sequences), longest, *width), dtype)
    for row, sequence in zip(x, sequences, strict=True):
        row[: len(sequence)] = sequence
    return x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1))


def batches(
    x: Array | Sequence[Array],
    y: Array | Sequence[Any] | None = None,
    *,
    size: int = 32,
    lengths: ArrayLike | None = None,
    shuffle: bool = True,
    buckets: int = 0,
    batch_first: bool = True,
    seed: object = None,
) -> Iterator[Batch]:
    """One epoch of minibatches.

    Parameters
    ----------
    x : ndarray of shape (N, T, I), or sequence of N arrays of shape (T_k, I)
        The sequences.
    y : array of shape (N, ...), or sequence of N arrays of shape (T_k, ...), optional
        Their targets. Of an array the batch has its rows as they are; a list is padded as `x` is.
    size : int, default 32
        Sequences of a batch; the last one may be smaller.
    lengths : array_like of N integers, optional
        Steps of each where `x` is one array; all have T if None.
    shuffle : bool, default True
        Whether to draw a new order.
    buckets : int, default 0
        With a number k > 0, sequences of each k batches are sorted by length, so that less is
        padded; then these batches are shuffled.
    batch_first : bool, default True
        Whether batches are (B, T, I), or (T, B, I) as the models take by default; a list's targets
        likewise.
    seed : optional
        Of the order: what `numpy.random.default_rng` takes, as ``(seed, epoch)``. With None every
        epoch has another one.

    Returns
    -------
    iterator of Batch
        x, lengths, y, and which sequences they are of.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> sequences = [np.ones((3, 2), np.float32), np.ones((5, 2), np.float32)]
    >>> for batch in nn.batches(sequences, [0, 1], shuffle=False):
    ...     print(batch.x.shape, batch.lengths, batch.y)
    (2, 5, 2) [3 5] [0 1]
    """
    count = len(x)
    size, buckets = checks.count("size", size, 1), checks.count("buckets", buckets)
    batch_first = checks.flag("batch_first", batch_first)
    if y is not None and len(y) != count:
        raise ValueError(
            f"y must have {count} targets, as many as there are sequences, got {len(y)}"
        )
    if isinstance(x, np.ndarray) and x.ndim != 3:
        raise ValueError(f"x must have shape (N, T, I), or be a list of (T_k, I), got {x.shape}")
    steps = _lengths(x, lengths)
    order = np.arange(count)
    if checks.flag("shuffle", shuffle):
        order = generator(seed).permutation(count)
    groups = [order[at : at + size] for at in range(0, count, size)]
    if buckets:
        groups = _by_length(groups, steps, buckets, generator(seed) if shuffle else None)
    return (_batch(x, y, steps, chosen, batch_first) for chosen in groups)


def _lengths(x: Array | Sequence[Array], given: ArrayLike | None) -> NDArray[np.int64]:
    if isinstance(x, np.ndarray):
        count, longest = x.shape[:2]
        if given is None:
            return np.full(count, longest, np.int64)
        return checks.lengths(checks.given_lengths(given), count, longest)
    if given is not None:
        raise ValueError("lengths must be None where x is a list: its arrays have their own")
    for at, sequence in enumerate(x):
        if np.ndim(sequence) != 2 or np.shape(sequence)[1] != np.shape(x[0])[1]:
            raise ValueError(
                "x must hold arrays of shape (T_k, I), all of one I, got "
                f"{np.shape(sequence)} at position {at}"
            )
    return np.array([len(sequence) for sequence in x], np.int64)


def _by_length(
    groups: list[NDArray[np.int64]],
    steps: NDArray[np.int64],
    buckets: int,
    rng: np.random.Generator | None,
) -> list[NDArray[np.int64]]:
    """The same sequences in batches of like lengths."""
    found = []
    for at in range(0, len(groups), buckets):
        pool = groups[at : at + buckets]
        together = np.concatenate(pool)
        together = together[np.argsort(steps[together], kind="stable")]
        ends = np.cumsum([len(group) for group in pool])[:-1]
        found += np.split(together, ends)
    return found if rng is None else [found[k] for k in rng.permutation(len(found))]


def _batch(
    x: Array | Sequence[Array],
    y: Array | Sequence[Any] | None,
    steps: NDArray[np.int64],
    chosen: NDArray[np.int64],
    batch_first: bool,
) -> Batch:
    own = steps[chosen]
    longest = int(own.max(initial=0))
    if isinstance(x, np.ndarray):
        part = x[chosen]
        part = part if batch_first else np.ascontiguousarray(part.swapaxes(0, 1))
    else:
        rows = [np.asarray(x[k]) for k in chosen]
        part = padded(rows, longest, np.result_type(*rows), batch_first)
    return Batch(part, own, _targets(y, chosen, longest, batch_first), chosen)


def _targets(
    y: Array | Sequence[Any] | None, chosen: NDArray[np.int64], longest: int, batch_first: bool
) -> Any:
    if y is None:
        return None
    if isinstance(y, np.ndarray):
        return y[chosen]
    rows = [np.asarray(y[k]) for k in chosen]
    if rows[0].ndim == 0:
        return np.array(rows)
    return padded(rows, longest, np.result_type(*rows), batch_first)


def windows(
    series: Array,
    steps: int,
    ahead: int = 1,
    *,
    stride: int = 1,
    exogenous: Array | None = None,
) -> Windows:
    """Windows of a series for forecasting, each with the steps that follow it.

    Parameters
    ----------
    series : array of shape (T, I), or (T,) for one variable
        The series.
    steps : int
        Length of a window.
    ahead : int, default 1
        Steps to forecast.
    stride : int, default 1
        From the start of a window to that of the next.
    exogenous : array of shape (T, E), or (T,), optional
        What is known beside the series, of its future too: the hour of the day, the weather's
        forecast.

    Returns
    -------
    Windows
        x (N, steps, I + E), y (N, ahead, I) and future (N, ahead, E), N = (T - steps - ahead) //
        stride + 1.

    Raises
    ------
    TypeError, ValueError
        A wrong argument, or a series too short for one window.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import nn
    >>> found = nn.windows(np.arange(5.0), steps=3)
    >>> found.x[..., 0].tolist(), found.y[..., 0].tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0], [4.0]])
    """
    values = _columns("series", series)
    steps, ahead = checks.count("steps", steps, 1), checks.count("ahead", ahead, 1)
    stride = checks.count("stride", stride, 1)
    if len(values) < steps + ahead:
        raise ValueError(
            f"series must have steps + ahead = {steps + ahead} steps at least, got {len(values)}"
        )
    beside = None if exogenous is None else _columns("exogenous", exogenous)
    if beside is not None and len(beside) != len(values):
        raise ValueError(
            f"exogenous must have {len(values)} steps as the series, got {len(beside)}"
        )
    both = values if beside is None else np.concatenate((values, beside), axis=1)
    cut = _cut(both, steps + ahead, stride)
    inputs = values.shape[1]
    x, y = cut[:, :steps], cut[:, steps:, :inputs]
    future = None if beside is None else np.ascontiguousarray(cut[:, steps:, inputs:])
    return Windows(np.ascontiguousarray(x), np.ascontiguousarray(y), future)


def _columns(name: str, value: object) -> Array:
    checks.no_mask(name, value)
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be floats, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (T, I) or (T,), got {array.shape}")
    return array[:, None] if array.ndim == 1 else array


def _cut(values: Array, length: int, stride: int) -> Array:
    """(N, length, I): parts of the series, views of it."""
    parts = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return parts[::stride].swapaxes(1, 2)
