# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of bad input share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastlstm

T, B, F, H, L = 5, 3, 4, 6, 2  # steps, batch, features, hidden units, layers


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X, X_STEP = random(T, B, F), random(B, F)
H_0, C_0 = random(L, B, H, seed=1), random(L, B, H, seed=2)
LSTM = fastlstm.LSTM(F, H, L, seed=0)
CELL = fastlstm.LSTMCell(F, H, seed=0)


# What no count takes: the value, and what is raised.
BAD_COUNTS: dict[str, tuple[Any, type[Exception]]] = {
    "True": (True, TypeError),
    "NumPy's True": (np.True_, TypeError),
    "None": (None, TypeError),
    "a float": (2.0, TypeError),
    "NaN": (float("nan"), TypeError),
    "NumPy's NaN": (np.float32("nan"), TypeError),
    "infinity": (float("inf"), TypeError),
    "complex": (1j, TypeError),
    "a fraction": (Fraction(2), TypeError),
    "a string": ("2", TypeError),
    "bytes": (b"2", TypeError),
    "a list": ([2], TypeError),
    "a tuple": ((2,), TypeError),
    "an array": (np.array([2]), TypeError),
    "a float array": (np.array(2.0), TypeError),
    "a class": (int, TypeError),
    "negative": (-1, ValueError),
    "most negative": (-(2**63), ValueError),
    "2**31": (2**31, ValueError),
    "2**63": (2**63, ValueError),
    "2**64 + 1": (2**64 + 1, ValueError),
    "uint64": (np.uint64(2**64 - 1), ValueError),
    "beyond every integer type": (10**300, ValueError),
    "too long to print": (10**5000, ValueError),
}


@pytest.fixture(autouse=True)
def unharmed() -> Iterator[None]:
    """Whatever a test tried, the models still give what they gave before."""
    before = LSTM(X, (H_0, C_0))[0], CELL(X_STEP)[0]
    yield
    assert np.array_equal(LSTM(X, (H_0, C_0))[0], before[0])
    assert np.array_equal(CELL(X_STEP)[0], before[1])


def refused(name: str, error: type[BaseException], call: Callable[[], object]) -> None:
    """Exactly `error` comes of the call, and its message names the argument."""
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error, f"{caught.type.__name__} is a special kind of {error.__name__}"
    assert re.search(rf"\b{re.escape(name)}\b", str(caught.value)), str(caught.value)


def misaligned(a: np.ndarray) -> np.ndarray:
    copy = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    copy[...] = a
    assert not copy.flags.aligned
    return copy


class Unreadable:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("this array cannot be read")


class NotAnArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return [1.0]


class Wrapped:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


def read_only(a: np.ndarray) -> np.ndarray:
    copy = a.copy()
    copy.flags.writeable = False
    return copy
