# SPDX-License-Identifier: BSD-3-Clause
"""What C callers hand over for a projection, and callers who know of none."""

from __future__ import annotations

import ctypes

import pytest

from support.border import (
    BACK_IO,
    GRADIENTS,
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


def test_callers_of_older_headers() -> None:
    """Their specifications end before the projection, whatever stands behind them."""
    older = spec(struct_size=SPEC.proj_size.offset, proj_size=3)
    sizes = [SIZE(), SIZE(), SIZE()]
    for given, size in zip((older, spec(), spec(proj_size=3)), sizes, strict=True):
        assert library.fastlstm_model_bytes(at(given), at(size)) == 0
    assert sizes[0].value == sizes[1].value != sizes[2].value
    one, tapes = ctypes.c_int64(1), [SIZE(), SIZE()]
    for given, size in zip((older, spec()), tapes, strict=True):
        assert library.fastlstm_tape_bytes(at(given), one, one, at(size)) == 0
    assert tapes[0].value == tapes[1].value
    model, pointer = Model(), ctypes.c_void_p()
    model.spec = older  # packing reads no weights of projections
    assert model.pack(model.memory.address, pointer) == 0


def test_projections_have_weights_and_gradients() -> None:
    model, pointer = Model(proj_size=2), ctypes.c_void_p()
    some = model.zeros.address
    whole, projection = WEIGHTS(some, some, None, None), WEIGHTS(some, None, None, None)
    for last, wanted in (
        (projection, "FASTLSTM_OK"),
        (WEIGHTS(None, some, some, some), "FASTLSTM_INVALID"),
        (WEIGHTS(some + 2, None, None, None), "FASTLSTM_UNALIGNED"),
    ):
        table = (WEIGHTS * 4)(whole, whole, projection, last)
        assert model.pack(model.memory.address, pointer, at(table)) == STATUS[wanted]
    model = Model(proj_size=2)
    _, back = model.plan(2, 4, 2)
    size, steps, batch = SIZE(), ctypes.c_int64(4), ctypes.c_int64(2)
    assert library.fastlstm_tape_bytes(at(model.spec), steps, batch, at(size)) == 0
    tape, array = Memory(size.value), Memory(1 << 16)
    space = Memory(library.fastlstm_plan_workspace_bytes(back.pointer))
    some = array.address
    for last, wanted in (
        (GRADIENTS(some, None, None, None), "FASTLSTM_OK"),
        (GRADIENTS(None, some, None, None), "FASTLSTM_INVALID"),
        (GRADIENTS(some + 1, None, None, None), "FASTLSTM_UNALIGNED"),
    ):
        ours = GRADIENTS(some, some, None, None)
        gradients = (GRADIENTS * 4)(ours, ours, GRADIENTS(some, None, None, None), last)
        io = BACK_IO(tape=tape.address, x=some, x_t=6, x_b=3, gradients=at(gradients).value)
        status = library.fastlstm_backward(model.pointer, back.pointer, at(io), space.pointer)
        assert status == STATUS[wanted]
