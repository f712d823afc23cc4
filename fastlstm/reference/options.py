# SPDX-License-Identifier: BSD-3-Clause
r"""Variants of the LSTM cell in plain NumPy: what ``fastlstm.LSTMOptions`` means.

As `fastlstm.reference.lstm` has it, z are the weighted sums of a step. K clips to [-gate_clip,
gate_clip], C to [-cell_clip, cell_clip]; without a clip both leave their argument as it is. a, b
and d are the activations of the gates, of the candidate and of the output.

    z_i, z_f, z_o += p_i c_{t-1},  p_f c_{t-1},  p_o c_t     peepholes: i and f read the old c, o
                                                             the new one; p are vectors of H
    i   = a(K(z_i))
    f   = a(K(z_f))   or 1 - i (coupled)   or 1 (no forget gate)
    g   = b(K(z_g))
    c_t = C(f * c_{t-1} + i * g)
    o   = a(K(z_o))
    h_t = o * d(c_t)

The backward pass takes the variables in the opposite order. dh and dc are the gradients of h_t and
c_t from step t + 1 and from outside; K'(v) is 1 where |v| < gate_clip, else 0, likewise C':

    dz_o     = dh d(c_t) a'(K(z_o)) K'(z_o)
    dc_t     = dc + dh o d'(c_t) + dz_o p_o                  the new c feeds h_t and o's peephole
    ds       = dc_t where |f c_{t-1} + i g| < cell_clip, else 0
    dz_g     = ds i b'(K(z_g)) K'(z_g)
    dz_f     = ds c_{t-1} a'(K(z_f)) K'(z_f)                 0 where f is no gate of its own
    di       = ds g                                          coupled: ds (g - c_{t-1})
    dz_i     = di a'(K(z_i)) K'(z_i)
    dc_{t-1} = ds f + dz_i p_i + dz_f p_f
    dp_i     = sum dz_i c_{t-1},  dp_f = sum dz_f c_{t-1},  dp_o = sum dz_o c_t

and from dz on as in the plain LSTM, which also says what a projection of h_t means; noise, and what
it means at inference, stands in ``fastlstm.reference.noise``. Where f is no
gate of its own, its block of the weights, its biases and p_f are there and have no effect; their
gradients are zero.

Sources: F. Gers and J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000 (peepholes);
K. Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28(10), 2017 (coupled gates, CIFG; each
variant); S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997
(no forget gate); the ONNX operator LSTM (coupling as f = 1 - i, which activations there are, and
`clip`, which ONNX Runtime applies to the inputs of the gates' and the candidate's activations, not
to c); TensorFlow Lite's LSTM (`cell_clip`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .activations import activation
from .dropout import Array
from .layers import (
    Cell,
    Params,
    States,
    project,
    project_backward,
    sums_backward,
    weighted_sums,
)
from .noise import NAMES, Zoneout

DEFAULTS: dict[str, Any] = {
    "peepholes": False,
    "coupled": False,
    "forget_gate": True,
    "forget_bias": None,
    "gate_clip": None,
    "cell_clip": None,
    "gate_activation": "sigmoid",
    "candidate_activation": "tanh",
    "output_activation": "tanh",
    **dict.fromkeys(NAMES, 0.0),
}


def completed(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options, by the names of `fastlstm.LSTMOptions`; what is not there is as the plain LSTM
    has it."""
    unknown = [name for name in options if name not in DEFAULTS]
    if unknown:
        raise ValueError(f"there are no options {', '.join(unknown)}")
    return {**DEFAULTS, **options}


def lstm_cell(options: Mapping[str, Any]) -> Cell:
    """The cell of these options, by the names of `fastlstm.LSTMOptions`; what is not there is as
    the plain LSTM has it.

    Parameters
    ----------
    options : mapping of str to value
        Plain values, as ``LSTMOptions.config`` gives them.

    Returns
    -------
    Cell
        Its forward and backward step.

    Raises
    ------
    ValueError
        An option that there is not; coupled gates without a forget gate.
    """
    variant = _Variant(completed(options))
    return Cell(4, variant.forward, variant.backward)


def _clip(limit: float | None) -> Callable[[Array], Array]:
    return (lambda v: v) if limit is None else (lambda v: np.clip(v, -limit, limit))


def _within(v: Array, limit: float | None, d: Array) -> Array:
    """d where the clip leaves v as it is, else 0."""
    return d if limit is None else np.where(np.abs(v) >= limit, 0, d)


