# SPDX-License-Identifier: BSD-3-Clause
"""Kernels and plans that only one kind of cache asks for give the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fastlstm
from fastlstm import _core

pytestmark = pytest.mark.sanitize

KINDS = ("fast", "middle", "slow")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    _core.assume_caches("cpu")


CELLS = {"lstm": fastlstm.LSTM, "gru": fastlstm.GRU}


# Whole panels of every instruction set, and narrow ones of a vector and of two behind them. All
# outgrow the second-level cache; few rows fill one tile, more take their sums in blocks, many take
# all inputs in one, and the most go in several parts. Wide inputs are projected ahead or not.
@pytest.mark.parametrize(
    ("units", "batch", "inputs"),
    [
        (736, 3, 400),
        (740, 3, 7),
        (744, 5, 400),
        (736, 12, 7),
        (740, 12, 400),
        (744, 25, 7),
        (736, 25, 400),
        (740, 50, 7),
        (744, 50, 400),
        (736, 100, 400),
        (740, 100, 7),
        (744, 100, 400),
    ],
)
@pytest.mark.parametrize("layer", CELLS)
def test_blocks(isa: str, dtype: str, layer: str, units: int, batch: int, inputs: int) -> None:
    rng = np.random.default_rng(units + batch)
    x = rng.standard_normal((4, batch, inputs)).astype(dtype)
    lengths = rng.integers(0, 5, batch)
    results = []
    for kind in KINDS:
        _core.assume_caches(kind)
        model = CELLS[layer](inputs, units, dtype=np.dtype(dtype).type, seed=1)
        results.append([model(x, num_threads=1), model(x, lengths=lengths, num_threads=2)])
    for other in results[1:]:
        for (y, state), (y_other, state_other) in zip(results[0], other, strict=True):
            assert np.array_equal(y, y_other)
            assert np.array_equal(np.array(state), np.array(state_other))


@pytest.mark.parametrize(
    ("layer", "units", "batch"),
    [("lstm", units, batch) for units in (736, 744) for batch in (5, 26, 100)]
    + [("gru", 744, 5), ("gru", 744, 26)],
)
def test_gradients(isa: str, dtype: str, layer: str, units: int, batch: int) -> None:
    rng = np.random.default_rng(units + batch)
    x = rng.standard_normal((3, batch, 400)).astype(dtype)
    lengths = rng.integers(0, 4, batch)
    results = []
    for kind in ("fast", "slow"):  # the middle ones read backwards as the fast ones do
        _core.assume_caches(kind)
        model = CELLS[layer](400, units, dtype=np.dtype(dtype).type, seed=1)
        y, _, tape = model.forward(x, lengths=lengths, num_threads=2)
        results.append(model.backward(tape, y, num_threads=2))
    near, far = results
    assert np.array_equal(near.x, far.x)
    for name, gradient in near.params.items():
        assert np.array_equal(gradient, far.params[name]), name


def test_caches_change_the_plan() -> None:
    plans = set()
    for kind in KINDS:
        _core.assume_caches(kind)
        large, middling = (fastlstm.LSTM(n, n, seed=0) for n in (512, 192))
        plans.add(large.explain(50, 32, num_threads=1) + middling.explain(50, 1, num_threads=1))
    assert len(plans) == len(KINDS)


def test_a_single_step_reads_all_layers() -> None:
    """Weights of one such layer stay near a core; those of ten only if two cores share them."""
    _core.assume_caches("slow")
    one, ten = (fastlstm.LSTM(160, 160, num_layers=n, seed=0) for n in (1, 10))
    assert "one thread" in one.explain(1, 1, num_threads=2)
    assert "2 threads" in ten.explain(1, 1, num_threads=2)
