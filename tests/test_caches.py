# SPDX-License-Identifier: BSD-3-Clause
"""Kernels and plans that only one kind of cache asks for give the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastlstm
from fastlstm import _core


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    _core.assume_caches("cpu")


# Whole panels of every instruction set, and narrow ones of a vector and of two behind them. All
# outgrow the second-level cache, and the wide inputs are projected ahead.
@pytest.mark.parametrize("units", [736, 740, 744])
@pytest.mark.parametrize("batch", [5, 8, 12, 17, 24, 25])
def test_tall_tiles(isa: str, dtype: str, units: int, batch: int) -> None:
    rng = np.random.default_rng(units + batch)
    inputs = 400 if batch >= 12 else 7
    x = rng.standard_normal((5, batch, inputs)).astype(dtype)
    lengths = rng.integers(0, 6, batch)
    results = []
    for kind in ("near", "far"):
        _core.assume_caches(kind)
        lstm = fastlstm.LSTM(inputs, units, dtype=np.dtype(dtype).type, seed=1)
        results.append([lstm(x, num_threads=1), lstm(x, lengths=lengths, num_threads=2)])
    near, far = results
    for (y, state), (y_far, state_far) in zip(near, far, strict=True):
        assert np.array_equal(y, y_far)
        assert all(map(np.array_equal, state, state_far))


def test_caches_change_the_plan() -> None:
    plans = []
    for kind in ("near", "far"):
        _core.assume_caches(kind)
        lstm = fastlstm.LSTM(512, 512, seed=0)
        plans.append(lstm.explain(50, 32, num_threads=1))
    assert plans[0] != plans[1]
