# SPDX-License-Identifier: BSD-3-Clause
"""Right calls of torch.ops.fastlstm, for `operators` to spoil."""

from __future__ import annotations

from typing import Any

from fastlstm.spec import CELLS

from .driver import Skipped
from .hostile import Rng, one_of

try:
    import torch
except ImportError as error:
    raise Skipped("PyTorch is not installed") from error

LAYOUTS = ("tbi", "bti", "ti", "packed", "cell")
# Without relu, whose derivative jumps where rounding decides.
KINDS = ("lstm", "lstm", "gru", "rnn_tanh")


class Call:
    """A right call, as the positional arguments of lstm_forward or rnn_forward by name."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        torch.manual_seed(int(rng.integers(2**31)))
        self.cell, self.layout = one_of(rng, KINDS), one_of(rng, LAYOUTS)
        self.has_c = CELLS[self.cell].has_c
        self.double = bool(rng.random() < 0.3)
        self.dtype = torch.float64 if self.double else torch.float32
        self.inputs, self.units, self.steps, self.batch = (int(n) for n in rng.integers(1, 6, 4))
        if rng.random() < 0.2:
            self.inputs, self.units, self.batch = 64, 64, 100
        cell = self.layout == "cell"
        self.layers = 1 if cell else int(rng.integers(1, 3))
        self.both = not cell and bool(rng.integers(2))
        self.bias = bool(rng.integers(2))
        D, H, T, B = 2 if self.both else 1, self.units, self.steps, self.batch
        rows = CELLS[self.cell].gates * H
        weights = []
        for layer in range(self.layers):
            for _ in range(D):
                weights += [
                    self.random(rows, D * H if layer else self.inputs),
                    self.random(rows, H),
                ]
                weights += [self.random(rows), self.random(rows)] if self.bias else []
        sizes = None
        if self.layout == "packed":
            sizes = torch.sort(torch.randint(1, B + 1, (T,)), descending=True)[0]
            self.batch = B = int(sizes[0])
        shapes = {"tbi": (T, B), "bti": (B, T), "ti": (T,), "cell": (B,)}
        leading = (int(sizes.sum()),) if sizes is not None else shapes[self.layout]
        state = (
            (B, H)
            if cell
            else (self.layers * D, H)
            if self.layout == "ti"
            else (self.layers * D, B, H)
        )
        given = rng.random() < 0.6
        self.arguments: dict[str, Any] = {
            "x": self.random(*leading, self.inputs),
            "h_0": self.random(*state) if given else None,
            **({"c_0": self.random(*state) if given else None} if self.has_c else {}),
            "weights": weights,
            "batch_sizes": sizes,
            "seed": None,
            **({} if self.has_c else {"cell": self.cell}),
            "layout": self.layout,
            "bidirectional": self.both,
            "dropout": 0.0,
            "batch": B if self.layout == "packed" else 0,
        }
        self.y_shape, self.state_shape = (*leading, D * H), state

    def random(self, *shape: int) -> Any:
        return torch.randn(*shape, dtype=self.dtype) * 0.5
