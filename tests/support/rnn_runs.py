# SPDX-License-Identifier: BSD-3-Clause
"""Random RNNs, their inputs, and what the reference and PyTorch make of them. Time-major."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastlstm import reference
from fastlstm.spec import Spec

NONLINEARITIES = ("tanh", "relu")
# Sizes at and around the vector widths and tile heights of the kernels, where tails begin.
EDGE_SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65)


class Inputs(NamedTuple):
    params: dict[str, np.ndarray]
    x: np.ndarray  # (T, B, I), NaN past a sequence's end: nobody may read it
    h_0: np.ndarray | None  # (D*L, B, H)
    lengths: np.ndarray | None
    dy: np.ndarray  # (T, B, D*H)
    dh_n: np.ndarray  # (D*L, B, H)


@dataclass(frozen=True)
class Case:
    """One RNN and one batch for it."""

    steps: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    with_state: bool
    ragged: bool
    nonlinearity: str
    dtype: str
    seed: int

    @property
    def spec(self) -> Spec:
        sizes = (self.input_size, self.hidden_size, self.num_layers, 1 + self.bidirectional)
        return Spec(f"rnn_{self.nonlinearity}", *sizes, self.bias, np.dtype(self.dtype))

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that torch.nn.RNN and fastlstm.RNN share, but for the dtype."""
        names = ("input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "bidirectional")
        return {name: getattr(self, name) for name in names}

    def lengths(self) -> np.ndarray:
        """In any order, with zeros in between."""
        rng = np.random.default_rng((self.seed, 1))
        lengths = rng.integers(0, self.steps + 1, self.batch)
        lengths[rng.random(self.batch) < 0.1] = 0
        return lengths

    def inputs(self) -> Inputs:
        rng = np.random.default_rng((self.seed, 2))
        bound = 1 / np.sqrt(self.hidden_size)
        params = {
            name: rng.uniform(-bound, bound, shape).astype(self.dtype)
            for name, shape in self.spec.shapes.items()
        }
        directions = 1 + self.bidirectional
        width = directions * self.hidden_size
        shape = (directions * self.num_layers, self.batch, self.hidden_size)

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(self.dtype)

        x, dy = (normal(self.steps, self.batch, n) for n in (self.input_size, width))
        lengths = self.lengths() if self.ragged else None
        for row, length in enumerate([] if lengths is None else lengths):
            x[length:, row] = np.nan
        return Inputs(
            params, x, normal(*shape) if self.with_state else None, lengths, dy, normal(*shape)
        )


def random_case(seed: int, nonlinearity: str, dtype: str) -> Case:
    rng = np.random.default_rng(seed)
    sizes = [
        int(rng.choice(EDGE_SIZES) if rng.random() < 0.5 else rng.integers(1, 40)) for _ in range(4)
    ]
    flags = [bool(flag) for flag in rng.random(4) < (0.75, 0.5, 0.5, 0.5)]
    return Case(*sizes, int(rng.integers(1, 4)), *flags, nonlinearity, dtype, seed)  # type: ignore[misc]


def named(y: Any, h_n: Any, x: Any, h_0: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Results and gradients in one dict."""
    grads = {f"d{name}": value for name, value in params.items()}
    return {"y": y, "h_n": h_n, "dx": x, "dh_0": h_0, **grads}


def reference_results(case: Case, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Outputs, and the gradients of sum(dy y) + sum(dh_n h_n)."""
    i = case.inputs()
    options: dict[str, Any] = {"nonlinearity": case.nonlinearity, "h_0": i.h_0}
    options |= {"lengths": i.lengths, "dtype": dtype}
    y, h_n = reference.rnn_forward(i.x, i.params, **options)
    grads = reference.rnn_backward(i.x, i.params, dy=i.dy, dh_n=i.dh_n, **options)
    return named(y, h_n, *grads)


def torch_results(case: Case, dtype: str = "float64") -> dict[str, np.ndarray]:
    """The same by torch.nn.RNN and autograd. Packed sequences refuse length 0: such rows are kept
    from PyTorch and get y = 0 and the initial state."""
    torch = pytest.importorskip("torch")
    rnn, i = torch.nn.utils.rnn, case.inputs()

    def tensor(a: np.ndarray, grad: bool = False) -> Any:
        return torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=grad)

    module = torch.nn.RNN(**case.arguments, dtype=getattr(torch, dtype))
    module.load_state_dict({name: tensor(value) for name, value in i.params.items()})
    x = tensor(np.nan_to_num(i.x), True)
    h_0 = tensor(np.zeros_like(i.dh_n) if i.h_0 is None else i.h_0, True)
    if i.lengths is None:
        y, h_n = module(x, h_0)
    else:
        y, h_n = torch.zeros_like(tensor(i.dy)), h_0.clone()
        keep = [row for row, length in enumerate(i.lengths) if length > 0]
        if keep:
            counts = [int(i.lengths[row]) for row in keep]
            packed = rnn.pack_padded_sequence(x[:, keep], counts, enforce_sorted=False)
            out, h_n[:, keep] = module(packed, h_0[:, keep])
            y[:, keep], _ = rnn.pad_packed_sequence(out, total_length=case.steps)
    loss = (tensor(i.dy) * y).sum() + (tensor(i.dh_n) * h_n).sum()
    loss.backward()
    zero = torch.zeros_like
    grads = {
        name: (zero(value) if value.grad is None else value.grad).numpy()
        for name, value in module.named_parameters()
    }
    dx, dh_0 = (zero(v) if v.grad is None else v.grad for v in (x, h_0))
    return named(y.detach().numpy(), h_n.detach().numpy(), dx.numpy(), dh_0.numpy(), grads)
