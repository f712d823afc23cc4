# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.torch.LSTM and LSTMCell against torch.nn, numbers, gradients, errors and fallbacks."""

from __future__ import annotations

import copy
import itertools
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import _core

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import engines, fallback, kernels, ops  # noqa: E402

# Relative to the largest entry, against torch in float64. The "a few 1e-6" and 1e-10.
TOLERANCE = {torch.float32: 4e-6, torch.float64: 1e-10}


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    """Every fallback would warn: a test that expects none must see none.

    PyTorch gets one thread: its team spins, and crawls where other processes hold the cores.
    """
    fallback._warned.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    torch.set_num_threads(threads)


def pair(kind: str, *args: Any, dtype: Any = torch.float32, **kwargs: Any) -> tuple[Any, Any]:
    """Our module and torch's in float64, with the same weights."""
    ours = getattr(fltorch, kind)(*args, dtype=dtype, **kwargs)
    theirs = getattr(torch.nn, kind)(*args, dtype=torch.float64, **kwargs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def leaves(*tensors: Any, like: Any) -> list[Any]:
    """Differentiable copies in the dtype of a module."""
    dtype = next(like.parameters()).dtype
    return [t.detach().to(dtype).requires_grad_() for t in tensors]


def loss(outputs: list[Any]) -> Any:
    """Something whose gradient differs from entry to entry."""
    return sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs)


def assert_close(ours: list[Any], theirs: list[Any], dtype: Any, *, outputs: int = 1) -> None:
    """The first `outputs` are y, h_n, c_n, the rest are gradients.

    In float64 every tensor is measured by its largest entry. In float32 the core's activations
    have an absolute error (some 1e-7), which is large beside an h or tanh(c) that is small itself:
    so the scale of outputs is 1, and that of gradients, sums of products with such h, is the
    largest entry of all of them.
    """
    assert len(ours) == len(theirs)
    scales = [0.0 if b is None else float(b.detach().abs().max()) for b in theirs]
    largest = max(scales[outputs:], default=0.0)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a is None) == (b is None), index
        if a is None:
            continue
        a, b, scale = a.detach(), b.detach(), scales[index]
        assert a.shape == b.shape, index
        assert a.dtype is dtype, index
        assert scale > 0, "zeros prove nothing"
        if dtype is torch.float32:
            scale = max(scale, 1.0) if index < outputs else largest
        error = float((a.double() - b).abs().max())
        assert error <= TOLERANCE[dtype] * scale, (index, error, scale)


def run(module: Any, x: Any, state: Any, packing: dict[str, Any] | None = None) -> list[Any]:
    """y, h_n, c_n and the gradients of x, the states and all parameters."""
    x, *state = leaves(x, *(state or ()), like=module)
    given = x if packing is None else rnn.pack_padded_sequence(x, **packing)
    y, (h_n, c_n) = module(given, tuple(state) or None)
    flat = y.data if packing else y
    module.zero_grad()
    loss([flat, h_n, c_n]).backward()
    return [
        flat,
        h_n,
        c_n,
        x.grad,
        *(s.grad for s in state),
        *(p.grad for p in module.parameters()),
    ]


OPTIONS = list(itertools.product((1, 3), (False, True), (False, True), (False, True)))


@pytest.mark.parametrize("num_layers,bias,batch_first,bidirectional", OPTIONS)
@pytest.mark.parametrize("with_state,ragged", [(False, False), (True, True)])
def test_batches(
    isa: str,
    dtype: str,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    bidirectional: bool,
    with_state: bool,
    ragged: bool,
) -> None:
    torch.manual_seed(num_layers + 2 * bias + 4 * batch_first + 8 * bidirectional)
    kind = getattr(torch, dtype)
    options = {"num_layers": num_layers, "bias": bias, "batch_first": batch_first}
    ours, theirs = pair("LSTM", 5, 19, bidirectional=bidirectional, dtype=kind, **options)
    x = torch.randn(*((4, 7) if batch_first else (7, 4)), 5, dtype=torch.float64)
    shape = (num_layers * (1 + bidirectional), 4, 19)
    state = [torch.randn(shape, dtype=torch.float64) for _ in range(2)] if with_state else None
    packing = None
    if ragged:
        packing = {"lengths": [2, 7, 1, 4], "batch_first": batch_first, "enforce_sorted": False}
    x, state = x.to(kind).double(), state and [s.to(kind).double() for s in state]
    found = run(ours, x, state, packing)
    assert_close(found, run(theirs, x, state, packing), kind, outputs=3)


