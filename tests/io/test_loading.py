# SPDX-License-Identifier: BSD-3-Clause
"""`load_state_dict` where nothing matches, and where one bias of two is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTM

F, H = 3, 4


@pytest.mark.parametrize("model", [LSTM(F, H), fastlstm.LSTMCell(F, H)], ids=["LSTM", "LSTMCell"])
@pytest.mark.parametrize("given", [{}, {"lstm.weight_ih_l0": np.zeros((16, 3))}, {3: 4}], ids=str)
def test_nothing_that_matches(model: Any, given: Any) -> None:
    """Nothing would be loaded, strict or not, and nobody would know."""
    before = model.state_dict()
    for strict in (True, False):
        with pytest.raises(ValueError) as caught:
            model.load_state_dict(given, strict=strict)
        assert all(str(name) in str(caught.value) for name in [*given, *before])
    assert all(model.state_dict()[name] is value for name, value in before.items())


@pytest.mark.parametrize("name", ["bias_hh_l0", "bias_ih_l1_reverse"])
def test_one_bias_of_two(name: str) -> None:
    other = name.replace("ih", "xx").replace("hh", "ih").replace("xx", "hh")
    model = LSTM(F, H, 2, bidirectional=True)
    state = model.state_dict()
    del state[name]
    with pytest.raises(ValueError, match=rf"{name} missing beside {other}: give zeros"):
        model.load_state_dict(state)
    cell = fastlstm.LSTMCell(F, H).state_dict()
    del cell["bias_ih"]
    with pytest.raises(ValueError, match="bias_ih missing beside bias_hh: give zeros"):
        fastlstm.LSTMCell(F, H).load_state_dict(cell)
    with pytest.raises(ValueError) as caught:
        LSTM(F, H).load_state_dict({n: v for n, v in LSTM(F, H).state_dict().items() if "w" in n})
    assert "zeros" not in str(caught.value)


def test_an_array_resized_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check and the copy: the copy is checked."""
    model = LSTM(F, H, seed=0)
    state = {name: value.copy() for name, value in model.state_dict().items()}
    before, can_cast, names = model.state_dict(), np.can_cast, iter(state)

    def late(*arguments: Any, **options: Any) -> bool:
        state[next(names)].resize((1,), refcheck=False)
        return can_cast(*arguments, **options)

    monkeypatch.setattr("fastlstm.weights.np.can_cast", late)
    with pytest.raises(ValueError, match=r"weight_ih_l0 has shape \(1,\)"):
        model.load_state_dict(state)
    assert all(model.state_dict()[name] is value for name, value in before.items())
