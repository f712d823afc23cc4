# SPDX-License-Identifier: BSD-3-Clause
"""Objects that stand for arguments and run code of the caller when they are looked at."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Rng = np.random.Generator
Array = np.ndarray[Any, Any]


class Hook:
    """Runs `act` once, at one of the places that call it, and never while it runs already."""

    def __init__(self, act: Callable[[], None], at: int) -> None:
        self.act, self.left, self.active, self.fired = act, at, False, False

    def __call__(self) -> None:
        if not self.active or self.fired:
            return
        if self.left:
            self.left -= 1
            return
        self.fired = True
        self.act()


def one_of(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


# ---- arrays ----


def _property(hook: Hook, name: str, lie: object) -> property:
    def get(self: Any) -> Any:
        hook()
        return getattr(np.ndarray, name).__get__(self) if lie is None else lie

    return property(get)


LIES: dict[str, list[Any]] = {
    "shape": [None, (1,), (), (10**6, 10**6), "shape"],
    "dtype": [None, np.dtype("f4"), np.dtype("f8"), np.dtype("i8"), "f4"],
    "strides": [None, (4,), (0, 0, 0), (2**40, 4, 4), ()],
    "ndim": [None, 0, 1, 3, 2**40],
    "size": [None, 0, 1, 2**62],
    "nbytes": [None, 0, 2**62],
    "itemsize": [None, 1, 8],
    "flags": [None],
    "T": [None],
    "base": [None],
    "ctypes": [None],
    "__array_interface__": [None],
    "__array_struct__": [None],
}
METHODS = (
    "copy",
    "astype",
    "transpose",
    "reshape",
    "view",
    "__len__",
    "__getitem__",
    "__iter__",
    "any",
    "all",
)


def subclass(rng: Rng, value: Array, hook: Hook) -> Array:
    """A copy as an ndarray of its own class, which lies about itself."""
    members: dict[str, Any] = {"__array_priority__": 10**6}
    for name in rng.choice(list(LIES), int(rng.integers(1, 5)), replace=False):
        members[str(name)] = _property(hook, str(name), one_of(rng, LIES[str(name)]))
    for name in rng.choice(METHODS, int(rng.integers(0, 4)), replace=False):

        def method(self: Any, *args: Any, _name: str = str(name), **kwargs: Any) -> Any:
            hook()
            return getattr(np.ndarray, _name)(self, *args, **kwargs)

        members[str(name)] = method

    def finalize(self: Any, other: Any) -> None:
        hook()

    def function(self: Any, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        hook()
        return super(made, self).__array_function__(function, types, args, kwargs)

    def ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        hook()
        plain = [one.view(np.ndarray) if isinstance(one, made) else one for one in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def array(self: Any, *args: Any, **kwargs: Any) -> Any:
        hook()
        return np.ndarray.__array__(self, *args)

    more = {
        "__array_finalize__": finalize,
        "__array_function__": function,
        "__array_ufunc__": ufunc,
        "__array__": array,
        "__class__": _property(
            hook, "__class__", one_of(rng, [np.ndarray, int, np.ma.MaskedArray])
        ),
    }
    for name in rng.choice(list(more), int(rng.integers(0, 3)), replace=False):
        members[str(name)] = more[str(name)]
    made = type("Sub", (np.ndarray,), members)
    found = np.ndarray.__new__(made, value.shape, value.dtype)  # memory of its own
    np.copyto(found.view(np.ndarray), value)
    return found


class Asked:
    """Has `__array__`."""

    def __init__(self, value: Any, hook: Hook) -> None:
        self.value, self.hook = value, hook

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.hook()
        return self.value


class Classy(Asked):
    """Calls itself an array."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        self.hook()
        return np.ndarray

    def __getattr__(self, name: str) -> Any:
        self.hook()
        if name.startswith("__"):  # __array_struct__ would be a promise that the memory stays
            raise AttributeError(name)
        return getattr(self.value, name)


class Interface:
    """Has `__array_interface__`."""

    def __init__(self, value: Array, hook: Hook) -> None:
        self.value, self.hook = value, hook

    @property
    def __array_interface__(self) -> Any:
        self.hook()
        return self.value.__array_interface__


class Tensor:
    """Has the methods of a tensor that are asked for, and a DLPack."""

    def __init__(self, value: Array, hook: Hook) -> None:
        self.value, self.hook, self.dtype = value, hook, "torch.float32"

    @property
    def device(self) -> str:
        self.hook()
        return "cpu"

    def detach(self) -> Any:
        self.hook()
        return self

    cpu = detach
    float = detach

    def numpy(self) -> Array:
        self.hook()
        return self.value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.hook()
        return self.value


