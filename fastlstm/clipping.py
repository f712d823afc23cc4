# SPDX-License-Identifier: BSD-3-Clause
"""Gradient clipping, and the checks of arrays that optimisers change in place."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import numpy as np

from . import _optim, checks
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
    """
    most = number("max_norm", max_norm, infinite=True)
    strict = checks.flag("error_if_nonfinite", error_if_nonfinite)
    arrays = own_arrays("grads", given_arrays("grads", getattr(grads, "params", grads)))
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
    """
    limit = number("clip_value", clip_value, infinite=True)
    arrays = own_arrays("grads", given_arrays("grads", getattr(grads, "params", grads)))
    _optim.clamp(_distinct(arrays), limit)


# ---- validation ----


def number(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    below: float = math.inf,
    infinite: bool = False,
) -> float:
    """A real number in [least, below), finite unless `infinite`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        real = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number that fits float64") from None
    if infinite and real == math.inf:
        return real
    if not (math.isfinite(real) and least <= real < below):
        within = "finite"
        if below < math.inf:
            within = f"in [{least:g}, {below:g})"
        elif least > -math.inf:
            within = f">= {least:g}" if infinite else f"finite and >= {least:g}"
        raise ValueError(f"{name} must be {within}, got {real}")
    return real


def mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping name -> array, got {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} must be named by strings, got {key!r}")
    return value


def refuse_names(what: str, given: Mapping[str, Any], wanted: Collection[str]) -> None:
    """ValueError that lists the names missing and unexpected."""
    if given.keys() == set(wanted):
        return
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
    raise ValueError(f"{what} does not fit: " + "; ".join(problems))


def given_arrays(what: str, given: object) -> dict[str, Array]:
    """The arrays of a mapping, each asked for once: only here may code of the caller run."""
    arrays = {}
    for key, value in mapping(what, given).items():
        if not issubclass(type(value), np.ndarray):
            name = f"{what}[{key!r}]"
            raise TypeError(f"{name} must be a NumPy array, got {type(value).__name__}")
        arrays[str.__str__(key)] = value  # a subclass of str may run code when it is compared
    return arrays


def own_arrays(what: str, given: dict[str, Array]) -> dict[str, Array]:
    """What `given_arrays` gave as plain arrays, each fit to be changed in place by the core."""
    arrays = {}
    for key, value in given.items():
        array = value
        if type(value) is not np.ndarray:
            checks.no_mask(f"{what}[{key!r}]", value)
            array = np.asarray(value)  # a subclass may say anything of itself
        flags = array.flags
        if array.dtype not in (checks.FLOAT32, checks.FLOAT64) or not (
            flags.writeable and flags.c_contiguous and flags.aligned
        ):
            _refuse(what, key, array)
        arrays[key] = array
    return arrays


def _refuse(what: str, key: str, array: Array) -> NoReturn:
    """The error that says why the core cannot change an array in place."""
    name = f"{what}[{key!r}]"
    if array.dtype not in (checks.FLOAT32, checks.FLOAT64):
        raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}")
    if array.flags.writeable:
        raise ValueError(f"{name} must be C-contiguous and aligned to its dtype")
    hint = " (a model's parameters are writable after train())" if what == "params" else ""
    raise ValueError(f"{name} must be writable, got a read-only array{hint}")


def refuse_overlap(
    what: str, first: dict[str, Array], other: str, second: dict[str, Array]
) -> None:
    """ValueError if an array of one shares memory with one of the other (two of one, if equal)."""
    a = list(first.values())
    found = _optim.overlap(a, a if first is second else list(second.values()))
    if found is not None:
        names = f"{what}[{list(first)[found[0]]!r}] and {other}[{list(second)[found[1]]!r}]"
        raise ValueError(f"{names} must not share memory")


def _distinct(arrays: dict[str, Array]) -> list[Array]:
    """The arrays, those that stand under two names once; ValueError if others share memory."""
    once: dict[tuple[int, int, np.dtype[Any]], str] = {}
    for name, array in arrays.items():
        once.setdefault((_optim.address(array), array.size, array.dtype), name)
    distinct = {name: arrays[name] for name in once.values()}
    refuse_overlap("grads", distinct, "grads", distinct)
    return list(distinct.values())
