# SPDX-License-Identifier: BSD-3-Clause
"""A call with hostile arguments, what they may do to it, and what must hold whatever they did."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastlstm.cell import RecurrentCell

from . import hostile
from .hostile import Array, Hook, Rng, one_of

Values = dict[str, Array]
Expected = Callable[[Values], list[Array]] | list[Callable[[Values], list[Array]]]


class Own(Exception):
    """The caller's own exception."""


class OwnBase(BaseException):
    """The caller's own exception, of the kind that few catch."""


OWN = (Own, OwnBase, MemoryError, KeyboardInterrupt, RecursionError, ZeroDivisionError, SystemExit)
ALLOWED = (TypeError, ValueError, RuntimeError, MemoryError)


def plain(array: Array) -> Array:
    """A copy of what an array really holds, whatever its class says."""
    return np.array(np.ndarray.view(array, np.ndarray) if type(array) is not np.ndarray else array)


def equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def layout(array: Array) -> tuple[Any, ...]:
    """What a caller may change of an array besides its values."""
    names = ("shape", "strides", "dtype")
    address = np.ndarray.__array_interface__.__get__(array)["data"][0]
    return (*(getattr(np.ndarray, name).__get__(array) for name in names), address)


def lay_out(array: Array, wanted: tuple[Any, ...]) -> bool:
    """Gives an array a layout that it had; False where its memory is another."""
    if layout(array)[3] != wanted[3]:
        return False
    shape, strides, dtype = wanted[:3]
    # A dtype is taken by contiguous arrays only, a shape by those that can do without a copy.
    now, item = layout(array)[0], np.ndarray.itemsize.__get__(array)  # type: ignore[attr-defined]
    contiguous = tuple(item * math.prod(now[i + 1 :]) for i in range(len(now)))
    steps = [("strides", contiguous), ("dtype", np.dtype("i1")), ("dtype", dtype), ("shape", shape)]
    for name, value in [*steps, ("strides", strides)]:
        with contextlib.suppress(Exception):
            getattr(np.ndarray, name).__set__(array, value)
    return layout(array) == wanted


# ---- what the caller's code does to an array ----


