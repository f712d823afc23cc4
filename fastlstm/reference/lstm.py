# SPDX-License-Identifier: BSD-3-Clause
r"""The LSTM in plain NumPy: the executable specification that the engine is tested against.

It is written to be read, never to be fast, and uses nothing of the compiled core.

One step of one layer in one direction takes x_t (B, I), h_{t-1} and c_{t-1} (B, H) to h_t and c_t:

    z   = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh      (B, 4H), four blocks in the order i f g o
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)   input, forget and output gate
    g   = tanh(z_g)                                      candidate
    c_t = f * c_{t-1} + i * g                            cell state
    h_t = o * tanh(c_t)                                  hidden state, which is the output

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

With a projection (LSTMP), where there is a weight_hr (P, H), the output has P values, 0 < P < H:
h_t is (B, P) and W_hh (4H, P), layers above the first read D*P inputs, and

    m_t = o * tanh(c_t)                                  what was h_t, (B, H)
    h_t = m_t W_hr^T                                     (B, P), no bias

m_t is read by h_t alone. So dm below takes the place of dh in dc_t and dz_o, and the rest stays:

    dm       = dh W_hr
    dW_hr    = sum_t dh^T m_t

Layers, directions and the ends of sequences stand in ``fastlstm.reference.layers``, variants of the
cell (peepholes, clips, other activations) in ``fastlstm.reference.options``.

Sources: S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997
(cell, input and output gate); F. Gers, J. Schmidhuber and F. Cummins, "Learning to forget",
Neural Computation 12(10), 2000 (forget gate); P. Werbos, "Backpropagation through time: what it
does and how to do it", Proceedings of the IEEE 78(10), 1990; A. Graves and J. Schmidhuber,
"Framewise phoneme classification with bidirectional LSTM", Neural Networks 18(5-6), 2005 (the
gradient in full, where the papers before it cut it off at the gates); H. Sak, A. Senior and
F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
vocabulary speech recognition", arXiv:1402.1128, 2014 (the projection); the documentation of
`torch.nn.LSTM` (order of the gates, the two biases, parameter names, shapes of the states, layers
and directions, where dropout acts).

Letters in shapes: T steps, B sequences, I inputs, H hidden units, P values of h where it is
projected and else H, L layers, D directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .activations import sigmoid
from .dropout import Array
from .layers import (
    Cell,
    Model,
    Params,
    States,
    array,
    final_states,
    project,
    project_backward,
    run_backward,
    run_forward,
    sums_backward,
    weighted_sums,
)
from .noise import Noise
from .options import completed, lstm_cell


class Result(NamedTuple):
    """What `lstm_forward` computes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4))}
    >>> y, h_n, c_n, cells = reference.lstm_forward(np.ones((5, 2, 3)), params)
    >>> y.shape, h_n.shape, c_n.shape, cells.shape
    ((5, 2, 4), (1, 2, 4), (1, 2, 4), (5, 2, 4))
    """

    y: Array
    """(T, B, D*P): h_t of the last layer, zero where a sequence is over."""
    h_n: Array
    """(D*L, B, P): h after the last step taken, index = layer * D + direction."""
    c_n: Array
    """(D*L, B, H): c after the last step taken."""
    cells: Array
    """(T, B, D*H): c_t of the last layer, zero where a sequence is over."""


class Gradients(NamedTuple):
    """What the backward pass computes; every array is shaped like what it is the gradient of.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4))}
    >>> grads = reference.lstm_backward(np.ones((5, 2, 3)), params, dy=np.ones((5, 2, 4)))
    >>> grads.x.shape, grads.c_0.shape, list(grads.params)
    ((5, 2, 3), (1, 2, 4), ['weight_ih_l0', 'weight_hh_l0'])
    """

    x: Array
    """(T, B, I): zero where a sequence is over."""
    h_0: Array
    """(D*L, B, P)"""
    c_0: Array
    """(D*L, B, H)"""
    params: dict[str, Array]
    """Under the names of the parameters; both biases of a cell have the same gradient."""


def cell_forward(
    x: npt.ArrayLike,
    h: npt.ArrayLike,
    c: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    dtype: npt.DTypeLike = np.float64,
) -> tuple[Array, Array]:
    """One step of an LSTM cell.

    Parameters
    ----------
    x : array_like of shape (B, I)
        Input of the step.
    h, c : array_like of shape (B, P) and (B, H)
        The states before it.
    params : mapping of str to array_like
        weight_ih (4H, I), weight_hh (4H, P), unless the cell has no bias, bias_ih and bias_hh (4H,)
        and, if its output is projected, weight_hr (P, H).
    dtype : dtype, default numpy.float64
        Everything is converted to it and computed in it.

    Returns
    -------
    h, c : ndarray of shape (B, P) and (B, H)
        The states after it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih": np.ones((4, 1)), "weight_hh": np.ones((4, 1))}
    >>> h, c = reference.cell_forward([[1.0]], [[0.0]], [[0.0]], params)
    >>> h.round(3), c.round(3)
    (array([[0.37]]), array([[0.557]]))
    """
    p = {name: np.asarray(value, dtype) for name, value in params.items()}
    return _forward(np.asarray(x, dtype), (np.asarray(h, dtype), np.asarray(c, dtype)), p)


def cell_backward(
    x: Array, h: Array, c: Array, params: Mapping[str, Array], dh: Array, dc: Array
) -> Gradients:
    """Backward through `cell_forward`; its equations stand in the module's head.

    Parameters
    ----------
    x, h, c, params
        Those of the step, arrays of one dtype.
    dh, dc : ndarray of shape (B, P) and (B, H)
        The gradients of the new h and c: dc without the path from c through h.

    Returns
    -------
    Gradients
        Those of x, h and c are (B, I), (B, P) and (B, H).

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih": np.ones((4, 1)), "weight_hh": np.ones((4, 1))}
    >>> one, zero = np.ones((1, 1)), np.zeros((1, 1))
    >>> reference.cell_backward(one, zero, zero, params, dh=one, dc=zero).x.round(3)
    array([[0.348]])
    """
    dx, (dh, dc), dparams = _backward(x, (h, c), params, (dh, dc))
    return Gradients(dx, dh, dc, dparams)


def lstm_forward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    options: Mapping[str, Any] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    noisy: bool = False,
    dtype: npt.DTypeLike = np.float64,
) -> Result:
    """All steps of a (stacked, bidirectional) LSTM over a batch of sequences.

    Parameters
    ----------
    x : array_like of shape (T, B, I)
        Always time-major; T = 0 and B = 0 are allowed.
    params : mapping of str to array_like
        The state dict of the corresponding torch.nn.LSTM; the number of layers, the directions and
        whether there are biases and projections follow from the names in it.
    state : (h_0, c_0), array_like of shapes (D*L, B, P) and (D*L, B, H), optional
        None means zeros.
    lengths : array_like of B integers in 0..T, optional
        Steps of each sequence; None means T for all. Steps from a sequence's length on are never
        read, give zeros in y and cells and leave its state as it is. The reverse direction hence
        starts at each sequence's last valid step, and length 0 returns the initial state.
    options : mapping of str to value, optional
        What makes it another LSTM than the plain one; see ``fastlstm.reference.options``.
    dropout : float in 0..1, default 0
        Probability with which an element of the output of every layer but the last is zero for the
        layer above; see `dropout_mask`.
    seed : int in 0..2^64-1, default 0
        Of the masks.
    noisy : bool, default False
        Whether the noise of options acts, as in training, or what they mean at inference; see
        ``fastlstm.reference.noise``.
    dtype : dtype, default numpy.float64
        Everything is converted to it and computed in it, whatever the type of the inputs.

    Returns
    -------
    Result
        y, h_n, c_n and cells.

    Raises
    ------
    ValueError
        `state` or `lengths` does not fit `x`; `dropout` and `seed` are checked where they are used.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> params = {"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.ones((4, 1))}
    >>> reference.lstm_forward(np.ones((3, 1, 1)), params).y.ravel().round(3)
    array([0.37 , 0.651, 0.789])
    """
    cell = LSTM if options is None else lstm_cell(options)
    noise = Noise(completed(options), seed) if noisy and options is not None else None
    model = _model(cell, x, _dropped(noise, params, dtype), state, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed, noise)
    (y, cells), (h_n, c_n) = layers[-1].outputs, final_states(layers)
    return Result(y, h_n, c_n, cells)


def lstm_backward(
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    *,
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    lengths: Sequence[int] | npt.ArrayLike | None = None,
    options: Mapping[str, Any] | None = None,
    dy: npt.ArrayLike | None = None,
    dstate: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None = None,
    dcells: npt.ArrayLike | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    noisy: bool = False,
    dtype: npt.DTypeLike = np.float64,
) -> Gradients:
    """The gradients of a scalar loss, from those of `lstm_forward`'s results, by recomputing it.

    Parameters
    ----------
    x, params, state, lengths, options
        Those of the forward pass. Without a state, h_0 and c_0 are zeros and have gradients
        nevertheless.
    dy : array_like of shape (T, B, D*P), optional
        The gradient of y; None means zeros. Where a sequence is over, it is not read.
    dstate : (dh_n, dc_n), array_like as (h_0, c_0) or None each, optional
        The gradients of h_n and c_n. Each gradient is for its own path only (y and h_n may well
        show the same h_t).
    dcells : array_like of shape (T, B, D*H), optional
        The gradient of cells; read as `dy`.
    dropout, seed, noisy, dtype
        Those of the forward pass.

    Returns
    -------
    Gradients
        Of x, h_0, c_0 and the parameters.

    Raises
    ------
    ValueError
        As from `lstm_forward`, and for a gradient of another shape than its result's.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> from fastlstm import reference
    >>> lstm = fastlstm.LSTM(3, 4, dtype="float64", seed=0)
    >>> y, state, tape = lstm.forward(x := np.ones((5, 2, 3)))
    >>> expected = reference.lstm_backward(x, lstm.state_dict(), dy=y)
    >>> np.allclose(lstm.backward(tape, y).x, expected.x, rtol=0, atol=1e-12)
    True
    """
    cell = LSTM if options is None else lstm_cell(options)
    noise = Noise(completed(options), seed) if noisy and options is not None else None
    model = _model(cell, x, _dropped(noise, params, dtype), state, lengths, dtype)
    layers = run_forward(cell, model, dropout, seed, noise)
    (y, cells), (h_0, c_0) = layers[-1].outputs, model.initial
    doutputs = array("dy", dy, y.shape, dtype), array("dcells", dcells, cells.shape, dtype)
    dh_n, dc_n = (None, None) if dstate is None else dstate
    dfinal = (
        array("dstate[0]", dh_n, h_0.shape, dtype),
        array("dstate[1]", dc_n, c_0.shape, dtype),
    )
    dx, (dh_0, dc_0), dparams = run_backward(cell, model, layers, doutputs, dfinal)
    return Gradients(
        dx, dh_0, dc_0, _dropped(noise, {name: dparams[name] for name in params}, dtype)
    )


def _model(
    cell: Cell,
    x: npt.ArrayLike,
    params: Mapping[str, npt.ArrayLike],
    state: tuple[npt.ArrayLike, npt.ArrayLike] | None,
    lengths: Sequence[int] | npt.ArrayLike | None,
    dtype: npt.DTypeLike,
) -> Model:
    h_0, c_0 = (None, None) if state is None else state
    return Model.of(cell, x, params, {"state[0]": h_0, "state[1]": c_0}, lengths, dtype)


def _dropped(
    noise: Noise | None, params: Mapping[str, npt.ArrayLike], dtype: npt.DTypeLike
) -> dict[str, Array]:
    """The parameters, or their gradients, with the mask of weight drop where it acts."""
    arrays = {name: np.asarray(value, dtype) for name, value in params.items()}
    if noise is not None and noise.options["weight_drop"]:
        directions = 2 if "weight_hh_l0_reverse" in arrays else 1
        for name in [name for name in arrays if name.startswith("weight_hh_l")]:
            layer, reverse = name.removesuffix("_reverse"), name.endswith("_reverse")
            place = int(layer.removeprefix("weight_hh_l")) * directions + reverse
            arrays[name] = noise.dropped(arrays[name], place)
    return arrays


def _gates(x: Array, h: Array, params: Params) -> tuple[Array, Array, Array, Array]:
    """i, f, g, o of one step, (B, H) each."""
    i, f, g, o = np.split(weighted_sums(x, h, params), 4, axis=-1)
    return sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)


def _forward(x: Array, states: States, params: Params) -> tuple[Array, Array]:
    h, c = states
    i, f, g, o = _gates(x, h, params)
    c_t = f * c + i * g
    return project(o * np.tanh(c_t), params), c_t


def _backward(
    x: Array, states: States, params: Params, dstates: States
) -> tuple[Array, tuple[Array, Array], dict[str, Array]]:
    (h, c), (dh, dc) = states, dstates
    i, f, g, o = _gates(x, h, params)
    tanh_c = np.tanh(f * c + i * g)

    dm, dparams = project_backward(o * tanh_c, dh, params)
    dc = dc + dm * o * (1 - tanh_c**2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = dm * tanh_c * o * (1 - o)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)

    dx, dh, of_sums = sums_backward(x, h, params, dz)
    return dx, (dh, dc * f), {**of_sums, **dparams}


LSTM = Cell(4, _forward, _backward)
