# SPDX-License-Identifier: BSD-3-Clause
"""What estimators are given: sequences as one array or as a list, and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ..checks import Array

Sequences = Array | list[Array]  # (n, T, I), or n arrays (T_k, I)


def as_sequences(X: Any, dtype: str, estimator: object) -> Sequences:
    """X checked, of that dtype; errors are those of scikit-learn's own checks."""
    given = {"dtype": dtype, "input_name": "X", "estimator": estimator}
    if _is_list(X):
        rows = [check_array(row, ensure_min_samples=1, **given) for row in X]
        wrong = [at for at, row in enumerate(rows) if row.shape[1] != rows[0].shape[1]]
        if wrong:
            raise ValueError(
                f"X must hold arrays (T_k, I) of one I: {rows[0].shape[1]} at position 0, "
                f"{rows[wrong[0]].shape[1]} at position {wrong[0]}"
            )
        return rows
    if isinstance(X, (list, tuple)) and _are_rows(X):
        raise ValueError(
            "X must have shape (n, T, I) or be a list of arrays (T_k, I), got a list of arrays "
            "(T_k,): x[:, None] of each are series of one feature"
        )
    array: Array = check_array(X, allow_nd=True, ensure_2d=False, **given)
    if array.ndim != 3:
        hint = (
            ": X[:, None, :] are sequences of one step, X[:, :, None] series of one feature"
            if array.ndim == 2
            else ""
        )
        raise ValueError(
            f"X must have shape (n, T, I) or be a list of arrays (T_k, I), got {array.shape}{hint}"
        )
    if 0 in array.shape:
        raise ValueError(f"X must have one step and one feature at least, got {array.shape}")
    return array


def _is_list(X: Any) -> bool:
    """Whether X is sequences each for itself."""
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and all(np.ndim(row) == 2 for row in X)
    return isinstance(X, Sequence) and len(X) > 0 and all(np.ndim(row) == 2 for row in X)


def _are_rows(X: Sequence[Any]) -> bool:
    """Whether X is series of one dimension whose lengths differ: no table."""
    shapes = {np.shape(row) for row in X if isinstance(row, (np.ndarray, list, tuple))}
    return len(shapes) > 1 and all(len(shape) == 1 for shape in shapes)


def width(x: Sequences) -> int:
    """I."""
    return int(x.shape[2] if isinstance(x, np.ndarray) else x[0].shape[1])


def names_of(X: Any) -> list[str] | None:
    """The columns of a DataFrame, or of the first one of a list, where they have names."""
    frame = X[0] if isinstance(X, (list, tuple)) and len(X) > 0 else X
    names = [*getattr(frame, "columns", ())]
    return names if names and all(isinstance(name, str) for name in names) else None


def chosen(values: Any, which: Array) -> Any:
    """Those of an array or of a list."""
    return [values[k] for k in which] if isinstance(values, list) else values[which]


def step_targets(y: Any, x: Sequences, dtype: Any = None) -> Any:
    """Targets of every step, one for each of x: (n, T, ...), or n arrays (T_k, ...)."""
    if y is None:
        raise ValueError("this estimator requires y to be passed, but the target y is None")
    if isinstance(x, np.ndarray):
        array = np.asarray(y, dtype)
        if array.shape[:2] != x.shape[:2]:
            raise ValueError(
                f"y must have shape {x.shape[:2]}, one target a step, got {array.shape}"
            )
        return array
    if len(y) != len(x):
        raise ValueError(f"y must have {len(x)} arrays, as many as X, got {len(y)}")
    rows = [np.asarray(row, dtype) for row in y]
    for at, (row, sequence) in enumerate(zip(rows, x, strict=True)):
        if row.ndim == 0 or len(row) != len(sequence):
            raise ValueError(
                f"y must have a target for every step: {len(sequence)} at position {at}, "
                f"got shape {row.shape}"
            )
    return rows


def flat(values: Any) -> Array:
    """The values of all steps in one array."""
    if isinstance(values, list):
        return np.concatenate(values)
    array = np.asarray(values)
    return array.reshape(-1, *array.shape[2:])


def lengths_of(x: Sequences) -> Array:
    """Steps of each sequence."""
    return np.array([len(row) for row in x])
