# SPDX-License-Identifier: BSD-3-Clause
"""Steps, layers and directions around a cell, whatever its equations: what all references share.

A cell takes x_t (B, I) and its states, h first, (B, H) each, to new states. (Where an LSTM projects
its output, h has P columns instead of H.) Layer l > 0 reads the
output of layer l - 1, multiplied by a dropout mask in training, in which cells may have masks too
(`fastlstm.reference.noise`). With two directions, the second one
walks through the same input from the last step to the first, and the output of the layer is
[forward, reverse].

A step that a sequence does not take copies its states, hence their gradients; after the first step
what is left of these are the gradients of the initial states. Two directions add up in the gradient
of the input that they share.

Letters in shapes: T steps, B sequences, I inputs, H hidden units, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .dropout import Array, dropout_mask
from .noise import Noise

# Parameters of a cell, of which each has some.
NAMES = (
    *("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"),
    *("weight_ci", "weight_cf", "weight_co"),
    *("weight_n", "weight_nx", "weight_nh", "weight_nc", "bias_nc"),
)

Mask: TypeAlias = npt.NDArray[np.bool_]
States: TypeAlias = tuple[Array, ...]
Params: TypeAlias = Mapping[str, Array]


class Cell(NamedTuple):
    """The equations of one step of one layer in one direction."""

    gates: int
    """Blocks of H rows in its weight matrices."""
    forward: Callable[[Array, States, Params], States]
    """x_t, the states and the parameters -> the new states. In a training pass the masks of the
    step, (B, width) each, stand among the parameters, under the names of their options."""
    backward: Callable[[Array, States, Params, States], tuple[Array, States, dict[str, Array]]]
    """The arguments of `forward` and the gradients of the new states -> the gradients of x_t, of
    the states and of the parameters."""


class Model(NamedTuple):
    """The arguments of a call, converted, the parameters sorted by layer and direction."""

    x: Array
    params: list[list[dict[str, Array]]]  # [layer][direction], named as a cell takes them
    initial: States  # (D*L, B, H) each
    active: Mask  # (T, B, 1): whether step t belongs to sequence b

    @classmethod
    def of(
        cls,
        cell: Cell,
        x: npt.ArrayLike,
        params: Mapping[str, npt.ArrayLike],
        states: Mapping[str, npt.ArrayLike | None],
        lengths: Sequence[int] | npt.ArrayLike | None,
        dtype: npt.DTypeLike,
    ) -> Model:
        """`states` are named as errors call them; None means zeros."""
        x = np.asarray(x, dtype)
        weights = {name: np.asarray(value, dtype) for name, value in params.items()}
        directions = range(2 if "weight_hh_l0_reverse" in weights else 1)
        num_layers = sum(f"weight_hh_l{layer}" in weights for layer in range(len(weights)))
        sorted_params = [
            [_cell_params(weights, _suffix(layer, direction)) for direction in directions]
            for layer in range(num_layers)
        ]
        num_steps, batch_size, _ = x.shape
        # weight_hh reads h, and has a block of rows for each gate.
        rows, outputs = weights["weight_hh_l0"].shape
        widths = (outputs, *(rows // cell.gates for _ in list(states)[1:]))
        layers = (num_layers * len(directions), batch_size)
        initial = tuple(
            array(name, value, (*layers, width), dtype)
            for (name, value), width in zip(states.items(), widths, strict=True)
        )
        return cls(x, sorted_params, initial, _active_steps(num_steps, batch_size, lengths))


class Layer(NamedTuple):
    """What one layer read and what it made of it."""

    x: Array
    mask: Array  # of all dropout in x; 1 without any
    noise: list[dict[str, Array]]  # of each direction: masks of its cell, in the order of time
    runs: list[States]  # of each direction, (T+1, B, H) each: slot s holds those after s steps
    outputs: States  # (T, B, D*H) each: the new states of every step, zero where a sequence is over


def run_forward(
    cell: Cell, model: Model, dropout: float, seed: int, noise: Noise | None = None
) -> list[Layer]:
    """The forward pass, with everything that the backward pass looks at."""
    layers: list[Layer] = []
    x, mask = model.x, np.ones_like(model.x)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity travel silently
        for index, params in enumerate(model.params):
            if index > 0:
                below = layers[-1].outputs[0]
                steps, batch, width = below.shape
                mask = dropout_mask(seed, index - 1, steps, batch, width, dropout, x.dtype)
                x = below * mask
            if noise is not None and noise.options["input_dropout"]:
                own_mask = noise.of_input(index, x)
                x, mask = x * own_mask, mask * own_mask
            runs, outputs, masks = [], [], []
            for direction, own in enumerate(params):
                order, row = _walk(direction), index * len(params) + direction
                states = tuple(initial[row] for initial in model.initial)
                steps, batch, _ = x.shape
                of_cell = {} if noise is None else noise.of_cell(row, steps, batch, own)
                masks.append(of_cell)
                steps_of = _steps(own, of_cell, order, len(x))
                run = _run_direction(cell, x[order], states, model.active[order], steps_of)
                runs.append(run)
                outputs.append([np.where(model.active, a[1:][order], 0) for a in run])
            joined = tuple(np.concatenate(parts, axis=-1) for parts in zip(*outputs, strict=True))
            layers.append(Layer(x, mask, masks, runs, joined))
    return layers


def final_states(layers: list[Layer]) -> States:
    """(D*L, B, H) each: the states after the last step taken, index = layer * D + direction."""
    runs = [run for layer in layers for run in layer.runs]
    return tuple(np.stack([states[-1] for states in each]) for each in zip(*runs, strict=True))


def run_backward(
    cell: Cell, model: Model, layers: list[Layer], doutputs: States, dfinal: States
) -> tuple[Array, States, dict[str, Array]]:
    """Gradients of x, the initial states and the parameters, from those of the last layer's outputs
    and of the final states."""
    # Gradients of the final states, which direction after direction become those of the first.
    dstates = tuple(d.copy() for d in dfinal)
    dparams: dict[str, Array] = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for index, layer in reversed([*enumerate(layers)]):
            dx = np.zeros_like(layer.x)
            parts = [np.split(d, len(layer.runs), axis=-1) for d in doutputs]
            for direction, run in enumerate(layer.runs):
                order, suffix = _walk(direction), _suffix(index, direction)
                row = index * len(layer.runs) + direction
                dx_part, dfirst, down = _direction_backward(
                    cell,
                    layer.x[order],
                    run,
                    model.active[order],
                    model.params[index][direction],
                    _steps({}, layer.noise[direction], order, len(layer.x)),
                    tuple(part[direction][order] for part in parts),
                    tuple(d[row] for d in dstates),
                )
                dx += dx_part[order]
                for d, first in zip(dstates, dfirst, strict=True):
                    d[row] = first
                dparams |= {name + suffix: value for name, value in down.items()}
            # Of x, or of the layer below if there is one; nobody sees any of its states but h.
            dy = dx * layer.mask
            doutputs = (dy, *(np.zeros_like(other) for other in doutputs[1:]))
    return dy, dstates, dparams


def _run_direction(
    cell: Cell, x: Array, states: States, active: Mask, steps: list[Params]
) -> States:
    """All steps, in the order of x; a sequence that is over keeps its states."""
    history = [states]
    for x_t, active_t, params in zip(x, active, steps, strict=True):
        after = cell.forward(x_t, states, params)
        states = tuple(np.where(active_t, *pair) for pair in zip(after, states, strict=True))
        history.append(states)
    return tuple(np.stack(each) for each in zip(*history, strict=True))


def _direction_backward(
    cell: Cell,
    x: Array,
    run: States,
    active: Mask,
    params: Params,
    masks: list[Params],
    doutputs: States,
    dstates: States,
) -> tuple[Array, States, dict[str, Array]]:
    """Back through `_run_direction`, everything in the order in which it took the steps."""
    dx, dstates = np.zeros_like(x), tuple(d.copy() for d in dstates)
    dparams = {name: np.zeros_like(value) for name, value in params.items()}
    for t in reversed(range(len(x))):
        # Only the sequences that took this step: the others' gradients stay as they are, and NaN
        # in padding, which zero times NaN would spread, is never met.
        on = active[t, :, 0]
        before = tuple(states[t, on] for states in run)
        dafter = tuple(d[on] + dy[t, on] for d, dy in zip(dstates, doutputs, strict=True))
        step = {**params, **{name: mask[on] for name, mask in masks[t].items()}}
        dx[t, on], dbefore, down = cell.backward(x[t, on], before, step, dafter)
        for d, new in zip(dstates, dbefore, strict=True):
            d[on] = new
        for name, value in down.items():
            dparams[name] += value
    return dx, dstates, dparams


def array(
    name: str, value: npt.ArrayLike | None, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Array:
    """A copy of an array that the caller may leave out; zeros for None."""
    found = np.zeros(shape, dtype) if value is None else np.array(value, dtype)
    if found.shape != shape:
        raise ValueError(f"{name} has shape {found.shape}; expected {shape}")
    return found


def weighted_sums(x: Array, h: Array, params: Params) -> Array:
    """x W_ih^T + b_ih + h W_hh^T + b_hh: (B, gates * H)."""
    z: Array = x @ params["weight_ih"].T + h @ params["weight_hh"].T
    if "bias_ih" in params:
        z = z + params["bias_ih"] + params["bias_hh"]
    return z


def sums_backward(
    x: Array, h: Array, params: Params, dz: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """Back through `weighted_sums`: the gradients of x, h and the parameters."""
    dparams: dict[str, Array] = {"weight_ih": dz.T @ x, "weight_hh": dz.T @ h}
    if "bias_ih" in params:
        dparams |= {"bias_ih": dz.sum(axis=0), "bias_hh": dz.sum(axis=0)}
    dx: Array = dz @ params["weight_ih"]
    dh: Array = dz @ params["weight_hh"]
    return dx, dh, dparams


def project(m: Array, params: Params) -> Array:
    """m W_hr^T: (B, P), where the output is projected; else m."""
    h: Array = m @ params["weight_hr"].T if "weight_hr" in params else m
    return h


def project_backward(m: Array, dh: Array, params: Params) -> tuple[Array, dict[str, Array]]:
    """Back through `project`: the gradients of m and, if it is there, of weight_hr."""
    if "weight_hr" not in params:
        return dh, {}
    return dh @ params["weight_hr"], {"weight_hr": dh.T @ m}


def _steps(params: Params, masks: Params, order: slice, count: int) -> list[Params]:
    """What each step reads: the parameters, and its own part of the masks."""
    return [{**params, **{name: m[order][t] for name, m in masks.items()}} for t in range(count)]


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


def _cell_params(weights: Params, suffix: str) -> dict[str, Array]:
    """The parameters of one layer and direction under the names that a cell takes."""
    return {name: weights[name + suffix] for name in NAMES if name + suffix in weights}
