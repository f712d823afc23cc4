# SPDX-License-Identifier: BSD-3-Clause
"""Random RNNs and GRUs, their inputs, and what the reference and PyTorch make of them.

All time-major."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastlstm
from fastlstm import reference
from fastlstm.reference.layers import Model, run_forward, weighted_sums
from fastlstm.reference.rnn import RNN
from fastlstm.spec import Spec

TORCH_KINDS = ("tanh", "relu", "gru")
KINDS = (*TORCH_KINDS, "gru_reset_before")
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
    """One model whose state is h alone, and one batch for it."""

    steps: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    with_state: bool
    ragged: bool
    kind: str
    """one of `KINDS`: a GRU's cell, or the nonlinearity of an RNN"""
    dtype: str
    seed: int

    @property
    def is_gru(self) -> bool:
        return self.kind.startswith("gru")

    @property
    def spec(self) -> Spec:
        sizes = (self.input_size, self.hidden_size, self.num_layers, 1 + self.bidirectional)
        cell = self.kind if self.is_gru else f"rnn_{self.kind}"
        return Spec(cell, *sizes, self.bias, np.dtype(self.dtype))

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that PyTorch's module and ours share, but for the dtype."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional")
        return {name: getattr(self, name) for name in names} | self.options

    @property
    def options(self) -> dict[str, Any]:
        """What tells an RNN from another one, and a GRU from PyTorch's."""
        if self.is_gru:
            return {} if self.kind == "gru" else {"reset_after": False}
        return {"nonlinearity": self.kind}

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


def random_case(seed: int, kind: str, dtype: str) -> Case:
    rng = np.random.default_rng(seed)
    sizes = [
        int(rng.choice(EDGE_SIZES) if rng.random() < 0.5 else rng.integers(1, 40)) for _ in range(4)
    ]
    flags = [bool(flag) for flag in rng.random(4) < (0.75, 0.5, 0.5, 0.5)]
    return Case(*sizes, int(rng.integers(1, 4)), *flags, kind, dtype, seed)  # type: ignore[misc]


def named(y: Any, h_n: Any, x: Any, h_0: Any, params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Results and gradients in one dict."""
    grads = {f"d{name}": value for name, value in params.items()}
    return {"y": y, "h_n": h_n, "dx": x, "dh_0": h_0, **grads}


def reference_forward(case: Case, x: Any, params: Any, **options: Any) -> Any:
    """By the specification: y and h_n."""
    run = reference.gru_forward if case.is_gru else reference.rnn_forward
    return run(x, params, **case.options, **options)


def reference_backward(case: Case, x: Any, params: Any, **options: Any) -> Any:
    """By the specification: gradients of x, h_0 and the parameters."""
    run = reference.gru_backward if case.is_gru else reference.rnn_backward
    return run(x, params, **case.options, **options)


def reference_results(case: Case, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Outputs, and the gradients of sum(dy y) + sum(dh_n h_n)."""
    i = case.inputs()
    options: dict[str, Any] = {"h_0": i.h_0, "lengths": i.lengths, "dtype": dtype}
    y, h_n = reference_forward(case, i.x, i.params, **options)
    grads = reference_backward(case, i.x, i.params, dy=i.dy, dh_n=i.dh_n, **options)
    return named(y, h_n, *grads)


def torch_results(case: Case, dtype: str = "float64") -> dict[str, np.ndarray]:
    """The same by torch.nn and autograd. Packed sequences refuse length 0: such rows are kept
    from PyTorch and get y = 0 and the initial state."""
    torch = pytest.importorskip("torch")
    rnn, i = torch.nn.utils.rnn, case.inputs()

    def tensor(a: np.ndarray, grad: bool = False) -> Any:
        return torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=grad)

    kind = torch.nn.GRU if case.is_gru else torch.nn.RNN
    module = kind(**case.arguments, dtype=getattr(torch, dtype))
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


def least_sum(case: Case) -> float:
    """The smallest |z| of all sums that the kind is applied to. relu's derivative jumps at
    0: where a sum is nearer to it than rounding reaches, two right answers may differ."""
    i, cell = case.inputs(), RNN[case.kind]
    model = Model.of(cell, i.x, i.params, {"h_0": i.h_0}, i.lengths, np.float64)
    least = np.inf
    for layer, params in zip(run_forward(cell, model, 0.0, 0), model.params, strict=True):
        for direction, (h,) in enumerate(layer.runs):
            order = slice(None, None, -1 if direction else 1)
            z = weighted_sums(layer.x[order], h[:-1], params[direction])
            taken = np.abs(z)[model.active[order][..., 0]]
            least = min(least, float(taken.min(initial=np.inf)))
    return least


def clear_case(seed: int, kind: str, dtype: str) -> Case:
    """A random case whose gradients rounding cannot turn over."""
    if kind != "relu" or dtype == "float64":
        return random_case(seed, kind, dtype)
    for attempt in range(1000):
        case = random_case(1000 * seed + attempt, kind, dtype)
        small = replace(case, steps=min(case.steps, 7), batch=min(case.batch, 5))
        if least_sum(small) > 3e-5:
            return small
    raise AssertionError("there is no such case")


def model(case: Case, **options: Any) -> Any:
    kind: Any = fastlstm.GRU if case.is_gru else fastlstm.RNN
    rnn = kind(**case.arguments, dtype=case.dtype, seed=0, **options)
    rnn.load_state_dict(case.inputs().params)
    return rnn


def core_results(case: Case, rnn: Any) -> dict[str, np.ndarray]:
    """As `reference_results`, by the engine."""
    i = case.inputs()
    y, h_n, tape = rnn.forward(i.x, i.h_0, lengths=i.lengths)
    grads = rnn.backward(tape, i.dy, i.dh_n)
    assert grads.c_0 is None
    assert grads.x is not None
    return named(y, h_n, grads.x, grads.h_0, grads.params)
