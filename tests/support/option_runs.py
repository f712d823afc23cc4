# SPDX-License-Identifier: BSD-3-Clause
"""Random LSTMs with options, their inputs, and what the reference makes of them. Time-major."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

import fastlstm
from fastlstm import LSTMOptions, reference
from fastlstm.options import ACTIVATIONS, LAYER_NORMS, NOISE
from fastlstm.reference.layers import Model, project, run_forward
from fastlstm.reference.noise import Noise
from fastlstm.reference.options import completed, lstm_cell
from fastlstm.spec import Spec

# Sizes at and around the vector widths and tile heights of the kernels, where tails begin.
EDGE_SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 25, 31, 32, 33)
PERTURBATIONS = 3


class Inputs(NamedTuple):
    params: dict[str, np.ndarray]
    x: np.ndarray  # (T, B, I), NaN past a sequence's end: nobody may read it
    state: tuple[np.ndarray, np.ndarray] | None  # (D*L, B, H) each
    lengths: np.ndarray | None
    dy: np.ndarray  # (T, B, D*H)
    dstate: tuple[np.ndarray, np.ndarray]
    dcells: np.ndarray


@dataclass(frozen=True)
class Case:
    """One LSTM and one batch for it."""

    steps: int
    batch: int
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    with_state: bool
    ragged: bool
    options: LSTMOptions
    dtype: str
    seed: int
    proj_size: int = 0
    noise: int | None = None  # seed of the masks; None: as at inference

    @property
    def outputs(self) -> int:
        """Width of h."""
        return self.proj_size or self.hidden_size

    @property
    def spec(self) -> Spec:
        sizes = (self.input_size, self.hidden_size, self.num_layers, 1 + self.bidirectional)
        options = self.options.equations()
        cell = "lstm" if options is None else "lstm_general"
        return Spec(
            cell,
            *sizes,
            self.bias,
            np.dtype(self.dtype),
            proj_size=self.proj_size,
            options=options,
        )

    def inputs(self) -> Inputs:
        rng = np.random.default_rng((self.seed, 2))
        bound = 1 / np.sqrt(self.hidden_size)
        params = {
            name: rng.uniform(-bound, bound, shape).astype(self.dtype)
            for name, shape in self.spec.shapes.items()
        }
        for name in params:
            if name.startswith("weight_n"):  # around 1, where layer normalisation's weights begin
                params[name] = (1 + params[name] / 2).astype(self.dtype)
        directions = 1 + self.bidirectional
        width, units = directions * self.outputs, directions * self.hidden_size
        shape = (directions * self.num_layers, self.batch)

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(self.dtype)

        def pair() -> tuple[np.ndarray, np.ndarray]:  # as h and c
            return normal(*shape, self.outputs), normal(*shape, self.hidden_size)

        x, dy, dcells = (normal(self.steps, self.batch, n) for n in (self.input_size, width, units))
        lengths = rng.integers(0, self.steps + 1, self.batch) if self.ragged else None
        for row, length in enumerate([] if lengths is None else lengths):
            x[length:, row] = np.nan
        state = pair() if self.with_state else None
        return Inputs(params, x, state, lengths, dy, pair(), dcells)


def random_activation(rng: np.random.Generator) -> Any:
    """Numbers that keep slopes near 1, so that errors do not grow from step to step."""
    name = str(rng.choice(list(ACTIVATIONS)))
    count = len(ACTIVATIONS[name])
    if count == 0 or rng.random() < 0.3:
        return name
    alpha, beta = round(float(rng.uniform(0.1, 1.2)), 2), round(float(rng.uniform(0.3, 1)), 2)
    return (name, alpha) if count == 1 else (name, alpha, beta)


def random_options(rng: np.random.Generator) -> LSTMOptions:
    """Each option in some of the cases; never the plain LSTM."""
    kind = rng.random()
    chosen: dict[str, Any] = {
        "peepholes": bool(rng.random() < 0.5),
        "coupled": kind < 0.25,
        "forget_gate": bool(kind < 0.85),
    }
    for name, limit in (("gate_clip", 0.7), ("cell_clip", 0.6)):
        if rng.random() < 0.4:
            chosen[name] = round(float(limit + rng.random()), 2)
    for name in ("gate_activation", "candidate_activation", "output_activation"):
        if rng.random() < 0.5:
            chosen[name] = random_activation(rng)
    if rng.random() < 0.4:
        chosen["layer_norm"] = str(rng.choice(LAYER_NORMS))
        chosen["norm_epsilon"] = round(float(rng.uniform(0.1, 0.5)), 2)
    if "gate_activation" in chosen:  # gates without bounds would multiply beyond any
        chosen.setdefault("gate_clip", 1.2)
    options = LSTMOptions(**chosen)
    return LSTMOptions(peepholes=True) if options.equations() is None else options


def random_noise(rng: np.random.Generator) -> dict[str, float]:
    """Two kinds of noise or more."""
    names = rng.choice(NOISE, int(rng.integers(2, len(NOISE) + 1)), replace=False)
    return {str(name): round(float(rng.uniform(0.1, 0.7)), 2) for name in names}


def random_case(seed: int, dtype: str) -> Case:
    rng = np.random.default_rng(seed)
    sizes = [
        int(rng.choice(EDGE_SIZES) if rng.random() < 0.5 else rng.integers(1, 40)) for _ in range(3)
    ]
    steps = int(rng.integers(1, 9))
    flags = [bool(flag) for flag in rng.random(4) < (0.75, 0.5, 0.5, 0.5)]
    layers, options = int(rng.integers(1, 4)), random_options(rng)
    proj_size = int(rng.integers(1, sizes[2])) if sizes[2] > 1 and rng.random() < 0.3 else 0
    if proj_size and rng.random() < 0.5:
        options = replace(options, proj_clip=round(float(rng.uniform(0.2, 0.6)), 2))
    return Case(steps, *sizes, layers, *flags, options, dtype, seed, proj_size)  # type: ignore[misc]


NAMES = ("y", "h_n", "c_n", "cells", "dx", "dh_0", "dc_0")


def named(results: Any, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results and gradients in one dict."""
    grads = {f"d{name}": value for name, value in params.items()}
    return {**dict(zip(NAMES, results, strict=True)), **grads}


