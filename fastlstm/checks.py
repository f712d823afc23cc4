# SPDX-License-Identifier: BSD-3-Clause
"""Validation of everything a caller hands over; each error names the argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core

Array = NDArray[Any]


class SupportsArray(Protocol):
    """An array, or what NumPy can ask for one (a torch tensor, for example); a list is neither."""

    def __array__(self) -> NDArray[Any]: ...


FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
LARGE = 1 << 28  # bytes below which nobody asks how much memory there is
# Sizes beyond this cannot be addressed in any combination; the C core relies on it.
MAX_COUNT = 2**31 - 1


def count(name: str, value: object, least: int = 0, most: int = MAX_COUNT) -> int:
    """An integer in [least, most]; bool is not one."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not least <= number <= most:
        given = str(number) if number.bit_length() < 256 else f"one of {number.bit_length()} bits"
        raise ValueError(f"{name} must be between {least} and {most}, got {given}")
    return number


def flag(name: str, value: object) -> bool:
    """True or False, nothing that merely counts as such."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def probability(name: str, value: object) -> float:
    """A number in [0, 1]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be a number in [0, 1], got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
    return number


def real_dtype(value: DTypeLike) -> np.dtype[Any]:
    """float32 or float64, in native byte order."""
    try:
        if value is None:  # NumPy would take it for float64
            raise TypeError
        dtype = np.dtype(value)
    except Exception:  # NumPy raises SyntaxError and ValueError as well
        raise TypeError(f"dtype must be float32 or float64, got {value!r}") from None
    if dtype not in (FLOAT32, FLOAT64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype}")
    return dtype


def no_mask(name: str, value: object) -> None:
    """TypeError for a masked array: nobody here would look at its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array, got a masked array")


def array(name: str, value: SupportsArray | ArrayLike, dtype: np.dtype[Any]) -> Array:
    """`value` as an array of `dtype`: itself if it has it, a copy if it is a narrower float.

    Raises TypeError for any other dtype, integers among them, and for lists, tuples and scalars.
    """
    if type(value) is np.ndarray and value.dtype == dtype:
        return value
    if isinstance(value, (list, tuple, str, bytes)) or np.isscalar(value) or value is None:
        listed = isinstance(value, (list, tuple))
        hint = f"; convert it with np.asarray({name}, np.{dtype})" if listed else ""
        raise TypeError(f"{name} must be an array of {dtype}, got {type(value).__name__}{hint}")
    try:
        result = np.asarray(value)
    except Exception as error:
        raise TypeError(
            f"{name} must be an array of {dtype}, got {type(value).__name__}: {error}"
        ) from error
    no_mask(name, value)
    if result.dtype == dtype:
        return result
    if result.dtype.kind != "f" or not np.can_cast(result.dtype, dtype, "safe"):
        raise TypeError(
            f"{name} must have dtype {dtype}, got {result.dtype}; convert it with "
            f"{name}.astype(np.{dtype}) if that is meant"
        )
    fits(result.size * dtype.itemsize)
    return result.astype(dtype)


def fits(size: int) -> None:
    """MemoryError if so many bytes of results are more than the machine has to give.

    The system may promise more than it has, and end the process when it is called upon.
    """
    if size > LARGE and size > _core.available_memory():
        raise MemoryError(f"{size} bytes are more than the memory available")


def readable(x: Array) -> Array:
    """`x` itself if the core can read it in place, else a contiguous copy."""
    strides, item = x.strides, x.itemsize
    if (
        (strides[-1] == item or x.shape[-1] <= 1)
        and x.flags.aligned
        and not any(s % item for s in strides)
    ):
        return x
    fits(x.nbytes)
    return x.copy(order="C")


def _overlaps(value: Array) -> bool:
    """Whether elements may share memory: some stride is shorter than what it should step over."""
    extent = value.itemsize
    for stride, size in sorted(
        (abs(s), n) for s, n in zip(value.strides, value.shape, strict=True)
    ):
        if size > 1 and stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def writable(name: str, value: object, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """An output array that the core can fill in place, as a plain array."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(value).__name__}")
    no_mask(name, value)
    value = np.asarray(value)  # a subclass may say anything of itself
    if value.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
    if not value.flags.writeable:
        raise ValueError(f"{name} must be writable, got a read-only array")
    if value.size == 0:
        return value
    last = shape[-1] <= 1 or value.strides[-1] == value.itemsize
    if not last or _overlaps(value) or any(s % value.itemsize for s in value.strides):
        raise ValueError(
            f"{name} must have a contiguous last axis and no overlapping elements, "
            f"got strides {value.strides}"
        )
    if not value.flags.aligned:
        raise ValueError(f"{name} must be aligned to its dtype")
    return value


def lengths(value: ArrayLike | Sequence[int], batch: int, steps: int) -> NDArray[np.int64]:
    """Sequence lengths (batch,), each 0 to steps, as int64."""
    try:
        result = np.asarray(value)
    except Exception as error:
        raise TypeError(f"lengths must be integers, got {value!r}") from error
    no_mask("lengths", value)
    if result.size == 0 and result.ndim == 1:
        result = result.astype(np.int64)
    if result.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got dtype {result.dtype}")
    if result.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {result.shape}")
    wrong = np.flatnonzero((result < 0) | (result > steps))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"lengths must be between 0 and {steps} (the steps of x), "
            f"got {int(result[i])} at position {i}"
        )
    return np.array(result, dtype=np.int64)  # ours: nobody changes it after the check


def state_pair(
    value: object, dtype: np.dtype[Any], shape: tuple[int, ...], name: str = "state"
) -> tuple[Array, Array]:
    """(h_0, c_0), both of `shape` and contiguous."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (h_0, c_0), got {type(value).__name__}")
    pair = []
    for part, given in zip(("h_0", "c_0"), value, strict=True):
        checked = array(part, given, dtype)
        if checked.shape != shape:
            raise ValueError(f"{part} must have shape {shape}, got {checked.shape}")
        if not checked.flags.c_contiguous or not checked.flags.aligned:
            fits(checked.nbytes)
            checked = checked.copy(order="C")
        pair.append(checked)
    return pair[0], pair[1]


def gradient(
    name: str, value: ArrayLike | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array | None:
    """An array of that dtype and shape with a contiguous last axis, or None."""
    if value is None:
        return None
    checked = array(name, value, dtype)
    if checked.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {checked.shape}")
    return readable(checked)


def gradient_pair(
    value: object, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[Array | None, Array | None]:
    """(dh_n, dc_n), each contiguous and of `shape`, or None."""
    if value is None:
        return None, None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"dstate must be a pair (dh_n, dc_n), got {type(value).__name__}")
    dh_n, dc_n = (
        gradient(part, given, dtype, shape)
        for part, given in zip(("dh_n", "dc_n"), value, strict=True)
    )
    return (
        None if dh_n is None else np.ascontiguousarray(dh_n),
        None if dc_n is None else np.ascontiguousarray(dc_n),
    )
