# SPDX-License-Identifier: BSD-3-Clause
"""Packed rows, which the core reads and writes in place: the bits of the padded batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import _core
from fastlstm.training import tape_size

pytestmark = pytest.mark.sanitize

Array = np.ndarray


def packed(padded: Array, sizes: Array) -> Array:
    """(T, B, F) -> (N, F)."""
    return np.concatenate([padded[t, :size] for t, size in enumerate(sizes)])


def gradients(lstm: fastlstm.LSTM) -> list[tuple[Array | None, ...]]:
    """New arrays for all of a model's parameters, as the core takes them: none of a projection."""
    arrays = [np.full_like(array, np.nan) for array in lstm.state_dict().values()]
    return [(*arrays[at : at + 4], None) for at in range(0, len(arrays), 4)]


def run(
    lstm: fastlstm.LSTM,
    arrays: dict[str, Array],
    lengths: Array,
    starts: Array | None,
    threads: int,
) -> dict[str, Array]:
    """Forward with and without a tape, and backward, straight through the core."""
    engine = lstm._engine(3)
    directions = 2 if lstm.bidirectional else 1
    shape = directions * lstm.num_layers, len(lengths), lstm.hidden_size
    x, dy, cells = arrays["x"], arrays["dy"], np.full_like(arrays["dy"], np.nan)
    out = {"y": np.full_like(dy, np.nan), "dx": np.full_like(x, np.nan), "cells": cells}
    for name in ("h_n", "c_n", "dh_0", "dc_0"):
        out[name] = np.empty(shape, lstm.dtype)
    steps = int(lengths.max())
    tape = np.frombuffer(
        memoryview(_core.Block(tape_size(lstm._spec, steps, len(lengths)))), np.uint8
    )
    results: list[Any] = [out["h_n"], out["c_n"], cells]
    engine.forward(x, out["y"], None, None, *results, lengths, threads, starts=starts)
    plain = out["y"].copy()
    engine.forward(x, out["y"], None, None, *results, lengths, threads, False, tape, starts=starts)
    assert np.array_equal(out["y"], plain)
    table = gradients(lstm)
    engine.backward(
        tape, x, lengths, dy, dy, None, None, out["dx"], out["dh_0"], out["dc_0"], table, False,
        threads, starts=starts,
    )  # fmt: skip
    return out | {
        f"{i}.{j}": array for i, row in enumerate(table) for j, array in enumerate(row[:4])
    }


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_packed_rows_give_the_bits_of_the_padded_batch(
    isa: str, dtype: str, seed: int, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    batch, inputs, units = (int(n) for n in rng.integers(1, (40, 12, 40)))
    layers, bidirectional = int(rng.integers(1, 3)), bool(rng.integers(2))
    lstm = fastlstm.LSTM(
        inputs, units, layers, bidirectional=bidirectional, dtype=np.dtype(dtype).type, seed=seed
    )
    lengths = np.sort(rng.integers(1, 30, batch))[::-1].copy()
    if seed == 0:
        lengths[:] = lengths[0]  # nothing is missing
    sizes = (lengths[None, :] > np.arange(lengths[0])[:, None]).sum(1)
    columns = {"x": inputs, "dy": units * (1 + bidirectional)}
    padded = {
        name: rng.standard_normal((int(lengths[0]), batch, count)).astype(dtype)
        for name, count in columns.items()
    }
    expected = run(lstm, padded, lengths, None, threads)
    rows = {name: packed(array, sizes) for name, array in padded.items()}
    found = run(lstm, rows, lengths, np.cumsum(sizes) - sizes, threads)
    for name, array in expected.items():
        shown = packed(array, sizes) if name in ("y", "cells", "dx") else array
        assert np.array_equal(found[name], shown), name
