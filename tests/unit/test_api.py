# SPDX-License-Identifier: BSD-3-Clause
"""What objects say and how they behave: parameters, attributes, streams, reports."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.refusals import CELL, LSTM, B, F, H, L, T, X, random

pytestmark = pytest.mark.sanitize_each_isa

# ---- parameters ----


def test_names_and_shapes_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    for options in (
        {},
        {"num_layers": 3},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "bias": False},
    ):
        theirs = torch.nn.LSTM(F, H, **options).state_dict()
        ours = fastlstm.LSTM(F, H, **options).state_dict()
        assert list(ours) == list(theirs)
        assert [v.shape for v in ours.values()] == [tuple(v.shape) for v in theirs.values()]
    for bias in (True, False):
        theirs = torch.nn.LSTMCell(F, H, bias).state_dict()
        ours = fastlstm.LSTMCell(F, H, bias).state_dict()
        assert {n: v.shape for n, v in ours.items()} == {n: tuple(theirs[n].shape) for n in theirs}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [1, 4, 100])
def test_first_values(dtype: Any, hidden: int) -> None:
    """Uniform in +-1/sqrt(H): bounds, mean and variance (bound**2 / 3) within five standard
    errors, both halves and both ends used."""
    bound = 1 / np.sqrt(hidden)
    size = 40_000 // hidden
    values = np.concatenate(
        [
            value.ravel().astype(np.float64)
            for model in (fastlstm.LSTM(size, hidden, dtype=dtype, seed=1),)
            for value in model.state_dict().values()
        ]
    )
    # in dtype, 2 * bound * u - bound may be rounded to beyond -bound by an ulp at most
    assert np.abs(values).max() <= bound * (1 + 2 * np.finfo(dtype).eps)
    assert values.min() < -0.99 * bound
    assert values.max() > 0.99 * bound
    error = 5 / np.sqrt(values.size)
    assert abs(values.mean()) < error * bound / np.sqrt(3)
    assert abs(values.var() / (bound**2 / 3) - 1) < error * np.sqrt(4 / 5)


@pytest.mark.parametrize("make", [fastlstm.LSTM, fastlstm.LSTMCell])
def test_seed(make: Any) -> None:
    def values(seed: Any) -> bytes:
        return b"".join(value.tobytes() for value in make(3, 5, seed=seed).state_dict().values())

    assert values(7) == values(7) == values(np.int64(7)) == values(np.random.default_rng(7))
    assert len({values(0), values(1), values(2**100), values([1, 2])}) == 4
    assert values(None) != values(None)
    generator = np.random.default_rng(7)
    assert values(generator) == values(7)
    assert values(generator) != values(7)  # it has moved on
    np.random.seed(0)
    before = np.random.get_state()[1].tobytes()
    values(None)
    assert np.random.get_state()[1].tobytes() == before, "NumPy's global generator was used"


def test_parameters_are_read_only() -> None:
    for model in (LSTM, CELL):
        for name, value in model.state_dict().items():
            assert getattr(model, name) is value
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0
        model.state_dict().clear()  # a dict of the caller's own
        assert model.state_dict()
        with pytest.raises(AttributeError, match="weight_ih_l9"):
            _ = model.weight_ih_l9


ATTRIBUTES = [
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size", "dtype", "gemm", "weight_ih_l0", "bias_hh_l1"),
]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_read_only(name: str) -> None:
    lstm = fastlstm.LSTM(F, H, L, seed=0)
    before = getattr(lstm, name)
    with pytest.raises(AttributeError, match=name):
        setattr(lstm, name, before)
    with pytest.raises(AttributeError):
        delattr(lstm, name)
    assert getattr(lstm, name) is before


@pytest.mark.parametrize("name", ["input_size", "hidden_size", "bias", "dtype", "weight_ih"])
def test_attributes_of_a_cell_are_read_only(name: str) -> None:
    cell = fastlstm.LSTMCell(F, H, seed=0)
    with pytest.raises(AttributeError, match=name):
        setattr(cell, name, getattr(cell, name))


# ---- loading ----


def wrong_everywhere() -> dict[str, Any]:
    values: dict[str, Any] = {name: 0 * value for name, value in LSTM.state_dict().items()}
    del values["weight_hh_l0"], values["bias_ih_l1"]
    values["weight_hr_l0"] = values["bias_ih_l0"]
    values["bias_ih_l0"] = values["bias_ih_l0"][1:]
    values["weight_ih_l1"] = values["weight_ih_l1"].T
    values["weight_hh_l1"] = values["weight_hh_l1"].astype(np.float64)
    return values


def test_all_that_is_wrong_in_one_error() -> None:
    """And nothing is loaded, not even what would fit."""
    lstm = fastlstm.LSTM(F, H, L, seed=0)
    before = lstm.state_dict()
    with pytest.raises(ValueError) as caught:
        lstm.load_state_dict(wrong_everywhere())
    text = str(caught.value)
    assert re.search(r"missing: weight_hh_l0, bias_ih_l1", text), text
    assert re.search(r"unexpected: weight_hr_l0", text), text
    assert f"bias_ih_l0 has shape ({4 * H - 1},), must have ({4 * H},)" in text, text
    assert f"weight_ih_l1 has shape ({H}, {4 * H}), must have ({4 * H}, {H})" in text, text
    assert "weight_hh_l1 has dtype float64" in text, text
    assert all(lstm.state_dict()[name] is value for name, value in before.items())
    assert np.array_equal(lstm(X)[0], LSTM(X)[0])


def test_not_strict() -> None:
    """Takes what fits and says what it passed over; a wrong shape is an error even so."""
    lstm, other = fastlstm.LSTM(F, H, L, seed=0), fastlstm.LSTM(F, H, L, seed=1)
    values: dict[Any, Any] = dict(other.state_dict())
    del values["bias_hh_l0"]
    values["head.weight"] = np.zeros(3)
    values[7] = "anything"
    result = lstm.load_state_dict(values, strict=False)
    assert result.missing_keys == ["bias_hh_l0"]
    assert result.unexpected_keys == ["head.weight", "7"]
    assert np.array_equal(lstm.weight_ih_l0, other.weight_ih_l0)
    assert np.array_equal(lstm.bias_hh_l0, LSTM.bias_hh_l0)
    assert not np.array_equal(lstm(X)[0], LSTM(X)[0])
    with pytest.raises(ValueError, match="weight_ih_l1 has shape"):
        lstm.load_state_dict(wrong_everywhere(), strict=False)
    assert lstm.load_state_dict(other.state_dict()) == ([], [])
    assert np.array_equal(lstm(X)[0], other(X)[0])


class Dlpack:
    """Nothing but DLPack, as some libraries' arrays are."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Holder:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


