# SPDX-License-Identifier: BSD-3-Clause
"""LSTMCell, RNNCell and their like as objects: what they show, take, refuse, and where their
parameters go."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.classes import CLASSES, TORCH

I, H, B = 3, 5, 2  # noqa: E741
X = np.random.default_rng(0).standard_normal((B, I)).astype(np.float32)


@pytest.fixture(params=CLASSES)
def cell(request: pytest.FixtureRequest) -> str:
    """Those of the cells that have a class for one step."""
    return request.param


def made(cell: str, *args: Any, **options: Any) -> Any:
    of = CLASSES[cell]
    return of.step(I, H, *args, **{"seed": 0, **of.options, **options})


# ---- what they show ----


def test_what_it_is_called(cell: str) -> None:
    name = CLASSES[cell].step.__name__
    usual = {"nonlinearity": "tanh", "reset_after": True}
    shown = {n: v for n, v in CLASSES[cell].options.items() if v != usual[n]}
    more = "".join(f", {option}={value!r}" for option, value in shown.items())
    assert repr(made(cell)) == f"{name}(3, 5{more}, dtype=float32)"
    shown = repr(made(cell, False, dtype="float64"))
    assert shown == f"{name}(3, 5, bias=False{more}, dtype=float64)"
    assert name in dir(fastlstm)

    class Special(CLASSES[cell].step):  # type: ignore[misc]
        pass

    assert repr(Special(3, 5)).startswith(f"{name}(3, 5, ")


def test_signature_and_parameters_are_torchs(cell: str) -> None:
    torch = pytest.importorskip("torch")
    of = CLASSES[cell]
    theirs = getattr(torch.nn, of.step.__name__)
    names = [n for n in inspect.signature(theirs).parameters if n not in ("device", "dtype")]
    own = ["dtype", "seed"]
    own = ["reset_after", *own] if of.step is fastlstm.GRUCell else own
    own = [*own, "options"] if of.step is fastlstm.LSTMCell else own
    assert list(inspect.signature(of.step).parameters) == [*names, *own]
    for bias in (True, False):
        expected = theirs(I, H, bias).state_dict()
        found = made(cell, bias).state_dict()
        assert {n: v.shape for n, v in found.items()} == {
            n: tuple(expected[n].shape) for n in expected
        }


def test_attributes_are_fixed(cell: str) -> None:
    step = made(cell)
    names = ["input_size", "hidden_size", "bias", "dtype", "weight_ih", *CLASSES[cell].options]
    for name in names:
        with pytest.raises(AttributeError, match=name):
            setattr(step, name, getattr(step, name))


def test_copies(cell: str) -> None:
    step = made(cell)
    expected = CLASSES[cell].stepped(step, X)
    for twin in (copy.copy(step), copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        assert repr(twin) == repr(step)
        assert np.array_equal(CLASSES[cell].stepped(twin, X), expected)
        assert not np.shares_memory(twin.weight_ih, step.weight_ih)


# ---- what they compute ----


def test_a_step_is_a_layer_s(cell: str) -> None:
    """Batched or not, with and without a state; and a layer takes a cell's state dict."""
    of, step = CLASSES[cell], made(cell)
    layer = of.layer.from_state_dict(step.state_dict(), **of.options)
    assert (layer.num_layers, layer.hidden_size) == (1, H)
    state = of.stepped(step, X)
    assert all(part.shape == (B, H) for part in state)
    again = of.stepped(step, X, state)
    y, final = layer(np.stack([X, X]))
    assert np.array_equal(y, [state[0], again[0]])
    assert np.array_equal(np.stack(again), np.stack(final if of.has_c else (final,))[:, 0])
    one = of.stepped(step, X[1], tuple(part[1] for part in state))
    assert np.array_equal(one, np.stack(again)[:, 1])
    with pytest.raises(ValueError, match=r"missing: weight_ih, .*unexpected: weight_ih_l0"):
        step.load_state_dict(layer.state_dict())


def test_training_mode_sees_what_is_written(cell: str) -> None:
    of, step = CLASSES[cell], made(cell).train()
    step.weight_ih[...] = step.weight_hh[...] = step.bias_ih[...] = step.bias_hh[...] = 0
    assert not np.any(of.stepped(step, X))
    step.bias_ih[...] = 1
    assert np.all(of.stepped(step.eval(), X))


# ---- what they refuse ----


