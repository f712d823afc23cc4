# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.torch's operators by hand, with subclasses that lie and hooks that change tensors."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import kernels  # noqa: E402

forward = torch.ops.fastlstm.lstm_forward.default
F64 = torch.float64


def arguments() -> tuple[Any, ...]:
    """x, h_0, c_0, weights, batch_sizes, seed and options of a bidirectional LSTM of two layers."""
    weights = list(fltorch.LSTM(3, 4, 2, bidirectional=True).parameters())
    x, h_0 = torch.randn(5, 3, 3), torch.randn(4, 3, 4)
    return x, h_0, torch.randn(4, 3, 4), weights, None, None, "tbi", True, 0.0, 0


@pytest.mark.parametrize("name", ["x with fewer features", "h_0 of another batch", "x in float64"])
def test_large_wrong_arguments_with_a_weight_that_learns(name: str) -> None:
    """Where they were read, the process died."""
    weights = [torch.zeros(256, 64, requires_grad=True), torch.zeros(256, 64)]
    x, h_0 = torch.zeros(1, 300_000, 64), None
    if name == "x with fewer features":
        x = x[..., :1].contiguous()
    elif name == "x in float64":
        x = torch.zeros(1, 300_000, 8, dtype=F64)
    else:
        h_0 = torch.zeros(1, 1, 64)
    with pytest.raises(ValueError, match=r"must be a torch\.float32 tensor"):
        forward(x, h_0, None, weights, None, None, "tbi", False, 0.0, 0)


class Liar(torch.Tensor):  # type: ignore[misc]
    """Says that it is larger than it is."""

    @property
    def shape(self) -> Any:
        return torch.Size((1, 300_000, 3))


@pytest.mark.parametrize("position", [0, 1, 3])
def test_subclasses_that_lie_about_their_shape(position: int) -> None:
    given = list(arguments())
    if position == 3:
        given[3] = [given[3][0].detach().as_subclass(Liar), *given[3][1:]]
    else:
        given[position] = given[position].detach().as_subclass(Liar)
    want = forward(*arguments())[0].shape
    with torch.no_grad():
        assert torch.Tensor.size(forward(*given)[0]) == want


@pytest.mark.parametrize("what", ["tape", "x", "batch_sizes"])
@pytest.mark.parametrize("how", ["short", "float64", "rank", "no memory"])
def test_hooks_that_change_saved_tensors(what: str, how: str) -> None:
    lstm = fltorch.LSTM(3, 64)
    x = torch.randn(6_000, 3, requires_grad=True)
    packed = rnn.PackedSequence(x, torch.tensor([2500, 2000, 1500]))

    def changed(t: Any) -> Any:
        kind = {torch.uint8: "tape", torch.int64: "batch_sizes"}.get(t.dtype, "x")
        if kind != what or (kind == "x" and t.shape != x.shape):
            return t
        if how == "no memory":
            t = t.clone()
            t.untyped_storage().resize_(0)
            return t
        return {"short": t[:1], "float64": t.double(), "rank": t.unsqueeze(-1)}[how]

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, changed):
        y, _ = lstm(packed)
        with pytest.raises((ValueError, RuntimeError, TypeError)):
            y.data.sum().backward()


def test_batch_sizes_are_read_once() -> None:
    """From a copy: a second reader may change what was checked."""
    sizes = torch.tensor([2, 1])
    rows = kernels.Rows.of("packed", (3, 5), sizes, 2)
    sizes.fill_(10**12)
    assert (rows.steps, rows.batch) == (2, 2)
    assert rows.lengths is not None
    assert rows.starts is not None
    assert [*rows.lengths, *rows.starts] == [2, 1, 0, 2]
    with pytest.raises(ValueError, match=r"batch must be batch_sizes\[0\]"):
        kernels.Rows.of("packed", (3, 5), torch.tensor([2, 1]), 3)