def reference_of(case: Case, inputs: Inputs) -> dict[str, np.ndarray]:
    """Outputs, and the gradients of the sum of each of them times its given gradient."""
    i = inputs
    given: dict[str, Any] = {"state": i.state, "lengths": i.lengths}
    given["options"] = case.options.config()
    given |= {"noisy": case.noise is not None, "seed": case.noise or 0}
    result = reference.lstm_forward(i.x, i.params, **given)
    grads = reference.lstm_backward(
        i.x, i.params, dy=i.dy, dstate=i.dstate, dcells=i.dcells, **given
    )
    return named([*result, grads.x, grads.h_0, grads.c_0], grads.params)


@functools.cache
def expected(case: Case) -> dict[str, np.ndarray]:
    return reference_of(case, case.inputs())


def corners(activation: Any) -> list[float]:
    """Where the slope of an activation jumps."""
    name, *numbers = (activation,) if isinstance(activation, str) else activation
    alpha, beta = (*numbers, *ACTIVATIONS[name][len(numbers) :], 0.0, 0.0)[:2]
    if name == "hard_sigmoid":
        return [-beta / alpha, (1 - beta) / alpha]
    if name == "thresholded_relu":
        return [alpha]
    return [0.0] if name in ("relu", "leaky_relu", "elu") else []


