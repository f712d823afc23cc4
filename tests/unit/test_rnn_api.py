# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.RNN as an object: what it shows, takes, refuses, and where its parameters go."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
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
    {"nonlinearity": "relu", "num_layers": 3, "bidirectional": True, "dropout": 0.25},
    {"bias": False, "dtype": np.float64, "batch_first": True},
]


def made(**options: Any) -> fastlstm.RNN:
    return fastlstm.RNN(I, H, **{"seed": 0, **options})


# ---- what it shows ----


def test_what_it_is_called() -> None:
    assert repr(made()) == "RNN(3, 5, dtype=float32)"
    shown = repr(made(num_layers=2, nonlinearity="relu", batch_first=True, dtype="float64"))
    assert shown == "RNN(3, 5, num_layers=2, nonlinearity='relu', batch_first=True, dtype=float64)"
    assert "RNN" in dir(fastlstm)


def test_the_signature_is_torch_s() -> None:
    names = list(inspect.signature(fastlstm.RNN).parameters)
    assert names == [
        "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout",
        "bidirectional", "dtype", "seed",
    ]  # fmt: skip


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_config_and_first_parameters(options: dict[str, Any]) -> None:
    rnn = made(**options)
    again = fastlstm.RNN(**rnn.config(), seed=0)
    assert again.config() == rnn.config()
    assert repr(again) == repr(rnn)
    for name, value in rnn.state_dict().items():
        assert np.array_equal(again.state_dict()[name], value)
        assert value.dtype == rnn.dtype
        assert np.abs(value).max() <= 1 / np.sqrt(H)
        assert value.shape[0] == H
        assert not value.flags.writeable
    other = fastlstm.RNN(**rnn.config(), seed=1)
    assert not np.array_equal(other.weight_hh_l0, rnn.weight_hh_l0)


def test_attributes_are_fixed() -> None:
    rnn = made()
    for name in ("hidden_size", "nonlinearity", "weight_hh_l0"):
        with pytest.raises(AttributeError, match=name):
            setattr(rnn, name, getattr(rnn, name))
    with pytest.raises(AttributeError, match="no attribute 'proj_size'"):
        _ = rnn.proj_size  # type: ignore[attr-defined,unused-ignore]