@pytest.mark.parametrize("lengths", [[6, 3, 3, 1], [6, 6, 6, 6], [6]])
def test_sorted_packed_sequence(lengths: list[int]) -> None:
    ours, theirs = pair("LSTM", 3, 8, 2, bidirectional=True)
    packing = {"lengths": lengths}
    x = torch.randn(6, len(lengths), 3)
    assert_close(
        run(ours, x, None, packing), run(theirs, x, None, packing), torch.float32, outputs=3
    )


def test_packed_sequence_keeps_its_order() -> None:
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 3, 3)
    mine, _ = ours(rnn.pack_padded_sequence(x, [2, 6, 4], enforce_sorted=False))
    want, _ = theirs(rnn.pack_padded_sequence(x.double(), [2, 6, 4], enforce_sorted=False))
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(mine, name), getattr(want, name))
    assert_close([rnn.pad_packed_sequence(mine)[0]], [rnn.pad_packed_sequence(want)[0]], x.dtype)


def test_padding_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The padded copies inside are uninitialised memory; here it holds NaN."""
    real = np.empty

    def poisoned(shape: Any, dtype: Any = float) -> Any:
        array = real(shape, dtype)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    ours, theirs = pair("LSTM", 3, 8, 2, bidirectional=True)
    packing = {"lengths": [2, 6, 4], "enforce_sorted": False}
    x = torch.randn(6, 3, 3)
    want = run(theirs, x, None, packing)
    monkeypatch.setattr(kernels.np, "empty", poisoned)
    assert_close(run(ours, x, None, packing), want, torch.float32, outputs=3)


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(with_state: bool, batch_first: bool) -> None:
    ours, theirs = pair("LSTM", 3, 8, 2, batch_first=batch_first, bidirectional=True)
    state = [torch.randn(4, 8) for _ in range(2)] if with_state else None
    x = torch.randn(6, 3)
    assert_close(run(ours, x, state), run(theirs, x, state), torch.float32, outputs=3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_cell(isa: str, dtype: str, bias: bool, batched: bool, with_state: bool) -> None:
    kind = getattr(torch, dtype)
    ours, theirs = pair("LSTMCell", 5, 19, bias=bias, dtype=kind)
    found = []
    x = torch.randn(3, *((4, 5) if batched else (5,))).to(kind).double()
    start = [torch.randn(*((4, 19) if batched else (19,))).to(kind).double() for _ in range(2)]
    for module in (ours, theirs):
        steps, *state = leaves(x, *(start if with_state else ()), like=module)
        now = tuple(state) or None
        for step in steps:  # several steps with the same weights: the engine is kept
            now = module(step, now)
        loss(list(now)).backward()
        gradients = [t.grad for t in (steps, *state, *module.parameters())]
        found.append([*now, *gradients])
    assert_close(*found, kind, outputs=2)


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


@pytest.mark.parametrize("used", ["y", "h_n", "c_n"])
def test_one_output_used(used: str) -> None:
    """The other gradients reach backward as None."""
    ours, theirs = pair("LSTM", 3, 8, 2)
    found = []
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        (x_leaf,) = leaves(x, like=module)
        y, (h_n, c_n) = module(x_leaf)
        loss([{"y": y, "h_n": h_n, "c_n": c_n}[used]]).backward()
        found.append([y, h_n, c_n, x_leaf.grad, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32, outputs=3)


@pytest.mark.parametrize("frozen", [["weight_ih_l0"], ["bias_ih_l0", "bias_hh_l0"], "all"])
def test_frozen_parameters(frozen: Any) -> None:
    ours, theirs = pair("LSTM", 3, 8)
    for module in (ours, theirs):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not (frozen == "all" or name in frozen))
    x = torch.randn(6, 2, 3)
    assert_close(run(ours, x, None), run(theirs, x, None), torch.float32, outputs=3)


def test_x_without_gradient() -> None:
    ours, theirs = pair("LSTM", 3, 8)
    found = []
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        y, _ = module(x.to(next(module.parameters()).dtype))
        loss([y]).backward()
        found.append([y, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32)


@pytest.mark.parametrize("view", ["transposed", "expanded", "sliced", "every other"])
def test_strided_input_and_gradient(view: str) -> None:
    ours, theirs = pair("LSTM", 4, 8)
    base = torch.randn(9, 9, 9)
    x = {
        "transposed": base[:6, :4, :3].transpose(1, 2),
        "expanded": base[:6, :1, :4].expand(6, 3, 4),
        "sliced": base[1:7, ::3, 2:6],
        "every other": base[:6, :3, :8:2],
    }[view]
    found = []
    for module in (ours, theirs):
        leaf = (x if module is ours else x.double()).detach().requires_grad_()
        y, (h_n, _) = module(leaf)
        (y.sum() + 2 * h_n.sum()).backward()  # sum's gradient is expanded: strides of zero
        found.append([y, leaf.grad, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32)


def test_outputs_share_no_memory_with_inputs() -> None:
    lstm = fltorch.LSTM(3, 8)
    x, state = torch.randn(6, 2, 3), (torch.randn(1, 2, 8), torch.randn(1, 2, 8))
    before = [t.clone() for t in (x, *state)]
    y, (h_n, c_n) = lstm(x, state)
    with torch.no_grad():
        for out in (y, h_n, c_n):
            out.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, *state), strict=True))


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
            seen["x"], seen["y"] = x.ctypes.data, y.ctypes.data
            self.engine.forward(x, y, *rest)

    lstm = fltorch.LSTM(3, 8, batch_first=True)
    x = torch.randn(2, 6, 3)
    with torch.no_grad():
        y, _ = lstm(x)
    assert seen == {"x": x.data_ptr(), "y": y.data_ptr()}
    assert y.is_contiguous()


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
    x, key = torch.randn(6, 2, 3), id(lstm.weight_ih_l0)
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

    def disturbed(weights: list[Any], *rest: Any) -> Any:
        engine = pack(weights, *rest)
        weights[1].data.add_(0.01)
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


def test_large_memory_comes_from_the_pool_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tape with the backward pass, gradients with zero_grad, whoever still holds the graph."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Watched(_core.Block):  # type: ignore[misc,unused-ignore]
        def __init__(self, size: int) -> None:
            alive.add(self)

    monkeypatch.setattr(_core, "Block", Watched)
    lstm = fltorch.LSTM(300, 300)  # 1.44 MB of w_ih, and of w_hh
    x = torch.randn(900, 1, 300, requires_grad=True)  # 1.08 MB, like y
    spec = engines.Spec.of(list(lstm.parameters()), False)
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


def test_modified_weights_between_passes_are_refused() -> None:
    lstm = fltorch.LSTM(3, 8)
    y, _ = lstm(torch.randn(6, 2, 3))
    with torch.no_grad():
        lstm.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_twice() -> None:
    ours, theirs = pair("LSTM", 3, 8)
    found = []
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        (leaf,) = leaves(x, like=module)
        y, _ = module(leaf)
        loss([y]).backward(retain_graph=True)
        loss([y]).backward()
        found.append([y, leaf.grad, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32)


# ---- dropout ----


def test_dropout_is_reproducible_and_matches_its_own_gradient() -> None:
    lstm = fltorch.LSTM(3, 8, 3, dropout=0.4, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)

    def output(seed: int) -> Any:
        torch.manual_seed(seed)
        return lstm(x)[0]

    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))
    with torch.no_grad():
        assert torch.equal(output(1), lstm_grad := output(1))
        direction = torch.randn_like(lstm.weight_ih_l0)
        step = 1e-6
        base = lstm.weight_ih_l0.clone()
        lstm.weight_ih_l0.copy_(base + step * direction)
        above = loss([output(1)])
        lstm.weight_ih_l0.copy_(base - step * direction)
        below = loss([output(1)])
        lstm.weight_ih_l0.copy_(base)
    out = output(1)
    assert torch.equal(out, lstm_grad)
    loss([out]).backward()
    slope = float((lstm.weight_ih_l0.grad * direction).sum())
    assert slope == pytest.approx(float(above - below) / (2 * step), rel=1e-6)


def test_dropout_in_eval_mode_and_with_certainty() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 2, 3)
    ours, theirs = pair("LSTM", 3, 8, 2, dropout=0.5)
    assert_close(run(ours.eval(), x, None), run(theirs.eval(), x, None), torch.float32)
    ours, theirs = pair("LSTM", 3, 8, 2, dropout=1.0)
    with torch.no_grad():  # without a tape, dropout acts all the same
        assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)


def test_dropout_keeps_the_mean() -> None:
    lstm = fltorch.LSTM(1, 4, 2, dropout=0.5)
    with torch.no_grad():
        lstm.weight_hh_l1.zero_()
        torch.manual_seed(0)
        kept = lstm(torch.randn(50, 40, 1))[0]
        lstm.eval()
        torch.manual_seed(0)
        whole = lstm(torch.randn(50, 40, 1))[0]
    # 8000 outputs whose spread by dropout is well below 0.5: 5 standard errors are 0.03.
    assert abs(float((kept - whole).mean())) < 0.03
    assert not torch.equal(kept, whole)


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


def test_double_backward_is_refused() -> None:
    lstm = fltorch.LSTM(3, 8)
    x = torch.randn(6, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(loss([lstm(x)[0]]), x, create_graph=True)
    (plain,) = torch.autograd.grad(loss([lstm(x)[0]]), x)
    assert torch.equal(first.detach(), plain)
    with pytest.raises(NotImplementedError, match=r"first derivatives only.*restore"):
        first.sum().backward()


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


# ---- surroundings ----


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


def test_same_bits_for_any_number_of_threads() -> None:
    lstm = fltorch.LSTM(32, 64, bidirectional=True)
    x, before, found = torch.randn(50, 32, 32), fastlstm.get_num_threads(), []
    try:
        for count in (1, 2):
            fastlstm.set_num_threads(count)
            found.append(run(lstm, x, None))
            found[-1] = [t.detach().clone() for t in found[-1]]
    finally:
        fastlstm.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_inference_mode_and_offloaded_tapes() -> None:
    ours, theirs = pair("LSTM", 3, 8)
    x = torch.randn(6, 2, 3)
    with torch.inference_mode():
        assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)

    def moved(t: Any) -> Any:  # a saved tensor may come back at any address
        if t.dtype is not torch.uint8:
            return t
        space = torch.empty(t.numel() + 72, dtype=torch.uint8)
        start = -space.data_ptr() % 64 + 8
        return space[start : start + t.numel()].copy_(t)

    want = run(theirs, x, None)
    with torch.autograd.graph.saved_tensors_hooks(moved, lambda t: t):
        assert_close(run(ours, x, None), want, torch.float32, outputs=3)


def test_checkpointing() -> None:
    lstm = fltorch.LSTM(3, 8, 2, dropout=0.5)
    x = torch.randn(6, 2, 3, requires_grad=True)
    grads = []
    for run_it in (
        lambda: lstm(x)[0],
        lambda: torch.utils.checkpoint.checkpoint(lambda x: lstm(x)[0], x, use_reentrant=False),
    ):
        torch.manual_seed(3)
        grads.append(torch.autograd.grad(loss([run_it()]), [x, *lstm.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_matches_numpy_bit_for_bit() -> None:
    lstm = fltorch.LSTM(5, 24, 2, bidirectional=True)
    x = torch.randn(9, 3, 5)
    want, _ = fastlstm.LSTM.from_torch(copy.deepcopy(lstm))(x.numpy())
    assert np.array_equal(lstm(x)[0].detach().numpy(), want)


@pytest.mark.parametrize("steps,batch", [(1, 1), (3, 5), (17, 9), (128, 64), (1000, 1), (1, 999)])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 19, 3, 2), (64, 100, 2, 1)])
def test_size_of_the_tape(isa: str, steps: int, batch: int, sizes: tuple[int, ...]) -> None:
    """Bilinear in T and B, never too small, and no more above the core's own than it rounds."""
    inputs, hidden, layers, directions = sizes
    for double in (False, True):
        spec = engines.Spec(inputs, hidden, layers, directions, 4, double)
        least = _core.tape_bytes(*sizes, double, isa, steps, batch)
        assert least <= kernels.tape_bytes(spec, steps, batch) <= least + 64 * layers * 7