def reshape(rng: Rng, a: Array) -> None:
    size = np.ndarray.size.__get__(a)  # type: ignore[attr-defined]
    shape = np.ndarray.shape.__get__(a)  # type: ignore[attr-defined]
    shapes = [
        (size,),
        (1, size),
        (size, 1),
        (1, 1, size),
        shape[::-1],
        (1, *shape),
        (*shape, 1),
        (0,),
    ]
    shapes += [(size // n, n) for n in (2, 3, 4, 64) if size % n == 0]
    shapes += [(1, size // n, n) for n in (2, 3, 4, 64) if size % n == 0]
    np.ndarray.shape.__set__(a, one_of(rng, shapes))  # type: ignore[attr-defined]


def restride(rng: Rng, a: Array) -> None:
    strides = np.ndarray.strides.__get__(a)  # type: ignore[attr-defined]
    found = [tuple(rng.permutation(strides)), tuple(0 for _ in strides), strides[::-1]]
    found += [tuple(s * 2 for s in strides), tuple(s // 2 for s in strides)]
    chosen = tuple(int(s) for s in one_of(rng, found))
    np.ndarray.strides.__set__(a, chosen)  # type: ignore[attr-defined]


def retype(rng: Rng, a: Array) -> None:
    names = ["f4", "f8", "i4", "i8", "i1", "f2", ">f4", ">f8", "c8", "c16", "u8", "V4", "S4"]
    np.ndarray.dtype.__set__(a, np.dtype(one_of(rng, names)))  # type: ignore[attr-defined]


def resize(rng: Rng, a: Array) -> None:
    size = np.ndarray.size.__get__(a)  # type: ignore[attr-defined]
    np.ndarray.resize(
        a, (int(one_of(rng, [0, 1, max(1, size // 2), size + 1, 2 * size + 100])),), refcheck=False
    )


def seal(rng: Rng, a: Array) -> None:
    np.ndarray.flags.__get__(a).writeable = False  # type: ignore[attr-defined]


def fill(rng: Rng, a: Array) -> None:
    array = np.ndarray.view(a, np.ndarray)
    if array.dtype.kind in "iu":
        array.fill(one_of(rng, [10**12, -1, -(2**63), 0, 1]))
    else:
        array.fill(one_of(rng, [0.5, -1.0, np.nan, np.inf]))


CHANGES = (reshape, reshape, restride, retype, resize, resize, seal, fill)


class Stage:
    """One call of one method, and everything that the hook may reach."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.hook = Hook(self.act, min(int(rng.geometric(0.3)) - 1, 25))
        self.dtype = one_of(rng, ["float32", "float32", "float64"])
        self.arrays: Values = {}  # by name: what the hook may change in every way
        self.fixed: Values = {}  # of these it may change values
        self.layouts: dict[str, Any] = {}
        self.doings: list[Callable[[], object]] = []  # calls that the hook may make
        self.more: Callable[[], Values] = dict  # further values that belong to the state
        self.raises: BaseException | None = None
        self.log: list[str] = []
        self.lost: set[str] = set()  # names that the hook took out of a mapping
        self.snaps: list[Values] = []

    # ---- making arguments ----

    def size(self, most: int = 5, large: int = 64) -> int:
        return large if self.rng.random() < 0.2 else int(self.rng.integers(1, most))

    def values(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def put(self, name: str, value: Array, *, tensors: bool = False) -> Any:
        """An object that stands for the array, and may be more than one."""
        rng, hook = self.rng, self.hook
        if rng.random() < 0.05 and value.dtype.kind == "f":
            value = value.astype(one_of(rng, ["f2", "f4", "f8", ">f4"]))
        if rng.random() < 0.08 and value.ndim > 1:
            value = np.array(value.T, order="C").T
        else:
            value = np.array(value, order="C")
        kind = rng.random()
        if kind < 0.06 or (tensors and kind < 0.2):
            self.fixed[name] = value
            kinds = [hostile.Interface]
            kinds += [hostile.Tensor, hostile.Packed] if tensors else []
            return one_of(rng, kinds)(value, hook)
        if kind > 0.75:
            value = hostile.subclass(rng, value, hook)
        self.arrays[name] = value
        kind = rng.random()
        if kind < 0.35:
            return hostile.Asked(value, hook)
        if kind < 0.42:
            return hostile.Classy(value, hook)
        return value

    def put_all(self, what: str, values: Values, *, tensors: bool = False) -> Any:
        """A mapping of such objects."""
        data = {
            name: self.put(f"{what}[{name}]", value, tensors=tensors)
            for name, value in values.items()
        }
        found = hostile.mapping(self.rng, data, self.hook)

        def lose(replace: bool) -> None:
            name = one_of(self.rng, list(data))
            if replace:
                data[name] = np.zeros((7, 7, 7), self.dtype)  # which fits nothing
            else:
                del data[name]
            self.lost.add(f"{what}[{name}]")

        self.doings.append(lambda: lose(False))
        self.doings.append(lambda: lose(True))
        self.doings.append(lambda: data.update(another=np.zeros(3, self.dtype)))
        return found

    def put_lengths(self, steps: int, batch: int) -> Any:
        value = self.rng.integers(0, steps + 1, batch)
        if self.rng.random() < 0.3:
            self.fixed["lengths"] = value
            items: list[Any] = [int(n) for n in value]
            if self.rng.random() < 0.5:
                items[0] = hostile.Index(items[0], self.hook)
            found = hostile.Numbers(items[:0], self.hook)
            found.values = items
            return found
        return self.put("lengths", value.astype(one_of(self.rng, ["i8", "i8", "i4", "u1"])))

    def put_pair(self, names: tuple[str, str], *shape: int) -> Any:
        both = [self.put(name, self.values(*shape)) for name in names]
        if self.rng.random() < 0.15:
            return hostile.pair(self.rng, both, self.hook)
        given = both if self.rng.random() < 0.3 else tuple(both)
        if isinstance(given, list):
            self.doings.append(lambda: given.clear())
        return given

    # ---- the hook ----

    def act(self) -> None:
        rng = self.rng
        for _ in range(int(rng.integers(1, 4))):
            kind = rng.random()
            with contextlib.suppress(Exception):
                if kind < 0.7 and self.arrays:
                    name, change = one_of(rng, list(self.arrays)), one_of(rng, CHANGES)
                    self.log.append(f"{change.__name__} {name}")
                    change(rng, self.arrays[name])
                elif kind < 0.8 and self.fixed:
                    name = one_of(rng, list(self.fixed))
                    self.log.append(f"fill {name}")
                    fill(rng, self.fixed[name])
                elif self.doings:
                    doing = one_of(rng, self.doings)
                    self.log.append(f"{doing.__qualname__}:{doing.__code__.co_firstlineno}")
                    doing()
        self.snaps.append(self.snap())
        if rng.random() < 0.2:
            self.raises = one_of(rng, OWN)("the caller's own")
            self.log.append(f"raise {self.raises!r}")
            raise self.raises

    def snap(self) -> Values:
        found = {name: plain(value) for name, value in {**self.arrays, **self.fixed}.items()}
        return found | self.more()

    # ---- the call ----

    def run(
        self,
        call: Callable[[], Any],
        expected: Expected,
        results: Callable[[Any], list[Array]],
        written: tuple[str, ...] = (),
    ) -> bool:
        """Makes the call and judges what came of it; whether it succeeded.

        `expected` says what a new model makes of plain values. The names of what a successful call
        changes begin with one of `written`.
        """
        self.remember()
        self.snaps.append(self.snap())
        self.hook.active = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = call()
        except BaseException as error:
            self.hook.active = False
            self.refused(error)
            return False
        self.hook.active = False
        now = self.snap()
        for name, value in self.snaps[-1].items():
            assert name.startswith(written or ("-",)) or equal(value, now[name]), (
                f"{name} changed: {self.log}"
            )
        self.right(results(result), expected)
        return True

    def refused(self, error: BaseException) -> None:
        if error is not self.raises:
            # A mapping of the caller's may come to lack a name.
            known = ALLOWED if self.raises is None else (*ALLOWED, type(self.raises))
            assert isinstance(error, (*known, KeyError)), f"{error!r} after {self.log}"
            # NumPy itself drops others, a KeyboardInterrupt in __len__ for example.
            assert not isinstance(self.raises, MemoryError), f"{self.raises!r} became {error!r}"
            if not self.hook.fired and not isinstance(error, (TypeError, ValueError)):
                raise error
        now = self.snap()
        for name, value in self.snaps[-1].items():
            assert equal(value, now[name]), (
                f"{name} changed though {error!r} was raised: {self.log}"
            )

    def right(self, results: list[Array], expected: Expected) -> None:
        """The results are those of the values before or after the hook, of each argument one."""
        first, last = self.snaps[0], self.snaps[-1]
        changed = [name for name in first if not equal(first[name], last[name])]
        # Parameters and states of objects are those of one moment.
        groups = sorted(
            {name.split("[")[0] if name.startswith(("param", "opt")) else name for name in changed}
        )
        groups += [f"lost {name}" for name in sorted(self.lost)]  # each at a moment of its own
        ways = expected if isinstance(expected, list) else [expected]
        count = min(len(groups), 7)
        for flips in itertools.product((False, True), repeat=count):
            now = {group for group, flip in zip(groups, flips, strict=False) if flip}
            values = {}
            for name in first:
                group = name.split("[")[0] if name.startswith(("param", "opt")) else name
                value = (last if group in now or group in groups[count:] else first)[name]
                values["gone:" + name if f"lost {name}" in now else name] = value
            for way in ways:
                with contextlib.suppress(*ALLOWED, AssertionError, KeyError):
                    wanted = way({name: value.copy() for name, value in values.items()})
                    assert len(wanted) == len(results)
                    for one, other in zip(wanted, results, strict=True):
                        assert equal(one, plain(other).reshape(one.shape))
                    return
        raise AssertionError(f"wrong results; changed were {groups} by {self.log}")

    def remember(self) -> None:
        """The layouts that `lay_out_again` gives back."""
        self.layouts = {name: layout(value) for name, value in self.arrays.items()}

    def lay_out_again(self) -> bool:
        """Undoes what was done to layouts; False where memory has changed."""
        whole = True
        for name, value in self.arrays.items():
            whole &= lay_out(value, self.layouts[name])
        return whole


def again(lstm: Any, params: Values) -> Any:
    """A new model of the same kind with these parameters."""
    if isinstance(lstm, RecurrentCell):
        own = {name: getattr(lstm, name) for name in lstm._defaults}
        own |= {"input_size": lstm.input_size, "hidden_size": lstm.hidden_size}
        new: Any = type(lstm)(**own, dtype=lstm.dtype, seed=0)
    else:
        new = type(lstm)(**lstm.config(), seed=0)
    new.load_state_dict(params)
    return new