def test_copies_and_pickles() -> None:
    rnn = made(nonlinearity="relu", num_layers=2)
    y, h_n = rnn(X)
    for other in (copy.copy(rnn), copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        assert repr(other) == repr(rnn)
        assert np.array_equal(other(X)[0], y)
        assert np.array_equal(other(X)[1], h_n)


def test_explain() -> None:
    text = made(nonlinearity="relu").explain(T=4, B=2)
    assert text.startswith("RNN(3, 5, nonlinearity='relu', dtype=float32) on T=4, B=2\n")
    assert "kernels" in text


@pytest.mark.parametrize("kind", [fastlstm.LSTM, fastlstm.RNN, fastlstm.GRU])
@pytest.mark.parametrize("hidden", [1, 5, 16, 17, 33, 64, 65, 130, 300])
def test_explain_counts_the_units(isa: str, dtype: str, kind: Any, hidden: int) -> None:
    """A last panel has one vector, two, or all four: it is at most two vectors too wide. Of a GRU,
    it is the last unit vector that has one, two or three."""
    layer = kind(I, hidden, dtype=dtype, seed=0)
    line = next(x for x in layer.explain(T, B).splitlines() if x.startswith("panels"))
    whole = re.search(r"(\d+) (?:panel|bundle)s? of (\d+) unit", line)
    assert whole
    last = re.search(r", 1 of (\d+) unit", line)
    units = int(whole[1]) * int(whole[2]) + (int(last[1]) if last else 0)
    assert hidden <= units
    assert units - hidden < 2 * layer._engine().plan(T, B, 1)["lanes"] / layer._cell.gates


# ---- a state is h alone ----


def test_states() -> None:
    rnn = made(num_layers=2)
    y, h_n = rnn(X)
    assert y.shape == (T, B, H)
    assert type(h_n) is np.ndarray
    assert h_n.shape == (2, B, H)
    assert np.array_equal(h_n[-1], y[-1])
    assert np.array_equal(rnn(X, np.zeros_like(h_n))[0], y)
    assert not np.array_equal(rnn(X, h_n)[0], y)
    alone, h = rnn(X[:, 0])
    assert (alone.shape, h.shape) == ((T, H), (2, H))
    out = np.empty_like(y)
    assert rnn(X, out=out)[0] is out
    assert np.array_equal(out, y)


def test_gradients() -> None:
    rnn = made(num_layers=2)
    y, h_n, tape = rnn.forward(X)
    grads = rnn.backward(tape, np.ones_like(y))
    assert isinstance(grads, fastlstm.Gradients)
    assert grads.c_0 is None
    assert grads.h_0.shape == h_n.shape
    assert grads.params.keys() == rnn.state_dict().keys()
    assert "c_0=None" in repr(grads)
    assert rnn.backward(tape, None, h_n).params["weight_hh_l0"].any()
    with pytest.raises(ValueError, match="dy or dstate must be given"):
        rnn.backward(tape)


def test_an_optimiser_trains_it() -> None:
    rnn = made(nonlinearity="tanh").train()
    adam = fastlstm.optim.Adam(rnn, lr=0.05)
    target = np.full((T, B, H), 0.5, np.float32)
    losses = []
    for _ in range(30):
        y, _, tape = rnn.forward(X)
        losses.append(float(np.square(y - target).sum()))
        adam.step(rnn.backward(tape, 2 * (y - target)))
    assert losses[-1] < losses[0] / 2
    rnn.eval()
    assert not rnn.weight_hh_l0.flags.writeable


# ---- what it refuses ----


def test_constructor() -> None:
    for wrong in ("elu", "Tanh", None, 3, ["tanh"]):
        with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got"):
            made(nonlinearity=wrong)
    with pytest.raises(TypeError, match="hidden_size must be an integer"):
        fastlstm.RNN(3, "5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype must be"):
        made(dtype="float16")
    with pytest.raises(TypeError):
        made(gemm="blas")
    with pytest.warns(UserWarning, match="dropout acts between layers") as caught:
        made(dropout=0.5)
    assert caught[0].filename == __file__


def test_no_tuple_is_a_state() -> None:
    rnn, h = made(), np.zeros((1, B, H), np.float32)
    for state in ((h, h), [h, h], (h,)):
        with pytest.raises(TypeError, match="state must be h_0 alone, an array of float32, got"):
            rnn(X, state)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="state must be h_0 alone"):
            rnn.forward(X, state)  # type: ignore[call-overload]
    _, _, tape = rnn.forward(X)
    with pytest.raises(TypeError, match="dstate must be dh_n alone"):
        rnn.backward(tape, None, (h, h))  # type: ignore[arg-type]
    stream = rnn.stream(B)
    with pytest.raises(TypeError, match="state must be h_0 alone"):
        stream.state = (h, h)
    assert not stream.state.any()


@pytest.mark.parametrize(
    "h_0,error,words",
    [
        (np.zeros((1, B, H + 1), np.float32), ValueError, "h_0 must have shape"),
        (np.zeros((B, H), np.float32), ValueError, "h_0 must have shape"),
        (np.zeros((1, B, H)), TypeError, "h_0 must have dtype float32, got float64"),
        (np.zeros((1, B, H), int), TypeError, "h_0 must have dtype"),
        (3.0, TypeError, "h_0 must be an array"),
        ("h", TypeError, "h_0 must be an array"),
    ],
)
def test_states_that_do_not_fit(h_0: Any, error: type[Exception], words: str) -> None:
    rnn = made()
    with pytest.raises(error, match=words):
        rnn(X, h_0)
    with pytest.raises(error, match=words):
        rnn.forward(X, h_0)


