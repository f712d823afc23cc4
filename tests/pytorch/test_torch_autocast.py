# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.torch under torch.autocast("cpu"): the dtypes that PyTorch gives where it can."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from support.processes import check
from support.torch_runs import joined, no_warnings, parts, states

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import autocast  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
CASES = ["layer", "unbatched", "ragged", "even", "cell", "one row"]
KINDS = [(name, case) for name in ("LSTM", "RNN", "GRU") for case in CASES]


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU for which PyTorch has none of the dtype."""
    monkeypatch.setattr(autocast, "_has_kernels", lambda low: False)


def call(module: Any, kind: Any, low: Any, dtypes: Any, grad: bool) -> list[Any]:
    """The dtypes of y, the state and the gradients of x, the states and a weight; y and states."""
    torch.manual_seed(0)
    name, case = kind
    of_x, of_states = dtypes
    shape = {"unbatched": (6, 3), "cell": (2, 3), "one row": (3,)}.get(case, (6, 2, 3))
    of_state = {"unbatched": (2, 8), "cell": (2, 8), "one row": (8,)}.get(case, (2, 2, 8))
    x = torch.randn(shape).to(of_x).requires_grad_(grad)
    hx = []
    if of_states is not None:
        count = states(name)
        hx = [torch.randn(of_state).to(of_states).requires_grad_(grad) for _ in range(count)]
    given = x
    if case in ("ragged", "even"):
        given = rnn.pack_padded_sequence(x, [6, 3 if case == "ragged" else 6])
    module.zero_grad()
    with torch.autocast("cpu", dtype=low), torch.set_grad_enabled(grad):
        if case in ("cell", "one row"):
            outputs = parts(module(given, joined(hx)))
        else:
            y, last = module(given, joined(hx))
            outputs = [y.data if given is not x else y, *parts(last)]
    found = list(outputs)
    if grad:
        sum(out.float().sum() for out in outputs).backward()
        found += [t.grad for t in (x, *hx, next(module.parameters()))]
    return [[t.dtype for t in found], [t.detach().float() for t in found]]


def pair(kind: Any) -> tuple[Any, Any]:
    name, case = kind
    cell = case in ("cell", "one row")
    theirs = getattr(torch.nn, name + "Cell" * cell)(3, 8, *(() if cell else (2,)))
    return fltorch.accelerate(copy.deepcopy(theirs)), theirs


def results(kind: Any) -> int:
    """How many tensors a call returns."""
    name, case = kind
    return states(name) + (case not in ("cell", "one row"))


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtypes", list(itertools.product((F32, BF16), (None, F32, BF16))), ids=str)
def test_bfloat16(kind: Any, grad: bool, dtypes: Any, no_kernels: None) -> None:
    ours, theirs = pair(kind)
    found = call(ours, kind, BF16, dtypes, grad)
    x, of_states = dtypes
    stepwise = kind[0] == "LSTM" and kind[1] in ("ragged", "cell", "one row")
    stepwise |= kind[0] == "GRU"
    low = BF16 if not stepwise else torch.promote_types(BF16, of_states or x)
    outputs = results(kind)
    assert found[0][:outputs] == [low] * outputs
    if grad:
        assert found[0][outputs] is x
        assert found[0][-1] is F32
    # PyTorch's own to compare with
    if kind[0] != "LSTM" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        want = call(theirs, kind, BF16, dtypes, grad)
        assert found[0] == want[0]
        for a, b in zip(found[1], want[1], strict=True):
            assert float((a - b).abs().max()) <= 0.02 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@pytest.mark.parametrize("grad", [False, True])
def test_float16(kind: Any, grad: bool, no_kernels: None) -> None:
    ours, _ = pair(kind)
    dtypes, values = call(ours, kind, F16, (F16, F16), grad)
    outputs = results(kind)
    assert dtypes[:outputs] == [F16] * outputs
    if grad:
        assert dtypes[outputs:] == [F16, *[F16] * states(kind[0]), F32]
    assert all(bool(value.isfinite().all()) for value in values)


def test_the_core_computes_in_float32(no_kernels: None) -> None:
    """And rounds once, at the end."""
    ours, _ = pair(("LSTM", "layer"))
    x = torch.randn(6, 2, 3)
    want = ours(x)
    with torch.autocast("cpu", dtype=BF16):
        y, (h_n, c_n) = ours(x)
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)(x)[0]
    for a, b in zip((y, h_n, c_n, compiled), (want[0], *want[1], want[0]), strict=True):
        assert torch.equal(a, b.to(BF16))


class Shifted(fltorch.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        y, state = super().forward(input, hx)
        return y + 1, state


def test_subclasses_of_ours_are_called_once(no_kernels: None) -> None:
    lstm = Shifted(3, 8)
    x = torch.randn(6, 2, 3)
    with torch.autocast("cpu", dtype=BF16):
        found = lstm(x)[0]
    want = fltorch.LSTM.forward(lstm, x)[0].to(BF16) + 1
    assert torch.equal(found, want)


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_pytorch_keeps_what_it_has_kernels_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or has the error message for."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("PyTorch has no bfloat16 LSTM on this CPU")
    ours, theirs = pair(("LSTM", "layer"))
    x = torch.randn(6, 2, 3)
    with torch.autocast("cpu", dtype=BF16), torch.no_grad():
        with pytest.warns(UserWarning, match="autocast"):
            found = ours(x)[0]
        assert torch.equal(found, theirs(x)[0])


def test_the_core_keeps_what_pytorch_has_no_kernels_for() -> None:
    """An RNN under autocast, whatever this CPU has; a warning would be an error here."""
    rnn = fltorch.RNN(3, 8)
    x = torch.randn(6, 2, 3)
    want = rnn(x)[0]
    with torch.autocast("cpu", dtype=BF16):
        assert torch.equal(rnn(x)[0], want.to(BF16))


@pytest.mark.parametrize("x,weights", [(torch.float64, F32), (F32, torch.float64)], ids=str)
def test_what_autocast_refuses(x: Any, weights: Any, no_kernels: None) -> None:
    lstm = fltorch.LSTM(3, 8, dtype=weights)
    given = torch.randn(6, 2, 3, dtype=x)
    refused = pytest.raises(RuntimeError, match=r"dtype|data type")
    with torch.autocast("cpu", dtype=BF16), pytest.warns(UserWarning, match="autocast"), refused:
        lstm(given)


def test_on_a_cpu_without_bfloat16() -> None:
    """PyTorch's own LSTM fails there; where it does not take the hint, this proves nothing."""
    check(
        """
        import torch, fastlstm.torch, warnings
        warnings.simplefilter("error")
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            lstm = fastlstm.torch.accelerate(torch.nn.LSTM(3, 8))
            x = torch.randn(6, 2, 3, requires_grad=True)
            want = lstm(x)[0].detach()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y, _ = lstm(x)
            assert torch.equal(y, want.bfloat16())
            y.sum().backward()
            assert x.grad.dtype is torch.float32
        """,
        env={"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )
