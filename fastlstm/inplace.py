# SPDX-License-Identifier: BSD-3-Clause
"""Checks of named arrays that are changed in place: parameters and gradients of optimisers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import numpy as np

from . import _optim, checks
from .checks import Array


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
