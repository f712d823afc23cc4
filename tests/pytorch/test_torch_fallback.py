# SPDX-License-Identifier: BSD-3-Clause
"""Where fastlstm.torch leaves a call to PyTorch, and where both refuse it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from support.torch_runs import assert_close, loss, no_warnings, pair

torch = pytest.importorskip("torch")

import fastlstm.torch as fltorch  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

# ---- what PyTorch does instead ----


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "RNN", "RNNCell", "GRU", "GRUCell"])
def test_low_precision_runs_in_torch(kind: str) -> None:
    ours = getattr(fltorch, kind)(3, 8, dtype=torch.bfloat16)
    x = torch.randn(*((2, 3) if "Cell" in kind else (6, 2, 3)), dtype=torch.bfloat16)
    words = f"fastlstm.torch.{kind} runs as torch.nn.{kind} where it meets dtype bfloat16"
    with pytest.warns(UserWarning, match=words):
        found = ours(x)
    want = getattr(torch.nn, kind)(3, 8, dtype=torch.bfloat16)
    want.load_state_dict(ours.state_dict())
    assert torch.equal(found[0], want(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_torchscript_runs_in_torch(kind: str) -> None:
    model = torch.nn.Sequential(getattr(fltorch, kind)(3, 8))
    x = torch.randn(6, 2, 3)
    want = model(x)[0]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        traced = torch.jit.trace(model, (x,))
        scripted = torch.jit.script(model)
    assert sum("TorchScript" in str(w.message) for w in seen) == 1
    for module in (traced, scripted):
        assert float((module(x)[0] - want).detach().abs().max()) < 1e-6
    assert "accelerate would take it" in str(fltorch.report(model))  # scripting put torch's there
    assert type(fltorch.accelerate(model)[0]) is getattr(fltorch, kind)
    assert torch.equal(model(x)[0], want)


def test_fx_keeps_our_modules_whole() -> None:
    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.cell = torch.nn.LSTM(3, 8), torch.nn.LSTMCell(8, 8)
            self.rnn, self.rnn_cell = torch.nn.RNN(8, 8), torch.nn.RNNCell(8, 8)

        def forward(self, x: Any, h: Any, c: Any) -> Any:
            y, _ = self.rnn(self.lstm(x)[0])
            return self.cell(self.rnn_cell(y[-1], h), (h, c))

    model = Step()
    of_torch = [node.target for node in torch.fx.symbolic_trace(model).graph.nodes]
    traced = torch.fx.symbolic_trace(fltorch.accelerate(model))
    assert [node.target for node in traced.graph.nodes] == of_torch
    inputs = torch.randn(6, 2, 3), torch.randn(2, 8), torch.randn(2, 8)
    for found, expected in zip(traced(*inputs), model(*inputs), strict=True):
        assert torch.equal(found, expected)
    assert (type(traced.lstm), type(traced.rnn)) == (fltorch.LSTM, fltorch.RNN)


def test_meta_device() -> None:
    lstm = fltorch.LSTM(3, 8, device="meta")
    with pytest.warns(UserWarning, match="device meta"):
        y, _ = lstm(torch.randn(6, 2, 3, device="meta"))
    assert y.shape == (6, 2, 8)
    assert y.is_meta


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_functional_transforms_run_in_torch(kind: str) -> None:
    ours, theirs = pair(kind, 3, 8, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)

    def value(module: Any) -> Any:
        return torch.func.grad(lambda x: loss([module(x)[0]]))(x)

    with pytest.warns(UserWarning, match=r"torch\.func"):
        found = value(ours)
    assert torch.equal(found, value(theirs))  # the very same code ran


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_forward_mode_is_never_silently_dropped(kind: str) -> None:
    forward_ad = torch.autograd.forward_ad
    ours, theirs = pair(kind, 3, 8, dtype=torch.float64)
    x, v = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        with forward_ad.dual_level(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y, _ = module(forward_ad.make_dual(x, v))
            found.append(forward_ad.unpack_dual(y).tangent)
    assert found[0] is not None
    assert_close([found[0]], [found[1]], torch.float64)


# ---- errors ----


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_double_backward_is_refused(kind: str) -> None:
    lstm = getattr(fltorch, kind)(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(loss([lstm(x)[0]]), x, create_graph=True)
    (plain,) = torch.autograd.grad(loss([lstm(x)[0]]), x)
    assert torch.equal(first.detach(), plain)
    with pytest.raises(NotImplementedError, match=r"first derivatives only.*restore"):
        first.sum().backward()


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_batches_of_gradients_are_refused(kind: str) -> None:
    lstm = getattr(fltorch, kind)(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    y, _ = lstm(x)
    with pytest.raises(NotImplementedError, match=r"one gradient at a time.*vectorize=False"):
        torch.autograd.grad(y, x, torch.ones(4, *y.shape), is_grads_batched=True)
