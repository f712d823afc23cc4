# SPDX-License-Identifier: BSD-3-Clause
r"""The plain recurrent network in NumPy: the specification of ``fastlstm.RNN``.

One step of one layer in one direction takes x_t (B, I) and h_{t-1} (B, H) to h_t:

    z_t = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh      (B, H)
    h_t = tanh(z_t)   or   relu(z_t) = max(z_t, 0)       hidden state, which is the output

The backward pass: dv stands for dE/dv, the gradient of a scalar loss E, summed over every path from
v to E. h_t is read by step t + 1 and by the outside (as y and h_n); what comes back from there is
called dh. The chain rule gives, the first product being element by element,

    dz_t     = dh (1 - h_t^2)                            tanh' = 1 - tanh^2
    dz_t     = dh where h_t > 0, else 0                  relu, whose derivative at 0 we take as 0
    dh_{t-1} = dz_t W_hh                                 what step t hands back to step t - 1
    dx_t     = dz_t W_ih                                 with l > 0, what layer l - 1 gets as dy

and, since all steps share the parameters, sums over the steps (and, in the product, over B):

    dW_ih = sum_t dz_t^T x_t,  dW_hh = sum_t dz_t^T h_{t-1},  db_ih = db_hh = sum_t sum_B dz_t

Where z_t is NaN, so is h_t; relu then hands back 0, since NaN > 0 is false, and tanh NaN.

Layers, directions and the ends of sequences stand in ``fastlstm.reference.layers``.

Sources: J. Elman, "Finding structure in time", Cognitive Science 14(2), 1990 (the network);
P. Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE
78(10), 1990 (the gradient); Q. Le, N. Jaitly and G. Hinton, "A simple way to initialize recurrent
networks of rectified linear units", arXiv:1504.00941, 2015 (relu in it); the documentation of
`torch.nn.RNN` (the two biases, parameter names, shapes of the states, the derivative at 0).

Letters in shapes: T steps, B sequences, I inputs, H hidden units, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .dropout import Array
from .layers import (
    Cell,
    Model,
    Params,
    States,
    array,
    final_states,
    run_backward,
    run_forward,
    sums_backward,
    weighted_sums,
)


class RNNResult(NamedTuple):
    """What `rnn_forward` computes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((4, 3)), "weight_hh_l0": np.zeros((4, 4))}
    >>> y, h_n = reference.rnn_forward(np.ones((5, 2, 3)), params)
    >>> y.shape, h_n.shape
    ((5, 2, 4), (1, 2, 4))
    """

    y: Array
    """(T, B, D*H): h_t of the last layer, zero where a sequence is over."""
    h_n: Array
    """(D*L, B, H): h after the last step taken, index = layer * D + direction."""


class RNNGradients(NamedTuple):
    """What the backward pass computes; every array is shaped like what it is the gradient of.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((4, 3)), "weight_hh_l0": np.zeros((4, 4))}
    >>> grads = reference.rnn_backward(np.ones((5, 2, 3)), params, dy=np.ones((5, 2, 4)))
    >>> grads.x.shape, grads.h_0.shape, list(grads.params)
    ((5, 2, 3), (1, 2, 4), ['weight_ih_l0', 'weight_hh_l0'])
    """

    x: Array
    """(T, B, I): zero where a sequence is over."""
    h_0: Array
    """(D*L, B, H)"""
    params: dict[str, Array]
    """Under the names of the parameters; both biases of a cell have the same gradient."""


def rnn_forward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    nonlinearity: str = "tanh",
    h_0: npt.ArrayLike | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float64,
) -> RNNResult:
    """All steps of a (stacked, bidirectional) RNN over a batch of sequences.

    Parameters
    ----------
    x : array_like of shape (T, B, I)
        Always time-major; T = 0 and B = 0 are allowed.
    params : mapping of str to array_like
        The state dict of the corresponding torch.nn.RNN; the number of layers, the directions and
        whether there are biases follow from the names in it.
    nonlinearity : {"tanh", "relu"}
        What makes h_t of the weighted sums.
    h_0 : array_like of shape (D*L, B, H), optional
        None means zeros.
    lengths, dropout, seed, dtype
        As for `lstm_forward`.

    Returns
    -------
    RNNResult
        y and h_n.

    Raises
    ------
    ValueError
        Another nonlinearity; `h_0` or `lengths` does not fit `x`; `dropout` and `seed` are checked
        where they are used.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    >>> reference.rnn_forward(np.ones((3, 1, 1)), params, nonlinearity="relu").y.ravel()
    array([1., 2., 3.])
    """
    cell = _cell(nonlinearity)
    model = Model.of(cell, x, params, {"h_0": h_0}, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed)
    (y,), (h_n,) = layers[-1].outputs, final_states(layers)
    return RNNResult(y, h_n)


def rnn_backward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    nonlinearity: str = "tanh",
    h_0: npt.ArrayLike | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    dy: npt.ArrayLike | None = None,
    dh_n: npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float64,
) -> RNNGradients:
    """The gradients of a scalar loss, from those of `rnn_forward`'s results, by recomputing it.

    Parameters
    ----------
    x, params, nonlinearity, h_0, lengths
        Those of the forward pass. Without an h_0 there is a gradient of it nevertheless.
    dy : array_like of shape (T, B, D*H), optional
        The gradient of y; None means zeros. Where a sequence is over, it is not read.
    dh_n : array_like of shape (D*L, B, H), optional
        The gradient of h_n. Each gradient is for its own path only (y and h_n may well show the
        same h_t).
    dropout, seed, dtype
        Those of the forward pass.

    Returns
    -------
    RNNGradients
        Of x, h_0 and the parameters.

    Raises
    ------
    ValueError
        As from `rnn_forward`, and for a gradient of another shape than its result's.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": 0.5 * np.ones((1, 1))}
    >>> x, dh_n = np.ones((3, 1, 1)), np.ones((1, 1, 1))
    >>> reference.rnn_backward(x, params, nonlinearity="relu", dh_n=dh_n).x.ravel()
    array([0.25, 0.5 , 1.  ])
    """
    cell = _cell(nonlinearity)
    model = Model.of(cell, x, params, {"h_0": h_0}, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed)
    doutputs = (array("dy", dy, layers[-1].outputs[0].shape, dtype),)
    dfinal = (array("dh_n", dh_n, model.initial[0].shape, dtype),)
    dx, (dh_0,), dparams = run_backward(cell, model, layers, doutputs, dfinal)
    return RNNGradients(dx, dh_0, {name: dparams[name] for name in params})


def _cell(nonlinearity: str) -> Cell:
    if nonlinearity not in RNN:
        raise ValueError(f"nonlinearity must be one of {', '.join(RNN)}, got {nonlinearity!r}")
    return RNN[nonlinearity]


def _tanh(x: Array, states: States, params: Params) -> tuple[Array]:
    (h,) = states
    return (np.tanh(weighted_sums(x, h, params)),)


def _tanh_backward(
    x: Array, states: States, params: Params, dstates: States
) -> tuple[Array, tuple[Array], dict[str, Array]]:
    (h,), (h_t,), (dh,) = states, _tanh(x, states, params), dstates
    dx, dh, dparams = sums_backward(x, h, params, dh * (1 - h_t**2))
    return dx, (dh,), dparams


def _relu(x: Array, states: States, params: Params) -> tuple[Array]:
    (h,) = states
    return (np.maximum(weighted_sums(x, h, params), 0),)


def _relu_backward(
    x: Array, states: States, params: Params, dstates: States
) -> tuple[Array, tuple[Array], dict[str, Array]]:
    (h,), (h_t,), (dh,) = states, _relu(x, states, params), dstates
    dx, dh, dparams = sums_backward(x, h, params, np.where(h_t > 0, dh, 0))
    return dx, (dh,), dparams


RNN = {"tanh": Cell(1, _tanh, _tanh_backward), "relu": Cell(1, _relu, _relu_backward)}
