# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.GRU as an object: what it shows and refuses, and where its parameters go. What it shares
with the RNN, whose state is h alone as well, tests/unit/test_rnn_api.py tests there."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import fastlstm

I, H, B, T = 3, 5, 2, 4  # noqa: E741
X = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
CONFIGS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "bidirectional": True, "dropout": 0.25},
    {"bias": False, "dtype": np.float64, "batch_first": True},
    {"reset_after": False, "num_layers": 2},
]


def made(**options: Any) -> fastlstm.GRU:
    return fastlstm.GRU(I, H, **{"seed": 0, **options})


# ---- what it shows ----


def test_what_it_is_called() -> None:
    assert repr(made()) == "GRU(3, 5, dtype=float32)"
    shown = repr(made(num_layers=2, batch_first=True, dtype="float64"))
    assert shown == "GRU(3, 5, num_layers=2, batch_first=True, dtype=float64)"
    assert repr(made(reset_after=False)) == "GRU(3, 5, reset_after=False, dtype=float32)"
    assert "GRU" in dir(fastlstm)


def test_the_signature_is_torch_s() -> None:
    assert list(inspect.signature(fastlstm.GRU).parameters) == [
        "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
        "bidirectional", "reset_after", "dtype", "seed",
    ]  # fmt: skip


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_config_and_first_parameters(options: dict[str, Any]) -> None:
    gru = made(**options)
    again = fastlstm.GRU(**gru.config(), seed=0)
    assert again.config() == gru.config()
    assert repr(again) == repr(gru)
    for name, value in gru.state_dict().items():
        assert np.array_equal(again.state_dict()[name], value)
        assert value.dtype == gru.dtype
        assert np.abs(value).max() <= 1 / np.sqrt(H)
        assert value.shape[0] == 3 * H


def test_copies_and_pickles() -> None:
    gru = made(num_layers=2)
    y, h_n = gru(X)
    for other in (copy.copy(gru), copy.deepcopy(gru), pickle.loads(pickle.dumps(gru))):
        assert repr(other) == repr(gru)
        assert np.array_equal(other(X)[0], y)
        assert np.array_equal(other(X)[1], h_n)


def test_explain() -> None:
    lines = fastlstm.GRU(I, 300, seed=0).explain(T=4, B=2).splitlines()
    assert lines[0] == "GRU(3, 300, dtype=float32) on T=4, B=2"
    (panels,) = (line for line in lines if line.startswith("panels"))
    assert panels.endswith(", 3 panels a bundle, recurrent products in one partial sum")
    assert not any(line.startswith("stages") for line in lines)
    lines = fastlstm.GRU(I, 300, seed=0, reset_after=False).explain(T=4, B=2).splitlines()
    (stages,) = (line for line in lines if line.startswith("stages"))
    assert stages.endswith("r and z, then n from r h, after a barrier where threads share units")


# ---- a state is h alone ----


def test_states_and_gradients() -> None:
    gru = made(num_layers=2)
    y, h_n = gru(X)
    assert (y.shape, h_n.shape) == ((T, B, H), (2, B, H))
    assert np.array_equal(h_n[-1], y[-1])
    assert np.array_equal(gru(X, np.zeros_like(h_n))[0], y)
    assert not np.array_equal(gru(X, h_n)[0], y)
    out = np.empty_like(y)
    assert gru(X, out=out)[0] is out
    assert np.array_equal(out, y)
    _, _, tape = gru.forward(X)
    grads = gru.backward(tape, np.ones_like(y))
    assert grads.c_0 is None
    assert grads.h_0.shape == h_n.shape
    assert grads.params.keys() == gru.state_dict().keys()
    # r stands between the biases of the candidate only.
    ih, hh = grads.params["bias_ih_l0"], grads.params["bias_hh_l0"]
    assert np.array_equal(ih[: 2 * H], hh[: 2 * H])
    assert not np.array_equal(ih[2 * H :], hh[2 * H :])


def test_without_a_step_the_gradient_is_the_caller_s() -> None:
    gru, h_0 = made(bidirectional=True), np.ones((2, B, H), np.float32)
    dh_n = np.full_like(h_0, 2)
    for x, lengths in ((X[:0], None), (X, [0, 0])):
        _, h_n, tape = gru.forward(x, h_0, lengths=lengths)
        assert np.array_equal(h_n, h_0)
        grads = gru.backward(tape, None, dh_n)
        assert np.array_equal(grads.h_0, dh_n)
        assert not any(value.any() for value in grads.params.values())
    empty = np.zeros((T, 0, I), np.float32)
    assert gru(empty)[1].shape == (2, 0, H)


def test_an_optimiser_trains_it() -> None:
    gru = made().train()
    adam = fastlstm.optim.Adam(gru, lr=0.05)
    target = np.full((T, B, H), 0.5, np.float32)
    losses = []
    for _ in range(30):
        y, _, tape = gru.forward(X)
        losses.append(float(np.square(y - target).sum()))
        adam.step(gru.backward(tape, 2 * (y - target)))
    assert losses[-1] < losses[0] / 2


# ---- what it refuses ----


