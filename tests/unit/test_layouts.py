# SPDX-License-Identifier: BSD-3-Clause
"""Packed weights stand where docs/design/layouts.md says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastlstm
from support import ROOT, readme
from support.border import packed

LANES = {"avx512": 16, "avx2": 8, "neon": 8, "generic": 4}  # of float32
LOG2_E = np.log2(np.e)
SCALES = {
    fastlstm.LSTM: (-LOG2_E, -LOG2_E, -2 * LOG2_E, -LOG2_E),
    fastlstm.GRU: (-LOG2_E, -LOG2_E, -2 * LOG2_E),
    fastlstm.RNN: (-2 * LOG2_E,),
}
CELLS = pytest.mark.parametrize("cell", SCALES, ids=lambda cell: cell.__name__)
Indices = Any


def narrow(vectors: int) -> int:
    """Vectors of a panel of which so many are needed: three make a whole one."""
    return 4 if vectors > 2 else vectors


def row(cell: type, units: int, VL: int) -> tuple[int, Indices]:
    """Elements of a row of sums, and where each (gate, unit) stands in it."""
    u = np.arange(units)
    if cell is fastlstm.RNN:
        left = units % (4 * VL)
        return (units - left) + narrow(-(-left // VL)) * VL, u[None]
    w, last = u // VL, (units - 1) // VL
    left = units - last * VL  # of the last unit vector
    if cell is fastlstm.LSTM:
        n = narrow(-(-4 * left // VL))
        step = np.where(w == last, n * VL // 4, VL)
        return (4 * last + n) * VL, w * 4 * VL + np.arange(4)[:, None] * step + u - w * VL
    vectors = 1 if 4 * left <= VL else 2 if 2 * left <= VL else 3
    step = np.where(w == last, {1: VL // 4, 2: VL // 2, 3: VL}[vectors], VL)
    every = 3 * last + vectors
    whole, rest = divmod(every, 4)
    total = (4 * whole + narrow(rest)) * VL
    return total, w * 3 * VL + np.arange(3)[:, None] * step + u - w * VL


def panels(cell: type, weights: Any, VL: int) -> Any:
    """What packing makes of (gates * H, K)."""
    gates, inputs = len(SCALES[cell]), weights.shape[1]
    weights = weights.reshape(gates, -1, inputs).astype(float)
    total, place = row(cell, weights.shape[1], VL)
    p = place[..., None] // (4 * VL)
    n = np.minimum(4 * VL, total - p * 4 * VL) // VL
    k = np.arange(inputs)
    address = p * inputs * 4 * VL + k * n * VL + place[..., None] - p * 4 * VL
    assert np.unique(address).size == weights.size
    packed = np.zeros(total * inputs)
    packed[address] = weights * np.reshape(SCALES[cell], (-1, 1, 1))
    return packed


def pieces(model: Any, VL: int) -> Iterator[Any]:
    """The parts of a packed model behind its head, each filled up to a cache line."""
    cell, state = type(model), model.state_dict()
    ends = [name.removeprefix("weight_ih") for name in state if name.startswith("weight_ih")]
    for end in ends:
        w_ih, w_hh, b_ih, b_hh = (
            state[part + end] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        biases = [b_ih, b_hh] if cell is fastlstm.GRU else [b_ih + b_hh]
        for part in (w_ih, w_hh, *(bias[:, None] for bias in biases)):
            made = panels(cell, part, VL)
            yield np.pad(made, (0, -made.size % (64 // w_ih.itemsize)))


@CELLS
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_every_weight_stands_where_the_page_says(cell: Any, dtype: Any, isa: str) -> None:
    VL = LANES[isa] * 4 // np.dtype(dtype).itemsize
    rests = {1, VL // 4, VL // 4 + 1, VL // 2, VL // 2 + 1, VL - 1, VL} - {0}
    for units in sorted({whole * VL + rest for whole in (0, 1, 2, 3, 4) for rest in rests}):
        model = cell(3, units, seed=units, dtype=dtype)
        expected = np.concatenate(list(pieces(model, VL)))
        found = packed(model, isa)[-expected.size :]
        # One rounding, of a product; a zero is one.
        assert np.allclose(found, expected, rtol=2 * np.finfo(dtype).eps, atol=0), units


@CELLS
def test_pieces_of_layers_and_directions_follow_each_other(cell: Any, isa: str) -> None:
    model = cell(3, 21, num_layers=2, bidirectional=True, seed=0)
    expected = np.concatenate(list(pieces(model, LANES[isa])))
    found = packed(model, isa)[-expected.size :]
    assert np.allclose(found, expected, rtol=2 * np.finfo(np.float32).eps, atol=0)


@pytest.mark.skipif("avx512" not in fastlstm.available_isas(), reason="the example is AVX-512's")
def test_the_example_of_the_page() -> None:
    names, count = readme.run(ROOT / "docs" / "design" / "layouts.md", [])
    assert count == 1
    assert names["w_hh"].size == 1600
