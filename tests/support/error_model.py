# SPDX-License-Identifier: BSD-3-Clause
"""How far rounding may carry an LSTM away from the reference: a spread for every output.

Rounding errors count as independent with mean zero; their variances are carried through the
equations of `fastlstm.reference` to first order. With u = eps / 2, A the error bound of a sigmoid
(2 A of a tanh), K = I + H products, and S the sum of squares of a pre-activation's terms, which
are the bias, w x and w h:

    var z  =  u^2 (1 + K) S  +  W_ih^2 var x  +  W_hh^2 var h          squares element by element
    var i  =  (i (1 - i))^2 var z + A^2                                f and o likewise
    var g  =  (1 - g^2)^2 var z + 4 A^2
    var c' =  f^2 var c + c^2 var f + i^2 var g + g^2 var i + 3 u^2 (|f c| + i)^2
    var h' =  o^2 ((1 - tanh(c')^2)^2 var c' + 4 A^2) + tanh(c')^2 var o + u^2 h'^2

and, where that is projected, h' being m there,

    var h' =  W_hr^2 (var m + u^2 (1 + H) m^2)

The first line: each weight is rounded once when it is packed, which adds u^2 S, and each of the K
partial sums once, whose squares are about S. An error of rounding has variance u^2 / 3 at most
and a partial sum fewer terms, so this is some five times the truth; A, a bound, is some three
standard deviations. The rest is for what the model leaves out: a weight's error is the same at
every step, and adds up while a cell forgets little.

Bounds of the worst case would be of no use: the norm of W_hh exceeds 1, so they double every few
steps, while errors of random sign are damped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastlstm.reference import sigmoid
from support import helpers

Array = np.ndarray

# Bounds that the kernels state (src_c/kernels/vmath.inc.h, see test_accuracy.py), or wider.
SIGMOID_BOUND = {"float32": 1.5e-7, "float64": 3e-16}

# Largest error in spreads that is accepted. Seen over 2,000 random configurations on all
# instruction sets, with our kernels and BLAS: 3.9, in a cell of H = 1 over 300 steps. A wrong term
# is wrong by 1e-3 and more: thousands of spreads in float32.
LIMIT = 6.0


PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class Spread(NamedTuple):
    """Standard deviations of the outputs of the same names, laid out like them."""

    y: Array
    h_n: Array
    c_n: Array
    cells: Array


class Moments(NamedTuple):
    """h and c with the variances of their errors: of a step (B, H) or of all (T, B, H)."""

    h: Array
    c: Array
    h_var: Array
    c_var: Array


def spread(config: helpers.Config, params: dict[str, Array], inputs: helpers.Inputs) -> Spread:
    """What an engine that computes in the configuration's dtype may be off by."""
    lengths = np.full(config.batch, config.steps) if inputs.lengths is None else inputs.lengths
    active = (np.arange(config.steps)[:, None] < np.asarray(lengths))[:, :, None]
    x = np.where(active, config.time_major(inputs.x), 0).astype(np.float64)
    state = inputs.state or (np.zeros(config.h_shape), np.zeros(config.c_shape))
    h_0, c_0 = (np.asarray(part, np.float64) for part in state)
    h_var, c_var = np.zeros(config.h_shape), np.zeros(config.c_shape)

    x_var = np.zeros_like(x)
    for layer in range(config.num_layers):
        outputs = []
        for direction, end in enumerate(["", "_reverse"][: config.num_directions]):
            at = layer * config.num_directions + direction
            cell = {
                name: np.asarray(params[f"{name}_l{layer}{end}"], np.float64)
                for name in PARAMETERS
                if f"{name}_l{layer}{end}" in params
            }
            steps = range(config.steps)[:: -1 if direction else 1]
            start = Moments(h_0[at], c_0[at], h_var[at], c_var[at])
            after = _direction(config.dtype, x, x_var, active, steps, cell, start)
            h_var[at], c_var[at] = after.h_var[steps[-1]], after.c_var[steps[-1]]
            outputs.append(after)
        whole = Moments(*(np.concatenate(parts, -1) for parts in zip(*outputs, strict=True)))
        x, x_var = whole.h, whole.h_var
    y_var, cells_var = (np.where(active, part, 0) for part in (whole.h_var, whole.c_var))
    return Spread(
        config.time_major(np.sqrt(y_var)),
        np.sqrt(h_var),
        np.sqrt(c_var),
        config.time_major(np.sqrt(cells_var)),
    )


