# SPDX-License-Identifier: BSD-3-Clause
"""Gradient clipping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _optim, checks, inplace
from .checks import Array


def clip_grad_norm(grads: object, max_norm: float, *, error_if_nonfinite: bool = False) -> float:
    """Scale gradients in place so that their joint 2-norm is at most `max_norm`.

    As ``torch.nn.utils.clip_grad_norm_``: all are multiplied by max_norm / (norm + 1e-6) if that is
    less than 1. The norm is summed in float64, in an order that is always the same. A norm of
    infinity or NaN leaves zeros and NaN, unless `error_if_nonfinite`.

    Parameters
    ----------
    grads : mapping of str to ndarray, or anything with such a mapping as ``.params``
        Writable C-contiguous arrays of float32 or float64.
    max_norm : float
        >= 0; infinity: only measure.
    error_if_nonfinite : bool, default False
        Whether a norm that is infinite or NaN is an error, as in torch.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    TypeError, ValueError
        A wrong argument; nothing is changed then.
    RuntimeError
        The norm is infinite or NaN, with `error_if_nonfinite`; nothing is changed then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import optim
    >>> grads = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    >>> optim.clip_grad_norm(grads, 1.0)
    5.0
    >>> grads["w"].round(3), grads["b"].round(3)
    (array([0.6, 0. ]), array([0.8]))
    """
    most = checks.number("max_norm", max_norm, infinite=True)
    strict = checks.flag("error_if_nonfinite", error_if_nonfinite)
    given = inplace.given_arrays("grads", getattr(grads, "params", grads))
    arrays = inplace.own_arrays("grads", given)
    distinct = _distinct(arrays)
    norm = math.sqrt(_optim.sum_squares(list(arrays.values())))
    if strict and not math.isfinite(norm):
        raise RuntimeError(f"the norm of grads is {norm}: they cannot be clipped")
    if not math.isinf(most):
        factor = most / (norm + 1e-6)
        if not factor >= 1.0:
            _optim.scale(distinct, factor)
    return norm


def clip_grad_value(grads: object, clip_value: float) -> None:
    """Limit each entry of gradients, in place, to [-clip_value, clip_value]; NaN stays NaN.

    As ``torch.nn.utils.clip_grad_value_``.

    Parameters
    ----------
    grads : mapping of str to ndarray, or anything with such a mapping as ``.params``
        As for `clip_grad_norm`.
    clip_value : float
        >= 0.

    Raises
    ------
    TypeError, ValueError
        A wrong argument; nothing is changed then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import optim
    >>> grads = {"w": np.array([-3.0, 0.5])}
    >>> optim.clip_grad_value(grads, 1.0)
    >>> grads["w"]
    array([-1. ,  0.5])
    """
    limit = checks.number("clip_value", clip_value, infinite=True)
    given = inplace.given_arrays("grads", getattr(grads, "params", grads))
    arrays = inplace.own_arrays("grads", given)
    _optim.clamp(_distinct(arrays), limit)


def _distinct(arrays: dict[str, Array]) -> list[Array]:
    """The arrays, those that stand under two names once; ValueError if others share memory."""
    once: dict[tuple[int, int, np.dtype[Any]], str] = {}
    for name, array in arrays.items():
        once.setdefault((_optim.address(array), array.size, array.dtype), name)
    distinct = {name: arrays[name] for name in once.values()}
    inplace.refuse_overlap("grads", distinct, "grads", distinct)
    return list(distinct.values())
