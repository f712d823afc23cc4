# SPDX-License-Identifier: BSD-3-Clause
"""What objects and modules show of themselves, and what they say of missing gradients."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.refusals import CELL, LSTM, B, F, H, X


def test_the_module_shows_public_names_only() -> None:
    names = dir(fastlstm)
    lazy = {"interop", "nn", "optim", "reference", "sklearn", "torch"}
    assert names == sorted({*fastlstm.__all__, *lazy})
    assert not [name for name in names if name.startswith("_") and name != "__version__"]
    assert all(hasattr(fastlstm, name) for name in fastlstm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LSTMM'"):
        _ = fastlstm.LSTMM


@pytest.mark.parametrize("make", [fastlstm.LSTM, fastlstm.LSTMCell])
@pytest.mark.parametrize("bias", [True, False])
def test_a_model_shows_its_parameters(make: Any, bias: bool) -> None:
    model = make(F, H, bias=bias, seed=0)
    names = dir(model)
    assert {*model.state_dict(), "load_state_dict", "hidden_size", "stream", "__call__"} <= {*names}
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]
    assert ("bias_ih_l0" in names or "bias_ih" in names) == bias
    assert all(hasattr(model, name) for name in names)
    assert dir(make.__new__(make))  # of one that was never made


def test_gradients_print_their_shapes() -> None:
    lstm = fastlstm.LSTM(F, 500, 2, seed=0)
    y, _, tape = lstm.forward(X)
    text = repr(lstm.backward(tape, y))
    assert len(text) < 600
    assert f"x={X.shape}" in text
    assert f"h_0=(2, {B}, 500)" in text
    assert f"'weight_ih_l0': (2000, {F})" in text
    assert "x=None" in repr(lstm.backward(tape, y, input_grad=False))


def test_what_holds_arrays_prints_their_shapes() -> None:
    nn, interop = fastlstm.nn, fastlstm.interop
    x = np.ones((70, 80, 3), np.float32)
    head = nn.Linear(3, 50, seed=0)
    grads = head.backward(x, np.ones((70, 80, 50), np.float32))
    other = interop.Other("head", "dense", {}, {"weight": head.weight})
    shown = {
        repr(grads): ["x=(70, 80, 3)", "'weight': (50, 3)"],
        repr(next(nn.batches(x, [0] * 70))): ["of 32 sequences", "x=(32, 80, 3)", "y=(32,)"],
        repr(next(nn.batches(x))): ["y=None"],
        repr(nn.windows(x[0], 20, exogenous=x[0, :, 0])): ["x=(60, 20, 4)", "future=(60, 1, 1)"],
        repr(other): ["'head'", "dense", "'weight': (50, 3)"],
    }
    for text, parts in shown.items():
        assert len(text) < 100
        assert all(part in text for part in parts), text


def test_what_watches_a_training_prints_what_it_has_seen() -> None:
    nn = fastlstm.nn
    gru, head = fastlstm.GRU(3, 4), nn.Linear(4, 2)
    model = nn.SequenceModel(gru, head, "mean", 0.5)
    assert repr(model) == f"SequenceModel({gru!r}, {head!r}, outputs='mean', dropout=0.5)"
    assert (
        repr(nn.Embedding(5, 2, padding_idx=0)) == "Embedding(5, 2, padding_idx=0, dtype=float32)"
    )
    _, tape = model.forward(X[..., :3].astype(np.float32))
    assert re.fullmatch("<SequenceTape of [1-9][0-9]+ bytes>", repr(tape))
    stopping, rate = nn.EarlyStopping(model), nn.ReduceOnPlateau(0.1)
    for loss in (0.5, 0.75):
        stopping.update(loss)
        rate.update(loss)
    assert repr(stopping) == "<EarlyStopping with patience 10: best loss 0.5, 1 since>"
    assert repr(rate) == "<ReduceOnPlateau with patience 10: best loss 0.5, 1 since, rate 0.1>"


def test_a_model_of_another_library_is_called_by_its_full_name() -> None:
    with pytest.raises(TypeError, match=r"of fastlstm or .*, got test_introspection\.LSTM$"):
        fastlstm.interop.describe(type("LSTM", (), {"__module__": "test_introspection"})())  # type: ignore[arg-type]


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastlstm", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"fastlstm {fastlstm.__version__}\n"


def test_a_list_gets_a_hint() -> None:
    for given in (X.tolist(), tuple(X)):
        with pytest.raises(
            TypeError, match=r"x must .* convert it with np.asarray\(x, np.float32\)"
        ):
            LSTM(given)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"h_0 must .*np.asarray\(h_0, np.float32\)"):
        CELL(X[0], ([[0.0]], [[0.0]]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got NoneType$"):
        LSTM(None)  # type: ignore[call-overload]


def test_backward_needs_a_gradient() -> None:
    """Without any, a model would get zeros and never learn."""
    lstm = fastlstm.LSTM(F, H, seed=0)
    y, (h_n, c_n), tape = lstm.forward(X)
    into = {name: np.ones_like(value) for name, value in lstm.parameters().items()}
    for gradients in ({}, {"dy": None}, {"dstate": (None, None)}, {"dcells": None, "into": into}):
        with pytest.raises(ValueError, match="dy, dstate or dcells must be given"):
            lstm.backward(tape, **gradients)
    assert all((value == 1).all() for value in into.values())
    for gradients in ({"dy": y}, {"dstate": (h_n, None)}, {"dstate": (None, c_n)}, {"dcells": y}):
        assert lstm.backward(tape, **gradients).params["weight_hh_l0"].any()
    assert not lstm.backward(tape, np.zeros_like(y)).params["weight_hh_l0"].any()
