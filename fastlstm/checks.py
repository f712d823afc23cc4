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


def kind(value: object) -> str:
    """The class of a value as messages name it: with its module, unless that is Python's own."""
    cls = type(value)
    builtin = cls.__module__ == "builtins"
    return cls.__qualname__ if builtin else f"{cls.__module__}.{cls.__qualname__}"


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


def number(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    most: float = math.inf,
    below: float = math.inf,
    infinite: bool = False,
) -> float:
    """A real number from `least` to `most` and below `below`, finite unless `infinite`."""
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
    if not (math.isfinite(real) and least <= real <= most and real < below):
        within = "finite"
        if below < math.inf:
            within = f"in [{least:g}, {below:g})"
        elif most < math.inf:
            within = f"in [{least:g}, {most:g}]"
        elif least > -math.inf:
            within = f">= {least:g}" if infinite else f"finite and >= {least:g}"
        raise ValueError(f"{name} must be {within}, got {real}")
    return real


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
    if issubclass(type(value), np.ma.MaskedArray):  # isinstance would ask the object itself
        raise TypeError(f"{name} must be a plain array, got a masked array")


# What may go wrong in an object's own conversion and means that it is no array. Anything else, such
# as MemoryError, is passed on as it is.
_NO_ARRAY = (TypeError, ValueError, RuntimeError, AttributeError, BufferError)


def given(name: str, value: SupportsArray | ArrayLike, dtype: np.dtype[Any]) -> Array:
    """`value` itself if it is an array, whatever its dtype and class, else what it is as an array.

    Code of the caller's object may run here, and change arguments that have been read before. So
    all arguments go through here first, and through `array` then, where no such code runs. Raises
    TypeError for lists, tuples and scalars.
    """
    if type(value) is np.ndarray:
        return value
    no_mask(name, value)
    if issubclass(type(value), np.ndarray):
        return value  # type: ignore[return-value]
    if isinstance(value, (list, tuple, str, bytes)) or np.isscalar(value) or value is None:
        listed = isinstance(value, (list, tuple))
        hint = f"; convert it with np.asarray({name}, np.{dtype})" if listed else ""
        raise TypeError(f"{name} must be an array of {dtype}, got {type(value).__name__}{hint}")
    try:
        # A subclass stays what it is: a plain view of it would not follow where its memory goes.
        found = np.asanyarray(value)
    except RecursionError:
        raise
    except _NO_ARRAY as error:
        raise TypeError(
            f"{name} must be an array of {dtype}, got {type(value).__name__}: {error}"
        ) from error
    no_mask(name, found)
    return found


def array(name: str, value: Array, dtype: np.dtype[Any]) -> Array:
    """What `given` gave as a plain array of `dtype`: itself if it is one, a copy if it is a
    narrower float. Raises TypeError for any other dtype, integers among them.
    """
    if type(value) is not np.ndarray:
        value = np.asarray(value)  # a subclass may say anything of itself
    if value.dtype == dtype:
        return value
    if value.dtype.kind != "f" or not np.can_cast(value.dtype, dtype, "safe"):
        raise TypeError(
            f"{name} must have dtype {dtype}, got {value.dtype}; convert it with "
            f"{name}.astype(np.{dtype}) if that is meant"
        )
    fits(value.size * dtype.itemsize)
    return value.astype(dtype)


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
    if not issubclass(type(value), np.ndarray):  # isinstance would ask the object itself
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


def given_lengths(value: ArrayLike | Sequence[int]) -> NDArray[Any]:
    """Integers as an array of our own, which nobody changes after the check; see `given`."""
    no_mask("lengths", value)
    try:
        # Copied here: NumPy alone would believe an __array__ that says it has copied.
        result = np.asarray(value).copy()
    except RecursionError:
        raise
    except _NO_ARRAY as error:
        raise TypeError(f"lengths must be integers, got {value!r}") from error
    if result.size == 0 and result.ndim == 1:
        result = result.astype(np.int64)
    if result.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got dtype {result.dtype}")
    return result


def lengths(value: NDArray[Any], batch: int, steps: int) -> NDArray[np.int64]:
    """Sequence lengths (batch,) of `given_lengths`, each 0 to steps, as int64."""
    if value.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {value.shape}")
    wrong = np.flatnonzero((value < 0) | (value > steps))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"lengths must be between 0 and {steps} (the steps of x), "
            f"got {int(value[i])} at position {i}"
        )
    return np.ascontiguousarray(value, dtype=np.int64)


Pair = tuple[Array | None, Array | None]


def given_state(
    name: str,
    parts: tuple[str, ...],
    value: object,
    dtype: np.dtype[Any],
    *,
    optional: bool = False,
) -> Pair:
    """h and c of a state or its gradient, each as from `given`, by the names of its parts: two
    arrays in a tuple or list, in which None stays None if `optional`; or h alone, and None."""
    if len(parts) == 1:
        if isinstance(value, (tuple, list)):
            raise TypeError(
                f"{name} must be {parts[0]} alone, an array of {dtype}, got "
                f"{type(value).__name__} of {len(value)}"
            )
        return given(parts[0], value, dtype), None  # type: ignore[arg-type]
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a pair ({', '.join(parts)}), got {type(value).__name__}")
    pair = tuple(value)
    if len(pair) != 2:
        raise TypeError(
            f"{name} must be a pair ({', '.join(parts)}), got {type(value).__name__} of {len(pair)}"
        )
    h, c = pair
    h = None if h is None and optional else given(parts[0], h, dtype)
    c = None if c is None and optional else given(parts[1], c, dtype)
    return h, c


def whole(
    name: str, value: Array | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array | None:
    """An array of `given` as a contiguous one of that dtype and shape; None for None."""
    if value is None:
        return None
    checked = array(name, value, dtype)
    if checked.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {checked.shape}")
    if not checked.flags.c_contiguous or not checked.flags.aligned:
        fits(checked.nbytes)
        checked = checked.copy(order="C")
    return checked


def gradient(
    name: str, value: Array | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array | None:
    """An array of `given` of that dtype and shape with a contiguous last axis; None for None."""
    if value is None:
        return None
    checked = array(name, value, dtype)
    if checked.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {checked.shape}")
    return readable(checked)