def test_bad_input() -> None:
    gru, h = made(), np.zeros((1, B, H), np.float32)
    for name in ("nonlinearity", "proj_size", "gemm"):
        with pytest.raises(TypeError, match=name):
            made(**{name: 0})
    with pytest.raises(TypeError, match="hidden_size must be an integer"):
        fastlstm.GRU(3, "5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="state must be h_0 alone"):
        gru(X, (h, h))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="h_0 must have shape"):
        gru(X, h[:, :1])
    with pytest.raises(ValueError, match=r"return_cells needs a cell state c.*\(GRU\) has none"):
        gru(X, return_cells=True)
    y, _, tape = gru.forward(X)
    with pytest.raises(ValueError, match="dcells needs a cell state c"):
        gru.backward(tape, y, dcells=y)
    for other in (made(bias=False), fastlstm.RNN(I, H), fastlstm.LSTM(I, H)):
        with pytest.raises(ValueError, match="tape must come from"):
            other.backward(tape, y)
    with pytest.raises(ValueError, match="a bidirectional GRU cannot be streamed"):
        made(bidirectional=True).stream()


@pytest.mark.parametrize("gate", ["r", "z", "n"])
def test_weights_beyond_the_scales(dtype: str, gate: str) -> None:
    """Kernels multiply those of n by 2 log2 e, the others by log2 e."""
    gru = made(dtype=dtype)
    params = gru.state_dict()
    row = "rzn".index(gate) * H
    largest = np.finfo(dtype).max / (2 * np.log2(np.e) if gate == "n" else np.log2(np.e))
    for name in ("weight_hh_l0", "bias_hh_l0"):
        for factor, good in ((0.999, True), (1.001, False)):
            changed = {key: value.copy() for key, value in params.items()}
            changed[name][row] = factor * largest
            gru.load_state_dict(changed)
            if good:
                gru(X.astype(dtype))
                continue
            with pytest.raises(ValueError, match=r"finite weights must be below .* gates r and z"):
                gru(X.astype(dtype))


# ---- parameters in and out ----


@pytest.mark.parametrize("options", [{}, {"bias": False, "num_layers": 2, "bidirectional": True}])
def test_from_torch(dtype: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.GRU(I, H, dtype=getattr(torch, dtype), **options)
    gru = fastlstm.GRU.from_torch(module)
    assert type(gru) is fastlstm.GRU
    assert gru.dtype == dtype
    for name, value in module.state_dict().items():
        assert np.array_equal(gru.state_dict()[name], value.numpy())
    again = made(dtype=dtype, **options)
    again.load_state_dict(module.state_dict())
    module.load_state_dict({n: torch.tensor(v) for n, v in again.state_dict().items()})
    x = X.astype(dtype)
    with torch.no_grad():
        y, h_n = module(torch.tensor(x))
    bound = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(gru(x)[0], y, rtol=0, atol=bound)
    np.testing.assert_allclose(gru(x)[1], h_n, rtol=0, atol=bound)


def test_from_another_module() -> None:
    nn = pytest.importorskip("torch").nn
    for module, words in (
        (nn.LSTM(I, H), "LSTM: fastlstm.LSTM.from_torch takes it"),
        (nn.RNN(I, H), "RNN: fastlstm.RNN.from_torch takes it"),
        (nn.GRUCell(I, H), "GRUCell: fastlstm.GRUCell.from_torch takes it"),
        (nn.Sequential(nn.GRU(I, H)), r"Sequential, which holds GRUs: hand over one of them \(0\)"),
        (fastlstm.LSTM(I, H), "LSTM"),
        ({}, "dict: fastlstm.GRU.from_state_dict takes mappings"),
    ):
        with pytest.raises(TypeError, match=f"must be a torch.nn.GRU, got {words}"):
            fastlstm.GRU.from_torch(module)


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_from_state_dict(options: dict[str, Any]) -> None:
    gru = made(**options)
    names = ("dropout", "batch_first", "reset_after")
    wanted = {name: getattr(gru, name) for name in names}
    state = {f"encoder.gru.{name}": value for name, value in gru.state_dict().items()}
    for given in (gru.state_dict(), {**state, "head.weight": X}, {"model": state}):
        again = fastlstm.GRU.from_state_dict(given, **wanted)
        assert again.config() == gru.config()
        for name, value in gru.state_dict().items():
            assert np.array_equal(again.state_dict()[name], value)


def test_from_state_dicts_of_others() -> None:
    lstm, gru = fastlstm.LSTM(I, H, seed=0).state_dict(), made().state_dict()
    with pytest.raises(ValueError, match=r"must have shape \(3 H, H\).*: four gates, as an LSTM"):
        fastlstm.GRU.from_state_dict(lstm)
    with pytest.raises(ValueError, match=r"must have shape \(H, H\).*: three gates, as a GRU has"):
        fastlstm.RNN.from_state_dict(gru)
    both = {f"a.{n}": v for n, v in lstm.items()} | {f"b.{n}": v for n, v in gru.items()}
    assert fastlstm.GRU.from_state_dict(both).hidden_size == H  # the one with three gates


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_files(tmp_path: Path, options: dict[str, Any]) -> None:
    gru = made(**options)
    gru.save(tmp_path / "model")
    loaded = fastlstm.load(tmp_path / "model")
    assert type(loaded) is fastlstm.GRU
    assert loaded.config() == gru.config()
    for name, value in gru.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name], value)
    with safetensors.safe_open(tmp_path / "model", framework="numpy") as file:
        config = json.loads(file.metadata()["fastlstm"])
    assert config == {"format": 1, "class": "GRU", **gru.config()}
