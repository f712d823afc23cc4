# SPDX-License-Identifier: BSD-3-Clause
"""Subclasses of torch.nn.LSTM: which accelerate takes, as what, and which it leaves and why."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref
from typing import Any

import pytest

from support.torch_runs import no_warnings

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
parametrizations = torch.nn.utils.parametrizations

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm import _core  # noqa: E402
from fastlstm.torch import engines  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here


class Mixin:
    def shout(self) -> str:
        return "mine"


class Orthogonal(Mixin, torch.nn.LSTM):  # type: ignore[misc]
    """As people write them: other defaults, another initialisation, a method."""

    gain: float = 2.0

    def __init__(self, size: int, note: str = "") -> None:
        super().__init__(size, size, batch_first=True)
        self.note = note

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                torch.nn.init.orthogonal_(parameter, self.gain)
            else:
                torch.nn.init.zeros_(parameter)

    def extra_repr(self) -> str:
        return "orthogonal"


class Forgetful(torch.nn.LSTMCell):  # type: ignore[misc]
    def reset_parameters(self) -> None:
        super().reset_parameters()
        torch.nn.init.ones_(self.bias_ih)

    def __getstate__(self) -> Any:
        return {**self.__dict__, "kept": True}


class Deep(torch.nn.RNN):  # type: ignore[misc]
    """Attributes of its own that are called like words of ours."""

    def __init__(self) -> None:
        super().__init__(6, 6, nonlinearity="relu", batch_first=True)
        self._cell = self._kind = self._has_c = self.cell = "mine"


class Model(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.cell, self.rnn = Orthogonal(6, "hello"), Forgetful(6, 6), Deep()

    def forward(self, x: Any) -> Any:
        return self.cell(self.rnn(self.lstm(x)[0])[0][:, -1])[0]


def test_subclasses_are_taken() -> None:
    model = Model()
    x = torch.randn(2, 5, 6)
    want = model(x)
    names, text = [name for name, _ in model.named_modules()], repr(model)
    fltorch.accelerate(model)
    assert isinstance(model.lstm, Orthogonal)
    assert isinstance(model.lstm, fltorch.LSTM)
    assert isinstance(model.cell, Forgetful)
    assert isinstance(model.cell, fltorch.LSTMCell)
    assert type(model.lstm).__qualname__ == "Orthogonal"
    assert type(model.lstm).__module__ == __name__
    assert [name for name, _ in model.named_modules()] == names
    assert (repr(model), model.lstm.shout(), model.lstm.note) == (text, "mine", "hello")
    assert isinstance(model.rnn, Deep)
    assert isinstance(model.rnn, fltorch.RNN)
    assert fltorch.report(model).swapped.keys() == {"lstm", "cell", "rnn"}
    assert type(fltorch.accelerate(Model()).lstm) is type(model.lstm)
    found = model(x)
    assert torch.allclose(found, want, atol=1e-6)
    found.sum().backward()
    assert model.lstm.weight_hh_l0.grad is not None
    model.lstm.reset_parameters()
    fltorch.restore(model)
    assert type(model.lstm) is Orthogonal
    assert type(model.cell) is Forgetful


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_of_subclasses(how: str) -> None:
    model = fltorch.accelerate(Model())
    x = torch.randn(2, 5, 6)
    if how == "deepcopy":
        other = copy.deepcopy(model)
        assert type(other.lstm) is type(model.lstm)
    else:
        file = io.BytesIO()
        (pickle.dump if how == "pickle" else torch.save)(model, file)
        file.seek(0)
        other = pickle.load(file) if how == "pickle" else torch.load(file, weights_only=False)
        assert type(other.lstm) is Orthogonal
        assert type(other.cell) is Forgetful
        assert other.cell.kept
        fltorch.accelerate(other)
    assert other.lstm.note == "hello"
    assert torch.equal(other(x), model(x))
    assert other.lstm.weight_hh_l0 is not model.lstm.weight_hh_l0


def test_shallow_copies_share_their_parameters() -> None:
    lstm = fltorch.LSTM(3, 8)
    other = copy.copy(lstm)
    assert type(other) is fltorch.LSTM
    assert other.weight_hh_l0 is lstm.weight_hh_l0
    x = torch.randn(4, 2, 3)
    assert torch.equal(other(x)[0], lstm(x)[0])


def test_copies_that_hold_themselves() -> None:
    lstm = fltorch.LSTM(3, 8)
    lstm.__dict__["me"] = [lstm]
    other = copy.deepcopy(lstm)
    assert other.__dict__["me"][0] is other
    other = pickle.loads(pickle.dumps(lstm))
    assert type(other) is torch.nn.LSTM
    assert other.__dict__["me"][0] is other


class OfOurs(fltorch.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        y, state = super().forward(input, hx)
        return y + 1, state


class Reduced(fltorch.LSTM):
    def __reduce__(self) -> Any:
        return Reduced, (self.input_size, self.hidden_size)


def test_subclasses_of_ours_stay_what_they_are() -> None:
    for kind in (OfOurs, Reduced):
        lstm = kind(3, 8)
        others = copy.deepcopy(lstm), copy.copy(lstm), pickle.loads(pickle.dumps(lstm))
        assert [type(other) for other in others] == [kind] * 3
        assert type(fltorch.restore(lstm)) is kind


@pytest.mark.parametrize("when", ["before", "after"])
def test_parametrized_copies(when: str) -> None:
    """Deep copies stay parametrized, and PyTorch refuses to pickle them."""
    model = Model()
    if when == "before":
        fltorch.accelerate(model)
    parametrizations.weight_norm(model.lstm, "weight_hh_l0")
    fltorch.accelerate(model)
    other = copy.deepcopy(model)
    assert isinstance(other.lstm, Orthogonal)
    assert isinstance(other.lstm, fltorch.LSTM)
    x = torch.randn(2, 5, 6)
    assert torch.equal(other(x), model(x))
    with pytest.raises(RuntimeError, match="parametrized modules"):
        pickle.dumps(model)
    fltorch.restore(model)
    assert isinstance(model.lstm, Orthogonal)
    assert not isinstance(model.lstm, fltorch.LSTM)
    torch.nn.utils.parametrize.remove_parametrizations(model.lstm, "weight_hh_l0")
    assert type(model.lstm) is Orthogonal


def test_compiled_and_traced_subclasses() -> None:
    lstm = fltorch.accelerate(Orthogonal(6))
    x = torch.randn(2, 5, 6)
    want = lstm(x)[0]
    compiled = torch.compile(lstm, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x)[0], want)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(lstm))
    assert torch.equal(traced(x)[0], want)


def overriding(name: str, value: Any) -> Any:
    return type("Own", (torch.nn.RNN if name == "mode" else torch.nn.LSTM,), {name: value})


def doubled(lstm: Any) -> Any:
    if "weight_hh_l0" not in lstm._parameters:
        raise AttributeError
    return lstm._parameters["weight_hh_l0"] * 2


class Meta(type):
    pass


@pytest.mark.parametrize("name,value", [
    ("forward", lambda self, input, hx=None: super(type(self), self).forward(input, hx)),
    ("check_forward_args", lambda self, *given: None),
    ("permute_hidden", lambda self, hx, permutation: hx),
    ("__call__", lambda self, *given: None),
    ("__getattr__", lambda self, name: torch.nn.LSTM.__getattr__(self, name)),
    ("weight_hh_l0", property(lambda self: doubled(self))),
    ("hidden_size", property(lambda self: 8, lambda self, value: None)),
    ("mode", property(lambda self: "RNN_RELU", lambda self, value: None)),
    ("__deepcopy__", lambda self, memo: self),
    ("__reduce__", lambda self: (torch.nn.LSTM, (3, 8))),
    ("__slots__", ("extra",)),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_subclasses_that_may_compute_something_else(name: str, value: Any) -> None:
    kind = overriding(name, value)
    lstm = kind(3, 8)
    if name == "hidden_size":  # as PyTorch's own forward reads it
        assert fltorch.report(lstm).left[""] == "accelerate would take it now"
        return
    assert type(fltorch.accelerate(lstm)) is kind
    assert fltorch.report(lstm).left[""] == f"Own is a subclass with its own {name}"


def test_more_that_is_left() -> None:
    lstm = Meta("Own", (torch.nn.LSTM,), {})(3, 8)
    assert fltorch.report(fltorch.accelerate(lstm)).left[""] == "Own is a subclass with a metaclass"
    lstm = torch.nn.LSTM(3, 8)
    lstm.forward = lambda *given: "mine"
    assert fltorch.report(fltorch.accelerate(lstm)).left[""] == "its forward was replaced"
    assert lstm(0) == "mine"


@pytest.mark.filterwarnings("ignore")
def test_report_names_every_recurrent_layer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(
            torch.nn.Sequential(torch.nn.LSTM(3, 8), torch.nn.GRU(3, 8), torch.nn.LSTMCell(3, 8)),
            {torch.nn.LSTM, torch.nn.GRU, torch.nn.LSTMCell},
        )
        model = torch.nn.ModuleDict(
            {
                "base": torch.nn.RNNBase("RNN_TANH", 3, 8),
                "quantised": quantised,
                "prepared": torch.ao.nn.quantizable.LSTM(3, 8, 2),
                "scripted": torch.jit.script(torch.nn.LSTMCell(3, 8)),
                "linear": torch.nn.Linear(3, 8),
            }
        )
    left = fltorch.report(fltorch.accelerate(model)).left
    rnn = "of torch.ao.nn.quantized.dynamic.modules.rnn, quantised"
    assert left == {
        "base": "fastlstm.torch has no RNNBase",
        "quantised.0": f"LSTM {rnn}",
        "quantised.1": f"GRU {rnn}",
        "quantised.2": f"LSTMCell {rnn}",
        "prepared": "LSTM of torch.ao.nn.quantizable.modules.rnn, quantised",
        "scripted": "LSTMCell compiled by TorchScript",
    }
    assert str(fltorch.report(model)).count("\n") == len(left)


def test_restore_gives_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed weights, and what the core's pool holds of blocks that were let go."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Watched(_core.Engine):  # type: ignore[misc,unused-ignore]
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            alive.add(self)

    monkeypatch.setattr(engines._core, "Engine", Watched)
    emptied: list[int] = []
    empty_pool = _core.empty_pool
    monkeypatch.setattr(_core, "empty_pool", lambda: (emptied.append(1), empty_pool()))
    model = fltorch.accelerate(torch.nn.Sequential(torch.nn.LSTM(64, 64, 2)))
    other = fltorch.LSTM(64, 64)
    x = torch.randn(4, 2, 64)
    with torch.no_grad():
        for _ in range(3):
            model(x)
            other(x)
    gc.collect()
    assert len(alive) == 2
    fltorch.restore(model)
    gc.collect()
    assert len(alive) == 1  # of the other, which is used further
    assert emptied
    with torch.no_grad():
        assert torch.equal(fltorch.accelerate(model)(x)[0], model(x)[0])