KINDS: dict[str, Any] = {
    "arrays": np.array,
    "Fortran order": np.asfortranarray,
    "byte-swapped": lambda a: a.astype(">f4"),
    "float16": lambda a: a.astype(np.float16),
    "DLPack": lambda a: Dlpack(a.copy()),
    "__array__": Holder,
    "memoryview": memoryview,
    "torch tensors": lambda a: torch_tensor(a),
    "torch parameters": lambda a: torch_tensor(a, grad=True),
    "transposed tensors": lambda a: torch_tensor(np.ascontiguousarray(a.T)).t(),
    "bfloat16 tensors": lambda a: torch_tensor(a, "bfloat16"),
    "half tensors": lambda a: torch_tensor(a, "float16"),
}


def torch_tensor(a: np.ndarray, dtype: str = "float32", *, grad: bool = False) -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=grad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_load(kind: str, dtype: Any) -> None:
    """Anything that is an array; values are copied, and keep their value in a wider dtype."""
    # multiples of 1/64 below 1: exact in every dtype here
    rng = np.random.default_rng(0)
    exact = {
        name: (rng.integers(-63, 64, value.shape) / 64).astype(np.float32)
        for name, value in LSTM.state_dict().items()
    }
    given = {name: KINDS[kind](value) for name, value in exact.items()}
    lstm = fastlstm.LSTM(F, H, L, dtype=dtype, seed=3)
    lstm(X.astype(dtype))
    assert lstm.load_state_dict(given) == ([], [])
    for name, value in exact.items():
        assert np.array_equal(lstm.state_dict()[name], value)
        assert lstm.state_dict()[name].dtype == dtype
    expected = lstm(X.astype(dtype))[0]
    if kind == "arrays":
        for value in given.values():
            value[...] = 0
        assert np.array_equal(lstm(X.astype(dtype))[0], expected)
        assert lstm.weight_ih_l0.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_from_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(
        F, H, 2, batch_first=True, bidirectional=True, dropout=0.5, dtype=getattr(torch, dtype)
    ).eval()
    lstm = fastlstm.LSTM.from_torch(module)
    assert lstm.config() == {
        "input_size": F,
        "hidden_size": H,
        "num_layers": 2,
        "bias": True,
        "dropout": 0.5,
        "batch_first": True,
        "bidirectional": True,
        "proj_size": 0,
        "gemm": "auto",
        "dtype": dtype,
    }
    x = torch.randn(B, T, F, dtype=getattr(torch, dtype))
    with torch.inference_mode():
        expected = module(x)[0].numpy()
    # sums of at most F + 2 H + 2 terms below 2, one epsilon each, through two layers
    bound = 2 * 2 * (F + 2 * H + 2) * np.finfo(dtype).eps
    np.testing.assert_allclose(lstm(x)[0], expected, rtol=0, atol=bound)
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    assert lstm.weight_ih_l0.all(), "parameters must be copies"

    class Special(fastlstm.LSTM):
        pass

    assert type(Special.from_torch(module)) is Special


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda nn: nn.GRU(3, 4), TypeError, "module"),
        (lambda nn: nn.RNN(3, 4), TypeError, "module"),
        (lambda nn: nn.LSTMCell(3, 4), TypeError, "module"),
        (lambda nn: nn.Linear(3, 4), TypeError, "module"),
        (lambda nn: nn.LSTM, TypeError, "module"),
        (lambda nn: nn.LSTM(3, 4).half(), TypeError, "dtype"),
        (lambda nn: nn.LSTM(3, 4).bfloat16(), TypeError, "dtype"),
        (lambda nn: quantized(nn), TypeError, "module"),
        (lambda nn: nn.LSTM(3, 4, device="meta"), TypeError, "weight_ih"),
    ],
)
def test_from_other_modules(make: Any, error: type[Exception], name: str) -> None:
    nn = pytest.importorskip("torch").nn
    with pytest.raises(error, match=name):
        fastlstm.LSTM.from_torch(make(nn))