def test_nothing_of_cell_states() -> None:
    rnn = made()
    calls = (rnn, rnn.forward)
    for call in calls:
        with pytest.raises(ValueError, match="return_cells needs a cell state c"):
            call(X, return_cells=True)
    y, _, tape = rnn.forward(X)
    with pytest.raises(ValueError, match="dcells needs a cell state c"):
        rnn.backward(tape, y, dcells=y)


def test_tapes_of_other_models() -> None:
    y, _, tape = made().forward(X)
    made(seed=3).backward(tape, y)
    lstm = fastlstm.LSTM(I, H, seed=0)
    for other in (made(nonlinearity="relu"), made(bias=False), lstm):
        with pytest.raises(ValueError, match="tape must come from"):
            other.backward(tape, y)
    with pytest.raises(ValueError, match="tape must come from"):
        made().backward(lstm.forward(X)[2], y)


def test_no_stream_of_two_directions() -> None:
    with pytest.raises(ValueError, match="a bidirectional RNN cannot be streamed"):
        made(bidirectional=True).stream()


def test_a_stream_s_input() -> None:
    stream = made(batch_first=True).stream(B)
    assert stream(X[0]).shape == (B, H)
    assert stream(X.swapaxes(0, 1)).shape == (B, T, H)
    with pytest.raises(ValueError, match="x must have shape"):
        stream(X[0, :, :2])
    with pytest.raises(TypeError, match="x must have dtype"):
        stream(X[0].astype(float))
    alone = made().stream()
    assert alone(X[0, 0]).shape == (H,)
    assert alone.state.shape == (1, 1, H)
    assert "Stream(3, 5" in repr(alone)


