# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs with noise in their options, as users meet them: modes, seeds, weight drop, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
import fastlstm.reference
from fastlstm import LSTMOptions, _core
from fastlstm.options import NOISE

I, H, B, T = 3, 5, 4, 6  # noqa: E741
X = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
ALL = LSTMOptions(**dict.fromkeys(NOISE, 0.5))


def made(**options: Any) -> fastlstm.LSTM:
    return fastlstm.LSTM(I, H, **{"seed": 0, "options": ALL, **options})


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", NOISE)
def test_bad_probabilities(name: str) -> None:
    words = rf"{name} must be a number in \[0, 1\], got"
    for value in (-0.1, 1.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=words):
            LSTMOptions(**{name: value})
    for value in (None, "0.5", True, [0.5]):
        with pytest.raises(TypeError, match=words):
            LSTMOptions(**{name: value})  # type: ignore[arg-type]
    assert type(getattr(LSTMOptions(**{name: 1}), name)) is float


def test_what_it_is_called() -> None:
    assert repr(made(options={"zoneout_c": 0.25})) == (
        "LSTM(3, 5, options=LSTMOptions(zoneout_c=0.25), dtype=float32)"
    )
    assert "zoneout_h=0.5" in made().explain(T, B)
    assert ALL.has_noise()
    assert not LSTMOptions(peepholes=True).has_noise()


def test_only_forward_in_training_mode_is_noisy() -> None:
    lstm = made()
    y, (h_n, c_n) = lstm(X)
    calm, _, tape = lstm.forward(X)
    assert same(calm, y)
    lstm.train()
    assert same(lstm(X)[0], y)
    assert same(lstm.last(X)[1][0], h_n)
    noisy = lstm.forward(X, seed=1)[0]
    assert not np.array_equal(noisy, y)
    lstm.eval()
    assert same(lstm.forward(X, seed=1)[0], y)
    stream = lstm.stream(B)
    assert same(np.stack([stream(x).copy() for x in X]), y)
    assert same(stream.state[1], c_n)
    assert np.isfinite(lstm.backward(tape, y).x).all()  # type: ignore[arg-type]


def test_seeds() -> None:
    """Those that nobody gives follow from the model's own."""
    first, second, other = made().train(), made().train(), made(seed=1).train()
    other.load_state_dict(first.state_dict())
    found = [first.forward(X) for _ in range(3)]
    assert len({y.tobytes() for y, _, _ in found}) == 3
    for y, _, tape in found:
        again, _, own = second.forward(X)
        assert same(again, y)
        assert own.seed == tape.seed
        assert same(first.forward(X, seed=tape.seed)[0], y)
    assert not np.array_equal(other.forward(X)[0], found[0][0])


@pytest.mark.parametrize("name", NOISE)
def test_copies_pickles_and_files(name: str, tmp_path: Path) -> None:
    lstm = made(num_layers=2, options={name: 0.5}).train()
    y = lstm.forward(X, seed=3)[0]
    lstm.save(tmp_path / "model")
    others = [copy.copy(lstm), pickle.loads(pickle.dumps(lstm))]
    others.append(fastlstm.load(tmp_path / "model").train())
    for other in others:
        assert other.options == lstm.options
        assert same(other.forward(X, seed=3)[0], y)


def test_a_tape_remembers_its_noise() -> None:
    """Whatever the model is by the time of backward; and again for every pass."""
    lstm = made(num_layers=2).train()
    y, _, tape = lstm.forward(X, seed=3)
    expected = lstm.backward(tape, y)
    lstm.eval()
    for _ in range(2):
        grads = lstm.backward(tape, y, num_threads=2)
        assert grads.x is not None
        assert expected.x is not None
        assert same(grads.x, expected.x)
        for name, value in expected.params.items():
            assert same(grads.params[name], value)
    lstm.forward(X, tape=tape)
    assert not np.array_equal(lstm.backward(tape, y).h_0, expected.h_0)


@pytest.mark.parametrize("name", NOISE)
def test_gradients_are_added_where_asked(name: str) -> None:
    lstm = made(num_layers=2, options={name: 0.5}, dtype="float64").train()
    y, _, tape = lstm.forward(X.astype("float64"), seed=3)
    grads = lstm.backward(tape, y)
    into = {key: np.ones_like(value) for key, value in grads.params.items()}
    found = lstm.backward(tape, y, into=into)
    for key, value in grads.params.items():
        assert found.params[key] is into[key]
        np.testing.assert_allclose(into[key], 1 + value, rtol=0, atol=1e-12)


