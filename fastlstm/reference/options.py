# SPDX-License-Identifier: BSD-3-Clause
r"""Variants of the LSTM cell in plain NumPy: what ``fastlstm.LSTMOptions`` means.

As `fastlstm.reference.lstm` has it, z are the weighted sums of a step. K clips to [-gate_clip,
gate_clip], C to [-cell_clip, cell_clip]; without a clip both leave their argument as it is. a, b
and d are the activations of the gates, of the candidate and of the output. N and n are layer
normalisation, of sums and of what the output activation takes, which
``fastlstm.reference.normalization`` defines; without it both leave their argument as it is.

    z_i, z_f, z_o += p_i c_{t-1},  p_f c_{t-1},  p_o c_t     peepholes: i and f read the old c, o
                                                             the new one; p are vectors of H
    z   = N(z)
    i   = a(K(z_i))
    f   = a(K(z_f))   or 1 - i (coupled)   or 1 (no forget gate)
    g   = b(K(z_g))
    c_t = C(f * c_{t-1} + i * g)
    o   = a(K(z_o))
    h_t = o * d(n(c_t))

The backward pass takes the variables in the opposite order. dh and dc are the gradients of h_t and
c_t from step t + 1 and from outside; K'(v) is 1 where |v| < gate_clip, else 0, likewise C':

    dz_o     = dh d(n(c_t)) a'(K(z_o)) K'(z_o)               then back through N
    dc_t     = dc + dh o d'(n(c_t)) n' + dz_o p_o            the new c feeds h_t and o's peephole
    ds       = dc_t where |f c_{t-1} + i g| < cell_clip, else 0
    dz_g     = ds i b'(K(z_g)) K'(z_g)
    dz_f     = ds c_{t-1} a'(K(z_f)) K'(z_f)                 0 where f is no gate of its own
    di       = ds g                                          coupled: ds (g - c_{t-1})
    dz_i     = di a'(K(z_i)) K'(z_i)                         all of dz back through N
    dc_{t-1} = ds f + dz_i p_i + dz_f p_f
    dp_i     = sum dz_i c_{t-1},  dp_f = sum dz_f c_{t-1},  dp_o = sum dz_o c_t

and from dz on as in the plain LSTM, which also says what a projection of h_t means: with a
`proj_clip` h_t = clip(W_hr m_t), and dh is 0 where |h_t| >= proj_clip. Where f is no gate of its
own, its block of the weights, its biases and p_f are there and have no effect; their gradients are
zero. (The form "separate" of layer normalisation takes that block's sums into its statistics.)
Noise in training, and what it means at inference, stands in ``fastlstm.reference.noise``.

Sources: F. Gers and J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000 (peepholes);
K. Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28(10), 2017 (coupled gates, CIFG; each
variant); S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997
(no forget gate); the ONNX operator LSTM (coupling as f = 1 - i, which activations there are, and
`clip`, which ONNX Runtime applies to the inputs of the gates' and the candidate's activations, not
to c); TensorFlow Lite's LSTM (`cell_clip`, `proj_clip`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .activations import activation
from .dropout import Array
from .layers import Cell, Params, States, project, project_backward
from .noise import NAMES, Zoneout
from .normalization import Blocks, normalization

DEFAULTS: dict[str, Any] = {
    "peepholes": False,
    "coupled": False,
    "forget_gate": True,
    "forget_bias": None,
    "gate_clip": None,
    "cell_clip": None,
    "proj_clip": None,
    "layer_norm": None,
    "norm_epsilon": 1e-5,
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
        An option that there is not; coupled gates without a forget gate; another `layer_norm`.
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
        self.proj_clip = options["proj_clip"]
        self.clip = _clip(self.gate_clip)
        self.norm = normalization(options["layer_norm"], options["norm_epsilon"])
        self.gate, self.gate_slope = activation(options["gate_activation"])
        self.candidate, self.candidate_slope = activation(options["candidate_activation"])
        self.output, self.output_slope = activation(options["output_activation"])

    def sums(self, x: Array, h: Array, c: Array, params: Params) -> Blocks:
        """Those of i, f, g and o, the last one without its peephole."""
        h = h * params.get("variational_dropout", 1)
        v_i, v_f, v_g, v_o = self.norm.sums(x, h, params)
        if self.peepholes:
            v_i, v_f = v_i + params["weight_ci"] * c, v_f + params["weight_cf"] * c
        return v_i, v_f, v_g, v_o

    def state(self, z: Blocks, c: Array, params: Params) -> tuple[Array, Array, Array, Array]:
        """i, f, g with its dropout, and the new c before its clip, from z_i, z_f and z_g."""
        i, g = self.gate(self.clip(z[0])), self.candidate(self.clip(z[2]))
        g = g * params.get("recurrent_dropout", 1)
        if self.coupled:
            f = 1 - i
        else:
            f = self.gate(self.clip(z[1])) if self.forget_gate else np.ones_like(i)
        return i, f, g, f * c + i * g

    def output_sum(self, v_o: Array, c: Array, params: Params) -> Array:
        return v_o + params["weight_co"] * c if self.peepholes else v_o

    def forward(self, x: Array, states: States, params: Params) -> States:
        h, c = states
        v = self.sums(x, h, c, params)
        z = tuple(self.norm.gate(k, v[k], params) for k in range(3))
        _, _, _, whole = self.state(z, c, params)
        c_t = _clip(self.cell_clip)(whole)
        o = self.gate(self.clip(self.norm.gate(3, self.output_sum(v[3], c_t, params), params)))
        m = o * self.output(self.norm.output(c_t, params))
        h_t = _clip(self.proj_clip)(project(m, params))
        return self.zoneout_h.held(h, h_t, params), self.zoneout_c.held(c, c_t, params)

    def backward(
        self, x: Array, states: States, params: Params, dstates: States
    ) -> tuple[Array, States, dict[str, Array]]:
        h, c = states
        dh_old, dh = self.zoneout_h.backward(dstates[0], params)
        dc_old, dc = self.zoneout_c.backward(dstates[1], params)
        v_i, v_f, v_g, v_o = self.sums(x, h, c, params)
        z_i, z_f, z_g = (self.norm.gate(k, v, params) for k, v in enumerate((v_i, v_f, v_g)))
        i, f, g, whole = self.state((z_i, z_f, z_g), c, params)
        c_t = _clip(self.cell_clip)(whole)
        v_o = self.output_sum(v_o, c_t, params)
        z_o = self.norm.gate(3, v_o, params)
        o, shown = self.gate(self.clip(z_o)), self.norm.output(c_t, params)
        m = o * self.output(shown)
        dh = _within(project(m, params), self.proj_clip, dh)
        dh, of_projection = project_backward(m, dh, params)

        dz_o = dh * self.output(shown) * self.slope_of_gate(z_o)
        dv_o = self.norm.gate_backward(3, v_o, dz_o, params)
        dshown = dh * o * self.output_slope(shown)
        of_output, of_norm = self.norm.output_backward(c_t, dshown, params)
        dc = dc + of_output
        if self.peepholes:
            dc = dc + dv_o * params["weight_co"]
        dc = _within(whole, self.cell_clip, dc)
        slope_g = _within(z_g, self.gate_clip, self.candidate_slope(self.clip(z_g)))
        dz_g = dc * i * params.get("recurrent_dropout", 1) * slope_g
        own = self.forget_gate and not self.coupled  # f is a gate of its own
        dz_f = dc * c * self.slope_of_gate(z_f) if own else np.zeros_like(dc)
        dz_i = dc * (g - c if self.coupled else g) * self.slope_of_gate(z_i)
        dz, v = (dz_i, dz_f, dz_g, dz_o), (v_i, v_f, v_g, v_o)
        dv = (*(self.norm.gate_backward(k, v[k], dz[k], params) for k in range(3)), dv_o)
        dc_prev = dc_old + dc * f
        peepholes = {}
        if self.peepholes:
            dc_prev = dc_prev + dv[0] * params["weight_ci"] + dv[1] * params["weight_cf"]
            pairs = {"weight_ci": dv[0] * c, "weight_cf": dv[1] * c, "weight_co": dv_o * c_t}
            peepholes = {name: products.sum(axis=0) for name, products in pairs.items()}

        mask = params.get("variational_dropout", 1)
        dx, dh, dparams = self.norm.sums_backward(x, h * mask, params, v, dz, dv)
        dh = dh_old + dh * mask
        return dx, (dh, dc_prev), {**dparams, **of_projection, **of_norm, **peepholes}

    def slope_of_gate(self, z: Array) -> Array:
        return _within(z, self.gate_clip, self.gate_slope(self.clip(z)))
