# SPDX-License-Identifier: BSD-3-Clause
"""Modules of fastlstm.torch against those of torch.nn: outputs, gradients, dropout."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest

import fastlstm
from support.torch_runs import (
    CELLS,
    LAYERS,
    OTHER_LAYERS,
    assert_close,
    joined,
    leaves,
    loss,
    no_warnings,
    pair,
    parts,
    run,
    states,
)

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import kernels  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

OPTIONS = list(itertools.product((1, 3), (False, True), (False, True), (False, True)))
CASES = [("LSTM", *options) for options in OPTIONS]
CASES += [(kind, *options) for kind in OTHER_LAYERS for options in OPTIONS[::3]]


@pytest.mark.parametrize("kind,num_layers,bias,batch_first,bidirectional", CASES)
@pytest.mark.parametrize("with_state,ragged", [(False, False), (True, True)])
def test_batches(
    isa: str,
    dtype: str,
    kind: str,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    bidirectional: bool,
    with_state: bool,
    ragged: bool,
) -> None:
    torch.manual_seed(num_layers + 2 * bias + 4 * batch_first + 8 * bidirectional)
    of = getattr(torch, dtype)
    options = {"num_layers": num_layers, "bias": bias, "batch_first": batch_first}
    ours, theirs = pair(kind, 5, 19, bidirectional=bidirectional, dtype=of, **options)
    x = torch.randn(*((4, 7) if batch_first else (7, 4)), 5, dtype=torch.float64)
    shape, count = (num_layers * (1 + bidirectional), 4, 19), states(kind)
    state = [torch.randn(shape, dtype=torch.float64) for _ in range(count)] if with_state else None
    packing = None
    if ragged:
        packing = {"lengths": [2, 7, 1, 4], "batch_first": batch_first, "enforce_sorted": False}
    x, state = x.to(of).double(), state and [s.to(of).double() for s in state]
    found = run(ours, x, state, packing)
    assert_close(found, run(theirs, x, state, packing), of, outputs=1 + count)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("lengths", [[6, 3, 3, 1], [6, 6, 6, 6], [6]])
def test_sorted_packed_sequence(kind: str, lengths: list[int]) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 8, 2, bidirectional=True)
    packing, outputs = {"lengths": lengths}, 1 + states(kind)
    x = torch.randn(6, len(lengths), 3)
    found, want = (run(module, x, None, packing) for module in (ours, theirs))
    assert_close(found, want, torch.float32, outputs=outputs)


@pytest.mark.parametrize("kind", LAYERS)
def test_packed_sequence_keeps_its_order(kind: str) -> None:
    ours, theirs = pair(kind, 3, 8)
    x = torch.randn(6, 3, 3)
    mine, _ = ours(rnn.pack_padded_sequence(x, [2, 6, 4], enforce_sorted=False))
    want, _ = theirs(rnn.pack_padded_sequence(x.double(), [2, 6, 4], enforce_sorted=False))
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(mine, name), getattr(want, name))
    assert_close([rnn.pad_packed_sequence(mine)[0]], [rnn.pad_packed_sequence(want)[0]], x.dtype)


def test_every_result_of_a_packed_sequence_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results start as uninitialised memory; here it holds NaN."""
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


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(kind: str, with_state: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 8, 2, batch_first=batch_first, bidirectional=True)
    state = [torch.randn(4, 8) for _ in range(states(kind))] if with_state else None
    x = torch.randn(6, 3)
    found, want = run(ours, x, state), run(theirs, x, state)
    assert_close(found, want, torch.float32, outputs=1 + states(kind))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_cell(isa: str, dtype: str, kind: str, bias: bool, batched: bool, with_state: bool) -> None:
    torch.manual_seed(0)
    of = getattr(torch, dtype)
    ours, theirs = pair(kind, 5, 19, bias=bias, dtype=of)
    found = []
    x = torch.randn(3, *((4, 5) if batched else (5,))).to(of).double()
    shape = (4, 19) if batched else (19,)
    start = [torch.randn(shape).to(of).double() for _ in range(states(kind))]
    for module in (ours, theirs):
        steps, *state = leaves(x, *(start if with_state else ()), like=module)
        now = joined(state)
        for step in steps:  # several steps with the same weights: the engine is kept
            now = module(step, now)
        loss(parts(now)).backward()
        gradients = [t.grad for t in (steps, *state, *module.parameters())]
        found.append([*parts(now), *gradients])
    assert_close(*found, of, outputs=states(kind))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("used", [0, 1, 2], ids=["y", "h_n", "c_n"])
def test_one_output_used(kind: str, used: int) -> None:
    """The other gradients reach backward as None."""
    torch.manual_seed(0)
    ours, theirs = pair(kind, 3, 8, 2)
    found = []
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        (x_leaf,) = leaves(x, like=module)
        y, last = module(x_leaf)
        outputs = [y, *parts(last)]
        loss([outputs[min(used, states(kind))]]).backward()
        found.append([*outputs, x_leaf.grad, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32, outputs=1 + states(kind))


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
@pytest.mark.parametrize("frozen", [["weight_ih_l0"], ["bias_ih_l0", "bias_hh_l0"], "all"])
def test_frozen_parameters(kind: str, frozen: Any) -> None:
    ours, theirs = pair(kind, 3, 8)
    for module in (ours, theirs):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not (frozen == "all" or name in frozen))
    x = torch.randn(6, 2, 3)
    found, want = run(ours, x, None), run(theirs, x, None)
    assert_close(found, want, torch.float32, outputs=1 + states(kind))


