# SPDX-License-Identifier: BSD-3-Clause
"""What comes out of fastlstm.torch: the same bits however a row is asked for, the same classes."""

from __future__ import annotations

from typing import Any

import pytest

from support.torch_runs import CELLS, joined, made, no_warnings, parts, states

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("hidden", [3, 19, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_bits_of_a_row_of_a_cell(isa: str, dtype: str, kind: str, hidden: int, bias: bool) -> None:
    """The same alone and in a batch, with and without gradients, in whatever call, and as the
    layer's.
    """
    of = getattr(torch, dtype)
    cell = made(fltorch, kind, 5, hidden, bias=bias, dtype=of)
    layer = made(fltorch, kind.replace("Cell", ""), 5, hidden, bias=bias, dtype=of)
    layer.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
    x = torch.randn(4, 5, dtype=of)
    state = [torch.randn(4, hidden, dtype=of) for _ in range(states(kind))]

    def stepped(rows: Any) -> list[Any]:
        return parts(cell(x[rows], joined(s[rows] for s in state)))

    want = [t.detach() for t in stepped(slice(None))]
    for grad in (True, False):
        for _ in range(3):  # from the third call on the engine is a kept one
            with torch.set_grad_enabled(grad):
                rows = [stepped(b) for b in range(4)]
                ones = [stepped(slice(b, b + 1)) for b in range(4)]
                whole = parts(layer(x[None], joined(s[None] for s in state))[1])
            for i in range(len(want)):
                assert torch.equal(torch.stack([row[i] for row in rows]), want[i])
                assert torch.equal(torch.cat([one[i] for one in ones]), want[i])
                assert torch.equal(whole[i][0], want[i])


class Tagged(torch.Tensor):  # type: ignore[misc,unused-ignore]
    pass


class Untagging(torch.Tensor):  # type: ignore[misc,unused-ignore]
    __torch_function__ = torch._C._disabled_torch_function_impl


@pytest.mark.parametrize("kind,which", [
    (Tagged, "x"), (Tagged, "h_0"), (Tagged, "weight"), (Untagging, "x"), (Untagging, "h_0"),
    (torch.nn.Parameter, "x"), (torch.nn.Parameter, "h_0"),
])  # fmt: skip
@pytest.mark.parametrize("case", ["layer", "packed", "unbatched", "cell", "one row"])
@pytest.mark.parametrize("name", ["LSTM", "RNN", "GRU"])
def test_tensor_subclasses_come_out_as_of_pytorch(
    kind: Any, which: str, case: str, name: str
) -> None:
    cell = case in ("cell", "one row")
    suffix = "" if cell else "_l0"
    found = []
    for modules in (fltorch, torch.nn):
        torch.manual_seed(0)
        module = made(modules, name + "Cell" * cell, 3, 8)
        shape = {"cell": (2, 3), "one row": (3,), "unbatched": (6, 3)}.get(case, (6, 2, 3))
        of_states = {"cell": (2, 8), "one row": (8,), "unbatched": (1, 8)}.get(case, (1, 2, 8))
        x, h_0, *rest = (torch.randn(s) for s in (shape, *[of_states] * states(name)))
        if which == "weight":
            weight = getattr(module, f"weight_ih{suffix}").detach().as_subclass(kind)
            setattr(module, f"weight_ih{suffix}", torch.nn.Parameter(weight))
        elif which == "x":
            x = x.as_subclass(kind).requires_grad_()
        else:
            h_0 = h_0.as_subclass(kind).requires_grad_()
        given = rnn.pack_padded_sequence(x, [6, 6]) if case == "packed" else x
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                if cell:
                    outputs = parts(module(given, joined((h_0, *rest))))
                else:
                    y, last = module(given, joined((h_0, *rest)))
                    outputs = [y.data if case == "packed" else y, *parts(last)]
            if grad:
                sum(output.sum() for output in outputs).backward()
                tensors = [x, h_0, *module.parameters()]
                found.append([type(t.grad) for t in tensors])
            found.append([type(output) for output in outputs])
    assert found[:3] == found[3:]
