# SPDX-License-Identifier: BSD-3-Clause
"""How far rounding may carry gradients away from the reference: a spread for every entry.

`error_model` says how far off h and c are. From there on it is the same calculus (independent
errors with mean zero, variances to first order, u = eps / 2, A the error bound of a sigmoid, 2 A of
a tanh) through the equations of the backward pass in `fastlstm.reference`. T stands for tanh c_t:

    var T     =  (1 - T^2)^2 var c + 4 A^2
    var dc_t  =  var dc + (o (1 - T^2))^2 var dh + (dh (1 - T^2))^2 var o + (2 dh o T)^2 var T
                 + 4 u^2 (dc^2 + (dh o (1 - T^2))^2)
    var dz_o  =  (T o (1 - o))^2 var dh + (dh o (1 - o))^2 var T + (dh T (1 - 2 o))^2 var o
                 + 4 u^2 dz_o^2                    and dz_i, dz_f, dz_g, dc_{t-1} factor by factor
    var dh_{t-1} =  (var dz + (1 + 4 H) u^2 dz^2) W_hh^2        and dx_t alike: sums of 4 H products
    var dW    =  sum (x^2 var dz + dz^2 var x + (1 + N) u^2 dz^2 x^2)      over N = T B steps

squares element by element. With a projection, dm = dh W_hr stands for dh in the lines of dc_t and
dz_o, with the spread of such a product, and dW_hr alike. The last line is where the size of the
batch comes in: each of the N partial sums is rounded, and the square of one is about the sum of the
squares of all terms, since the gradients sent in have random signs. The engine sums in chunks and
parts, which rounds less.

One more thing: while a gradient goes back through n steps with nothing new coming in, it is
multiplied by n factors whose errors are much alike (a cell's gates hardly change, a weight's error
is the same at every step), so what is left of it is off by n relative errors, not by sqrt(n). The
variances of dz_t, dh_0 and dc_0 hence count as many times as the gradient has come through steps
on average, which is 1 at the last step and

    n_t  =  1 + n_{t+1} |dh, dc|^2 / (|dh, dc|^2 + |dy_t, dcells_t|^2)

before it: about 1 to 3 where y has gradients, and T for h_0 where only h_n has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlstm.reference import dropout_mask, sigmoid
from support import error_model
from support.gradients import Problem

Array = np.ndarray

# Largest error that is accepted, in units of an entry's spread plus half of the largest spread in
# its array: entries share the errors of what they are made of, so one that happens to be small, as
# a sum of large terms, is off by more than its own spread. Seen over 2,200 problems on all
# instruction sets: 3.9, in a layer of four units with strong weights. A wrong term is wrong by
# thousands.
LIMIT = 6.0

# Each product below the smallest normal number may be flushed to zero; no sum has more of them.
MOST_PRODUCTS = 10**6


class Value(NamedTuple):
    """Numbers and the variances of their errors."""

    at: Array
    var: Array

    def __mul__(self, other: Value) -> Value:  # type: ignore[override]
        """The product, its own rounding left out."""
        return Value(
            self.at * other.at, np.square(other.at) * self.var + np.square(self.at) * other.var
        )

    def __add__(self, other: Value) -> Value:  # type: ignore[override]
        return Value(self.at + other.at, self.var + other.var)

    def rounded(self, times: float) -> Value:
        """After so many roundings."""
        return Value(self.at, self.var + times * np.square(self.at))


class Run(NamedTuple):
    """What the backward pass of a layer and direction reads, steps in the order of forward."""

    x: Value  # (T, B, I)
    h: Value  # (T, B, H), before the step as c
    c: Value
    i: Value
    f: Value
    g: Value
    o: Value
    tanh_c: Value
    m: Value  # o tanh_c


def spreads(problem: Problem, given: tuple[str, ...]) -> dict[str, Array]:
    """Standard deviations of the gradients from those of the `given` outputs, by name."""
    return _Spreads(problem).of(given)


class _Spreads:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.config = problem, problem.config
        self.u2 = (np.finfo(self.config.dtype).eps / 2) ** 2
        self.a2 = error_model.SIGMOID_BOUND[self.config.dtype] ** 2
        steps, batch = self.config.steps, self.config.batch
        lengths = np.full(batch, steps) if self.config.lengths is None else self.config.lengths
        self.active = (np.arange(steps)[:, None] < np.asarray(lengths))[:, :, None]
        self.ends = ["", "_reverse"][: self.config.num_directions]
        self.masks: list[Array] = []  # of dropout, below each layer
        self.runs = self._forward()

    def _cell(self, layer: int, end: str) -> dict[str, Array]:
        names = error_model.PARAMETERS
        found = {name: self.problem.params.get(f"{name}_l{layer}{end}") for name in names}
        return {name: p.astype(np.float64) for name, p in found.items() if p is not None}

    def _forward(self) -> list[list[Run]]:
        problem, config = self.problem, self.config
        x = np.where(self.active, problem.inputs.x, 0).astype(np.float64)
        x = Value(x, np.zeros_like(x))
        zeros = np.zeros(config.h_shape), np.zeros(config.c_shape)
        h_0, c_0 = (np.asarray(a, np.float64) for a in problem.inputs.state or zeros)
        runs: list[list[Run]] = []
        for layer in range(config.num_layers):
            mask = np.ones_like(x.at)
            if layer and problem.options:
                mask = dropout_mask(
                    problem.options["seed"], layer - 1, *x.at.shape, problem.options["dropout"]
                )
                x = Value(x.at * mask, np.square(mask) * x.var).rounded(self.u2)
            self.masks.append(mask)
            runs.append([])
            outputs = []
            for direction, end in enumerate(self.ends):
                at, order = layer * len(self.ends) + direction, slice(None, None, 1 - 2 * direction)
                start = error_model.Moments(h_0[at], c_0[at], *(z[at] for z in zeros))
                cell = self._cell(layer, end)
                ran = Value(x.at[order], x.var[order])
                after = error_model._direction(
                    config.dtype, *ran, self.active[order], range(config.steps), cell, start
                )
                runs[-1].append(self._run(ran, start, after, cell))
                outputs.append((after.h[order], after.h_var[order]))
            parts = zip(*outputs, strict=True)
            x = Value(*(np.where(self.active, np.concatenate(p, -1), 0) for p in parts))
        return runs

    def _run(
        self,
        x: Value,
        start: error_model.Moments,
        after: error_model.Moments,
        cell: dict[str, Array],
    ) -> Run:
        before = [np.concatenate([s[None], a])[:-1] for s, a in zip(start, after, strict=True)]
        h, c = Value(before[0], before[2]), Value(before[1], before[3])
        w_ih, w_hh = cell["weight_ih"], cell["weight_hh"]
        bias = cell["bias_ih"] + cell["bias_hh"] if "bias_ih" in cell else np.zeros(len(w_ih))
        times = self.u2 * (1 + w_ih.shape[1] + w_hh.shape[1])
        z = x.at @ w_ih.T + h.at @ w_hh.T + bias
        z_var = x.rounded(times).var @ np.square(w_ih).T + h.rounded(times).var @ np.square(w_hh).T
        z_var = z_var + times * np.square(bias)

        def gate(k: int) -> Value:
            size = len(w_hh) // 4
            at, var = z[..., k * size : (k + 1) * size], z_var[..., k * size : (k + 1) * size]
            if k == 2:
                g = np.tanh(at)
                return Value(g, np.square(1 - g * g) * var + 4 * self.a2)
            s = sigmoid(at)
            return Value(s, np.square(s * (1 - s)) * var + self.a2)

        tanh = np.tanh(after.c)
        tanh_c = Value(tanh, np.square(1 - tanh * tanh) * after.c_var + 4 * self.a2)
        m = (gate(3) * tanh_c).rounded(self.u2)
        return Run(x, h, c, gate(0), gate(1), gate(2), gate(3), tanh_c, m)

    def of(self, given: tuple[str, ...]) -> dict[str, Array]:
        upstream = {
            name: np.asarray(a if name in given else np.zeros_like(a), np.float64)
            for name, a in self.problem.upstream.items()
        }
        dh = Value(upstream["h_n"].copy(), np.zeros(self.config.h_shape))
        dc = Value(upstream["c_n"].copy(), np.zeros(self.config.c_shape))
        dy, dcells = (
            Value(np.where(self.active, a, 0), np.zeros_like(a))
            for a in (upstream["y"], upstream["cells"])
        )
        result: dict[str, Array] = {}
        for layer in reversed(range(self.config.num_layers)):
            dx = None
            for direction, end in enumerate(self.ends):
                row, order = (
                    layer * len(self.ends) + direction,
                    slice(None, None, 1 - 2 * direction),
                )
                dy_own, dcells_own = (
                    Value(*(np.split(p[order], len(self.ends), -1)[direction] for p in v))
                    for v in (dy, dcells)
                )
                cell = self._cell(layer, end)
                active = self.active[order]
                part, dz, dh_all = self._back(
                    self.runs[layer][direction],
                    active,
                    cell,
                    dy_own,
                    dcells_own,
                    Value(dh.at[row], dh.var[row]),
                    Value(dc.at[row], dc.var[row]),
                )
                for whole, end_of in ((dh, part[0]), (dc, part[1])):
                    whole.at[row], whole.var[row] = end_of
                run = self.runs[layer][direction]
                variances = self._params(run, dz, cell)
                if "weight_hr" in cell:
                    variances["weight_hr"] = self._weight(dh_all, run.m)
                for name, variance in variances.items():
                    result[f"{name}_l{layer}{end}"] = np.sqrt(variance)
                mine = self._product(dz, cell["weight_ih"])
                mine = Value(*(a[order] for a in mine))
                dx = mine if dx is None else (dx + mine).rounded(self.u2)
            mask = self.masks[layer]
            assert dx is not None
            dy = Value(dx.at * mask, np.square(mask) * dx.var).rounded(self.u2)
            dcells = Value(np.zeros_like(dcells.at), np.zeros_like(dcells.at))
        outer = {"x": np.sqrt(dx.var), "h_0": np.sqrt(dh.var), "c_0": np.sqrt(dc.var)}
        return {**outer, **{name: result[name] for name in self.problem.params}}

    def _product(self, dz: Value, weight: Array) -> Value:
        times = self.u2 * (1 + len(weight))
        return Value(dz.at @ weight, dz.rounded(times).var @ np.square(weight))

    def _back(
        self,
        run: Run,
        active: Array,
        cell: dict[str, Array],
        dy: Value,
        dcells: Value,
        dh: Value,
        dc: Value,
    ) -> tuple[tuple[Value, Value], Value, Value]:
        """What is left of (dh, dc) before the first step, and dz (T, B, 4H) and dh of all steps."""
        dz = Value(*np.zeros((2, *dy.at.shape[:2], 4 * dcells.at.shape[2])))
        dh_all = Value(*np.zeros((2, *dy.at.shape)))
        age = np.zeros((dy.at.shape[1], 1))
        for t in reversed(range(len(active))):
            step = Run(*(Value(a.at[t], a.var[t]) for a in run))
            old, new = (
                sum(np.square(a).sum(1, keepdims=True) for a in pair)
                for pair in ((dh.at, dc.at), (dy.at[t], dcells.at[t]))
            )
            aged = 1 + age * old / np.where(old + new > 0, old + new, 1)
            age = np.where(active[t], aged, age)
            dh_t = (dh + Value(dy.at[t], dy.var[t])).rounded(self.u2)
            dh_all.at[t] = np.where(active[t], dh_t.at, 0)
            dh_all.var[t] = np.where(active[t], dh_t.var * age, 0)
            if "weight_hr" in cell:
                dh_t = self._product(dh_t, cell["weight_hr"])
            dc_t = (dc + Value(dcells.at[t], dcells.var[t])).rounded(self.u2)
            slope = Value(
                1 - np.square(step.tanh_c.at), 4 * np.square(step.tanh_c.at) * step.tanh_c.var
            )
            dc_t = dc_t.rounded(4 * self.u2) + (dh_t * step.o * slope).rounded(4 * self.u2)
            dz_t = (
                dc_t * step.g * _sigmoid_slope(step.i),
                dc_t * step.c * _sigmoid_slope(step.f),
                dc_t * step.i * Value(1 - step.g.at**2, 4 * step.g.at**2 * step.g.var),
                dh_t * step.tanh_c * _sigmoid_slope(step.o),
            )
            whole = Value(
                *(
                    np.where(active[t], np.concatenate(parts, -1), 0)
                    for parts in zip(*(a.rounded(4 * self.u2) for a in dz_t), strict=True)
                )
            )
            dz.at[t], dz.var[t] = whole.at, whole.var * age
            dh_next = self._product(whole, cell["weight_hh"])
            dc_next = (dc_t * step.f).rounded(self.u2)
            dh = Value(*(np.where(active[t], a, b) for a, b in zip(dh_next, dh, strict=True)))
            dc = Value(*(np.where(active[t], a, b) for a, b in zip(dc_next, dc, strict=True)))
        age = np.maximum(age, 1)
        return (Value(dh.at, dh.var * age), Value(dc.at, dc.var * age)), dz, dh_all

    def _params(self, run: Run, dz: Value, cell: dict[str, Array]) -> dict[str, Array]:
        """Variances of the gradients of the parameters."""
        result = {"weight_ih": self._weight(dz, run.x), "weight_hh": self._weight(dz, run.h)}
        if "bias_ih" in cell:
            flat = [a.reshape(-1, a.shape[-1]) for a in dz]
            times = self.u2 * (1 + len(flat[0]))
            result["bias_ih"] = result["bias_hh"] = (flat[1] + times * np.square(flat[0])).sum(0)
        return result

    def _weight(self, d: Value, read: Value) -> Array:
        """Variances of the sum over steps and sequences of d^T read."""
        at, var, x, x_var = (a.reshape(-1, a.shape[-1]) for a in (*d, *read))
        square, times = np.square(at), self.u2 * (1 + len(at))
        found: Array = (var + times * square).T @ np.square(x) + square.T @ x_var
        return found


def _sigmoid_slope(s: Value) -> Value:
    return Value(s.at * (1 - s.at), np.square(1 - 2 * s.at) * s.var)


def errors_in_spreads(
    problem: Problem,
    actual: dict[str, Array],
    expected: dict[str, Array],
    spreads: dict[str, Array],
) -> dict[str, float]:
    """The largest error of each gradient, to be compared with LIMIT."""
    assert actual.keys() == expected.keys() == spreads.keys()
    floor = MOST_PRODUCTS * float(np.finfo(problem.config.dtype).tiny)
    result = {}
    for name, gradient in actual.items():
        assert gradient.dtype == problem.config.dtype, name
        assert gradient.shape == expected[name].shape, name
        excess = np.abs(gradient - expected[name]) - floor
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = spreads[name] + 0.5 * np.max(spreads[name], initial=0.0)
            relative = np.where(excess <= 0, 0, excess / spread)
        result[name] = float(np.max(relative, initial=0.0))  # NaN stays
    return result
