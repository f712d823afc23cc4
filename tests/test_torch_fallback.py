# SPDX-License-Identifier: BSD-3-Clause
"""Where fastlstm.torch leaves a call to PyTorch, and where both refuse it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from torch_runs import assert_close, loss, no_warnings, pair, run

torch = pytest.importorskip("torch")

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import ops  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

# ---- what PyTorch does instead ----


def test_proj_size_warns_once_and_runs_in_torch() -> None:
    ours, theirs = pair("LSTM", 3, 8, proj_size=2)
    x = torch.randn(6, 2, 3)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = run(ours, x, None)
        want = run(theirs, x, None)
        ours(x)
    said = [str(w.message) for w in seen if "fastlstm" in str(w.message)]
    assert len(said) == 1
    assert "runs as torch.nn.LSTM where it meets proj_size > 0" in said[0]
    assert_close(found, want, torch.float32, outputs=3)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_low_precision_runs_in_torch(kind: str) -> None:
    ours = getattr(fltorch, kind)(3, 8, dtype=torch.bfloat16)
    x = torch.randn(*((6, 2, 3) if kind == "LSTM" else (2, 3)), dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="dtype bfloat16"):
        found = ours(x)
    want = getattr(torch.nn, kind)(3, 8, dtype=torch.bfloat16)
    want.load_state_dict(ours.state_dict())
    assert torch.equal(found[0], want(x)[0])


def test_autocast_runs_in_torch() -> None:
    ours = fltorch.LSTM(3, 8)
    want = torch.nn.LSTM(3, 8)
    want.load_state_dict(ours.state_dict())
    x = torch.randn(6, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        with pytest.warns(UserWarning, match="autocast"):
            found = ours(x)[0]
        assert torch.equal(found, want(x)[0])


def test_torchscript_runs_in_torch() -> None:
    model = torch.nn.Sequential(fltorch.LSTM(3, 8))
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
    assert type(fltorch.accelerate(model)[0]) is fltorch.LSTM
    assert torch.equal(model(x)[0], want)


def test_fx_keeps_our_modules_whole() -> None:
    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.cell = torch.nn.LSTM(3, 8), torch.nn.LSTMCell(8, 8)

        def forward(self, x: Any, h: Any, c: Any) -> Any:
            y, _ = self.lstm(x)
            return self.cell(y[-1], (h, c))

    model = Step()
    of_torch = [node.target for node in torch.fx.symbolic_trace(model).graph.nodes]
    traced = torch.fx.symbolic_trace(fltorch.accelerate(model))
    assert [node.target for node in traced.graph.nodes] == of_torch
    inputs = torch.randn(6, 2, 3), torch.randn(2, 8), torch.randn(2, 8)
    for found, expected in zip(traced(*inputs), model(*inputs), strict=True):
        assert torch.equal(found, expected)
    assert type(traced.lstm) is fltorch.LSTM


def test_meta_device() -> None:
    lstm = fltorch.LSTM(3, 8, device="meta")
    with pytest.warns(UserWarning, match="device meta"):
        y, _ = lstm(torch.randn(6, 2, 3, device="meta"))
    assert y.shape == (6, 2, 8)
    assert y.is_meta


def test_functional_transforms_run_in_torch() -> None:
    ours, theirs = pair("LSTM", 3, 8, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)

    def value(module: Any) -> Any:
        return torch.func.grad(lambda x: loss([module(x)[0]]))(x)

    with pytest.warns(UserWarning, match=r"torch\.func"):
        found = value(ours)
    assert torch.equal(found, value(theirs))  # the very same code ran


def test_forward_mode_is_never_silently_dropped() -> None:
    forward_ad = torch.autograd.forward_ad
    ours, theirs = pair("LSTM", 3, 8, dtype=torch.float64)
    x, v = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        with forward_ad.dual_level(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y, _ = module(forward_ad.make_dual(x, v))
            found.append(forward_ad.unpack_dual(y).tangent)
    assert found[0] is not None
    assert_close([found[0]], [found[1]], torch.float64)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 5)], ids=str)
@pytest.mark.parametrize("learns", ["nothing", "weights", "x", "h_0"])
def test_one_row_of_a_cell_without_gradients_is_pytorchs(
    shape: tuple[int, ...], learns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of speed: the bits tell who did it, and nobody warns."""
    calls, lstm = [], ops.lstm
    monkeypatch.setattr(ops, "lstm", lambda *a, **k: calls.append(1) or lstm(*a, **k))
    ours, theirs = pair("LSTMCell", 5, 19)
    ours.requires_grad_(learns == "weights")
    x, state = torch.randn(shape), [torch.randn(*shape[:-1], 19) for _ in range(2)]
    x.requires_grad_(learns == "x")
    state[0].requires_grad_(learns == "h_0")
    found = ours(x, state)
    assert bool(calls) == (learns != "nothing" or shape == (2, 5))
    assert_close(found, theirs(x.double(), [s.double() for s in state]), torch.float32)
    if learns != "nothing":
        assert found[0].requires_grad
        with torch.no_grad():
            found = ours(x, state)
        assert len(calls) == 1 + (shape == (2, 5))
    if shape != (2, 5):
        with torch.no_grad():
            assert torch.equal(found[0], torch.nn.LSTMCell.forward(ours, x, state)[0])