def least_distance(case: Case) -> float:
    """From what activations and clips are applied to, to where slopes jump: where rounding reaches
    over it, two right answers may differ by the whole jump. As a part of the largest number."""
    i, o = case.inputs(), case.options
    cell = lstm_cell(o.config())
    variant = cell.forward.__self__  # type: ignore[attr-defined]
    state = (None, None) if i.state is None else i.state
    names = {"state[0]": state[0], "state[1]": state[1]}
    model = Model.of(cell, i.x, i.params, names, i.lengths, np.float64)
    least = np.inf
    noise = None if case.noise is None else Noise(completed(o.config()), case.noise)
    for layer, params in zip(run_forward(cell, model, 0.0, 0, noise), model.params, strict=True):
        for direction, (h, c) in enumerate(layer.runs):
            order = slice(None, None, -1 if direction else 1)
            taken = model.active[order][..., 0]
            masks = {name: mask[order] for name, mask in layer.noise[direction].items()}
            own = {**params[direction], **masks}
            v = variant.sums(layer.x[order], h[:-1], c[:-1], own)
            z = [variant.norm.gate(k, v[k], own) for k in range(3)]
            whole = variant.state(z, c[:-1], own)[3]
            new_c = whole if o.cell_clip is None else np.clip(whole, -o.cell_clip, o.cell_clip)
            z.append(variant.norm.gate(3, variant.output_sum(v[3], new_c, own), own))
            shown = variant.norm.output(new_c, own)
            gates = [z[0], z[1], z[3]]
            bounds = [] if o.gate_clip is None else [-o.gate_clip, o.gate_clip]
            jumps = [(gate, [*bounds, *corners(o.gate_activation)]) for gate in gates]
            jumps.append((z[2], [*bounds, *corners(o.candidate_activation)]))
            jumps.append((shown, corners(o.output_activation)))
            jumps.append((whole, [] if o.cell_clip is None else [-o.cell_clip, o.cell_clip]))
            for values, places in jumps:
                read = values[taken]
                for place in places:
                    off = np.abs(read - place) / np.abs(read).max(initial=1)
                    least = min(least, float(off.min(initial=np.inf)))
            if o.proj_clip is not None:
                m = variant.gate(variant.clip(z[3])) * variant.output(shown)
                off = np.abs(np.abs(project(m, own)[taken]) - o.proj_clip)
                least = min(least, float(off.min(initial=np.inf)))
    return least


def clear_case(seed: int, dtype: str) -> Case:
    """A random case whose gradients rounding cannot turn over."""
    if dtype == "float64":
        return random_case(seed, dtype)
    for attempt in range(1000):
        case = random_case(1000 * seed + attempt, dtype)
        small = replace(case, steps=min(case.steps, 4), batch=min(case.batch, 4))
        if least_distance(small) > 1e-4:
            return small
    raise AssertionError("there is no such case")


@functools.cache
def conditions(case: Case) -> dict[str, float]:
    """How far each result moves, at most, when all inputs and weights are off by eps, relatively,
    and the sums of every gate by 2 eps as well, which is what an activation is off by."""
    rng = np.random.default_rng((case.seed, 3))
    eps = float(np.finfo(case.dtype).eps)
    inputs, moved = case.inputs(), dict.fromkeys(expected(case), 0.0)
    biases = {
        f"bias_{kind}{end}": np.zeros(4 * case.hidden_size)
        for kind in ("ih", "hh")
        for end in case.spec.suffixes
    }

    def off(a: np.ndarray) -> np.ndarray:
        return np.asarray(a, np.float64) * (1 + eps * rng.choice([-1, 1], np.shape(a)))

    for _ in range(PERTURBATIONS):
        params = {name: off(value) for name, value in {**biases, **inputs.params}.items()}
        for name in biases:
            params[name] = params[name] + eps * rng.choice([-1, 1], params[name].shape)
        h_c = None if inputs.state is None else tuple(off(part) for part in inputs.state)
        other = inputs._replace(params=params, x=off(inputs.x), state=h_c, dy=off(inputs.dy))
        found = reference_of(case, other)
        for name, value in expected(case).items():
            change = float(np.max(np.abs(found[name] - value), initial=0))
            moved[name] = max(moved[name], change)
    return moved


def model(case: Case, **options: Any) -> fastlstm.LSTM:
    names = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")
    names += ("options", "dtype")
    arguments = {name: getattr(case, name) for name in names}
    lstm = fastlstm.LSTM(**arguments, seed=0, **options)
    lstm.load_state_dict(case.inputs().params)
    return lstm if case.noise is None else lstm.train()


def core_results(case: Case, lstm: fastlstm.LSTM, **given: Any) -> dict[str, np.ndarray]:
    """As `expected`, by the engine."""
    i = case.inputs()
    y, (h_n, c_n), cells, tape = lstm.forward(
        i.x, i.state, lengths=i.lengths, return_cells=True, seed=case.noise, **given
    )
    grads = lstm.backward(tape, i.dy, i.dstate, dcells=i.dcells, **given)
    return named([y, h_n, c_n, cells, grads.x, grads.h_0, grads.c_0], grads.params)
