# SPDX-License-Identifier: BSD-3-Clause
"""Activations between recurrent layers, in NumPy, by the names that formats give them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array], Array]


def _sigmoid(x: Array) -> Array:
    from scipy.special import expit

    found: Array = expit(x)
    return found


def _softmax(x: Array) -> Array:
    power = np.exp(x - x.max(axis=-1, keepdims=True))
    found: Array = power / power.sum(axis=-1, keepdims=True)
    return found


def _log_softmax(x: Array) -> Array:
    lower = x - x.max(axis=-1, keepdims=True)
    found: Array = lower - np.log(np.exp(lower).sum(axis=-1, keepdims=True))
    return found


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _relu(x: Array, slope: float = 0.0, most: float = np.inf, threshold: float = 0.0) -> Array:
    """Keras's: x from the threshold on, at `most` most; below it slope (x - threshold)."""
    below = slope * (x - threshold) if slope else 0
    return np.where(x >= threshold, np.minimum(x, most), below).astype(x.dtype)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _selu(x: Array) -> Array:
    return 1.0507009873554805 * _elu(x, 1.6732632423543772)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _softsign(x: Array) -> Array:
    return np.asarray(x / (1 + np.abs(x)))


def _silu(x: Array) -> Array:
    return np.asarray(x * _sigmoid(x))


def _gelu(x: Array, approximate: float = 0.0) -> Array:
    from scipy.special import erf

    if approximate:
        inner = np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1 + erf(x * np.sqrt(0.5).astype(x.dtype))))


# Name -> function, and how many numbers may follow the name, as many as must.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "linear": (lambda x: x, 0, 0),
    "tanh": (np.tanh, 0, 0),
    "sigmoid": (_sigmoid, 0, 0),
    "hard_sigmoid": (_hard_sigmoid, 2, 2),
    "relu": (_relu, 3, 0),
    "relu6": (lambda x: np.clip(x, 0, 6), 0, 0),
    "leaky_relu": (_relu, 1, 1),
    "elu": (_elu, 1, 0),
    "selu": (_selu, 0, 0),
    "exponential": (np.exp, 0, 0),
    "softplus": (_softplus, 0, 0),
    "softsign": (_softsign, 0, 0),
    "softmax": (_softmax, 0, 0),
    "log_softmax": (_log_softmax, 0, 0),
    "silu": (_silu, 0, 0),
    "gelu": (_gelu, 1, 0),
}


def function(activation: object) -> Function:
    """What an activation does to an array.

    Parameters
    ----------
    activation : str, sequence of a str and numbers, or None
        A name, or a name with its numbers; None or "" for linear.

    Returns
    -------
    callable
        From an array of floats to one of its shape and dtype.

    Raises
    ------
    ValueError
        There is no such activation; the message lists those that there are.
    """
    parts: Sequence[Any] = [activation] if isinstance(activation, str) else activation or [""]  # type: ignore[assignment]
    name, *numbers = parts
    name = name or "linear"
    if name not in _FUNCTIONS:
        raise ValueError(f"activation must be one of {', '.join(_FUNCTIONS)}, got {name!r}")
    made, most, least = _FUNCTIONS[name]
    if not least <= len(numbers) <= most:
        raise ValueError(f"{name} takes {least} to {most} numbers, got {len(numbers)}")
    return functools.partial(_applied, made, tuple(float(number) for number in numbers))


def _applied(made: Callable[..., Any], numbers: tuple[float, ...], x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(made(x, *numbers), x.dtype)
