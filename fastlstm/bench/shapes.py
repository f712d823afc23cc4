# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: the sizes of one call, and the arrays that go with them.

Imports NumPy only, so that a worker process holds nothing but the engine it measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Blocks of H rows in a weight matrix of each cell, as `fastlstm.spec.CELLS` has them."""

# Parameters that an LSTM's options add, by option and value: name -> how many times H.
ADDED: dict[str, dict[Any, dict[str, int]]] = {
    "peepholes": {True: {"weight_ci": 1, "weight_cf": 1, "weight_co": 1}},
    "layer_norm": {
        "sums": {"weight_n": 4},
        "separate": {"weight_nx": 4, "weight_nh": 4, "weight_nc": 1, "bias_nc": 1},
    },
}

WORDS = {
    "lstm": "",
    "gru": "GRU",
    "gru_reset_before": "GRU-reset-before",
    "rnn_tanh": "RNN",
    "rnn_relu": "RNN-relu",
}
"""What a shape's name says of its cell."""


@dataclass(frozen=True)
class Shape:
    """One call of a stack of layers.

    name           unique, for the command line and the tables
    model, source  the real model, and the file or paper that documents its sizes
    T, B, I, H     steps, batch, input size, hidden size
    layers, bidirectional   as in ``torch.nn.LSTM``
    ragged         sequence lengths drawn from T/8 .. T (`make_lengths`) instead of all T
    dtype          "float32" or "float64"
    stream         each call takes T new steps and carries the state over from the call before
    train          a training step, forward and backward, instead of inference
    cell           of `GATES`
    proj           what an LSTM's h is projected to, `proj_size` of ``torch.nn.LSTM``; 0: it is not
    options        of an LSTM: arguments of `fastlstm.LSTMOptions`, a mapping or pairs
    """

    name: str
    model: str
    source: str
    T: int
    B: int
    I: int  # noqa: E741  (the field's own name for it)
    H: int
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    dtype: str = "float32"
    stream: bool = False
    train: bool = False
    cell: str = "lstm"
    proj: int = 0
    options: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _pairs(self.options))
        for field in ("T", "B", "I", "H", "layers"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{field} must be a positive integer, got {value!r}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        if self.cell not in GATES:
            raise ValueError(f"cell must be one of {', '.join(GATES)}, got {self.cell!r}")
        if not 0 <= self.proj < self.H or (self.proj and self.cell != "lstm"):
            raise ValueError(f"proj must be 0, or of an LSTM below H, got {self.proj!r}")
        if self.options and self.cell != "lstm":
            raise ValueError(f"options are of an LSTM, got {dict(self.options)!r}")
        if self.stream and (self.ragged or self.bidirectional):
            raise ValueError("a stream is neither ragged nor bidirectional")
        if self.stream and self.train:
            raise ValueError("a stream is inference: it cannot be trained")

    @property
    def task(self) -> str:
        return "training" if self.train else "inference"

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def gates(self) -> int:
        return GATES[self.cell]

    @property
    def states(self) -> tuple[str, ...]:
        """Letters of the parts of a state."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def outputs(self) -> int:
        """Width of h."""
        return self.proj or self.H

    def layer_input_size(self, layer: int) -> int:
        return self.I if layer == 0 else self.directions * self.outputs

    def multiply_adds(self, layer: int) -> tuple[int, int]:
        """Of both directions and one row: what its input takes, and what its h takes, which a step
        has to wait for."""
        rows = self.directions * self.gates * self.H
        projected = self.directions * self.proj * self.H
        return rows * self.layer_input_size(layer), rows * self.outputs + projected

    def describe(self) -> str:
        """Such as ``T100 B8 I64 H128 L2 bi ragged``; the task is not named, nor is an LSTM."""
        words = [f"T{self.T} B{self.B} I{self.I} H{self.H}"]
        if WORDS[self.cell]:
            words.append(WORDS[self.cell])
        if self.proj:
            words.append(f"P{self.proj}")
        words += [f"{name}={_word(value)}" for name, value in self.options]
        if self.layers > 1:
            words.append(f"L{self.layers}")
        if self.bidirectional:
            words.append("bi")
        if self.ragged:
            words.append("ragged")
        if self.stream:
            words.append("stream")
        if self.dtype != "float32":
            words.append(self.dtype)
        return " ".join(words)


def _pairs(options: Any) -> tuple[tuple[str, Any], ...]:
    """Of names and values, which JSON makes lists of."""
    pairs = dict(options).items()
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in pairs)


def _word(value: Any) -> str:
    """A value of an option in the name of a shape, without spaces."""
    parts = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in parts)


@dataclass(frozen=True)
class Arrays:
    """The data of a call.

    params     torch's names and layouts
    x          (T, B, I)
    lengths    int64 (B,), or None if not ragged
    dy         gradient of the outputs, (T, B, D*H); None for inference
    """

    params: dict[str, NDArray[Any]]
    x: NDArray[Any]
    lengths: NDArray[np.int64] | None
    dy: NDArray[Any] | None


def make_arrays(shape: Shape, seed: int = 0) -> Arrays:
    """The data of a shape: the same for every engine."""
    return Arrays(
        make_params(shape, seed),
        make_input(shape, seed),
        make_lengths(shape, seed),
        make_output_gradient(shape, seed) if shape.train else None,
    )


def make_lengths(shape: Shape, seed: int = 0) -> NDArray[np.int64] | None:
    """Valid steps per sequence, int64 (B,), in no order; the longest is T. None if not ragged."""
    if not shape.ragged:
        return None
    rng = np.random.default_rng(seed)
    lengths = rng.integers(max(1, shape.T // 8), shape.T + 1, size=shape.B)
    lengths[rng.integers(shape.B)] = shape.T
    return lengths.astype(np.int64)


def make_input(shape: Shape, seed: int = 0) -> NDArray[Any]:
    """Standard normal x, (T, B, I), in the shape's dtype; zeros where a sequence has ended."""
    return _steps(shape, shape.I, np.random.default_rng(seed + 1), make_lengths(shape, seed))


def make_output_gradient(shape: Shape, seed: int = 0) -> NDArray[Any]:
    """Standard normal dy, shaped as y, in the shape's dtype; zeros where a sequence has ended."""
    width = shape.directions * shape.outputs
    return _steps(shape, width, np.random.default_rng(seed + 3), make_lengths(shape, seed))


def _steps(
    shape: Shape, width: int, rng: np.random.Generator, lengths: NDArray[np.int64] | None
) -> NDArray[Any]:
    values = rng.standard_normal((shape.T, shape.B, width)).astype(shape.dtype)
    if lengths is not None:
        values[np.arange(shape.T)[:, None] >= lengths[None, :]] = 0
    return values


def make_params(shape: Shape, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights U(-1/sqrt(H), 1/sqrt(H)) under torch's names and layouts."""
    rng = np.random.default_rng(seed + 2)
    bound = shape.H**-0.5
    params = {}
    for layer in range(shape.layers):
        for suffix in ("", "_reverse")[: shape.directions]:
            rows = shape.gates * shape.H
            sizes = {
                "weight_ih": (rows, shape.layer_input_size(layer)),
                "weight_hh": (rows, shape.outputs),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
                **({"weight_hr": (shape.proj, shape.H)} if shape.proj else {}),
            }
            for option, value in shape.options:
                added = ADDED.get(option, {}).get(value, {})
                sizes |= {name: (times * shape.H,) for name, times in added.items()}
            for name, size in sizes.items():
                values = rng.uniform(-bound, bound, size)
                params[f"{name}_l{layer}{suffix}"] = values.astype(shape.dtype)
    return params
