# SPDX-License-Identifier: BSD-3-Clause
"""What torch.utils.flop_counter counts of fastlstm.torch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import fastlstm.torch as fltorch  # noqa: E402
from support.torch_runs import joined, made, states  # noqa: E402

F64 = torch.float64


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("case", ["layer", "packed", "unbatched", "cell", "one row"])
@pytest.mark.parametrize("learns", ["all", "weights", "x", "h_0", "c_0", "weight_hh_l1", "nothing"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_flops_are_those_of_pytorch(kind: str, case: str, learns: str, bidirectional: bool) -> None:
    """In float64, where PyTorch's LSTM is made of products that are counted."""
    cell = case in ("cell", "one row")
    if (cell and (bidirectional or "_l" in learns)) or (kind != "LSTM" and learns == "c_0"):
        return
    shape = {"cell": (3, 5), "one row": (5,), "unbatched": (6, 5)}.get(case, (6, 3, 5))
    layers = 4 if bidirectional else 2
    of_states = {"cell": (3, 7), "one row": (7,), "unbatched": (layers, 7)}.get(
        case, (layers, 3, 7)
    )
    found = []
    for modules in (fltorch, torch.nn):
        options = {} if cell else {"num_layers": 2, "bidirectional": bidirectional}
        module = made(modules, kind + "Cell" * cell, 5, 7, dtype=F64, **options)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(learns in ("all", "weights", name))
        tensors = {"x": torch.randn(shape, dtype=F64)}
        names = ("h_0", "c_0")[: states(kind)]
        tensors |= {name: torch.randn(of_states, dtype=F64) for name in names}
        for name, tensor in tensors.items():
            tensor.requires_grad_(learns in ("all", name))
        with FlopCounterMode(display=False) as counter:
            given = tensors["x"]
            if case == "packed":
                given = rnn.pack_padded_sequence(given, [6, 3, 2])
            y = module(given, joined(tensors[name] for name in names))
            y = y[0] if isinstance(y, tuple) else y
            forward_flops = counter.get_total_flops()
            y = y.data if case == "packed" else y
            if learns != "nothing":
                y.sum().backward()
        found.append((forward_flops, counter.get_total_flops() - forward_flops))
    assert found[0] == found[1]
    assert found[0][0] > 0
