# SPDX-License-Identifier: BSD-3-Clause
r"""Activations of a cell, each with its slope: what gates, candidate and output are made by.

alpha and beta are those of the ONNX operators; `DEFAULTS` has what they are where nobody says.

    name               f(z)                                    f'(z)
    sigmoid            1 / (1 + e^-z)                          f (1 - f)
    tanh               tanh(z)                                 1 - f^2
    hard_sigmoid       alpha z + beta, between 0 and 1         alpha where 0 < f < 1, else 0
    relu               z where z > 0, else 0                   1 where z > 0, else 0
    leaky_relu         z where z > 0, else alpha z             1 where z > 0, else alpha
    thresholded_relu   z where z > alpha, else 0               1 where z > alpha, else 0
    elu                z where z > 0, else alpha (e^z - 1)     1 where z > 0, else alpha e^z
    softsign           z / (1 + |z|)                           1 / (1 + |z|)^2
    softplus           log(1 + e^z)                            1 / (1 + e^-z)
    scaled_tanh        alpha tanh(beta z)                      alpha beta (1 - tanh(beta z)^2)
    affine             alpha z + beta                          alpha
    linear             z                                       1

Where a function has a corner, its slope there is that of the side written last ("else"). NaN stays
NaN in every f; a slope that compares is then that of z > 0 (hard_sigmoid: alpha).

Sources: the ONNX operator LSTM and the operators of these names (alpha, beta); Keras 2 (its hard
sigmoid has alpha 0.2, beta 0.5) and Keras 3 (1/6 and 0.5); D. Clevert et al., "Fast and accurate
deep network learning by exponential linear units", ICLR 2016 (elu); Y. LeCun et al., "Efficient
BackProp", 1998 (scaled tanh).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .dropout import Array

Function: TypeAlias = Callable[[Array, float, float], Array]

# Name -> alpha and beta if nobody says; None where the function has none.
DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "sigmoid": (None, None),
    "tanh": (None, None),
    "hard_sigmoid": (0.2, 0.5),
    "relu": (None, None),
    "leaky_relu": (0.01, None),
    "thresholded_relu": (1.0, None),
    "elu": (1.0, None),
    "softsign": (None, None),
    "softplus": (None, None),
    "scaled_tanh": (1.0, 1.0),
    "affine": (1.0, 0.0),
    "linear": (None, None),
}


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow and with full relative accuracy in both tails.

    Parameters
    ----------
    x : array of floats
        Of any shape.

    Returns
    -------
    ndarray of the shape and dtype of `x`
        In 0..1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import reference
    >>> reference.sigmoid(np.array([-1000.0, 0.0, 2.0])).round(3)
    array([0.   , 0.5  , 0.881])
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _hard_sigmoid(z: Array, alpha: float, beta: float) -> Array:
    f: Array = np.clip(alpha * z + beta, 0, 1)
    return f


def _hard_sigmoid_slope(z: Array, alpha: float, beta: float) -> Array:
    f = alpha * z + beta
    return np.where((f <= 0) | (f >= 1), 0, alpha)


def _softplus(z: Array, alpha: float, beta: float) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _elu(z: Array, alpha: float, beta: float) -> Array:
    return np.maximum(z, 0) + alpha * np.expm1(np.minimum(z, 0))


VALUES: dict[str, Function] = {
    "sigmoid": lambda z, alpha, beta: sigmoid(z),
    "tanh": lambda z, alpha, beta: np.tanh(z),
    "hard_sigmoid": _hard_sigmoid,
    "relu": lambda z, alpha, beta: np.maximum(z, 0),
    "leaky_relu": lambda z, alpha, beta: np.where(z <= 0, alpha * z, z),
    "thresholded_relu": lambda z, alpha, beta: np.where(z <= alpha, 0, z),
    "elu": _elu,
    "softsign": lambda z, alpha, beta: z / (1 + np.abs(z)),
    "softplus": _softplus,
    "scaled_tanh": lambda z, alpha, beta: alpha * np.tanh(beta * z),
    "affine": lambda z, alpha, beta: alpha * z + beta,
    "linear": lambda z, alpha, beta: z,
}

SLOPES: dict[str, Function] = {
    "sigmoid": lambda z, alpha, beta: sigmoid(z) * sigmoid(-z),
    "tanh": lambda z, alpha, beta: 1 - np.tanh(z) ** 2,
    "hard_sigmoid": _hard_sigmoid_slope,
    "relu": lambda z, alpha, beta: np.where(z <= 0, 0.0, 1.0),
    "leaky_relu": lambda z, alpha, beta: np.where(z <= 0, alpha, 1.0),
    "thresholded_relu": lambda z, alpha, beta: np.where(z <= alpha, 0.0, 1.0),
    "elu": lambda z, alpha, beta: np.where(z <= 0, alpha * np.exp(np.minimum(z, 0)), 1.0),
    "softsign": lambda z, alpha, beta: 1 / (1 + np.abs(z)) ** 2,
    "softplus": lambda z, alpha, beta: sigmoid(z),
    "scaled_tanh": lambda z, alpha, beta: alpha * beta * (1 - np.tanh(beta * z) ** 2),
    "affine": lambda z, alpha, beta: np.full_like(z, alpha),
    "linear": lambda z, alpha, beta: np.ones_like(z),
}


def activation(
    which: str | Sequence[str | float],
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """An activation and its slope.

    Parameters
    ----------
    which : str, or sequence of a str and one or two numbers
        The name, and alpha and beta where they are not those of `DEFAULTS`.

    Returns
    -------
    f, slope : functions of an array
        Both return an array of its shape and dtype.

    Raises
    ------
    ValueError
        There is no activation of that name.
    """
    parts: list[Any] = [which] if isinstance(which, str) else list(which)
    name, *numbers = parts
    if name not in DEFAULTS:
        raise ValueError(f"an activation must be one of {', '.join(DEFAULTS)}, got {name!r}")
    usual = list(DEFAULTS[name])
    a, b = (float(number or 0) for number in numbers + usual[len(numbers) :])
    value, slope = VALUES[name], SLOPES[name]
    return (
        lambda z: value(z, a, b).astype(z.dtype, copy=False),
        lambda z: slope(z, a, b).astype(z.dtype, copy=False),
    )
