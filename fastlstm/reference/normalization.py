# SPDX-License-Identifier: BSD-3-Clause
r"""Layer normalisation of an LSTM's sums in plain NumPy: `layer_norm` of ``fastlstm.LSTMOptions``.

    norm(v) = (v - mean(v)) / sqrt(var(v) + eps)         var(v) = mean((v - mean(v))^2)

over the units of one step of one sequence. What the cell does with the results stands in
``fastlstm.reference.options``; p_k c is there only where there are peepholes, for g never.

"sums", as TensorFlow Lite has it: each gate k of i, f, g, o by itself, over its H units, all that
it sums but the bias; weight_n has a block for each gate.

    z_k = norm(W_ih x + W_hh h + p_k c)_k weight_n_k + b_ih_k + b_hh_k

"separate", as its inventors have it: the sums of x and those of h apart, each over all 4H (the
forget gate's H are among them whether or not there is one), and what the output activation takes.

    z   = norm(W_ih x) weight_nx + b_ih + norm(W_hh h) weight_nh + b_hh       then z_k += p_k c
    h_t = o * d(norm(c_t) weight_nc + bias_nc)           c_t itself goes on as it is

The backward pass of a norm of n numbers, r = 1 / sqrt(var(v) + eps) and u = norm(v) = r (v - mean):
u_j depends on v_i directly, through the mean, and through r, whose derivative by v_i is
-r^3 (v_i - mean) / n = -r^2 u_i / n. So

    dv_i = sum_j du_j (r ([i = j] - 1 / n) - r u_i u_j / n)
         = r (du_i - mean(du) - u_i mean(du u))

and, of z = u w + b, du = dz w, dw = sum dz u, db = sum dz. In "separate" the gradients of the two
products differ, and are not zero in the block of a forget gate that does not exist.

Sources: J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", arXiv:1607.06450, 2016, eq.
20 to 22; TensorFlow Lite's LSTM with layer norm coefficients (which norms each gate's sums, its
peephole included, before the bias; its eps is 1e-8).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from .dropout import Array
from .layers import Params, sums_backward, weighted_sums

Blocks: TypeAlias = tuple[Array, ...]
Gradients: TypeAlias = dict[str, Array]


def norm(v: Array, eps: float) -> tuple[Array, Array]:
    """norm(v) over the last axis, and r, with an axis of length 1."""
    centered = v - v.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + v.dtype.type(eps))
    return centered * r, r


def norm_backward(u: Array, r: Array, du: Array) -> Array:
    """The gradient of v, where u, r = norm(v)."""
    mean, slope = du.mean(axis=-1, keepdims=True), (du * u).mean(axis=-1, keepdims=True)
    found: Array = r * (du - mean - u * slope)
    return found


def _biases(params: Params) -> Array | float:
    return params["bias_ih"] + params["bias_hh"] if "bias_ih" in params else 0.0


def _bias_gradients(params: Params, dz: Array) -> Gradients:
    names = [name for name in ("bias_ih", "bias_hh") if name in params]
    return {name: dz.sum(axis=0) for name in names}


class Unnormed:
    """Sums as the plain LSTM has them; what a form of normalisation has in their place."""

    def sums(self, x: Array, h: Array, params: Params) -> Blocks:
        """Blocks of i, f, g and o, which peepholes are added to."""
        return tuple(np.split(weighted_sums(x, h, params), 4, axis=-1))

    def gate(self, k: int, v: Array, params: Params) -> Array:
        """z_k of the sums of gate k with its peephole."""
        return v

    def gate_backward(self, k: int, v: Array, dz: Array, params: Params) -> Array:
        """The gradient of v."""
        return dz

    def output(self, c: Array, params: Params) -> Array:
        """What the output activation takes."""
        return c

    def output_backward(self, c: Array, d: Array, params: Params) -> tuple[Array, Gradients]:
        """The gradients of c and of the parameters."""
        return d, {}

    def sums_backward(
        self, x: Array, h: Array, params: Params, v: Blocks, dz: Blocks, dv: Blocks
    ) -> tuple[Array, Array, Gradients]:
        """The gradients of x, h and the parameters, from those before and after `gate_backward`."""
        return sums_backward(x, h, params, np.concatenate(dv, axis=-1))


class Sums(Unnormed):
    """The form "sums"."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def sums(self, x: Array, h: Array, params: Params) -> Blocks:
        products = x @ params["weight_ih"].T + h @ params["weight_hh"].T
        return tuple(np.split(products, 4, axis=-1))

    def gate(self, k: int, v: Array, params: Params) -> Array:
        block = slice(k * v.shape[-1], (k + 1) * v.shape[-1])
        bias = _biases(params)
        z: Array = norm(v, self.eps)[0] * params["weight_n"][block]
        return z if isinstance(bias, float) else z + bias[block]

    def gate_backward(self, k: int, v: Array, dz: Array, params: Params) -> Array:
        block = slice(k * v.shape[-1], (k + 1) * v.shape[-1])
        return norm_backward(*norm(v, self.eps), dz * params["weight_n"][block])

    def sums_backward(
        self, x: Array, h: Array, params: Params, v: Blocks, dz: Blocks, dv: Blocks
    ) -> tuple[Array, Array, Gradients]:
        dx, dh, dparams = sums_backward(x, h, params, np.concatenate(dv, axis=-1))
        normed = np.concatenate([norm(part, self.eps)[0] for part in v], axis=-1)
        whole = np.concatenate(dz, axis=-1)
        weight = {"weight_n": (whole * normed).sum(axis=0)}
        return dx, dh, {**dparams, **_bias_gradients(params, whole), **weight}


