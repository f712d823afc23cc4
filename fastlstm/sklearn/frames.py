# SPDX-License-Identifier: BSD-3-Clause
"""Tables of steps, one row each, into sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array


class Frames(NamedTuple):
    """What `sequences` found."""

    X: list[Array]
    """n arrays (T_k, I), steps in the order of time"""
    y: Any
    """n targets, or n arrays (T_k,) of each step; None without a target"""
    groups: Array
    """(n,), what tells each sequence from the others"""


def sequences(
    frame: Any,
    group: str,
    time: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    target: str | None = None,
    per_step: bool = False,
) -> Frames:
    """Sequences from a table with a row for each step, as of pandas.

    Parameters
    ----------
    frame : DataFrame
        Anything whose ``frame[name]`` is a column that NumPy can read, and that has ``columns``.
    group : str
        Column that tells which sequence a row belongs to.
    time : str, optional
        Column that tells the order of its steps; without it rows stay in theirs.
    columns : sequence of str, optional
        The features; all other columns if None.
    target : str, optional
        Column of the target.
    per_step : bool, default False
        Whether each step has a target of its own. Else a sequence has one, the same in all rows.

    Returns
    -------
    Frames
        X, y and groups: ``model.fit(found.X, found.y)``. Sequences stand in the order of groups.

    Raises
    ------
    TypeError
        No table.
    ValueError
        A column that is missing, no features, or several targets of a sequence that has one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.sklearn import sequences
    >>> class Frame(dict):
    ...     columns = property(list)
    >>> frame = Frame(id=np.array([7, 3, 7]), t=np.array([1, 0, 0]), v=np.array([2.0, 5.0, 4.0]))
    >>> [x.tolist() for x in sequences(frame, "id", "t").X]
    [[[5.0]], [[4.0], [2.0]]]
    """
    if not hasattr(frame, "columns"):
        raise TypeError(f"frame must be a table with columns, got {type(frame).__name__}")
    special = [name for name in (group, time, target) if name is not None]
    there = list(frame.columns)
    features = [name for name in there if name not in special] if columns is None else [*columns]
    missing = [name for name in [*special, *features] if name not in there]
    if missing:
        raise ValueError(f"frame has no columns {missing}; it has {there}")
    if not features:
        raise ValueError("columns must name one feature at least")
    keys, which = np.unique(np.asarray(frame[group]), return_inverse=True)
    order = np.lexsort((which,) if time is None else (np.asarray(frame[time]), which))
    ends = np.cumsum(np.bincount(which, minlength=len(keys)))[:-1]
    table = np.stack([np.asarray(frame[name], np.float64) for name in features], axis=1)
    X = np.split(table[order], ends)
    if target is None:
        return Frames(X, None, keys)
    y = np.split(np.asarray(frame[target])[order], ends)
    if per_step:
        return Frames(X, y, keys)
    several = [key for key, own in zip(keys, y, strict=True) if (own != own[0]).any()]
    if several:
        raise ValueError(f"target must be one for a sequence, and {several[:5]} have several")
    return Frames(X, np.array([own[0] for own in y]), keys)
