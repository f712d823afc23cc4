# SPDX-License-Identifier: BSD-3-Clause
"""LSTMCells with options: the steps of an LSTM that has them, its names, copies and refusals."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions
from support.labels import label

I, H, B, T = 3, 5, 4, 6  # noqa: E741
FULL = LSTMOptions(
    peepholes=True,
    coupled=True,
    gate_clip=3.0,
    cell_clip=0.3,
    gate_activation=("hard_sigmoid", 1 / 6, 0.5),
    output_activation="softsign",
)
SOME = [
    LSTMOptions(peepholes=True),
    LSTMOptions(forget_gate=False),
    LSTMOptions(forget_bias=1.0),
    FULL,
]


def made(options: Any = FULL, **others: Any) -> fastlstm.LSTMCell:
    return fastlstm.LSTMCell(I, H, **{"seed": 0, "options": options, **others})


@pytest.mark.parametrize("options", SOME, ids=label)
def test_a_step_is_a_layer_s(options: LSTMOptions, dtype: str) -> None:
    cell = made(options, bias=not options.coupled, dtype=dtype)
    layer = fastlstm.LSTM.from_state_dict(cell.state_dict(), options=options)
    assert layer.options == cell.options == options
    x = np.random.default_rng(1).standard_normal((T, B, I)).astype(dtype)
    y, final = layer(x)
    state = None
    for t in range(T):
        state = cell(x[t], state)
        assert np.array_equal(state[0], y[t])
    assert np.array_equal(np.stack(state), np.stack(final)[:, 0])
    stream = cell.stream(B)
    assert np.array_equal(np.stack([stream(step) for step in x]), y)
    one = cell(x[0, 2])
    assert np.array_equal(one[0], y[0, 2])


def test_what_it_shows() -> None:
    assert repr(made({"coupled": True})) == (
        "LSTMCell(3, 5, options=LSTMOptions(coupled=True), dtype=float32)"
    )
    assert repr(made(None)) == "LSTMCell(3, 5, dtype=float32)"
    assert made(None).options is None
    cell = made()
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ci", "weight_cf", "weight_co"]
    assert list(cell.parameters()) == names
    assert cell.weight_co.shape == (H,)
    with pytest.raises(AttributeError, match="options is fixed"):
        cell.options = None


def test_the_forget_bias_is_in_one_bias() -> None:
    cell, plain = made(LSTMOptions(forget_bias=1.5)), made(None)
    assert (cell.bias_ih[H : 2 * H] == 1.5).all()
    assert not cell.bias_hh[H : 2 * H].any()
    assert np.array_equal(cell.bias_ih[:H], plain.bias_ih[:H])
    assert np.array_equal(cell.bias_hh[2 * H :], plain.bias_hh[2 * H :])
    assert cell._spec.cell == "lstm"  # only first values differ: it runs as the plain LSTM


@pytest.mark.parametrize("options", SOME, ids=label)
def test_copies(options: LSTMOptions) -> None:
    cell = made(options)
    x = np.random.default_rng(2).standard_normal((B, I)).astype(np.float32)
    expected = cell(x)
    others = [copy.copy(cell), copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))]
    others.append(fastlstm.LSTMCell.from_torch(cell))
    for other in others:
        assert repr(other) == repr(cell)
        assert other.options == options
        assert np.array_equal(np.stack(other(x)), np.stack(expected))


def test_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match=r"options must be LSTMOptions, a mapping .*, got int"):
        made(3)
    with pytest.raises(ValueError, match="options with a forget_bias need bias=True"):
        made({"forget_bias": 1.0}, bias=False)
    with pytest.raises(ValueError, match="missing: weight_ci, weight_cf, weight_co"):
        made().load_state_dict(made(None).state_dict())
    with pytest.raises(ValueError, match="unexpected: weight_ci"):
        made(None).load_state_dict(made().state_dict())
    with pytest.raises(TypeError, match="options"):
        fastlstm.GRUCell(I, H, options=FULL)  # type: ignore[call-arg]