class Separate(Unnormed):
    """The form "separate"."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def sums(self, x: Array, h: Array, params: Params) -> Blocks:
        of_x, of_h = x @ params["weight_ih"].T, h @ params["weight_hh"].T
        z = norm(of_x, self.eps)[0] * params["weight_nx"]
        z = z + norm(of_h, self.eps)[0] * params["weight_nh"] + _biases(params)
        return tuple(np.split(z, 4, axis=-1))

    def output(self, c: Array, params: Params) -> Array:
        found: Array = norm(c, self.eps)[0] * params["weight_nc"] + params["bias_nc"]
        return found

    def output_backward(self, c: Array, d: Array, params: Params) -> tuple[Array, Gradients]:
        u, r = norm(c, self.eps)
        dparams = {"weight_nc": (d * u).sum(axis=0), "bias_nc": d.sum(axis=0)}
        return norm_backward(u, r, d * params["weight_nc"]), dparams

    def sums_backward(
        self, x: Array, h: Array, params: Params, v: Blocks, dz: Blocks, dv: Blocks
    ) -> tuple[Array, Array, Gradients]:
        whole = np.concatenate(dz, axis=-1)
        found = _bias_gradients(params, whole)
        back = []
        for name, source in (("x", x), ("h", h)):
            matrix = "weight_ih" if name == "x" else "weight_hh"
            u, r = norm(source @ params[matrix].T, self.eps)
            found[f"weight_n{name}"] = (whole * u).sum(axis=0)
            d = norm_backward(u, r, whole * params[f"weight_n{name}"])
            found[matrix] = d.T @ source
            back.append(d @ params[matrix])
        return back[0], back[1], found


def normalization(form: str | None, eps: float) -> Unnormed:
    """What `layer_norm` and `norm_epsilon` name.

    Parameters
    ----------
    form : {None, "sums", "separate"}
        Which normalisation there is.
    eps : float
        What is added to variances.

    Returns
    -------
    Unnormed
        Sums, gates and output of that form, forward and backward.

    Raises
    ------
    ValueError
        Another form.
    """
    if form is None:
        return Unnormed()
    if form not in ("sums", "separate"):
        raise ValueError(f"there is no layer_norm {form!r}")
    return Sums(eps) if form == "sums" else Separate(eps)