def assert_within(
    actual: NamedTuple, expected: NamedTuple, spreads: Spread, config: helpers.Config
) -> None:
    """All outputs that `actual` has: errors up to LIMIT spreads, none where the spread is zero."""
    for name in actual._fields:
        error = np.abs(getattr(actual, name) - getattr(expected, name))
        bound = LIMIT * getattr(spreads, name)
        assert error.shape == bound.shape, f"{name} of {config}"
        wrong = ~(error <= bound)  # catches NaN too
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{name} of {config}: {wrong.sum()} of {wrong.size} elements are wrong, the first "
                f"at {first}: {getattr(actual, name)[first]!r} for "
                f"{getattr(expected, name)[first]!r}, bound {bound[first]:.3g}"
            )


def _direction(
    dtype: str,
    x: Array,
    x_var: Array,
    active: Array,
    steps: range,
    cell: dict[str, Array],
    start: Moments,
) -> Moments:
    """All steps of one direction; a sequence that is over keeps its state."""
    unit_var = (np.finfo(dtype).eps / 2) ** 2
    sigmoid_var = SIGMOID_BOUND[dtype] ** 2
    w_ih, w_hh = cell["weight_ih"], cell["weight_hh"]
    w_ih_2, w_hh_2 = np.square(w_ih), np.square(w_hh)
    bias = cell["bias_ih"] + cell["bias_hh"] if "bias_ih" in cell else np.zeros(len(w_ih))
    rounding = unit_var * (1 + w_ih.shape[1] + w_hh.shape[1])
    x_part = x @ w_ih.T + bias
    x_part_var = (rounding * np.square(x) + x_var) @ w_ih_2.T + rounding * np.square(bias)

    units, outputs = len(w_hh) // 4, w_hh.shape[1]
    after = Moments(*(np.empty((*x.shape[:2], n)) for n in (outputs, units, outputs, units)))
    now = start
    for t in steps:
        h, c, h_var, c_var = now
        z_i, z_f, z_g, z_o = np.split(x_part[t] + h @ w_hh.T, 4, -1)
        z_var = x_part_var[t] + (rounding * np.square(h) + h_var) @ w_hh_2.T
        zi_var, zf_var, zg_var, zo_var = np.split(z_var, 4, -1)
        i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), np.tanh(z_g)
        i_var = np.square(i * (1 - i)) * zi_var + sigmoid_var
        f_var = np.square(f * (1 - f)) * zf_var + sigmoid_var
        o_var = np.square(o * (1 - o)) * zo_var + sigmoid_var
        g_var = np.square(1 - g * g) * zg_var + 4 * sigmoid_var
        c_var = f * f * c_var + c * c * f_var + i * i * g_var + g * g * i_var
        c_var = c_var + 3 * unit_var * np.square(np.abs(f * c) + i)
        c = f * c + i * g
        tanh_c = np.tanh(c)
        tanh_var = np.square(1 - tanh_c * tanh_c) * c_var + 4 * sigmoid_var
        h = o * tanh_c
        h_var = o * o * tanh_var + tanh_c * tanh_c * o_var + unit_var * h * h
        if "weight_hr" in cell:
            h_var = h_var + unit_var * (1 + units) * np.square(h)
            h, h_var = h @ cell["weight_hr"].T, h_var @ np.square(cell["weight_hr"]).T
        new = Moments(h, c, h_var, c_var)
        now = Moments(*(np.where(active[t], a, b) for a, b in zip(new, now, strict=True)))
        for whole, part in zip(after, now, strict=True):
            whole[t] = part
    return after