def test_constructors(cell: str) -> None:
    make = CLASSES[cell].step
    for name, given in (
        ("input_size", (0, 3)),
        ("hidden_size", (3, 0)),
        ("input_size", ("3", 3)),
        ("hidden_size", (3, 2.0)),
        ("bias", (3, 3, 1)),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
            make(*given)
    for name, value in (("dtype", "float16"), ("seed", "x"), ("seed", -1)):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
            make(3, 3, **{name: value})
    for name in ("num_layers", "batch_first", "dropout", "gemm"):
        with pytest.raises(TypeError, match=name):
            make(3, 3, **{name: 1})


def test_where_a_gru_resets() -> None:
    """Before the product, r h takes the place of h; of h = 0 it makes no difference."""
    for wrong in (0, 1, None, "False"):
        with pytest.raises(TypeError, match="reset_after must be True or False, got"):
            fastlstm.GRUCell(3, 5, reset_after=wrong)  # type: ignore[arg-type]
    before, after = made("gru_reset_before"), made("gru", bias=True)
    assert np.array_equal(before.weight_hh, after.weight_hh)
    h = np.full((B, H), 0.5, np.float32)
    assert np.abs(before(X, h) - after(X, h)).max() > 1e-3
    again = fastlstm.GRUCell.from_torch(before)
    assert repr(again) == repr(before)
    assert np.array_equal(again(X, h), before(X, h))


def test_nonlinearities() -> None:
    for wrong in ("elu", "Tanh", None, 3, ["tanh"]):
        with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got"):
            fastlstm.RNNCell(3, 5, nonlinearity=wrong)  # type: ignore[arg-type]
    assert np.any(made("rnn_tanh")(X) < 0)
    assert np.array_equal(made("rnn_relu")(X) == 0, made("rnn_tanh")(X) < 0)


def test_states_that_do_not_fit(cell: str) -> None:
    of, step = CLASSES[cell], made(cell)
    good = of.stepped(step, X)
    before = np.stack(good)
    alone = "state must be " + (r"a pair \(h_0, c_0\)" if of.has_c else "h_0 alone")
    for wrong in ((), (X,), (X, X, X), "hc" if of.has_c else [X]):
        with pytest.raises(TypeError, match=alone):
            step(X, wrong)
    for at, name in enumerate(("h_0", "c_0")[: len(good)]):
        for change, error in (
            (lambda h: h[:, 1:], ValueError),
            (lambda h: h[0], ValueError),
            (lambda h: h[None], ValueError),
            (lambda h: h.astype(np.float64), TypeError),
            (lambda h: h.astype(int), TypeError),
            (lambda h: 0.5, TypeError),
        ):
            state = list(good)
            state[at] = change(good[at])
            with pytest.raises(error, match=f"^{name} must"):
                of.stepped(step, X, tuple(state))
    for x in (X[:, 1:], X[None], X[0, 0], np.zeros((1, B, I), np.float32)):
        with pytest.raises((TypeError, ValueError), match=r"^x must"):
            step(x)
    assert np.array_equal(of.stepped(step, X), before)


# ---- from PyTorch ----


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_from_torch(cell: str, bias: bool, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    of = CLASSES[cell]
    theirs = getattr(torch.nn, of.step.__name__)
    module = theirs(I, H, bias, **of.options, dtype=getattr(torch, dtype))

    class Special(of.step):  # type: ignore[misc,name-defined]
        pass

    step = Special.from_torch(module)
    assert type(step) is Special
    assert (step.input_size, step.hidden_size, step.bias) == (I, H, bias)
    assert step.dtype == dtype
    assert {name: getattr(step, name) for name in of.options} == of.options
    x = torch.randn(B, I, dtype=module.weight_ih.dtype)
    state = tuple(torch.randn(B, H, dtype=x.dtype) for _ in range(1 + of.has_c))
    with torch.no_grad():
        expected = of.stepped(module, x, state)
    # Sums of I + H + 2 terms below 4, one epsilon each, and an activation's own few.
    bound = 4 * (I + H + 2) * 4 * np.finfo(dtype).eps
    for mine, exact in zip(of.stepped(step, x, state), expected, strict=True):
        np.testing.assert_allclose(mine, exact, rtol=0, atol=bound)
    again = of.step.from_torch(step)  # one of ours has all that is asked for
    assert repr(again) == repr(step)
    assert np.array_equal(again.weight_hh, step.weight_hh)


def test_from_another_cell(cell: str) -> None:
    nn = pytest.importorskip("torch").nn
    of = CLASSES[cell]
    name = of.step.__name__
    for other in CLASSES.values():
        theirs = other.step.__name__
        words = f"must be a torch.nn.{name}, got "
        if other.step is not of.step:
            advice = f"{words}{theirs}: fastlstm.{theirs}.from_torch takes it"
            with pytest.raises(TypeError, match=re.escape(advice)):
                of.step.from_torch(getattr(nn, theirs)(I, H))
            with pytest.raises(TypeError, match=re.escape(words + theirs)):
                of.step.from_torch(other.step(I, H))
        layer = other.layer.__name__
        with pytest.raises(TypeError, match=re.escape(f"fastlstm.{layer}.from_torch takes it")):
            of.step.from_torch(getattr(nn, layer)(I, H))
        with pytest.raises(TypeError, match=re.escape(words + layer)):
            of.step.from_torch(other.layer(I, H))
