# SPDX-License-Identifier: BSD-3-Clause
"""The C functions of fastlstm.h called by hand: wrong arguments give a status, and crash nobody."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from typing import Any

import pytest

import fastlstm
from fastlstm import _core
from support.border import (
    BACK_IO,
    DECLARED,
    FIRST_IO,
    FIRST_SPEC,
    GRADIENTS,
    IO,
    SIZE,
    SPEC,
    STATUS,
    WEIGHTS,
    Memory,
    Model,
    at,
    library,
    spec,
)

pytestmark = pytest.mark.sanitize


def test_every_status_has_its_words() -> None:
    words = [library.fastlstm_status_text(value).decode() for value in STATUS.values()]
    assert len(set(words)) == len(words)
    assert "unknown status" not in words
    assert library.fastlstm_status_text(99) == library.fastlstm_status_text(-1) == b"unknown status"


BAD_SPECS: list[dict[str, Any]] = [
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
    {"cell": len(DECLARED.enums["fastlstm_cell_kind"])},
    {"cell": -1},
    {"struct_size": 0},
    {"struct_size": FIRST_SPEC - 1},
    {"struct_size": 2**63},
    {"proj_size": -1},
    {"proj_size": 5},
    {"proj_size": 2**62},
    {"proj_size": 2, "cell": 1},
]
LARGE_SPECS = [
    {"input_size": 2**31},
    {"hidden_size": 2**30},
    {"num_layers": 2**62},
    {"input_size": 2**30, "hidden_size": 2**28 - 1, "num_layers": 2**30},
]


@pytest.mark.parametrize("bad", BAD_SPECS + LARGE_SPECS, ids=str)
def test_bad_specs(bad: dict[str, int]) -> None:
    wanted = STATUS["FASTLSTM_INVALID" if bad in BAD_SPECS else "FASTLSTM_TOO_LARGE"]
    given, size, pointer = spec(**bad), SIZE(), ctypes.c_void_p()
    assert library.fastlstm_model_bytes(at(given), at(size)) == wanted
    model = Model()
    model.spec = given
    assert model.pack(model.memory.address, pointer) == wanted
    if bad in BAD_SPECS:
        one = ctypes.c_int64(1)
        assert library.fastlstm_tape_bytes(at(given), one, one, at(size)) == wanted


def test_structures_and_tables_that_are_not_aligned() -> None:
    good, out = spec(), SIZE()
    room = Memory(ctypes.sizeof(good) + 4)
    for shift in (1, 2, 4):
        odd = ctypes.c_void_p(room.address + shift)
        ctypes.memmove(odd, at(good), ctypes.sizeof(good))
        for status in (
            library.fastlstm_model_bytes(odd, at(out)),
            library.fastlstm_tape_bytes(odd, 1, 1, at(out)),
        ):
            assert status == STATUS["FASTLSTM_UNALIGNED"]


def test_isas_that_are_not_here() -> None:
    for isa, name in enumerate(reversed(_core.isa_names())):
        wanted = 0 if _core.isa_available(name) else STATUS["FASTLSTM_UNSUPPORTED"]
        assert library.fastlstm_model_bytes(at(spec(isa=isa)), at(SIZE())) == wanted


def test_packing() -> None:
    model, pointer = Model(), ctypes.c_void_p()
    assert model.pack(None, pointer) == STATUS["FASTLSTM_INVALID"]
    assert model.pack(model.memory.address + 8, pointer) == STATUS["FASTLSTM_UNALIGNED"]
    assert model.pack(model.memory.address, pointer, None) == STATUS["FASTLSTM_INVALID"]
    lacking = (WEIGHTS * 2)(model.weights[0], WEIGHTS(model.zeros.address, None, None, None))
    assert model.pack(model.memory.address, pointer, at(lacking)) == STATUS["FASTLSTM_INVALID"]
    assert model.pack(model.memory.address, pointer, threads=0) == STATUS["FASTLSTM_INVALID"]
    pointer.value = 64
    assert model.pack(model.memory.address, pointer, threads=0) == STATUS["FASTLSTM_INVALID"]
    assert pointer.value is None  # as after every failure
    odd = (WEIGHTS * 2)(*[WEIGHTS(model.zeros.address + 2, model.zeros.address, None, None)] * 2)
    assert model.pack(model.memory.address, pointer, at(odd)) == STATUS["FASTLSTM_UNALIGNED"]
    large = (ctypes.c_float * 1000)(*[3e38] * 1000)
    out = (WEIGHTS * 2)(*[WEIGHTS(at(large).value, at(large).value, None, None)] * 2)
    assert model.pack(model.memory.address, pointer, at(out)) == STATUS["FASTLSTM_OUT_OF_RANGE"]
    assert pointer.value is None
    # What was a model there is none any more.
    assert model.plan(0, 4, 2)[0] == STATUS["FASTLSTM_NOT_PACKED"]
    assert library.fastlstm_model_bytes(None, at(SIZE())) == STATUS["FASTLSTM_INVALID"]
    assert library.fastlstm_model_bytes(at(spec()), None) == STATUS["FASTLSTM_INVALID"]


def test_plans() -> None:
    model, forward_only = Model(), Model(passes=1)
    assert model.plan(0, 4, 2)[0] == 0
    for purpose, steps, batch in ((0, -5, 2), (0, 5, -1), (3, 5, 2), (-1, 5, 2)):
        assert model.plan(purpose, steps, batch)[0] == STATUS["FASTLSTM_INVALID"]
    assert model.plan(0, 2**62, 2**62)[0] == STATUS["FASTLSTM_TOO_LARGE"]
    assert forward_only.plan(2, 5, 2)[0] == STATUS["FASTLSTM_NOT_PACKED"]
    assert Model(passes=2).plan(0, 5, 2)[0] == STATUS["FASTLSTM_NOT_PACKED"]
    assert model.plan(0, 4, 2, threads=0)[0] == STATUS["FASTLSTM_INVALID"]
    one = ctypes.c_int64(1)
    memory = Memory(2 * library.fastlstm_plan_bytes())
    beside, unpacked = ctypes.c_void_p(memory.address + 4), Memory(1 << 12)
    for given, plan, wanted in (
        (None, memory.pointer, "FASTLSTM_INVALID"),
        (model.pointer, None, "FASTLSTM_INVALID"),
        (model.pointer, beside, "FASTLSTM_UNALIGNED"),
        (unpacked.pointer, memory.pointer, "FASTLSTM_NOT_PACKED"),
    ):
        assert library.fastlstm_plan_make(given, 0, one, one, 1, plan) == STATUS[wanted], wanted
    assert library.fastlstm_plan_workspace_bytes(None) == library.fastlstm_plan_threads(None) == 0
    minus = ctypes.c_int64(-1)
    assert (
        library.fastlstm_tape_bytes(at(spec()), minus, minus, at(SIZE()))
        == STATUS["FASTLSTM_INVALID"]
    )


def test_runs() -> None:
    model, other = Model(), Model()
    _, plan = model.plan(0, 4, 2)
    _, back = model.plan(2, 4, 2)
    assert library.fastlstm_plan_threads(plan.pointer) == 1
    sizes = [library.fastlstm_plan_workspace_bytes(made.pointer) for made in (plan, back)]
    assert min(sizes) > 0
    space = Memory(max(sizes))
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
        given = (plan and plan.pointer, at(io), ctypes.c_void_p(space))
        status: int = library.fastlstm_forward(pointer, *given)
        return status

    assert run() == 0
    assert run(plan=None) == STATUS["FASTLSTM_INVALID"]
    for size in (0, FIRST_IO - 8, 2**62):
        assert run({"struct_size": size}) == STATUS["FASTLSTM_INVALID"]
    assert run({"struct_size": FIRST_IO, "noisy": 7}) == 0  # an older caller does not have it
    for noisy in (-1, 1, 2):  # 1 has no tape
        assert run({"noisy": noisy}) == STATUS["FASTLSTM_INVALID"], noisy
    for name in ("x", "y", "cells", "h_0", "c_0", "h_n", "c_n"):
        assert run({name: array.address + 2}) == STATUS["FASTLSTM_UNALIGNED"], name
    for dropout in (-0.5, 1.5, math.nan, 0.5):  # the last one has no tape
        assert run({"dropout": dropout}) == STATUS["FASTLSTM_INVALID"], dropout
    for first, second in ((4, 5), (-1, 3), (10**12, 1)):
        wrong = (ctypes.c_int64 * 2)(first, second)
        assert run({"lengths": at(wrong).value}) == STATUS["FASTLSTM_INVALID"]
    rising = (ctypes.c_int64 * 2)(3, 4)
    packed = {"lengths": at(lengths).value, "starts": at(starts).value}
    assert run(packed) == 0
    assert run({**packed, "lengths": at(rising).value}) == STATUS["FASTLSTM_INVALID"]
    assert run({**packed, "lengths": None}) == STATUS["FASTLSTM_INVALID"]
    before = (ctypes.c_int64 * 4)(0, 2, -4, 6)
    assert run({**packed, "starts": at(before).value}) == STATUS["FASTLSTM_INVALID"]
    for name in ("x", "y"):
        assert run({name: None}) == STATUS["FASTLSTM_INVALID"]
    assert (
        run({"tape": array.address}) == STATUS["FASTLSTM_INVALID"]
    )  # of a plan that keeps nothing
    assert run(space=space.address + 8) == STATUS["FASTLSTM_UNALIGNED"]
    assert run(space=None) == STATUS["FASTLSTM_INVALID"]
    assert run(pointer=None) == STATUS["FASTLSTM_INVALID"]
    assert run(pointer=other.pointer) == STATUS["FASTLSTM_OTHER_PLAN"]
    assert run(plan=back) == STATUS["FASTLSTM_OTHER_PLAN"]
    missing = library.fastlstm_forward(model.pointer, plan.pointer, None, space.pointer)
    assert missing == STATUS["FASTLSTM_INVALID"]

    tape = SIZE()
    steps, batch = ctypes.c_int64(4), ctypes.c_int64(2)
    assert library.fastlstm_tape_bytes(at(model.spec), steps, batch, at(tape)) == 0
    kept = Memory(tape.value)

    def run_back(changes: dict[str, Any], plan: Any = back) -> int:
        io = BACK_IO(**{"x": array.address, "x_t": 6, "x_b": 3, "tape": kept.address, **changes})
        status: int = library.fastlstm_backward(model.pointer, plan.pointer, at(io), space.pointer)
        return status

    assert run_back({}) == 0
    assert run_back({"x": None}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({"tape": None}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({"tape": kept.address + 4}) == STATUS["FASTLSTM_UNALIGNED"]
    assert run_back({"lengths": at((ctypes.c_int64 * 2)(4, 5)).value}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({}, plan) == STATUS["FASTLSTM_OTHER_PLAN"]
    assert run_back({"struct_size": 8}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({"dropout": 2.0}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({"noisy": 2}) == STATUS["FASTLSTM_INVALID"]
    assert run_back({"noisy": 1}) == 0
    for name in ("x", "dy", "dcells", "dh_n", "dc_n", "dx", "dh_0", "dc_0"):
        assert run_back({name: array.address + 1}) == STATUS["FASTLSTM_UNALIGNED"], name
    some = array.address
    for bad, wanted in (
        (GRADIENTS(some, some, None, some), "FASTLSTM_OK"),
        (GRADIENTS(some, None, None, None), "FASTLSTM_INVALID"),
        (GRADIENTS(some, some, some + 2, None), "FASTLSTM_UNALIGNED"),
    ):
        table = (GRADIENTS * 2)(GRADIENTS(some, some, some, some), bad)
        assert run_back({"gradients": at(table).value}) == STATUS[wanted]


@pytest.mark.parametrize("name", ["spec", "io", "back_io"])
def test_callers_of_newer_headers(name: str) -> None:
    """Their structures are larger: fine while what this library does not know is zero."""
    kind = {"spec": SPEC, "io": IO, "back_io": BACK_IO}[name]
    size, known = SIZE(), ctypes.sizeof(kind)
    model = Model()
    (_, plan), (_, back) = model.plan(0, 0, 1), model.plan(2, 0, 1)
    space, tape = Memory(1 << 16), Memory(1 << 14)

    class Newer(ctypes.Structure):
        _fields_ = [("known", kind), ("more", ctypes.c_ubyte * 40)]

    def status(newer: Newer) -> int:
        newer.known.struct_size = ctypes.sizeof(newer)
        if name == "spec":
            return int(library.fastlstm_model_bytes(at(newer), at(size)))
        if name == "io":
            return int(
                library.fastlstm_forward(model.pointer, plan.pointer, at(newer), space.pointer)
            )
        newer.known.tape = tape.address
        return int(library.fastlstm_backward(model.pointer, back.pointer, at(newer), space.pointer))

    newer = Newer(known=spec()) if name == "spec" else Newer()
    assert known < ctypes.sizeof(newer)
    assert status(newer) == 0
    newer.more[39] = 1
    assert status(newer) == STATUS["FASTLSTM_UNKNOWN_FIELD"]


def test_version() -> None:
    numbers = library.fastlstm_version().to_bytes(3, "big")
    assert ".".join(map(str, numbers)) == fastlstm.__version__


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm comes with compilers")
def test_only_the_header_is_visible() -> None:
    """Nothing of ours gets in the way of other libraries in the process."""
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    )
    shown = {line.split()[-1] for line in listed.stdout.splitlines()}
    declared = {name for name, (kind, _) in DECLARED.functions.items() if "typedef" not in kind}
    assert shown == declared | {"PyInit__core"}
