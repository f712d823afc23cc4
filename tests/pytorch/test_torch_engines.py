# SPDX-License-Identifier: BSD-3-Clause
"""What fastlstm.torch keeps, shares and borrows: packed weights, tapes and other memory."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from fastlstm import _core
from fastlstm.spec import Spec
from support.classes import CLASSES
from support.torch_runs import assert_close, no_warnings, pair

torch = pytest.importorskip("torch")

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import engines, kernels  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

# ---- weights that change ----


def writes() -> dict[str, Any]:
    """Ways to change a parameter, with and without PyTorch's knowledge."""

    def by_data(p: Any) -> None:
        p.data.mul_(1.5)

    def by_numpy(p: Any) -> None:
        p.detach().numpy()[...] *= 1.5

    def in_place(p: Any) -> None:
        with torch.no_grad():
            p.mul_(1.5)

    def replaced(p: Any) -> None:
        p.data = p.data * 1.5

    def last_entry(p: Any) -> None:
        p.data.view(-1)[-1] += 1

    return {f.__name__: f for f in (by_data, by_numpy, in_place, replaced, last_entry)}


@pytest.mark.parametrize("index", [0, 1])
def test_weights_in_another_order_in_memory(index: int) -> None:
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 2, 3)
    name = ("weight_ih_l0", "weight_hh_l0")[index]
    turned = getattr(ours, name).detach().t().contiguous().t()
    assert not turned.is_contiguous()
    setattr(ours, name, torch.nn.Parameter(turned))
    for module, given in ((ours, x), (theirs, x.double())):
        module(given)[0].sum().backward()
    assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)
    found = [p.grad for p in ours.parameters()]
    assert_close(found, [p.grad for p in theirs.parameters()], torch.float32)


@pytest.mark.parametrize("write", writes().values(), ids=writes())
@pytest.mark.parametrize("index", [0, 1, 2, 3])
@pytest.mark.parametrize("grad", [False, True])
def test_no_stale_weights(write: Any, index: int, grad: bool) -> None:
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 2, 3)
    with torch.set_grad_enabled(grad):
        for _ in range(3):
            for _ in range(3):  # from the third call on the engine is a kept one
                assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)
            write(list(ours.parameters())[index])
            theirs.load_state_dict(ours.state_dict())


def test_kept_engine_is_used() -> None:
    """Else the test above could not fail. And it goes when its weights go."""
    lstm = fltorch.LSTM(3, 8)
    x, key = torch.randn(6, 2, 3), lstm.weight_ih_l0.data_ptr()
    with torch.no_grad():
        lstm(x)
        assert engines._entries[key].kept is None
        lstm(x)
        kept = engines._entries[key].kept
        assert kept is not None
        lstm(x)
    assert engines._entries[key].kept is kept
    del lstm
    assert key not in engines._entries


def test_the_same_weights_under_another_nonlinearity() -> None:
    """What is kept of weights is kept for one cell."""
    tanh, relu = fltorch.RNN(3, 8), fltorch.RNN(3, 8, nonlinearity="relu")
    for name, parameter in list(tanh.named_parameters()):
        setattr(relu, name, parameter)
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        for _ in range(4):
            assert float(tanh(x)[0].min()) < 0
            assert float(relu(x)[0].min()) == 0


@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_attributes_that_say_another_nonlinearity(kind: str) -> None:
    """A layer goes by its mode, a cell by its nonlinearity, as PyTorch's do; and refuses others."""
    module, x = getattr(fltorch, kind)(3, 8), torch.randn(2, 3)
    name = "mode" if kind == "RNN" else "nonlinearity"
    setattr(module, name, "RNN_RELU" if kind == "RNN" else "relu")
    found = module(x)[0]
    assert float(found.detach().min()) >= 0
    assert torch.allclose(found, fltorch.restore(module)(x)[0], atol=1e-6)
    fltorch.accelerate(module)
    setattr(module, name, "elu")
    with pytest.raises((RuntimeError, AssertionError), match=r"RNN_RELU|nonlinearity"):
        module(x)


def test_parameters_can_be_swapped() -> None:
    """PyTorch refuses that for a tensor with weak references."""
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 2, 3)
    for _ in range(3):
        ours(x)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        ours.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert_close([ours(x.double())[0]], [theirs(x.double())[0]], torch.float64)


def test_weights_written_behind_pytorch_in_every_call() -> None:
    """No engine is kept in vain, and none that is stale."""
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 2, 3)
    for _ in range(8):
        ours.weight_hh_l0.data.add_(0.01)
        theirs.load_state_dict(ours.state_dict())
        assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)


def test_weights_written_while_they_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair("LSTM", 3, 8)
    x, pack = torch.randn(6, 2, 3), engines._pack

    def disturbed(*given: Any) -> Any:
        engine = pack(*given)
        ours.weight_hh_l0.data.add_(0.01)
        return engine

    with torch.no_grad():
        ours(x)
        monkeypatch.setattr(engines, "_pack", disturbed)
        ours(x)
        monkeypatch.undo()
        theirs.load_state_dict(ours.state_dict())
        assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)