class _Variant:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self.peepholes, self.coupled = options["peepholes"], options["coupled"]
        self.forget_gate = options["forget_gate"]
        if self.coupled and not self.forget_gate:
            raise ValueError("coupled gates need a forget gate")
        self.zoneout_c = Zoneout("zoneout_c", options["zoneout_c"])
        self.zoneout_h = Zoneout("zoneout_h", options["zoneout_h"])
        self.gate_clip, self.cell_clip = options["gate_clip"], options["cell_clip"]
        self.clip = _clip(self.gate_clip)
        self.gate, self.gate_slope = activation(options["gate_activation"])
        self.candidate, self.candidate_slope = activation(options["candidate_activation"])
        self.output, self.output_slope = activation(options["output_activation"])

    def sums(self, x: Array, h: Array, c: Array, params: Params) -> tuple[Array, ...]:
        """z_i, z_f, z_g and z_o, the last one without its peephole."""
        h = h * params.get("variational_dropout", 1)
        z_i, z_f, z_g, z_o = np.split(weighted_sums(x, h, params), 4, axis=-1)
        if self.peepholes:
            z_i, z_f = z_i + params["weight_ci"] * c, z_f + params["weight_cf"] * c
        return z_i, z_f, z_g, z_o

    def state(
        self, z: tuple[Array, ...], c: Array, params: Params
    ) -> tuple[Array, Array, Array, Array]:
        """i, f, g with its dropout, and the new c before its clip."""
        i, g = self.gate(self.clip(z[0])), self.candidate(self.clip(z[2]))
        g = g * params.get("recurrent_dropout", 1)
        if self.coupled:
            f = 1 - i
        else:
            f = self.gate(self.clip(z[1])) if self.forget_gate else np.ones_like(i)
        return i, f, g, f * c + i * g

    def output_sum(self, z_o: Array, c: Array, params: Params) -> Array:
        return z_o + params["weight_co"] * c if self.peepholes else z_o

    def forward(self, x: Array, states: States, params: Params) -> States:
        h, c = states
        z = self.sums(x, h, c, params)
        _, _, _, whole = self.state(z, c, params)
        c_t = _clip(self.cell_clip)(whole)
        o = self.gate(self.clip(self.output_sum(z[3], c_t, params)))
        h_t = project(o * self.output(c_t), params)
        return self.zoneout_h.held(h, h_t, params), self.zoneout_c.held(c, c_t, params)

    def backward(
        self, x: Array, states: States, params: Params, dstates: States
    ) -> tuple[Array, States, dict[str, Array]]:
        h, c = states
        dh_old, dh = self.zoneout_h.backward(dstates[0], params)
        dc_old, dc = self.zoneout_c.backward(dstates[1], params)
        z_i, z_f, z_g, z_o = z = self.sums(x, h, c, params)
        i, f, g, whole = self.state(z, c, params)
        c_t = _clip(self.cell_clip)(whole)
        z_o = self.output_sum(z_o, c_t, params)
        o = self.gate(self.clip(z_o))
        dh, of_projection = project_backward(o * self.output(c_t), dh, params)

        dz_o = dh * self.output(c_t) * self.slope_of_gate(z_o)
        dc = dc + dh * o * self.output_slope(c_t)
        if self.peepholes:
            dc = dc + dz_o * params["weight_co"]
        dc = _within(whole, self.cell_clip, dc)
        slope_g = _within(z_g, self.gate_clip, self.candidate_slope(self.clip(z_g)))
        dz_g = dc * i * params.get("recurrent_dropout", 1) * slope_g
        own = self.forget_gate and not self.coupled  # f is a gate of its own
        dz_f = dc * c * self.slope_of_gate(z_f) if own else np.zeros_like(dc)
        dz_i = dc * (g - c if self.coupled else g) * self.slope_of_gate(z_i)
        dc_prev = dc_old + dc * f
        peepholes = {}
        if self.peepholes:
            dc_prev = dc_prev + dz_i * params["weight_ci"] + dz_f * params["weight_cf"]
            pairs = {"weight_ci": dz_i * c, "weight_cf": dz_f * c, "weight_co": dz_o * c_t}
            peepholes = {name: products.sum(axis=0) for name, products in pairs.items()}

        dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)
        mask = params.get("variational_dropout", 1)
        dx, dh, dparams = sums_backward(x, h * mask, params, dz)
        return dx, (dh_old + dh * mask, dc_prev), {**dparams, **of_projection, **peepholes}

    def slope_of_gate(self, z: Array) -> Array:
        return _within(z, self.gate_clip, self.gate_slope(self.clip(z)))