def test_x_without_gradient() -> None:
    ours, theirs = pair("LSTM", 3, 8)
    found = []
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        y, _ = module(x.to(next(module.parameters()).dtype))
        loss([y]).backward()
        found.append([y, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32)


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
@pytest.mark.parametrize("view", ["transposed", "expanded", "sliced", "every other"])
def test_strided_input_and_gradient(kind: str, view: str) -> None:
    ours, theirs = pair(kind, 4, 8)
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
        y, last = module(leaf)
        (
            y.sum() + 2 * parts(last)[0].sum()
        ).backward()  # sum's gradient is expanded: strides of zero
        found.append([y, leaf.grad, *(p.grad for p in module.parameters())])
    assert_close(*found, torch.float32)


def test_negated_tensors() -> None:
    """Whose memory holds the opposite of their values: the imaginary part of a conjugate."""

    def negated(*shape: int) -> Any:
        found = torch.randn(*shape, dtype=torch.complex64).conj().imag
        assert found.is_neg()
        return found

    ours, theirs = pair("LSTM", 4, 8)
    weight = negated(32, 8)
    found = []
    for module in (ours, theirs):
        dtype = next(module.parameters()).dtype
        torch.manual_seed(0)
        x, h_0, c_0, dy = negated(6, 3, 4), negated(1, 3, 8), negated(1, 3, 8), negated(6, 3, 8)
        if module is theirs:
            x, h_0, c_0, dy = (t.resolve_neg().to(dtype) for t in (x, h_0, c_0, dy))
        given = weight if module is ours else weight.resolve_neg().to(dtype)
        named = {**dict(module.named_parameters()), "weight_hh_l0": given}
        x = x.detach().requires_grad_()
        y, (h_n, c_n) = torch.func.functional_call(module, named, (x, (h_0, c_0)))
        y.backward(dy)
        found.append([y, h_n, c_n, x.grad, module.weight_ih_l0.grad])
    assert_close(*found, torch.float32, outputs=3)


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_several_gradients_at_once(kind: str) -> None:
    ours, theirs = pair(kind, 4, 8)
    several = torch.randn(3, 6, 2, 8)
    x = torch.randn(6, 2, 4)
    found = []
    for module in (ours, theirs):
        dtype = next(module.parameters()).dtype
        leaf = x.to(dtype).requires_grad_()
        y, last = module(leaf)
        h_n = parts(last)[0]
        wanted = [leaf, *module.parameters()]

        def gradient(dy: Any, y: Any = y, h_n: Any = h_n, wanted: Any = wanted) -> Any:
            return torch.autograd.grad([y, h_n], wanted, [dy, h_n], retain_graph=True)

        if module is ours:
            found.append(list(torch.func.vmap(gradient)(several.to(dtype))))
        else:
            one_by_one = [gradient(dy.to(dtype)) for dy in several]
            found.append([torch.stack(grads) for grads in zip(*one_by_one, strict=True)])
    assert_close(*found, torch.float32)


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_outputs_share_no_memory_with_inputs(kind: str) -> None:
    layer, _ = pair(kind, 3, 8)
    x, state = torch.randn(6, 2, 3), [torch.randn(1, 2, 8) for _ in range(states(kind))]
    before = [t.clone() for t in (x, *state)]
    y, last = layer(x, joined(state))
    with torch.no_grad():
        for out in (y, *parts(last)):
            out.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, *state), strict=True))


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


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_dropout_is_reproducible_and_matches_its_own_gradient(kind: str) -> None:
    lstm, _ = pair(kind, 3, 8, 3, dropout=0.4, bidirectional=True, dtype=torch.float64)
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


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_dropout_in_eval_mode_and_with_certainty(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 2, 3)
    ours, theirs = pair(kind, 3, 8, 2, dropout=0.5)
    assert_close(run(ours.eval(), x, None), run(theirs.eval(), x, None), torch.float32)
    ours, theirs = pair(kind, 3, 8, 2, dropout=1.0)
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


# ---- surroundings ----


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_same_bits_for_any_number_of_threads(kind: str) -> None:
    lstm, _ = pair(kind, 32, 64, bidirectional=True)
    x, before, found = torch.randn(50, 32, 32), fastlstm.get_num_threads(), []
    try:
        for count in (1, 2):
            fastlstm.set_num_threads(count)
            found.append(run(lstm, x, None))
            found[-1] = [t.detach().clone() for t in found[-1]]
    finally:
        fastlstm.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_inference_mode_and_offloaded_tapes(kind: str) -> None:
    ours, theirs = pair(kind, 3, 8)
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
        assert_close(run(ours, x, None), want, torch.float32, outputs=1 + states(kind))


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_checkpointing(kind: str) -> None:
    lstm, _ = pair(kind, 3, 8, 2, dropout=0.5)
    x = torch.randn(6, 2, 3, requires_grad=True)
    grads = []
    for run_it in (
        lambda: lstm(x)[0],
        lambda: torch.utils.checkpoint.checkpoint(lambda x: lstm(x)[0], x, use_reentrant=False),
    ):
        torch.manual_seed(3)
        grads.append(torch.autograd.grad(loss([run_it()]), [x, *lstm.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_matches_numpy_bit_for_bit(kind: str) -> None:
    layer, _ = pair(kind, 5, 24, 2, bidirectional=True)
    x = torch.randn(9, 3, 5)
    numpys = getattr(fastlstm, kind.split()[0]).from_torch(copy.deepcopy(layer))
    assert np.array_equal(layer(x)[0].detach().numpy(), numpys(x.numpy())[0])