def test_training_after_inference_needs_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimiser's step moves versions: the weights are known to be new without a look."""
    lstm, x = fltorch.LSTM(3, 8), torch.randn(6, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            lstm(x)
    monkeypatch.delattr(_core, "hash_memory")
    for _ in range(3):
        torch.autograd.graph.increment_version(list(lstm.parameters()))
        lstm(x)[0].sum().backward()
    with pytest.raises(AttributeError, match="hash_memory"):
        lstm(x)


def test_modified_weights_between_passes_are_refused() -> None:
    lstm = fltorch.LSTM(3, 8)
    y, _ = lstm(torch.randn(6, 2, 3))
    with torch.no_grad():
        lstm.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_many_threads_at_once() -> None:
    ours, theirs = pair("LSTM", 8, 32, 2, bidirectional=True)
    x = torch.randn(40, 4, 8)
    want = theirs(x.double())[0]
    found: list[Any] = []

    def work() -> None:
        for _ in range(5):
            y, _ = ours(x)
            torch.autograd.grad(y.sum(), list(ours.parameters()))
            found.append(y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    for y in found:
        assert_close([y], [want], torch.float32)


# ---- memory ----


def test_the_input_is_read_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """x and y reach the core without a copy, batch_first too."""
    seen = {}

    def spied(*args: Any) -> Any:
        spec, engine, passes = engines.engine_for(*args)
        return spec, Spy(engine), passes

    monkeypatch.setattr(kernels, "engine_for", spied)

    class Spy:
        def __init__(self, engine: Any) -> None:
            self.engine = engine

        def forward(self, x: Any, y: Any, *rest: Any) -> None:
            seen["x"], seen["y"] = x.address, y.address
            self.engine.forward(x, y, *rest)

    lstm = fltorch.LSTM(3, 8, batch_first=True)
    x = torch.randn(2, 6, 3)
    with torch.no_grad():
        y, _ = lstm(x)
    assert seen == {"x": x.data_ptr(), "y": y.data_ptr()}
    assert y.is_contiguous()


def test_tensors_stay_resizable() -> None:
    """The caller's, and results that are not large."""
    lstm = fltorch.LSTM(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    state = torch.randn(1, 2, 8), torch.randn(1, 2, 8)
    y, (h_n, c_n) = lstm(x, state)
    dy = torch.randn(6, 2, 8)
    y.backward(dy)
    parameters = list(lstm.parameters())
    grads = [tensor.grad for tensor in (x, *parameters)]
    for tensor in (x, dy, y, *state, h_n, c_n, *parameters, *grads):
        storage = tensor.untyped_storage()
        storage.resize_(2 * storage.nbytes())


def test_memory_that_was_given_up_is_refused() -> None:
    """As sharded training gives up parameters between steps."""
    lstm = fltorch.LSTM(3, 8)
    x = torch.randn(6, 2, 3)
    lstm.weight_hh_l0.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="has no memory"):
        lstm(x)
    other = fltorch.LSTM(3, 8)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="has no memory"):
        other(x)


def test_large_memory_comes_from_the_pool_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tape with the backward pass, gradients with zero_grad, whoever still holds the graph."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Watched(_core.Block):  # type: ignore[misc,unused-ignore]
        def __init__(self, size: int) -> None:
            alive.add(self)

    monkeypatch.setattr(_core, "Block", Watched)
    lstm = fltorch.LSTM(300, 300)  # 1.44 MB of w_ih, and of w_hh
    x = torch.randn(900, 1, 300, requires_grad=True)  # 1.08 MB, like y
    spec = engines.spec_of(list(lstm.parameters()), "lstm", False)
    tape = kernels.tape_bytes(spec, 900, 1)
    y, _ = lstm(x)
    assert sorted(block.size for block in alive) == sorted([x.nbytes, tape])
    y.sum().backward()
    grads = [lstm.weight_ih_l0.grad.nbytes, lstm.weight_hh_l0.grad.nbytes]
    assert sorted(block.size for block in alive) == sorted([x.nbytes, x.nbytes, *grads])
    lstm.zero_grad()
    assert sorted(block.size for block in alive) == [x.nbytes, x.nbytes]
    x.grad = None
    assert [block.size for block in alive] == [y.nbytes]
    del y
    assert not alive


@pytest.mark.parametrize("steps,batch", [(1, 1), (3, 5), (17, 9), (128, 64), (1000, 1), (1, 999)])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 19, 3, 2), (64, 100, 2, 1)])
@pytest.mark.parametrize("cell", CLASSES)
def test_size_of_the_tape(
    isa: str, cell: str, steps: int, batch: int, sizes: tuple[int, ...]
) -> None:
    """Bilinear in T and B, never too small, and no more above the core's own than it rounds."""
    inputs, hidden, layers, directions = sizes
    widths = (0, hidden // 2) if cell == "lstm" else (0,)  # of a projection
    for dtype, proj_size in itertools.product((np.float32, np.float64), widths):
        spec = Spec(
            cell, inputs, hidden, layers, directions, dtype=np.dtype(dtype), proj_size=proj_size
        )
        least = _core.tape_bytes(spec, isa, steps, batch)
        parts = 9 if proj_size else 7
        assert least <= kernels.tape_bytes(spec, steps, batch) <= least + 64 * layers * parts