def quantized(nn: Any) -> Any:
    import torch

    with warnings.catch_warnings(action="ignore"):
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM})[0]


# ---- copies ----


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("used", [False, True])
def test_copies(way: str, used: bool) -> None:
    """A copy computes alike, shares nothing that can change, and keeps its configuration."""
    lstm = fastlstm.LSTM(3, 5, 2, batch_first=True, bidirectional=True, dtype="float64", seed=0)
    cell = fastlstm.LSTMCell(3, 5, seed=0)
    x = random(2, 4, 3).astype(np.float64)
    if used:
        lstm(x)
        cell(random(2, 3))
    ways: dict[str, Any] = {
        "pickle": lambda a: pickle.loads(pickle.dumps(a)),
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
    }
    twin, cell_twin = ways[way](lstm), ways[way](cell)
    expected = lstm(x)[0]
    assert np.array_equal(twin(x)[0], expected)
    assert twin.config() == lstm.config()
    assert repr(twin) == repr(lstm)
    assert np.array_equal(cell_twin(random(2, 3))[0], cell(random(2, 3))[0])
    for model in (twin, cell_twin):
        assert not any(value.flags.writeable for value in model.state_dict().values())
    twin.load_state_dict({name: 0 * value for name, value in lstm.state_dict().items()})
    assert not np.array_equal(twin(x)[0], expected)
    assert np.array_equal(lstm(x)[0], expected)


def test_streams_are_not_copied() -> None:
    stream = fastlstm.LSTM(3, 5, seed=0).stream(2)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(stream)