def test_a_pass_looks_at_its_mode_once() -> None:
    """Another thread may switch it between two looks."""

    class Switched(fastlstm.LSTM):
        looks = 0

        @property
        def training(self) -> bool:
            type(self).looks += 1
            return self.looks % 2 == 1

    lstm = Switched(I, H, 2, dropout=0.5, seed=0, options=ALL)
    found = lstm.forward(X, seed=3)[0], lstm.forward(X, seed=3)[0]
    assert lstm.looks == 2
    usual = made(num_layers=2, dropout=0.5).train()
    assert same(found[0], usual.forward(X, seed=3)[0])


# ---- weight drop ----


def test_weight_drop_takes_the_plain_kernels() -> None:
    lstm = made(options={"weight_drop": 0.5}, num_layers=2, bidirectional=True)
    plain = made(options=None, num_layers=2, bidirectional=True)
    assert lstm._spec == plain._spec
    assert same(lstm(X)[0], plain(X)[0])


def test_weight_drop_beyond_the_dtype() -> None:
    """Finite weights that 1 / (1 - p) makes infinite: no NaN without a word."""
    lstm = made(options={"weight_drop": 0.9}).train()
    lstm.weight_hh_l0[...] = 1e38
    with pytest.raises(ValueError, match=r"weight_hh_l0 times 1 / \(1 - weight_drop\) = 10 must"):
        lstm.forward(X, seed=0)
    lstm.eval()
    assert np.isfinite(lstm.forward(0 * X)[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weight_drop_is_a_pass_on_other_weights(isa: str, dtype: str) -> None:
    """To the bit, gradients too but for the mask; nobody but that pass sees them."""
    x, p, seed = X.astype(dtype), 0.4, 2**64 - 3
    sizes: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "dtype": dtype}
    lstm = made(options={"weight_drop": p}, **sizes).train()
    before = lstm.state_dict()
    y, _, tape = lstm.forward(x, seed=seed)
    grads = lstm.backward(tape, y)
    plain, params = made(options=None, **sizes), lstm.state_dict()
    masks = {}
    for place, end in enumerate(lstm._spec.suffixes):
        name, rows = "weight_hh" + end, 4 * H
        masks[name] = fastlstm.reference.dropout_mask(seed, 6 << 29 | place, rows, 1, H, p, dtype)[
            :, 0
        ]
        params[name] = params[name] * masks[name]
    plain.load_state_dict(params)
    wanted, _, other = plain.forward(x)
    assert same(y, wanted)
    expected = plain.backward(other, y)
    for name, value in expected.params.items():
        assert same(grads.params[name], value * masks[name] if name in masks else value), name
    for name, value in before.items():
        assert same(lstm.state_dict()[name], value)
    whole = made(options=None, **sizes)
    whole.load_state_dict(before)
    assert same(lstm(x)[0], whole(x)[0])
    assert same(lstm.eval()(x)[0], whole(x)[0])
    assert same(lstm.forward(x, seed=seed)[0], whole(x)[0])


def test_training_with_all_noise_learns() -> None:
    lstm = fastlstm.LSTM(I, 24, seed=0, options=dict.fromkeys(NOISE, 0.1)).train()
    adam, losses = fastlstm.optim.Adam(lstm.parameters(), lr=0.02), []
    for _ in range(60):
        y, _, tape = lstm.forward(X)
        adam.step(lstm.backward(tape, 2 * (y - np.float32(0.3))))
        losses.append(float(np.square(lstm(X)[0] - 0.3).sum()))
    assert losses[-1] < 0.3 * losses[0]


def test_drop_weights_checks_what_it_is_given() -> None:
    isa = fastlstm.available_isas()[0]
    with pytest.raises(ValueError, match="weight_hh"):
        _core.drop_weights(np.ones(3, np.float32), 0.5, 0, 0, isa)
    with pytest.raises(ValueError, match="weight_hh"):
        _core.drop_weights(np.ones((3, 2), np.int32), 0.5, 0, 0, isa)
    with pytest.raises(TypeError, match="weight_hh must be a plain array"):
        _core.drop_weights([[1.0]], 0.5, 0, 0, isa)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown instruction set"):
        _core.drop_weights(np.ones((3, 2), np.float32), 0.5, 0, 0, "none")
