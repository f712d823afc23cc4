# SPDX-License-Identifier: BSD-3-Clause
"""The C functions of fastlstm.h called by hand: wrong arguments give a status, and crash nobody."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from typing import Any

import pytest

from fastlstm import _core
from support.declarations import header

pytestmark = pytest.mark.sanitize

TYPES: dict[str, Any] = {
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "fl_dtype": ctypes.c_int,
    "fl_isa": ctypes.c_int,
    "fl_purpose": ctypes.c_int,
}
DECLARED = header()
STATUS = {name: value for value, name in enumerate(DECLARED.enums["fl_status"])}


def struct(name: str) -> Any:
    """The structure as the header declares it; what is no number is a pointer."""
    fields = [(field, TYPES.get(kind, ctypes.c_void_p)) for field, kind in DECLARED.structs[name]]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


SPEC, PLAN, IO, BACK_IO, WEIGHTS = map(
    struct, ("fl_spec", "fl_plan", "fl_io", "fl_back_io", "fl_weights")
)
SIZE = ctypes.c_size_t
library: Any = ctypes.CDLL(_core.__file__)
library.fl_status_text.restype = ctypes.c_char_p


def spec(**changes: int) -> Any:
    good = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "directions": 1, "passes": 3}
    return SPEC(**{**good, **changes})


def at(value: Any) -> Any:
    return ctypes.cast(ctypes.pointer(value), ctypes.c_void_p)


class Memory:
    """Zeros, aligned."""

    def __init__(self, size: int) -> None:
        self.block = ctypes.create_string_buffer(size + 64)
        begin = ctypes.addressof(self.block)
        self.address = begin + -begin % 64


class Model:
    """A model of zeros, packed by hand, and plans for it."""

    def __init__(self, **changes: int) -> None:
        self.spec, size = spec(**changes), SIZE()
        assert library.fl_model_bytes(at(self.spec), at(size)) == 0
        self.memory, self.zeros = Memory(size.value), Memory(1 << 16)
        layers = self.spec.num_layers * self.spec.directions
        zeros = self.zeros.address
        self.weights = (WEIGHTS * layers)(*[WEIGHTS(zeros, zeros, None, zeros)] * layers)
        pointer = ctypes.c_void_p()
        assert self.pack(self.memory.address, pointer) == 0
        self.pointer = pointer

    def pack(self, memory: int | None, pointer: Any, weights: Any = True) -> int:
        table = at(self.weights) if weights is True else weights
        where = ctypes.c_void_p(memory)
        status: int = library.fl_model_pack(at(self.spec), table, where, 1, None, None, at(pointer))
        return status

    def plan(self, purpose: int, steps: int, batch: int) -> tuple[int, Any]:
        plan = PLAN()
        made = (self.pointer, purpose, ctypes.c_int64(steps), ctypes.c_int64(batch), 1, at(plan))
        return library.fl_plan_make(*made), plan


def test_every_status_has_its_words() -> None:
    words = [library.fl_status_text(value).decode() for value in STATUS.values()]
    assert len(set(words)) == len(words)
    assert "unknown status" not in words
    assert library.fl_status_text(99) == library.fl_status_text(-1) == b"unknown status"


BAD_SPECS = [
    {"isa": 7},
    {"isa": -1},
    {"dtype": 5},
    {"dtype": -1},
    {"input_size": 0},
    {"hidden_size": -3},
    {"num_layers": 0},
    {"directions": 0},
    {"directions": 3},
    {"passes": 0},
    {"passes": 4},
    {"gemm_blas": 2},
    {"caches": 3},
]
LARGE_SPECS = [
    {"input_size": 2**31},
    {"hidden_size": 2**30},
    {"num_layers": 2**62},
    {"input_size": 2**30, "hidden_size": 2**28 - 1, "num_layers": 2**30},
]


@pytest.mark.parametrize("bad", BAD_SPECS + LARGE_SPECS, ids=str)
def test_bad_specs(bad: dict[str, int]) -> None:
    wanted = STATUS["FL_INVALID" if bad in BAD_SPECS else "FL_TOO_LARGE"]
    given, size, pointer = spec(**bad), SIZE(), ctypes.c_void_p()
    assert library.fl_model_bytes(at(given), at(size)) == wanted
    model = Model()
    model.spec = given
    assert model.pack(model.memory.address, pointer) == wanted
    if bad in BAD_SPECS:
        one = ctypes.c_int64(1)
        assert library.fl_tape_bytes(at(given), one, one, at(size)) == wanted


def test_isas_that_are_not_here() -> None:
    for isa, name in enumerate(reversed(_core.isa_names())):
        wanted = 0 if _core.isa_available(name) else STATUS["FL_UNSUPPORTED"]
        assert library.fl_model_bytes(at(spec(isa=isa)), at(SIZE())) == wanted


def test_packing() -> None:
    model, pointer = Model(), ctypes.c_void_p()
    assert model.pack(None, pointer) == STATUS["FL_INVALID"]
    assert model.pack(model.memory.address + 8, pointer) == STATUS["FL_UNALIGNED"]
    assert model.pack(model.memory.address, pointer, None) == STATUS["FL_INVALID"]
    lacking = (WEIGHTS * 2)(model.weights[0], WEIGHTS(model.zeros.address, None, None, None))
    assert model.pack(model.memory.address, pointer, at(lacking)) == STATUS["FL_INVALID"]
    assert pointer.value is None
    assert library.fl_model_bytes(None, at(SIZE())) == STATUS["FL_INVALID"]
    assert library.fl_model_bytes(at(spec()), None) == STATUS["FL_INVALID"]


def test_plans() -> None:
    model, forward_only = Model(), Model(passes=1)
    assert model.plan(0, 4, 2)[0] == 0
    for purpose, steps, batch in ((0, -5, 2), (0, 5, -1), (3, 5, 2), (-1, 5, 2)):
        assert model.plan(purpose, steps, batch)[0] == STATUS["FL_INVALID"]
    assert model.plan(0, 2**62, 2**62)[0] == STATUS["FL_TOO_LARGE"]
    assert forward_only.plan(2, 5, 2)[0] == STATUS["FL_NOT_PACKED"]
    assert Model(passes=2).plan(0, 5, 2)[0] == STATUS["FL_NOT_PACKED"]
    none = library.fl_plan_make(None, 0, ctypes.c_int64(1), ctypes.c_int64(1), 1, at(PLAN()))
    assert none == STATUS["FL_INVALID"]
    minus = ctypes.c_int64(-1)
    assert library.fl_tape_bytes(at(spec()), minus, minus, at(SIZE())) == STATUS["FL_INVALID"]


def test_runs() -> None:
    model, other = Model(), Model()
    _, plan = model.plan(0, 4, 2)
    _, back = model.plan(2, 4, 2)
    space = Memory(max(plan.workspace_bytes, back.workspace_bytes))
    array = Memory(1 << 16)
    lengths = (ctypes.c_int64 * 2)(4, 3)
    starts = (ctypes.c_int64 * 4)(0, 2, 4, 6)
    good = {"x": array.address, "x_t": 6, "x_b": 3, "y": array.address, "y_t": 10, "y_b": 5}

    def run(
        changes: dict[str, Any] | None = None,
        *,
        pointer: Any = model.pointer,
        plan: Any = plan,
        space: Any = space.address,
    ) -> int:
        io = IO(**{**good, **(changes or {})})
        status: int = library.fl_forward(pointer, at(plan), at(io), ctypes.c_void_p(space))
        return status

    assert run() == 0
    for first, second in ((4, 5), (-1, 3), (10**12, 1)):
        wrong = (ctypes.c_int64 * 2)(first, second)
        assert run({"lengths": at(wrong).value}) == STATUS["FL_INVALID"]
    rising = (ctypes.c_int64 * 2)(3, 4)
    packed = {"lengths": at(lengths).value, "starts": at(starts).value}
    assert run(packed) == 0
    assert run({**packed, "lengths": at(rising).value}) == STATUS["FL_INVALID"]
    assert run({**packed, "lengths": None}) == STATUS["FL_INVALID"]
    for name in ("x", "y"):
        assert run({name: None}) == STATUS["FL_INVALID"]
    assert run({"tape": array.address}) == STATUS["FL_INVALID"]  # of a plan that keeps nothing
    assert run(space=space.address + 8) == STATUS["FL_UNALIGNED"]
    assert run(space=None) == STATUS["FL_INVALID"]
    assert run(pointer=None) == STATUS["FL_INVALID"]
    assert run(pointer=other.pointer) == STATUS["FL_OTHER_PLAN"]
    assert run(plan=back) == STATUS["FL_OTHER_PLAN"]
    missing = library.fl_forward(model.pointer, at(plan), None, ctypes.c_void_p(space.address))
    assert missing == STATUS["FL_INVALID"]

    tape = SIZE()
    steps, batch = ctypes.c_int64(4), ctypes.c_int64(2)
    assert library.fl_tape_bytes(at(model.spec), steps, batch, at(tape)) == 0
    kept = Memory(tape.value)

    def run_back(changes: dict[str, Any], plan: Any = back) -> int:
        io = BACK_IO(**{"x": array.address, "x_t": 6, "x_b": 3, "tape": kept.address, **changes})
        given = ctypes.c_void_p(space.address)
        status: int = library.fl_backward(model.pointer, at(plan), at(io), given)
        return status

    assert run_back({}) == 0
    assert run_back({"x": None}) == STATUS["FL_INVALID"]
    assert run_back({"tape": None}) == STATUS["FL_INVALID"]
    assert run_back({"tape": kept.address + 4}) == STATUS["FL_UNALIGNED"]
    assert run_back({"lengths": at((ctypes.c_int64 * 2)(4, 5)).value}) == STATUS["FL_INVALID"]
    assert run_back({}, plan) == STATUS["FL_OTHER_PLAN"]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm comes with compilers")
def test_only_the_header_is_visible() -> None:
    """Nothing of ours gets in the way of other libraries in the process."""
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    )
    shown = {line.split()[-1] for line in listed.stdout.splitlines()}
    declared = {name for name, (kind, _) in DECLARED.functions.items() if "typedef" not in kind}
    assert shown == declared | {"PyInit__core"}