# ---- errors ----


def test_double_backward_is_refused() -> None:
    lstm = fltorch.LSTM(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(loss([lstm(x)[0]]), x, create_graph=True)
    (plain,) = torch.autograd.grad(loss([lstm(x)[0]]), x)
    assert torch.equal(first.detach(), plain)
    with pytest.raises(NotImplementedError, match=r"first derivatives only.*restore"):
        first.sum().backward()


def test_batches_of_gradients_are_refused() -> None:
    lstm = fltorch.LSTM(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    y, _ = lstm(x)
    with pytest.raises(NotImplementedError, match=r"one gradient at a time.*vectorize=False"):
        torch.autograd.grad(y, x, torch.ones(4, *y.shape), is_grads_batched=True)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int32", "uint8", "bool"])
def test_batch_sizes_of_another_dtype_are_pytorchs_error(dtype: str) -> None:
    """They would be read as 64-bit integers."""
    ours, theirs = fltorch.LSTM(3, 8), torch.nn.LSTM(3, 8)
    sizes = torch.tensor([3, 2, 1]).to(getattr(torch, dtype))
    packed = torch.nn.utils.rnn.PackedSequence(torch.randn(6, 3), sizes)
    caught = []
    for module in (ours, theirs):
        with pytest.raises((TypeError, RuntimeError, ValueError)) as error:
            module(packed)
        caught.append(error.value)
    assert type(caught[0]) is type(caught[1])


@pytest.mark.parametrize("dropout", [3.0, -0.5, float("nan")])
def test_dropout_that_was_set_wrong_is_pytorchs_error(dropout: float) -> None:
    lstm = fltorch.LSTM(3, 8, 2)
    lstm.dropout = dropout
    with pytest.raises(RuntimeError, match="dropout"):
        lstm(torch.randn(6, 2, 3))


@pytest.mark.parametrize(
    "shape,state",
    [
        ((6, 2, 4), None),  # I
        ((6,), None),  # rank
        ((0, 2, 3), None),  # T = 0
        ((6, 2, 3), (1, 3, 8)),  # B of the state
        ((6, 2, 3), (2, 2, 8)),  # layers of the state
        ((6, 2, 3), (2, 8)),  # rank of the state
        ((6, 3), (1, 1, 8)),
    ],
)
def test_errors_are_pytorchs(shape: Any, state: Any) -> None:
    ours, theirs = fltorch.LSTM(3, 8), torch.nn.LSTM(3, 8)
    hx = state and (torch.zeros(state), torch.zeros(state))
    with pytest.raises((RuntimeError, ValueError)) as want:
        theirs(torch.zeros(shape), hx)
    with pytest.raises(type(want.value)) as got:
        ours(torch.zeros(shape), hx)
    assert str(got.value) == str(want.value)


@pytest.mark.parametrize("hx", [torch.zeros(2, 8, dtype=torch.float64), torch.zeros(3, 8)])
def test_errors_of_the_cell_are_pytorchs(hx: Any) -> None:
    with pytest.raises(RuntimeError) as want:
        torch.nn.LSTMCell(3, 8)(torch.zeros(2, 3), (hx, hx))
    with pytest.raises(RuntimeError) as got:
        fltorch.LSTMCell(3, 8)(torch.zeros(2, 3), (hx, hx))
    assert str(got.value) == str(want.value)


def test_wrong_dtype_and_empty_batch() -> None:
    lstm = fltorch.LSTM(3, 8)
    with pytest.raises(ValueError, match="does not match weight dtype"):
        lstm(torch.zeros(6, 2, 3, dtype=torch.float64))
    assert lstm(torch.zeros(6, 0, 3))[0].shape == (6, 0, 8)