# ---- parameters in and out ----


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"bias": False, "num_layers": 2, "bidirectional": True}])
def test_from_torch(nonlinearity: str, dtype: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    module = torch.nn.RNN(I, H, nonlinearity=nonlinearity, dtype=kind, **options)
    rnn = fastlstm.RNN.from_torch(module)
    assert type(rnn) is fastlstm.RNN
    assert (rnn.nonlinearity, rnn.dtype) == (nonlinearity, dtype)
    for name, value in module.state_dict().items():
        assert np.array_equal(rnn.state_dict()[name], value.numpy())
    again = made(nonlinearity=nonlinearity, dtype=dtype, **options)
    again.load_state_dict(module.state_dict())
    module.load_state_dict({n: torch.tensor(v) for n, v in again.state_dict().items()})
    x = X.astype(dtype)
    with torch.no_grad():
        y, h_n = module(torch.tensor(x))
    bound = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(rnn(x)[0], y, rtol=0, atol=bound)
    np.testing.assert_allclose(rnn(x)[1], h_n, rtol=0, atol=bound)


def test_from_torch_goes_by_what_torch_computes() -> None:
    torch = pytest.importorskip("torch")

    class Base(torch.nn.modules.rnn.RNNBase):  # type: ignore[misc]
        forward = torch.nn.RNN.forward

    changed = torch.nn.RNN(I, H)
    changed.nonlinearity = "relu"  # which torch's forward does not look at
    for module, computed in ((Base("RNN_RELU", I, H), "relu"), (changed, "tanh")):
        rnn = fastlstm.RNN.from_torch(module)
        assert rnn.nonlinearity == computed
        with torch.no_grad():
            expected = module(torch.tensor(X))[0]
        np.testing.assert_allclose(rnn(X)[0], expected, rtol=0, atol=40 * np.finfo("f4").eps)


def test_from_a_model_of_ours() -> None:
    with pytest.raises(TypeError, match=r"must be a torch.nn.RNN, got LSTM"):
        fastlstm.RNN.from_torch(fastlstm.LSTM(I, H))
    with pytest.raises(TypeError, match=r"must be a torch.nn.LSTM, got RNN"):
        fastlstm.LSTM.from_torch(made())
    assert fastlstm.RNN.from_torch(made(nonlinearity="relu")).nonlinearity == "relu"


def test_from_another_module() -> None:
    nn = pytest.importorskip("torch").nn
    for module, words in (
        (nn.LSTM(I, H), "LSTM: fastlstm.LSTM.from_torch takes it"),
        (nn.GRU(I, H), "GRU: fastlstm.GRU.from_torch takes it"),
        (nn.RNNCell(I, H), "RNNCell: fastlstm.RNNCell.from_torch takes it"),
        (nn.Sequential(nn.RNN(I, H)), r"Sequential, which holds RNNs: hand over one of them \(0\)"),
        ({}, "dict: fastlstm.RNN.from_state_dict takes mappings"),
    ):
        with pytest.raises(TypeError, match=f"must be a torch.nn.RNN, got {words}"):
            fastlstm.RNN.from_torch(module)


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_from_state_dict(options: dict[str, Any]) -> None:
    rnn = made(**options)
    wanted = {"nonlinearity": rnn.nonlinearity, "dropout": rnn.dropout}
    wanted |= {"batch_first": rnn.batch_first}
    state = {f"encoder.rnn.{name}": value for name, value in rnn.state_dict().items()}
    for given in (rnn.state_dict(), {**state, "head.weight": X}, {"model": state}):
        again = fastlstm.RNN.from_state_dict(given, **wanted)
        assert again.config() == rnn.config()
        for name, value in rnn.state_dict().items():
            assert np.array_equal(again.state_dict()[name], value)
    cell = {name.removesuffix("_l0"): value for name, value in made().state_dict().items()}
    assert np.array_equal(fastlstm.RNN.from_state_dict(cell).bias_ih_l0, cell["bias_ih"])


def test_from_state_dicts_of_others() -> None:
    lstm, rnn = fastlstm.LSTM(I, H, seed=0).state_dict(), made().state_dict()
    with pytest.raises(ValueError, match=r"must have shape \(H, H\).*: four gates, as an LSTM has"):
        fastlstm.RNN.from_state_dict(lstm)
    with pytest.raises(ValueError, match=r"must have shape \(4 H, H\).*: one gate, as an RNN has"):
        fastlstm.LSTM.from_state_dict(rnn)
    with pytest.raises(ValueError, match="state_dict has no RNN"):
        fastlstm.RNN.from_state_dict({"weight": X})
    both = {f"a.{n}": v for n, v in lstm.items()} | {f"b.{n}": v for n, v in rnn.items()}
    assert fastlstm.RNN.from_state_dict(both).hidden_size == H  # the one with one gate
    assert fastlstm.LSTM.from_state_dict(both).hidden_size == H
    with pytest.raises(ValueError, match="nonlinearity must be"):
        fastlstm.RNN.from_state_dict(rnn, nonlinearity="elu")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_files(tmp_path: Path, options: dict[str, Any]) -> None:
    rnn = made(**options)
    rnn.save(tmp_path / "model")
    loaded = fastlstm.load(tmp_path / "model")
    assert type(loaded) is fastlstm.RNN
    assert loaded.config() == rnn.config()
    for name, value in rnn.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name], value)
    with safetensors.safe_open(tmp_path / "model", framework="numpy") as file:
        config = json.loads(file.metadata()["fastlstm"])
    assert config == {"format": 1, "class": "RNN", **rnn.config()}


@pytest.mark.parametrize(
    "change", [{"class": "LSTM"}, {"class": "GRU"}, {"nonlinearity": "elu"}, {"hidden_size": 2**30}]
)
def test_files_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    rnn, path = made(), tmp_path / "model"
    text = json.dumps({"format": 1, "class": "RNN", **rnn.config(), **change})
    safetensors.numpy.save_file(rnn.state_dict(), path, {"fastlstm": text})
    with pytest.raises(ValueError, match="model cannot be loaded"):
        fastlstm.load(path)


def test_a_file_that_lacks_its_nonlinearity(tmp_path: Path) -> None:
    rnn, path = made(), tmp_path / "model"
    config = {name: value for name, value in rnn.config().items() if name != "nonlinearity"}
    text = json.dumps({"format": 1, "class": "RNN", **config})
    safetensors.numpy.save_file(rnn.state_dict(), path, {"fastlstm": text})
    with pytest.raises(ValueError, match="it does not say which nonlinearity"):
        fastlstm.load(path)
