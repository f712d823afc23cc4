# SPDX-License-Identifier: BSD-3-Clause
"""Models of several layers: joint parameters, gradients through a recurrent layer and a head."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import nn, optim
from support.slopes import assert_slope

LENGTHS = [5, 2, 4]


def made(cell: str, outputs: Any, *, batch_first: bool = True, **options: Any) -> nn.SequenceModel:
    kinds: dict[str, Any] = {"lstm": fastlstm.LSTM, "gru": fastlstm.GRU, "rnn": fastlstm.RNN}
    recurrent = kinds[cell](
        2, 3, 2, batch_first=batch_first, bidirectional=True, dtype="float64", seed=0, **options
    )
    return nn.SequenceModel(recurrent, nn.Linear(6 + 2, 4, dtype="float64", seed=1), outputs)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("outputs", ["last", "mean", "every"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "time first"])
def test_gradients(cell: str, outputs: Any, batch_first: bool) -> None:
    model = made(cell, outputs, batch_first=batch_first).train()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 2))
    shape = (3, 5, 2) if outputs == "every" else (3, 2)
    beside = rng.standard_normal(shape)
    if not batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
        beside = np.ascontiguousarray(beside.swapaxes(0, 1)) if outputs == "every" else beside
    given = {"lengths": LENGTHS, "beside": beside}
    y, tape = model.forward(x, **given)
    assert np.array_equal(y, model(x, **given))
    dy = rng.standard_normal(y.shape)
    grads = model.backward(tape, dy, input_grad=True)

    def loss() -> float:
        return float((model(x, **given) * dy).sum())

    assert grads.params.keys() == model.parameters().keys()
    for name, values in model.parameters().items():
        assert_slope(loss, values, grads.params[name])
    assert_slope(loss, x, grads.x)
    assert model.backward(tape, dy).x is None


def test_projected_lstm() -> None:
    lstm = fastlstm.LSTM(2, 5, proj_size=3, dtype="float64", batch_first=True, seed=0)
    model = nn.SequenceModel(lstm, nn.Linear(3, 1, dtype="float64", seed=1), "mean").train()
    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    y, tape = model.forward(x)
    grads = model.backward(tape, np.ones_like(y))
    for name, values in model.parameters().items():
        assert_slope(lambda: float(model(x).sum()), values, grads.params[name])


def test_gradients_with_dropout() -> None:
    """Masks follow from the seed: the loss with that seed is a function like any other."""
    model = made("lstm", "last", dropout=0.3).train()
    model.dropout = 0.4
    rng = np.random.default_rng(0)
    x, beside = rng.standard_normal((3, 5, 2)), rng.standard_normal((3, 2))

    def loss() -> float:
        return float(model.forward(x, beside=beside, seed=7)[0].sum())

    y, tape = model.forward(x, beside=beside, seed=7)
    grads = model.backward(tape, np.ones_like(y), input_grad=True)
    for name, values in model.parameters().items():
        assert_slope(loss, values, grads.params[name])
    assert_slope(loss, x, grads.x)
    assert loss() != float(model.forward(x, beside=beside, seed=8)[0].sum())
    assert np.array_equal(model.eval().forward(x, beside=beside)[0], model(x, beside=beside))


@pytest.mark.parametrize("outputs", ["last", "mean"])
@pytest.mark.parametrize("hidden", [1, 3])
def test_padding_changes_no_bit(outputs: Any, hidden: int) -> None:
    gru = fastlstm.GRU(2, hidden, batch_first=True, seed=0)
    model = nn.SequenceModel(gru, nn.Linear(hidden, 1, seed=1), outputs)
    x = np.random.default_rng(0).standard_normal((3, 40, 2), np.float32)
    lengths = [33, 40, 0]
    together = model.features(x, lengths=lengths)
    for row, length, found in zip(x, lengths, together, strict=True):
        assert np.array_equal(model.features(row[None, :length])[0], found)


def test_a_stretch_starts_where_the_last_one_ended() -> None:
    model = made("lstm", "every")
    rng = np.random.default_rng(0)
    recurrent, x = model.recurrent, rng.standard_normal((3, 5, 2))
    whole, _ = recurrent.forward(x)[:2]
    beside = np.zeros((3, 5, 2))
    y, tape = model.forward(x[:, :2], beside=beside[:, :2])
    forward = model.recurrent.forward(x[:, :2])
    assert all(np.array_equal(a, b) for a, b in zip(tape.state, forward[1], strict=True))
    again, _ = model.forward(x[:, 2:], tape.state, beside=beside[:, 2:], tape=tape)
    assert again.shape == (3, 3, 4)
    assert y.shape == (3, 2, 4)
    assert whole.shape == (3, 5, 6)


def test_joint_parameters() -> None:
    model = made("lstm", "last")
    names = list(model.parameters())
    assert names[0] == "recurrent.weight_ih_l0"
    assert names[-1] == "head.bias"
    assert not model.training
    assert model.train().training
    assert model.recurrent.training
    assert not model.eval().head.training
    copy = pickle.loads(pickle.dumps(model))
    other = made("lstm", "last")
    other.head.load_state_dict({k: v + 1 for k, v in other.head.state_dict().items()})
    result = other.load_state_dict(model.state_dict())
    assert result == ([], [])
    for name, values in model.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name])
        assert np.array_equal(values, copy.state_dict()[name])
    inner = nn.Modules(a=model, b=nn.Linear(1, 1))
    assert "a.head.bias" in inner.parameters()
    assert "Linear(1, 1" in repr(inner)
    with pytest.raises(AttributeError, match="has no attribute 'c'"):
        _ = inner.c


def test_loading_is_all_or_nothing() -> None:
    model = made("lstm", "last")
    before = {name: values.copy() for name, values in model.state_dict().items()}
    state = {name: values + 1 for name, values in before.items()}
    state["head.bias"] = np.zeros(7)
    with pytest.raises(ValueError, match=r"head: .*bias has shape"):
        model.load_state_dict(state)
    for name, values in model.state_dict().items():
        assert np.array_equal(values, before[name])
    with pytest.raises(ValueError, match="unexpected: other"):
        model.load_state_dict({**before, "other": 1})
    found = model.load_state_dict({**before, "other": 1}, strict=False)
    assert found.unexpected_keys == ["other"]


def test_an_optimiser_takes_all() -> None:
    model = made("gru", "last").train()
    adam = optim.Adam(model, lr=0.01)
    rng = np.random.default_rng(0)
    x, beside = rng.standard_normal((8, 5, 2)), np.zeros((8, 2))
    losses = []
    for _ in range(30):
        y, tape = model.forward(x, beside=beside)
        loss, dy = nn.mse(y, np.ones_like(y))
        adam.step(model.backward(tape, dy))
        losses.append(loss)
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.Modules(a=3), TypeError, "a must be a layer"),
        (lambda: nn.SequenceModel(nn.Linear(1, 1), nn.Linear(1, 1)), TypeError, "recurrent"),
        (lambda: nn.SequenceModel(fastlstm.RNN(1, 2), fastlstm.RNN(1, 2)), TypeError, "head"),
        (
            lambda: nn.SequenceModel(fastlstm.RNN(1, 2), nn.Linear(1, 1)),
            ValueError,
            "2 inputs at least",
        ),
        (lambda: made("lstm", "first"), ValueError, "outputs must be"),
        (lambda: made("lstm", "last").backward(nn.SequenceTape(), 0), ValueError, "tape holds"),
        (
            lambda: made("lstm", "last")(np.zeros((3, 5, 2)), beside=np.zeros((4, 2))),
            ValueError,
            "beside must have shape (3,)",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