class Packed:
    """Has a DLPack alone."""

    def __init__(self, value: Array, hook: Hook) -> None:
        self.value, self.hook = value, hook

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        self.hook()
        return self.value.__dlpack__(*args, **kwargs)

    def __dlpack_device__(self) -> Any:
        self.hook()
        return self.value.__dlpack_device__()


# ---- numbers, sequences, mappings ----


class Index:
    """Has `__index__`."""

    def __init__(self, value: int, hook: Hook) -> None:
        self.value, self.hook = value, hook

    def __index__(self) -> int:
        self.hook()
        return self.value

    __int__ = __index__


def real(value: float, hook: Hook) -> float:
    class Real(float):
        def __float__(self) -> float:
            hook()
            return value

        def __eq__(self, other: object) -> bool:
            hook()
            return value == other

        def __hash__(self) -> int:
            return hash(value)

        def __repr__(self) -> str:
            hook()
            return "a number"

    return Real(value)


class Numbers:
    """A sequence of `Index`."""

    def __init__(self, values: Any, hook: Hook) -> None:
        self.values, self.hook = [int(value) for value in values], hook

    def __len__(self) -> int:
        self.hook()
        return len(self.values)

    def __getitem__(self, i: int) -> Any:
        self.hook()
        return self.values[i]

    def __iter__(self) -> Iterator[Any]:
        self.hook()
        return iter(self.values)


def pair(rng: Rng, values: Any, hook: Hook) -> Any:
    """A tuple or list that runs code."""

    def again(self: Any) -> Iterator[Any]:
        hook()
        return iter(values)

    def length(self: Any) -> int:
        hook()
        return len(values)

    kind = one_of(rng, (tuple, list))
    return type("Pair", (kind,), {"__iter__": again, "__len__": length})(values)


class Name(str):
    """A name that runs code when it is compared."""

    hook: Hook

    def __eq__(self, other: object) -> bool:
        self.hook()
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        self.hook()
        return str.__hash__(self)


class Strange(Mapping[str, Any]):
    def __init__(self, data: dict[str, Any], hook: Hook) -> None:
        self.data, self.hook = data, hook

    def __getitem__(self, key: str) -> Any:
        self.hook()
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        self.hook()
        return iter(self.data)

    def __len__(self) -> int:
        self.hook()
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        self.hook()
        return key in self.data


class StrangeUser(UserDict[str, Any]):
    hook: Any = staticmethod(lambda: None)

    def __getitem__(self, key: str) -> Any:
        self.hook()
        return self.data[key]

    def items(self) -> Any:
        self.hook()
        return self.data.items()


class StrangeDict(dict[str, Any]):
    hook: Any = staticmethod(lambda: None)

    def __getitem__(self, key: str) -> Any:
        self.hook()
        return dict.__getitem__(self, key)

    def __iter__(self) -> Iterator[str]:
        self.hook()
        return dict.__iter__(self)

    def keys(self) -> Any:
        self.hook()
        return dict.keys(self)

    def items(self) -> Any:
        self.hook()
        return dict.items(self)

    def __contains__(self, key: object) -> bool:
        self.hook()
        return dict.__contains__(self, key)


def mapping(rng: Rng, data: dict[str, Any], hook: Hook) -> Any:
    """A mapping of the same items."""
    kind = int(rng.integers(5))
    if kind == 0:
        return Strange(data, hook)
    if kind == 1:
        made: dict[Any, Any] = {}
        for name, value in data.items():
            strange = Name(name)
            strange.hook = hook
            made[strange] = value
        return made
    if kind in (2, 3):
        one: Any = (StrangeUser, StrangeDict)[kind - 2](data)
        one.hook = hook
        return one
    return data


class Source:
    """What an optimiser may be made of: has `parameters()`, and what else a model has."""

    def __init__(self, data: dict[str, Any], hook: Hook) -> None:
        self.data, self.hook = data, hook

    def parameters(self) -> dict[str, Any]:
        self.hook()
        return self.data

    @property
    def _params(self) -> None:
        self.hook()


class Holder:
    """Has `params`, as gradients have."""

    def __init__(self, data: dict[str, Any], hook: Hook) -> None:
        self.data, self.hook = data, hook

    @property
    def params(self) -> Any:
        self.hook()
        return self.data
