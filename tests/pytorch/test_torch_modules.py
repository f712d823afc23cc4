# SPDX-License-Identifier: BSD-3-Clause
"""`from_torch` takes what a module computes with, and says what else it was given."""

from __future__ import annotations

import copy
import importlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastlstm

torch = pytest.importorskip("torch")
nn = torch.nn
parametrizations = nn.utils.parametrizations
prune = importlib.import_module("torch.nn.utils.prune")

F, H = 5, 8


def quietly(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Without what torch says of functions that it wants to drop."""
    with warnings.catch_warnings(action="ignore"):
        return call(*args, **options)


class Halved(nn.Module):  # type: ignore[misc]
    """Halves a weight, and drops it while it learns."""

    def forward(self, weight: Any) -> Any:
        return weight * (0 if self.training else 0.5)


class Grouped(nn.LSTM):  # type: ignore[misc]
    """A subclass with more in it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.head = nn.Linear(3, 3)


def pruned_twice(module: Any, name: str) -> None:
    prune.l1_unstructured(module, name, 0.3)
    prune.random_unstructured(module, name, 0.3)


CHANGES: dict[str, Callable[[Any, str], Any]] = {
    "nothing": lambda m, name: None,
    "weight_norm": lambda m, name: parametrizations.weight_norm(m, name),
    "spectral_norm": lambda m, name: parametrizations.spectral_norm(m, name),
    "orthogonal": lambda m, name: parametrizations.orthogonal(m, name),
    "two parametrizations": lambda m, name: (
        parametrizations.weight_norm(m, name),
        nn.utils.parametrize.register_parametrization(m, name, Halved()),
    ),
    "old weight_norm": lambda m, name: quietly(nn.utils.weight_norm, m, name),
    "old spectral_norm": lambda m, name: quietly(nn.utils.spectral_norm, m, name),
    "pruned": lambda m, name: prune.l1_unstructured(m, name, 0.4),
    "pruned rows": lambda m, name: prune.ln_structured(m, name, 0.4, n=2, dim=0),
    "pruned twice": pruned_twice,
}


def shift(module: Any) -> None:
    """New values for every parameter, as load_state_dict or an optimiser gives them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def state_of(module: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_what_the_module_computes_with(kind: str, how: str, training: bool) -> None:
    """The numbers of the module in evaluation mode, also where its parameters are newer than what
    its last forward pass has left; and the module stays as it was."""
    torch.manual_seed(0)
    cell = kind == "LSTMCell"
    module = nn.LSTMCell(F, H) if cell else nn.LSTM(F, H, 2, bidirectional=True)
    for name in ["weight_ih", "weight_hh"] if cell else ["weight_hh_l0", "weight_ih_l1_reverse"]:
        CHANGES[how](module, name)
    x = torch.randn(4, F) if cell else torch.randn(6, 4, F)
    module(x)
    shift(module)
    module.train(training)
    before, modes = state_of(module), [m.training for m in module.modules()]
    model = getattr(fastlstm, kind).from_torch(module)
    assert [m.training for m in module.modules()] == modes
    after = state_of(module)
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    with torch.no_grad():
        expected = module.eval()(x)[0].numpy()
    # sums of at most 2 H + F terms below 4, through two layers, in float32
    bound = 2 * (F + 2 * H + 2) * 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(model(x)[0], expected, rtol=0, atol=bound)
    values = {name: getattr(module, name).detach().numpy() for name in model.state_dict()}
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, values[name], rtol=1e-6, atol=1e-7)
        assert not np.shares_memory(value, values[name])


MADE: dict[str, Callable[[], Any]] = {
    "a subclass": lambda: Grouped(F, H, 2),
    "fastlstm.torch": lambda: fastlstm.torch.LSTM(F, H, 2),
    "accelerated": lambda: fastlstm.torch.accelerate(nn.Sequential(nn.LSTM(F, H)))[0],
    "torch.compile": lambda: torch.compile(nn.LSTM(F, H)),
    "a scripted layer": lambda: quietly(torch.jit.script, nn.LSTM(F, H)),
    "a copy": lambda: copy.deepcopy(nn.LSTM(F, H)),
    "without bias": lambda: nn.LSTM(F, H, bias=False),
    "frozen": lambda: nn.LSTM(F, H).requires_grad_(False),
}


@pytest.mark.parametrize("what", MADE)
def test_what_is_an_lstm(what: str) -> None:
    module = MADE[what]()
    model = fastlstm.LSTM.from_torch(module)
    for name, value in model.state_dict().items():
        assert np.array_equal(value, getattr(module, name).detach().numpy())
    assert (model.num_layers, model.bias) == (module.num_layers, module.bias)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [nn.LSTMCell, fastlstm.torch.LSTMCell])
def test_a_cell(make: Any, bias: bool, dtype: str) -> None:
    module = make(F, H, bias, dtype=getattr(torch, dtype))
    cell = fastlstm.LSTMCell.from_torch(module)
    assert (cell.input_size, cell.hidden_size, cell.bias) == (F, H, bias)
    assert cell.dtype == dtype
    x, h, c = (torch.randn(3, n, dtype=getattr(torch, dtype)) for n in (F, H, H))
    with torch.no_grad():
        expected = module(x, (h, c))
    bound = 2 * (F + H + 2) * 4 * np.finfo(dtype).eps
    for mine, theirs in zip(cell(x, (h, c)), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound)

    class Special(fastlstm.LSTMCell):
        pass

    assert type(Special.from_torch(module)) is Special


def quantized(name: str) -> Any:
    return quietly(getattr(torch.ao.nn.quantized.dynamic, name), F, H)


# Module, and what both classes say of it.
FOREIGN: dict[str, tuple[Callable[[], Any], str]] = {
    "GRU": (lambda: nn.GRU(F, H), "GRU: fastlstm.GRU.from_torch takes it"),
    "RNN": (lambda: nn.RNN(F, H), "RNN: fastlstm.RNN.from_torch takes it"),
    "GRUCell": (lambda: nn.GRUCell(F, H), "GRUCell: fastlstm.GRUCell.from_torch takes it"),
    "RNNCell": (lambda: nn.RNNCell(F, H), "RNNCell: fastlstm.RNNCell.from_torch takes it"),
    "scripted cell": (
        lambda: quietly(torch.jit.script, nn.LSTMCell(F, H)),
        "scripted.*LSTMCell.*jit",
    ),
    "scripted GRU": (lambda: quietly(torch.jit.script, nn.GRU(F, H)), "scripted.*GRU"),
    "traced layer": (
        lambda: quietly(torch.jit.trace, nn.LSTM(F, H), torch.zeros(2, 1, F)),
        "scripted or traced.*LSTM.*hand over the module that torch.jit",
    ),
    "quantised": (lambda: quantized("LSTM"), "quantisation.*hand over the torch.nn.LSTM that"),
    "quantised cell": (lambda: quantized("LSTMCell"), "quantisation.*hand over the torch.nn.LSTMC"),
    "quantised GRU": (lambda: quantized("GRU"), "quantisation"),
    "to be quantised": (lambda: quietly(torch.ao.nn.quantizable.LSTM, F, H), "quantisation"),
    "a model": (
        lambda: nn.ModuleDict({"a": nn.LSTM(F, H), "b": nn.Sequential(nn.LSTMCell(F, H))}),
        r"holds LSTM.*hand over one of them \((a|b\.0)\)",
    ),
    "DataParallel": (lambda: nn.DataParallel(nn.Linear(2, 2)), "DataParallel"),
    "a class": (lambda: nn.LSTM, "class LSTM"),
    "a state dict": (lambda: nn.LSTM(F, H).state_dict(), "from_state_dict"),
    "half precision": (
        lambda: nn.LSTM(F, H).half(),
        r"got float16: module\.float\(\)|LSTM\.from_torch",
    ),
    "no tensor": (lambda: object(), "got object"),
}


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_none(what: str, kind: str) -> None:
    make, words = FOREIGN[what]
    module = make()
    with pytest.raises(TypeError) as caught:
        getattr(fastlstm, kind).from_torch(module)
    assert re.search(words, str(caught.value), re.DOTALL), str(caught.value)


def test_a_layer_and_a_cell_name_each_other() -> None:
    with pytest.raises(TypeError, match=r"fastlstm\.LSTMCell\.from_torch takes it"):
        fastlstm.LSTM.from_torch(nn.LSTMCell(F, H))
    with pytest.raises(TypeError, match=r"fastlstm\.LSTM\.from_torch takes it"):
        fastlstm.LSTMCell.from_torch(nn.LSTM(F, H))


def test_a_parameter_that_is_missing() -> None:
    module = nn.LSTM(F, H)
    del module.bias_hh_l0
    with pytest.raises(TypeError, match="bias_hh_l0"):
        fastlstm.LSTM.from_torch(module)
    cell = nn.LSTMCell(F, H)
    cell.weight_ih = None
    with pytest.raises(TypeError, match=r"weight_ih|dtype"):
        fastlstm.LSTMCell.from_torch(cell)
