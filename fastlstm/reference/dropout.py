# SPDX-License-Identifier: BSD-3-Clause
"""Dropout between layers: whether an element is kept is a function of the seed and its own place.

Sources: N. Srivastava et al., "Dropout", JMLR 15, 2014; J. Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011 (Philox).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]


def dropout_mask(
    seed: int,
    layer: int,
    num_steps: int,
    batch_size: int,
    width: int,
    p: float,
    dtype: npt.DTypeLike = np.float64,
) -> Array:
    """Zeros, with probability p, and else 1 / (1 - p): inverted dropout.

    The output of `layer` is multiplied by it before the next layer reads it. Each
    element is a function of the seed and its own place (layer, step t, sequence b, feature k) only:
    it is kept if u >= p, u being 2^-24 times the top 24 bits of word k mod 4 of the Philox block
    with the counter (k div 4, t, b, layer) and the key (low, high 32 bits of seed).

    Parameters
    ----------
    seed : int in 0..2^64-1
        Of all masks of a pass.
    layer : int
        Whose output it is for.
    num_steps, batch_size, width : int
        T, B and D*H.
    p : float in 0..1
        Probability of a zero.
    dtype : dtype, default numpy.float64
        Of the result.

    Returns
    -------
    ndarray of shape (T, B, width)
        The mask.

    Raises
    ------
    ValueError
        `p` or `seed` is out of range.

    Examples
    --------
    >>> from fastlstm import reference
    >>> mask = reference.dropout_mask(seed=7, layer=0, num_steps=2, batch_size=1, width=8, p=0.5)
    >>> mask[0, 0]
    array([2., 2., 0., 0., 0., 2., 0., 2.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout must lie in 0..1, got {p}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in 0..2^64-1, got {seed}")
    blocks = -(-width // 4)
    counter = np.empty((num_steps, batch_size, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = np.arange(num_steps)[:, None, None]
    counter[..., 2] = np.arange(batch_size)[:, None]
    counter[..., 3] = layer
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    u = (words.reshape(num_steps, batch_size, 4 * blocks)[:, :, :width] >> 8) * 2.0**-24
    return np.where(u >= p, 1 / (1 - p) if p < 1 else 0, 0).astype(dtype)


def philox4x32(
    counter: npt.NDArray[np.uint32] | Sequence[int], key: Sequence[int]
) -> npt.NDArray[np.uint32]:
    """Philox4x32-10, a random function of counters.

    A round multiplies two words by constants, to 64 bits, and mixes the upper halves with the other
    two words and the key; the key moves on by constants after every round.

    Parameters
    ----------
    counter : array_like of uint32, of shape (..., 4)
        What the words are a function of.
    key : two integers in 0..2^32-1
        Which function it is.

    Returns
    -------
    ndarray of uint32, of the shape of `counter`
        Random words.

    Examples
    --------
    >>> from fastlstm import reference
    >>> [hex(word) for word in reference.philox4x32([0, 0, 0, 0], (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)
