# SPDX-License-Identifier: BSD-3-Clause
r"""The LSTM in plain NumPy: the executable specification that the engine is tested against.

It is written to be read, never to be fast, and uses nothing of the compiled core.

One step of one layer in one direction takes x_t (B, I), h_{t-1} and c_{t-1} (B, H) to h_t and c_t:

    z   = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh      (B, 4H), four blocks in the order i f g o
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)   input, forget and output gate
    g   = tanh(z_g)                                      candidate
    c_t = f * c_{t-1} + i * g                            cell state
    h_t = o * tanh(c_t)                                  hidden state, which is the output

Layer l > 0 reads the output of layer l - 1, multiplied by a dropout mask in training. With two
directions, the second one walks through the same input from the last step to the first, and the
output of the layer is [forward, reverse].

The backward pass: dv stands for dE/dv, the gradient of a scalar loss E, summed over every path from
v to E. The variables are taken in the opposite order of their computation, so that whatever depends
on v is done before v. Both h_t and c_t are read by step t + 1 and by the outside (as y and h_n, as
cells and c_n); what comes back from there is called dh and dc. c_t is read by h_t as well. The
chain rule gives, all products being element by element but those with a weight matrix,

    dc_t     = dc + dh o (1 - tanh(c_t)^2)               h_t = o tanh(c_t),  tanh' = 1 - tanh^2
    dz_o     = dh tanh(c_t) o (1 - o)                    sigmoid' = sigmoid (1 - sigmoid)
    dz_f     = dc_t c_{t-1} f (1 - f)                    c_t = f c_{t-1} + i g
    dz_i     = dc_t g i (1 - i)
    dz_g     = dc_t i (1 - g^2)
    dc_{t-1} = dc_t f                                    what step t hands back to step t - 1
    dh_{t-1} = dz W_hh                                   dz = [dz_i dz_f dz_g dz_o], (B, 4H)
    dx_t     = dz W_ih                                   with l > 0, what layer l - 1 gets as dy

and, since all steps share the parameters, sums over the steps (and, in the product, over B):

    dW_ih = sum_t dz_t^T x_t,  dW_hh = sum_t dz_t^T h_{t-1},  db_ih = db_hh = sum_t sum_B dz_t

A step that a sequence does not take copies h and c, hence dh and dc; after the first step what is
left of them is dh_0 and dc_0. Two directions add up in the dx of the input that they share.

Sources: S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997
(cell, input and output gate); F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget",
Neural Computation 12(10), 2000 (forget gate); P. Werbos, "Backpropagation through time: what it
does and how to do it", Proceedings of the IEEE 78(10), 1990; A. Graves and J. Schmidhuber,
"Framewise phoneme classification with bidirectional LSTM", Neural Networks 18(5-6), 2005 (the
gradient in full, where the papers before it cut it off at the gates); N. Srivastava et al.,
"Dropout", JMLR 15, 2014; J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011
(Philox); the documentation of `torch.nn.LSTM` (order of the gates, the two biases, parameter names,
shapes of the states, layers and directions, where dropout acts).

Letters in shapes: T steps, B sequences, I inputs, H hidden units, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]


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


class Gradients(NamedTuple):
    """What the backward pass computes; every array is shaped like what it is the gradient of."""

    x: Array
    """(T, B, I): zero where a sequence is over."""
    h_0: Array
    """(D*L, B, H)"""
    c_0: Array
    """(D*L, B, H)"""
    params: dict[str, Array]
    """Under the names of the parameters; both biases of a cell have the same gradient."""


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
    i, f, g, o = _gates(np.asarray(x, dtype), np.asarray(h, dtype), p)
    c_t = f * np.asarray(c, dtype) + i * g
    h_t = o * np.tanh(c_t)
    return h_t, c_t


def cell_backward(
    x: Array, h: Array, c: Array, params: Mapping[str, Array], dh: Array, dc: Array
) -> Gradients:
    """Backward through `cell_forward(x, h, c, params)`; its equations stand in the module's head.

    dh, dc: (B, H), the gradients of the new h and c: dc without the path from c through h. All
    arrays are of one dtype. The gradients of x, h and c are (B, I), (B, H) and (B, H).
    """
    i, f, g, o = _gates(x, h, params)
    tanh_c = np.tanh(f * c + i * g)

    dc = dc + dh * o * (1 - tanh_c**2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = dh * tanh_c * o * (1 - o)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)

    dparams = {"weight_ih": dz.T @ x, "weight_hh": dz.T @ h}
    if "bias_ih" in params:
        dparams |= {"bias_ih": dz.sum(axis=0), "bias_hh": dz.sum(axis=0)}
    return Gradients(dz @ params["weight_ih"], dz @ params["weight_hh"], dc * f, dparams)


def lstm_forward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
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
    dropout: probability in 0..1 with which an element of the output of every layer but the last is
        zero for the layer above; see `dropout_mask`.
    seed: of the masks, in 0..2^64-1.
    dtype: everything is converted to it and computed in it, whatever the type of the inputs.

    Raises ValueError where state or lengths do not fit x; dropout and seed are checked where they
    are used.
    """
    model = _Model.of(x, params, state, lengths, dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity travel silently
        layers = _run_layers(model, dropout, seed)
    h_n = np.stack([run.h[-1] for layer in layers for run in layer.directions])
    c_n = np.stack([run.c[-1] for layer in layers for run in layer.directions])
    return Result(layers[-1].y, h_n, c_n, layers[-1].cells)


def lstm_backward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dy: npt.ArrayLike | None = None,
    dstate: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
    dcells: npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float64,
) -> Gradients:
    """The gradients of a scalar loss, from those of `lstm_forward`'s results, by recomputing it.

    x, params, state, lengths, dropout, seed, dtype: those of the forward pass. Without a state, h_0
        and c_0 are zeros and have gradients nevertheless.
    dy, dcells: (T, B, D*H); dstate: (dh_n, dc_n), both (D*L, B, H): the gradients of y, cells, h_n
        and c_n, each of them for its own path only (y and h_n may well show the same h_t). None
        means zeros. Where a sequence is over, dy and dcells are not read.

    Raises ValueError as `lstm_forward` does, and for a gradient of another shape than its result's.
    """
    model = _Model.of(x, params, state, lengths, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        layers = _run_layers(model, dropout, seed)
        dy = _array("dy", dy, layers[-1].y.shape, dtype)
        dcells = _array("dcells", dcells, dy.shape, dtype)
        dh_n, dc_n = (None, None) if dstate is None else dstate
        # Gradients of the final states, which direction after direction become those of the first.
        dh = _array("dstate[0]", dh_n, model.h_0.shape, dtype)
        dc = _array("dstate[1]", dc_n, model.h_0.shape, dtype)
        dparams: dict[str, Array] = {}

        for index, layer in reversed([*enumerate(layers)]):
            dx = np.zeros_like(layer.x)
            dy_parts = np.split(dy, len(layer.directions), axis=-1)
            dcells_parts = np.split(dcells, len(layer.directions), axis=-1)
            for direction, run in enumerate(layer.directions):
                order, suffix = _walk(direction), _suffix(index, direction)
                row = index * len(layer.directions) + direction
                grads = _direction_backward(
                    layer.x[order],
                    run,
                    model.active[order],
                    model.cells[index][direction],
                    dy_parts[direction][order],
                    dcells_parts[direction][order],
                    dh[row],
                    dc[row],
                )
                dx += grads.x[order]
                dh[row], dc[row] = grads.h_0, grads.c_0
                dparams |= {name + suffix: value for name, value in grads.params.items()}
            dy = dx * layer.mask  # of the layer below, if there is one
            dcells = np.zeros_like(dy)  # nobody sees the cells of the layers below
    return Gradients(dx, dh, dc, {name: dparams[name] for name in params})


def dropout_mask(
    seed: int,
    layer: int,
    num_steps: int,
    batch_size: int,
    width: int,
    p: float,
    dtype: npt.DTypeLike = np.float64,
) -> Array:
    """(T, B, width) of zeros, with probability p, and else 1 / (1 - p): inverted dropout.

    The output of `layer` is multiplied by it before the next layer reads it; width = D*H. Each
    element is a function of the seed and its own place (layer, step t, sequence b, feature k) only:
    it is kept if u >= p, u being 2^-24 times the top 24 bits of word k mod 4 of the Philox block
    with the counter (k div 4, t, b, layer) and the key (low, high 32 bits of seed).

    Raises ValueError if p is not in 0..1 or seed not in 0..2^64-1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout must lie in 0..1, got {p}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in 0..2^64-1, got {seed}")
    blocks = -(-width // 4)
    counter = np.empty((num_steps, batch_size, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = np.arange(num_steps)[:, None, None]
    counter[..., 2] = np.arange(batch_size)[:, None]
    counter[..., 3] = layer
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    u = (words.reshape(num_steps, batch_size, 4 * blocks)[:, :, :width] >> 8) * 2.0**-24
    return np.where(u >= p, 1 / (1 - p) if p < 1 else 0, 0).astype(dtype)


def philox4x32(
    counter: npt.NDArray[np.uint32] | Sequence[int], key: Sequence[int]
) -> npt.NDArray[np.uint32]:
    """Philox4x32-10, a random function: counters (..., 4), key (2,) -> random words (..., 4).

    A round multiplies two words by constants, to 64 bits, and mixes the upper halves with the other
    two words and the key; the key moves on by constants after every round.
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


class _Model(NamedTuple):
    """The arguments of a call, converted, the parameters sorted by layer and direction."""

    x: Array
    cells: list[list[dict[str, Array]]]  # [layer][direction], named as `cell_forward` takes them
    h_0: Array  # (D*L, B, H), as c_0
    c_0: Array
    active: Mask  # (T, B, 1): whether step t belongs to sequence b

    @classmethod
    def of(
        cls,
        x: npt.ArrayLike,
        params: Mapping[str, npt.ArrayLike],
        state: tuple[npt.ArrayLike, npt.ArrayLike] | None,
        lengths: Sequence[int] | npt.ArrayLike | None,
        dtype: npt.DTypeLike,
    ) -> _Model:
        x = np.asarray(x, dtype)
        weights = {name: np.asarray(value, dtype) for name, value in params.items()}
        directions = range(2 if "weight_hh_l0_reverse" in weights else 1)
        num_layers = sum(f"weight_hh_l{layer}" in weights for layer in range(len(weights)))
        cells = [
            [_cell_params(weights, _suffix(layer, direction)) for direction in directions]
            for layer in range(num_layers)
        ]
        num_steps, batch_size, _ = x.shape
        hidden_size = weights["weight_hh_l0"].shape[0] // 4
        state_shape = (num_layers * len(directions), batch_size, hidden_size)
        h_0, c_0 = (None, None) if state is None else state
        return cls(
            x,
            cells,
            _array("state[0]", h_0, state_shape, dtype),
            _array("state[1]", c_0, state_shape, dtype),
            _active_steps(num_steps, batch_size, lengths),
        )


class _Direction(NamedTuple):
    """The states of one direction, (T+1, B, H) each: slot s holds those after s steps."""

    h: Array
    c: Array


class _Layer(NamedTuple):
    """What one layer read and what it made of it."""

    x: Array
    mask: Array  # of the dropout in x; 1 without dropout
    directions: list[_Direction]
    y: Array
    cells: Array


def _run_layers(model: _Model, dropout: float, seed: int) -> list[_Layer]:
    """The forward pass, with everything that the backward pass looks at."""
    layers: list[_Layer] = []
    x, mask = model.x, np.ones_like(model.x)
    for index, cells in enumerate(model.cells):
        if index > 0:
            steps, batch, width = layers[-1].y.shape
            mask = dropout_mask(seed, index - 1, steps, batch, width, dropout, x.dtype)
            x = layers[-1].y * mask
        runs, outputs = [], []
        for direction, cell in enumerate(cells):
            order, row = _walk(direction), index * len(cells) + direction
            run = _run_direction(
                x[order], model.h_0[row], model.c_0[row], model.active[order], cell
            )
            runs.append(run)
            outputs.append([np.where(model.active, a[1:][order], 0) for a in run])
        y, states = (np.concatenate(parts, axis=-1) for parts in zip(*outputs, strict=True))
        layers.append(_Layer(x, mask, runs, y, states))
    return layers


def _run_direction(
    x: Array, h: Array, c: Array, active: Mask, cell: Mapping[str, Array]
) -> _Direction:
    """All steps, in the order of x; a sequence that is over keeps its state."""
    h_all, c_all = [h], [c]
    for x_t, active_t in zip(x, active, strict=True):
        h_t, c_t = cell_forward(x_t, h, c, cell, dtype=h.dtype)
        h, c = np.where(active_t, h_t, h), np.where(active_t, c_t, c)
        h_all.append(h)
        c_all.append(c)
    return _Direction(np.stack(h_all), np.stack(c_all))


def _direction_backward(
    x: Array,
    run: _Direction,
    active: Mask,
    cell: Mapping[str, Array],
    dy: Array,
    dcells: Array,
    dh: Array,
    dc: Array,
) -> Gradients:
    """Back through `_run_direction`, everything in the order in which it took the steps."""
    dx, dh, dc = np.zeros_like(x), dh.copy(), dc.copy()
    dparams = {name: np.zeros_like(value) for name, value in cell.items()}
    for t in reversed(range(len(x))):
        # Only the sequences that took this step: the others' gradients stay as they are, and NaN
        # in padding, which zero times NaN would spread, is never met.
        on = active[t, :, 0]
        dh_t, dc_t = dh[on] + dy[t, on], dc[on] + dcells[t, on]
        step = cell_backward(x[t, on], run.h[t, on], run.c[t, on], cell, dh_t, dc_t)
        dx[t, on], dh[on], dc[on] = step.x, step.h_0, step.c_0
        for name, value in step.params.items():
            dparams[name] += value
    return Gradients(dx, dh, dc, dparams)


def _gates(x: Array, h: Array, cell: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
    """i, f, g, o of one step, (B, H) each."""
    z = x @ cell["weight_ih"].T + h @ cell["weight_hh"].T
    if "bias_ih" in cell:
        z = z + cell["bias_ih"] + cell["bias_hh"]
    i, f, g, o = np.split(z, 4, axis=-1)
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def _array(
    name: str, value: npt.ArrayLike | None, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Array:
    """A copy of an array that the caller may leave out; zeros for None."""
    array = np.zeros(shape, dtype) if value is None else np.array(value, dtype)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")
    return array


def _walk(direction: int) -> slice:
    """The order in which a direction takes the steps; applied twice, it is undone."""
    return slice(None, None, -1 if direction else 1)


def _suffix(layer: int, direction: int) -> str:
    """The end of the names of a cell's parameters."""
    return f"_l{layer}{'_reverse' if direction else ''}"


def _active_steps(
    num_steps: int, batch_size: int, lengths: Sequence[int] | npt.ArrayLike | None
) -> Mask:
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
