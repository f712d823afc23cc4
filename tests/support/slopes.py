# SPDX-License-Identifier: BSD-3-Clause
"""Gradients of a scalar function of arrays, by central differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEP = 6e-6  # the cube root of the roundoff: truncation and rounding weigh alike there


def slopes(
    loss: Callable[[], float], array: np.ndarray, *, most: int = 24, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of a contiguous float64 array were moved (flat, `most` at most), and the slope
    of the loss at each. The array is what it was afterwards."""
    assert array.dtype == np.float64
    assert array.flags.c_contiguous
    values = array.reshape(-1)
    chosen = np.random.default_rng(seed).permutation(values.size)[:most]
    found = np.empty(len(chosen))
    for at, k in enumerate(chosen):
        before = values[k]
        values[k] = before + STEP
        above = loss()
        values[k] = before - STEP
        found[at] = (above - loss()) / (2 * STEP)
        values[k] = before
    return chosen, found


def assert_slope(loss: Callable[[], float], array: np.ndarray, grad: np.ndarray) -> None:
    """The gradient is that of the loss: to STEP^2 times its third derivative, of the order of the
    loss here, and to the loss's roundoff divided by STEP. Both are some 1e-10."""
    assert grad.shape == array.shape
    chosen, found = slopes(loss, array)
    np.testing.assert_allclose(grad.reshape(-1)[chosen], found, rtol=1e-7, atol=2e-9)
