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
