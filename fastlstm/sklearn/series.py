# SPDX-License-Identifier: BSD-3-Clause
"""The series that a forecaster is handed: their shapes, what stands beside them, their scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array

from ..checks import Array


def series_of(estimator: Any, X: Any, name: str = "X") -> list[Array]:
    """One series, or several, each (T, I) or (T,), as arrays (T, I) of the estimator's dtype."""
    several = isinstance(X, (list, tuple)) and len(X) > 0 and np.ndim(X[0]) > 0
    given = {"ensure_2d": False, "input_name": name, "estimator": estimator}
    if isinstance(X, np.ndarray) and X.ndim == 3:
        raise ValueError(
            f"{name} must be a series (T, I), or a list of such, got shape {X.shape}: "
            f"list({name}) are {len(X)} series"
        )
    found = []
    for values in X if several else [X]:
        array = check_array(values, dtype=estimator.dtype, **given)
        found.append(array[:, None] if array.ndim == 1 else array)
    columns = sorted({array.shape[1] for array in found})
    if len(columns) > 1:
        raise ValueError(f"{name} must be series of as many variables each, got {columns}")
    return found


def beside_of(estimator: Any, exogenous: Any, series: list[Array]) -> list[Any]:
    """What is known beside each series, of as many steps; None for each if there is none."""
    if exogenous is None:
        return [None] * len(series)
    found = series_of(estimator, exogenous, "exogenous")
    if [len(e) for e in found] != [len(s) for s in series]:
        raise ValueError(
            f"exogenous must have the steps of X, {[len(s) for s in series]}, "
            f"got {[len(e) for e in found]}"
        )
    return found


def same_width(name: str, values: Array, fitted: Array) -> None:
    """Refuse `values` of other columns than those that have a scale in `fitted`."""
    if values.shape[1] != len(fitted):
        raise ValueError(f"{name} must have {len(fitted)} columns as in fit, got {values.shape[1]}")


def scales(values: Array) -> tuple[Array, Array]:
    """Mean and deviation of each column (float64); 1 where nothing varies."""
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 0, deviation, 1.0)
