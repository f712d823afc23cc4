# SPDX-License-Identifier: BSD-3-Clause
r"""The gated recurrent unit in NumPy: the specification of ``fastlstm.GRU``.

One step of one layer in one direction takes x_t (B, I) and h_{t-1} (B, H) to h_t:

    a   = x_t W_ih^T + b_ih                              (B, 3H), three blocks in the order r z n
    b   = h_{t-1} W_hh^T + b_hh                          likewise
    r   = sigmoid(a_r + b_r)                             reset gate
    z   = sigmoid(a_z + b_z)                             update gate
    n   = tanh(a_n + r * b_n)                            candidate
    h_t = (1 - z) * n + z * h_{t-1}                      hidden state, which is the output

The backward pass: dv stands for dE/dv, the gradient of a scalar loss E, summed over every path from
v to E. h_t is read by step t + 1 and by the outside (as y and h_n); what comes back from there is
called dh. h_{t-1} is read by b and by h_t. The chain rule gives, all products being element by
element but those with a weight matrix,

    dn       = dh (1 - z)                                h_t = (1 - z) n + z h_{t-1}
    da_n     = dn (1 - n^2)                              tanh' = 1 - tanh^2
    db_n     = da_n r                                    n = tanh(a_n + r b_n)
    da_r     = da_n b_n r (1 - r)                        sigmoid' = sigmoid (1 - sigmoid)
    da_z     = dh (h_{t-1} - n) z (1 - z)
    dh_{t-1} = dh z + db W_hh                            db = [da_r da_z db_n], (B, 3H)
    dx_t     = da W_ih                                   da = [da_r da_z da_n]

and, since all steps share the parameters, sums over the steps (and, in the product, over B):

    dW_ih = sum_t da^T x_t,  dW_hh = sum_t db^T h_{t-1},  db_ih = sum_t sum_B da,  db_hh likewise db

With ``reset_after=False`` r comes before the product with W_hn, the last block of W_hh:

    m   = r * h_{t-1}
    n   = tanh(a_n + m W_hn^T + b_hn)                    candidate

and all else is as above. Then a and b of n have one gradient, and r gets its own through m:

    db_n     = da_n                                      n = tanh(a_n + b_n)
    dm       = da_n W_hn                                 b_n = m W_hn^T + b_hn
    da_r     = dm h_{t-1} r (1 - r)                      m = r h_{t-1}
    dh_{t-1} = dh z + dm r + [da_r da_z] W_h(rz)         W_h(rz) the first two blocks of W_hh
    dW_hn    = sum_t da_n^T m,  of the first two blocks of dW_hh as above

Layers, directions and the ends of sequences stand in ``fastlstm.reference.layers``.

Sources: K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
machine translation", EMNLP 2014 (the network, with r before the product; there z is 1 - z); the
ONNX operator GRU (``linear_before_reset``, 0 for r before the product); the documentation of
`torch.nn.GRU` (r after the product, as cuDNN has it, so that one product a step is enough; order of
the gates, the two biases, parameter names); P. Werbos, "Backpropagation through time: what it does
and how to do it", Proceedings of the IEEE 78(10), 1990 (the gradient).

Letters in shapes: T steps, B sequences, I inputs, H hidden units, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .activations import sigmoid
from .dropout import Array
from .layers import Cell, Model, Params, States, array, final_states, run_backward, run_forward


class GRUResult(NamedTuple):
    """What `gru_forward` computes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 4))}
    >>> y, h_n = reference.gru_forward(np.ones((5, 2, 3)), params)
    >>> y.shape, h_n.shape
    ((5, 2, 4), (1, 2, 4))
    """

    y: Array
    """(T, B, D*H): h_t of the last layer, zero where a sequence is over."""
    h_n: Array
    """(D*L, B, H): h after the last step taken, index = layer * D + direction."""


class GRUGradients(NamedTuple):
    """What the backward pass computes; every array is shaped like what it is the gradient of.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 4))}
    >>> grads = reference.gru_backward(np.ones((5, 2, 3)), params, dy=np.ones((5, 2, 4)))
    >>> grads.x.shape, grads.h_0.shape, list(grads.params)
    ((5, 2, 3), (1, 2, 4), ['weight_ih_l0', 'weight_hh_l0'])
    """

    x: Array
    """(T, B, I): zero where a sequence is over."""
    h_0: Array
    """(D*L, B, H)"""
    params: dict[str, Array]
    """Under the names of the parameters."""


def gru_forward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    h_0: npt.ArrayLike | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    reset_after: bool = True,
    dtype: npt.DTypeLike = np.float64,
) -> GRUResult:
    """All steps of a (stacked, bidirectional) GRU over a batch of sequences.

    Parameters
    ----------
    x : array_like of shape (T, B, I)
        Always time-major; T = 0 and B = 0 are allowed.
    params : mapping of str to array_like
        The state dict of the corresponding torch.nn.GRU; the number of layers, the directions and
        whether there are biases follow from the names in it.
    h_0 : array_like of shape (D*L, B, H), optional
        None means zeros.
    lengths, dropout, seed
        As for `lstm_forward`.
    reset_after : bool, default True
        Whether r comes after the product with W_hn, or before it.
    dtype
        As for `lstm_forward`.

    Returns
    -------
    GRUResult
        y and h_n.

    Raises
    ------
    ValueError
        `h_0` or `lengths` does not fit `x`; `dropout` and `seed` are checked where they are used.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> from fastlstm import reference
    >>> gru = fastlstm.GRU(3, 4, bidirectional=True, dtype="float64", seed=0)
    >>> x = np.ones((5, 2, 3))
    >>> np.allclose(gru(x)[0], reference.gru_forward(x, gru.state_dict()).y, rtol=0, atol=1e-12)
    True
    """
    cell = GRU if reset_after else GRU_RESET_BEFORE
    model = Model.of(cell, x, params, {"h_0": h_0}, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed)
    (y,), (h_n,) = layers[-1].outputs, final_states(layers)
    return GRUResult(y, h_n)


def gru_backward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    h_0: npt.ArrayLike | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dy: npt.ArrayLike | None = None,
    dh_n: npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    reset_after: bool = True,
    dtype: npt.DTypeLike = np.float64,
) -> GRUGradients:
    """The gradients of a scalar loss, from those of `gru_forward`'s results, by recomputing it.

    Parameters
    ----------
    x, params, h_0, lengths
        Those of the forward pass. Without an h_0 there is a gradient of it nevertheless.
    dy : array_like of shape (T, B, D*H), optional
        The gradient of y; None means zeros. Where a sequence is over, it is not read.
    dh_n : array_like of shape (D*L, B, H), optional
        The gradient of h_n. Each gradient is for its own path only (y and h_n may well show the
        same h_t).
    dropout, seed, reset_after, dtype
        Those of the forward pass.

    Returns
    -------
    GRUGradients
        Of x, h_0 and the parameters.

    Raises
    ------
    ValueError
        As from `gru_forward`, and for a gradient of another shape than its result's.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.ones((3, 1)), "weight_hh_l0": np.ones((3, 1))}
    >>> grads = reference.gru_backward(np.ones((2, 1, 1)), params, dh_n=np.ones((1, 1, 1)))
    >>> grads.x.ravel().round(3)
    array([-0.027, -0.031])
    """
    cell = GRU if reset_after else GRU_RESET_BEFORE
    model = Model.of(cell, x, params, {"h_0": h_0}, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed)
    doutputs = (array("dy", dy, layers[-1].outputs[0].shape, dtype),)
    dfinal = (array("dh_n", dh_n, model.initial[0].shape, dtype),)
    dx, (dh_0,), dparams = run_backward(cell, model, layers, doutputs, dfinal)
    return GRUGradients(dx, dh_0, {name: dparams[name] for name in params})


def _gates(x: Array, h: Array, params: Params) -> tuple[Array, Array, Array, Array]:
    """r, z, n and b_n, (B, H) each."""
    a = x @ params["weight_ih"].T
    b = h @ params["weight_hh"].T
    if "bias_ih" in params:
        a, b = a + params["bias_ih"], b + params["bias_hh"]
    (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(a, 3, axis=-1), np.split(b, 3, axis=-1)
    r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
    return r, z, np.tanh(a_n + r * b_n), b_n


def _forward(x: Array, states: States, params: Params) -> tuple[Array]:
    (h,) = states
    _, z, n, _ = _gates(x, h, params)
    return ((1 - z) * n + z * h,)


def _backward(
    x: Array, states: States, params: Params, dstates: States
) -> tuple[Array, tuple[Array], dict[str, Array]]:
    (h,), (dh,) = states, dstates
    r, z, n, b_n = _gates(x, h, params)
    da_n = dh * (1 - z) * (1 - n**2)
    da_r = da_n * b_n * r * (1 - r)
    da_z = dh * (h - n) * z * (1 - z)
    da = np.concatenate([da_r, da_z, da_n], axis=-1)
    db = np.concatenate([da_r, da_z, da_n * r], axis=-1)
    dparams = {"weight_ih": da.T @ x, "weight_hh": db.T @ h}
    if "bias_ih" in params:
        dparams |= {"bias_ih": da.sum(axis=0), "bias_hh": db.sum(axis=0)}
    return da @ params["weight_ih"], (dh * z + db @ params["weight_hh"],), dparams


GRU = Cell(3, _forward, _backward)


def _gates_before(x: Array, h: Array, params: Params) -> tuple[Array, Array, Array]:
    """r, z and n, where r comes before the product."""
    a = x @ params["weight_ih"].T
    w_r, w_z, w_n = np.split(params["weight_hh"], 3)
    if "bias_ih" in params:
        a = a + params["bias_ih"] + params["bias_hh"]
    a_r, a_z, a_n = np.split(a, 3, axis=-1)
    r, z = sigmoid(a_r + h @ w_r.T), sigmoid(a_z + h @ w_z.T)
    return r, z, np.tanh(a_n + (r * h) @ w_n.T)


def _forward_before(x: Array, states: States, params: Params) -> tuple[Array]:
    (h,) = states
    _, z, n = _gates_before(x, h, params)
    return ((1 - z) * n + z * h,)


def _backward_before(
    x: Array, states: States, params: Params, dstates: States
) -> tuple[Array, tuple[Array], dict[str, Array]]:
    (h,), (dh,) = states, dstates
    r, z, n = _gates_before(x, h, params)
    rows = 2 * h.shape[-1]
    w_rz, w_n = params["weight_hh"][:rows], params["weight_hh"][rows:]
    da_n = dh * (1 - z) * (1 - n**2)
    dm = da_n @ w_n
    da_r = dm * h * r * (1 - r)
    da_z = dh * (h - n) * z * (1 - z)
    da_rz = np.concatenate([da_r, da_z], axis=-1)
    da = np.concatenate([da_rz, da_n], axis=-1)
    dw_hh = np.concatenate([da_rz.T @ h, da_n.T @ (r * h)])
    dparams = {"weight_ih": da.T @ x, "weight_hh": dw_hh}
    if "bias_ih" in params:
        dparams |= {"bias_ih": da.sum(axis=0), "bias_hh": da.sum(axis=0)}
    return da @ params["weight_ih"], (dh * z + dm * r + da_rz @ w_rz,), dparams


GRU_RESET_BEFORE = Cell(3, _forward_before, _backward_before)
