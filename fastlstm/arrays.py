# SPDX-License-Identifier: BSD-3-Clause
"""Memory of new arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _core
from .checks import Array

POOLED = 1 << 16  # bytes of an array that is worth the pool of the core


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """np.empty whose memory, if large, comes from blocks that were let go before."""
    size = math.prod(shape) * dtype.itemsize
    if size < POOLED:
        return np.empty(shape, dtype)
    block = memoryview(_core.Block(size))
    return np.frombuffer(block, dtype, math.prod(shape)).reshape(shape)


def new_state(
    h_shape: tuple[int, ...], c_shape: tuple[int, ...], dtype: np.dtype[Any], has_c: bool
) -> tuple[Array, Array | None, Any]:
    """Arrays for a final state: h, c (None where a cell has none), and both as a caller gets them,
    (h, c) or h alone."""
    h = np.empty(h_shape, dtype)
    if not has_c:
        return h, None, h
    c = np.empty(c_shape, dtype)
    return h, c, (h, c)
