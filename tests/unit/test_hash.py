# SPDX-License-Identifier: BSD-3-Clause
"""The hash that says whether weights changed: what must change it, and what must not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastlstm import _core

ISAS = [name for name in _core.isa_names() if _core.isa_available(name)]
SIZES = [
    4,
    8,
    60,
    64,
    68,
    252,
    256,
    260,
    1024 + 36,
]  # bytes: below, at and above what it takes at once


def hash_of(*arrays: np.ndarray, isa: str = ISAS[0]) -> int:
    return _core.hash_memory([a.ctypes.data for a in arrays], [a.nbytes for a in arrays], isa)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("size", [0, *SIZES, 100_000])
def test_same_on_every_isa_and_at_every_address(size: int) -> None:
    data, moved = noise(size), noise(size + 13)
    moved[13:] = data
    found = {hash_of(a, isa=isa) for isa in ISAS for a in (data, moved[13:])}
    assert len(found) == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("content", ["noise", "zeros"])
def test_every_bit_counts(isa: str, size: int, content: str) -> None:
    data = noise(size) if content == "noise" else np.zeros(size, np.uint8)
    found, flips = {hash_of(data, isa=isa)}, np.zeros(64)
    for byte in range(size):
        for bit in range(8):
            data[byte] ^= 1 << bit
            now = hash_of(data, isa=isa)
            data[byte] ^= 1 << bit
            flips += [now >> i & 1 for i in range(64)]
            found.add(now)
    assert len(found) == 8 * size + 1  # no two of these arrays are alike
    # Every bit of the hash is set in about half of them: n / 2 within 6 sigma, sigma = sqrt(n) / 2.
    assert np.abs(flips - 4 * size).max() <= 3 * np.sqrt(8 * size)


@pytest.mark.parametrize("size", [64, 256, 1024 + 36])
def test_pairs_of_bits_do_not_cancel(size: int) -> None:
    """The sign of two weights, say: every pair of flips of the same bit in two words of 4 bytes."""
    data = noise(size).view(np.uint32)
    for bit in (0, 1, 30, 31):
        found = set()
        for i in range(len(data)):
            for j in range(i):
                data[[i, j]] ^= np.uint32(1 << bit)
                found.add(hash_of(data))
                data[[i, j]] ^= np.uint32(1 << bit)
        assert len(found | {hash_of(data)}) == len(data) * (len(data) - 1) // 2 + 1


@pytest.mark.parametrize("words", [1, 2, 8, 16, 32, 64, 128, 256])
def test_swapped_blocks(words: int) -> None:
    """Any two blocks of so many floats change places."""
    data = np.random.default_rng(1).standard_normal((12, words)).astype(np.float32)
    found = {hash_of(data)}
    for i in range(12):
        for j in range(i):
            other = data.copy()
            other[[i, j]] = data[[j, i]]
            found.add(hash_of(other))
    assert len(found) == 12 * 11 // 2 + 1


@pytest.mark.parametrize("columns", [3, 32, 64, 65])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: np.roll(a, 1, 0),
        lambda a: np.roll(a, 1, 1),
        lambda a: a[np.random.default_rng(3).permutation(len(a))],
        lambda a: -a,
        lambda a: a * 2,
        lambda a: a * 0,
        lambda a: np.nextafter(a, np.float32(9)),
    ],
    ids=["rows", "columns", "down", "right", "shuffled", "sign", "double", "zero", "ulp"],
)
def test_changes_of_all_elements(columns: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    data = np.random.default_rng(2).standard_normal((64, columns)).astype(np.float32)
    changed = np.ascontiguousarray(change(data))
    assert hash_of(changed) != hash_of(data)


def test_signs_of_any_weights() -> None:
    """20 000 sets of one to six sign flips near each other, and as many of many."""
    rng, found, wanted = np.random.default_rng(5), set(), set()
    data = rng.standard_normal(3 * 64 + 5).astype(np.float32)
    for most in (7, 100):
        for _ in range(20_000):
            flips = np.zeros(len(data), bool)
            flips[rng.choice(len(data), rng.integers(1, most), replace=False)] = True
            wanted.add(flips.tobytes())
            found.add(hash_of(np.where(flips, -data, data)))
    assert len(found) == len(wanted)


def test_constant_arrays_differ() -> None:
    """Where every word is alike, lanes must not cancel each other."""
    values = [np.full(1024, value, np.float32) for value in (0, -0.0, 1, -1, 2, 0.5, np.nan)]
    assert len({hash_of(a) for a in values}) == len(values)


def test_lengths_and_order_of_arrays_count() -> None:
    zeros = [np.zeros(n, np.uint8) for n in range(600)]
    assert len({hash_of(a) for a in zeros}) == len(zeros)
    a, b = noise(300, 1), noise(300, 2)
    whole = np.concatenate([a, b])
    assert len({hash_of(a, b), hash_of(b, a), hash_of(whole), hash_of(a), hash_of(b)}) == 5


def test_no_collisions_among_small_changes() -> None:
    """100 000 optimiser-like steps of one array: 2^-31 is the chance of any two alike at random."""
    rng, data, found = np.random.default_rng(4), np.zeros(64, np.float32), set()
    for step in range(100_000):
        data[rng.integers(64)] += np.float32(1e-3)
        if step % 1000 == 0:
            data += rng.standard_normal(64).astype(np.float32)
        found.add(hash_of(data))
    assert len(found) == 100_000


def test_bad_calls() -> None:
    data = noise(8)
    with pytest.raises(ValueError, match="size"):
        _core.hash_memory([data.ctypes.data], [], ISAS[0])
    with pytest.raises(ValueError, match="instruction set"):
        _core.hash_memory([data.ctypes.data], [8], "mmx")
