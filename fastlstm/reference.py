# SPDX-License-Identifier: BSD-3-Clause
r"""The LSTM in plain NumPy: the executable specification that the engine is tested against.

It is written to be read, never to be fast, and uses nothing of the compiled core.

One step of one layer in one direction takes x_t (B, I), h_{t-1} and c_{t-1} (B, H) to h_t and c_t:

    z   = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh      (B, 4H), four blocks in the order i f g o
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)   input, forget and output gate
    g   = tanh(z_g)                                      candidate
    c_t = f * c_{t-1} + i * g                            cell state
    h_t = o * tanh(c_t)                                  hidden state, which is the output

Layer l > 0 reads the output of layer l - 1. With two directions, the second one walks through
the same input from the last step to the first, and the output of the layer is [forward, reverse].

Sources: S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997
(cell, input and output gate); F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget",
Neural Computation 12(10), 2000 (forget gate); the documentation of `torch.nn.LSTM` (order of the
gates, the two biases, parameter names, shapes of the states, layers and directions).

Letters in shapes: T steps, B sequences, I inputs, H hidden units, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]


class Result(NamedTuple):
    """What `lstm_forward` computes."""

    y: Array
    """(T, B, D*H): h_t of the last layer, zero where a sequence is over."""
    h_n: Array
    """(D*L, B, H): h after the last step taken, index = layer * D + direction."""
    c_n: Array
    """(D*L, B, H): c after the last step taken."""
    cells: Array
    """(T, B, D*H): c_t of the last layer, zero where a sequence is over."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow and with full relative accuracy in both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def cell_forward(
    x: npt.ArrayLike,
    h: npt.ArrayLike,
    c: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    dtype: npt.DTypeLike = np.float64,
) -> tuple[Array, Array]:
    """One step: x (B, I), h and c (B, H) -> the new h and c, both (B, H).

    `params` holds weight_ih (4H, I), weight_hh (4H, H) and, unless the cell has no bias,
    bias_ih and bias_hh (4H,). Everything is converted to `dtype` and computed in it.
    """
    p = {name: np.asarray(value, dtype) for name, value in params.items()}
    z = np.asarray(x, dtype) @ p["weight_ih"].T + np.asarray(h, dtype) @ p["weight_hh"].T
    if "bias_ih" in p:
        z = z + p["bias_ih"] + p["bias_hh"]
    i, f, g, o = np.split(z, 4, axis=-1)
    c_t = sigmoid(f) * np.asarray(c, dtype) + sigmoid(i) * np.tanh(g)
    h_t = sigmoid(o) * np.tanh(c_t)
    return h_t, c_t


def lstm_forward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> Result:
    """All steps of a (stacked, bidirectional) LSTM over a batch of sequences.

    x: (T, B, I), always time-major; T = 0 and B = 0 are allowed.
    params: the state dict of the corresponding torch.nn.LSTM; the number of layers, the
        directions and whether there are biases follow from the names in it.
    state: (h_0, c_0), both (D*L, B, H); None means zeros.
    lengths: B step counts in 0..T; None means T for all. Steps from a sequence's length on are
        never read, give zeros in y and cells and leave its state as it is. The reverse direction
        hence starts at each sequence's last valid step, and length 0 returns the initial state.
    dtype: everything is converted to it and computed in it, whatever the type of the inputs.

    Raises ValueError where `lengths` does not fit x.
    """
    x = np.asarray(x, dtype)
    weights = {name: np.asarray(value, dtype) for name, value in params.items()}
    suffixes = ["", "_reverse"] if "weight_hh_l0_reverse" in weights else [""]
    num_layers = sum(f"weight_hh_l{layer}" in weights for layer in range(len(weights)))
    hidden_size = weights["weight_hh_l0"].shape[0] // 4

    num_steps, batch_size, _ = x.shape
    if state is None:
        shape = (num_layers * len(suffixes), batch_size, hidden_size)
        state = np.zeros(shape), np.zeros(shape)
    h_n, c_n = np.array(state[0], dtype), np.array(state[1], dtype)
    active = _active_steps(num_steps, batch_size, lengths)

    y, cells = x, x
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity travel silently
        for layer in range(num_layers):
            outputs = []
            for direction, suffix in enumerate(suffixes):
                cell = _cell_params(weights, f"_l{layer}{suffix}")
                index = layer * len(suffixes) + direction
                reverse = suffix == "_reverse"
                h, c = _run_direction(y, h_n[index], c_n[index], active, cell, reverse=reverse)
                if num_steps > 0:
                    last = 0 if reverse else -1
                    h_n[index], c_n[index] = h[last], c[last]
                outputs.append((np.where(active, h, 0), np.where(active, c, 0)))
            y = np.concatenate([h for h, _ in outputs], axis=-1)
            cells = np.concatenate([c for _, c in outputs], axis=-1)
    return Result(y, h_n, c_n, cells)


def _run_direction(
    x: Array,
    h: Array,
    c: Array,
    active: npt.NDArray[np.bool_],
    cell: Mapping[str, Array],
    *,
    reverse: bool,
) -> tuple[Array, Array]:
    """The states after every step, (T, B, H) each; a sequence that is over keeps its state."""
    steps = range(len(x))
    h_all = np.empty((len(x), *h.shape), h.dtype)
    c_all = np.empty_like(h_all)
    for t in reversed(steps) if reverse else steps:
        h_t, c_t = cell_forward(x[t], h, c, cell, dtype=h.dtype)
        h, c = np.where(active[t], h_t, h), np.where(active[t], c_t, c)
        h_all[t], c_all[t] = h, c
    return h_all, c_all


def _active_steps(
    num_steps: int, batch_size: int, lengths: Sequence[int] | npt.ArrayLike | None
) -> npt.NDArray[np.bool_]:
    """(T, B, 1): whether step t belongs to sequence b."""
    counts = np.full(batch_size, num_steps) if lengths is None else np.asarray(lengths, np.int64)
    if counts.shape != (batch_size,):
        raise ValueError(f"lengths has shape {counts.shape}; x has {batch_size} sequences")
    if np.any((counts < 0) | (counts > num_steps)):
        raise ValueError(f"lengths must lie in 0..{num_steps}, got {counts.tolist()}")
    return (np.arange(num_steps)[:, None] < counts)[:, :, None]


def _cell_params(weights: Mapping[str, Array], suffix: str) -> dict[str, Array]:
    """The parameters of one layer and direction under the names that `cell_forward` takes."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name: weights[name + suffix] for name in names if name + suffix in weights}
