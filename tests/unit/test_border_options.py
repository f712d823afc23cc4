# SPDX-License-Identifier: BSD-3-Clause
"""What C is handed of an LSTM with options, checked at its border; what older callers lack."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import pytest

from support.border import (
    ACTIVATION,
    BACK_IO,
    DECLARED,
    FIRST_BACK_IO,
    FIRST_SPEC,
    GRADIENTS,
    NORMS,
    OPTIONS,
    PEEPHOLES,
    SIZE,
    STATUS,
    WEIGHTS,
    Memory,
    Model,
    at,
    library,
    spec,
)
from support.labels import label

pytestmark = pytest.mark.sanitize

GENERAL = {"cell": DECLARED.enums["fastlstm_cell_kind"].index("FASTLSTM_LSTM_GENERAL")}
BAD_OPTIONS: list[dict[str, Any]] = [
    {"peepholes": 2},
    {"coupled": -1},
    {"no_forget_gate": 2},
    {"coupled": 1, "no_forget_gate": 1},
    {"gate_clip": -1.0},
    {"cell_clip": math.nan},
    {"cell_clip": math.inf},
    {"gate": ACTIVATION(kind=-1)},
    {"candidate": ACTIVATION(kind=len(DECLARED.enums["fastlstm_activation_kind"]) - 1)},
    {"output": ACTIVATION(kind=3, alpha=math.nan)},
    {"output": ACTIVATION(kind=3, beta=1e31)},
    {"proj_clip": 1.0},  # without a projection
    {"proj_clip": -1.0},
    {"layer_norm": 3, "norm_epsilon": 1e-5},
    {"layer_norm": -1, "norm_epsilon": 1e-5},
    {"layer_norm": 1},
    {"layer_norm": 2, "norm_epsilon": 1e-39},
    {"layer_norm": 2, "norm_epsilon": math.nan},
    {"norm_epsilon": 1e-5},
    {"zoneout_c": -0.1},
    {"zoneout_h": 1.5},
    {"recurrent_dropout": math.nan},
    {"variational_dropout": 1.1},
    {"input_dropout": math.inf},
]
GOOD_OPTIONS: list[dict[str, Any]] = [
    {},
    {"peepholes": 1, "coupled": 1, "gate_clip": 1.0, "cell_clip": 2.0},
    {"layer_norm": 1, "norm_epsilon": 1.2e-38},
    {"layer_norm": 2, "norm_epsilon": 1e30, "peepholes": 1},
    {"no_forget_gate": 1, "gate": ACTIVATION(kind=12), "output": ACTIVATION(kind=3, alpha=0.2)},
    {"zoneout_c": 1.0, "zoneout_h": 0.5, "recurrent_dropout": 0.1, "input_dropout": 1.0},
    {"variational_dropout": 1.0},
]


@pytest.mark.parametrize("options", GOOD_OPTIONS + BAD_OPTIONS, ids=label)
def test_options_are_checked(options: dict[str, Any]) -> None:
    size = SIZE()
    wanted = STATUS["FASTLSTM_OK" if options in GOOD_OPTIONS else "FASTLSTM_INVALID"]
    given = spec(**GENERAL, options=OPTIONS(**options))
    assert library.fastlstm_model_bytes(at(given), at(size)) == wanted
    plain = spec(options=OPTIONS(**options))  # another cell has none
    wanted = STATUS["FASTLSTM_INVALID" if options else "FASTLSTM_OK"]
    assert library.fastlstm_model_bytes(at(plain), at(size)) == wanted


# What stands in tables of their own: options, the table's name and type, the members that are read.
TABLES = [
    (OPTIONS(peepholes=1), "peepholes", PEEPHOLES, ("i", "f", "o")),
    (OPTIONS(layer_norm=1, norm_epsilon=1e-5), "norms", NORMS, ("n",)),
    (OPTIONS(layer_norm=2, norm_epsilon=1e-5), "norms", NORMS, ("nx", "nh", "nc", "bias_nc")),
]


@pytest.mark.parametrize("case", range(len(TABLES)))
def test_tables_are_checked(case: int) -> None:
    options, name, table_type, members = TABLES[case]
    size, array = SIZE(), Memory(1 << 12)
    some, tape = array.address, SIZE()
    given = spec(**GENERAL, num_layers=1, options=options)
    assert library.fastlstm_model_bytes(at(given), at(size)) == 0
    memory, pointer = Memory(size.value), ctypes.c_void_p()
    weights = WEIGHTS(some, some, some, some)
    whole = dict.fromkeys(members, some)

    def pack(table: Any) -> int:
        setattr(given, name, table and at(table).value)
        one = ctypes.c_int32(1)
        status: int = library.fastlstm_model_pack(
            at(given), at(weights), memory.pointer, one, None, None, at(pointer)
        )
        return status

    assert pack(None) == STATUS["FASTLSTM_INVALID"]
    for member in members:
        assert pack(table_type(**{**whole, member: None})) == STATUS["FASTLSTM_INVALID"]
        assert pack(table_type(**{**whole, member: some + 2})) == STATUS["FASTLSTM_UNALIGNED"]
    assert pack(table_type(**whole)) == 0
    steps, batch, one = ctypes.c_int64(4), ctypes.c_int64(2), ctypes.c_int32(1)
    assert library.fastlstm_tape_bytes(at(given), steps, batch, at(tape)) == 0
    plan = Memory(library.fastlstm_plan_bytes())
    made = (pointer, ctypes.c_int(2), steps, batch, one, plan.pointer)
    assert library.fastlstm_plan_make(*made) == 0
    space, kept = Memory(library.fastlstm_plan_workspace_bytes(plan.pointer)), Memory(tape.value)
    gradients = GRADIENTS(some, some, None, None)

    def run(**changes: Any) -> int:
        io = BACK_IO(x=some, x_t=6, x_b=3, tape=kept.address, **changes)
        status: int = library.fastlstm_backward(pointer, plan.pointer, at(io), space.pointer)
        return status

    table, wanted = table_type(**whole), at(gradients).value
    assert run() == 0
    assert run(gradients=wanted, **{name: at(table).value}) == 0
    assert run(gradients=wanted) == STATUS["FASTLSTM_INVALID"]
    assert run(**{name: at(table).value}) == STATUS["FASTLSTM_INVALID"]
    for member in members:
        table = table_type(**{**whole, member: None})
        assert run(gradients=wanted, **{name: at(table).value}) == STATUS["FASTLSTM_INVALID"]
        table = table_type(**{**whole, member: some + 1})
        assert run(gradients=wanted, **{name: at(table).value}) == STATUS["FASTLSTM_UNALIGNED"]


def test_callers_of_older_headers() -> None:
    """Their structures are smaller: what they do not have is zero, whatever stands behind them."""
    size = SIZE()
    given = spec(struct_size=FIRST_SPEC, options=OPTIONS(coupled=7), peepholes=1)
    assert library.fastlstm_model_bytes(at(given), at(size)) == 0
    model = Model()
    _, back = model.plan(2, 0, 1)
    space, tape = Memory(1 << 16), Memory(1 << 14)
    io = BACK_IO(struct_size=FIRST_BACK_IO, tape=tape.address, peepholes=1)
    assert library.fastlstm_backward(model.pointer, back.pointer, at(io), space.pointer) == 0
