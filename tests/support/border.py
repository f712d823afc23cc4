# SPDX-License-Identifier: BSD-3-Clause
"""The C interface through ctypes: structures as the header declares them, and models of zeros."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastlstm import _core
from support.declarations import header

TYPES: dict[str, Any] = {
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "fastlstm_cell_kind": ctypes.c_int,
    "fastlstm_dtype": ctypes.c_int,
    "fastlstm_isa": ctypes.c_int,
    "fastlstm_purpose": ctypes.c_int,
    "fastlstm_norm_kind": ctypes.c_int,
}
DECLARED = header()
STATUS = {name: value for value, name in enumerate(DECLARED.enums["fastlstm_status"])}


def struct(name: str) -> Any:
    """A structure as the header declares it, of its size; what is no number is a pointer."""
    fields = [(field, TYPES.get(kind, ctypes.c_void_p)) for field, kind in DECLARED.structs[name]]

    class Struct(ctypes.Structure):
        _fields_ = fields

        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            if fields[0][0] == "struct_size" and "struct_size" not in named:
                self.struct_size = ctypes.sizeof(self)

    return Struct


TYPES["fastlstm_activation_kind"] = ctypes.c_int
ACTIVATION = TYPES["fastlstm_activation"] = struct("fastlstm_activation")
OPTIONS = TYPES["fastlstm_options"] = struct("fastlstm_options")
SPEC, IO, BACK_IO, WEIGHTS, GRADIENTS = map(
    struct,
    ("fastlstm_spec", "fastlstm_io", "fastlstm_back_io", "fastlstm_weights", "fastlstm_gradients"),
)
PEEPHOLES, NORMS = struct("fastlstm_peepholes"), struct("fastlstm_norms")
SIZE = ctypes.c_size_t
# Sizes of the first version of structures that have grown.
FIRST_SPEC, FIRST_BACK_IO = SPEC.proj_size.offset, BACK_IO.peepholes.offset
FIRST_IO = IO.noisy.offset
library: Any = ctypes.CDLL(_core.__file__)
library.fastlstm_status_text.restype = ctypes.c_char_p
library.fastlstm_plan_bytes.restype = library.fastlstm_plan_workspace_bytes.restype = SIZE


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
        self.pointer = ctypes.c_void_p(self.address)


def packed(model: Any, isa: str) -> Any:
    """The memory of a model that was packed for the forward pass, as elements of its dtype."""
    state = model.state_dict()
    ends = [name.removeprefix("weight_ih") for name in state if name.startswith("weight_ih")]
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arrays = [[np.ascontiguousarray(state[part + end]) for part in parts] for end in ends]
    weights = (WEIGHTS * len(ends))(
        *[WEIGHTS(*(array.ctypes.data for array in layer)) for layer in arrays]
    )
    kind = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN_TANH"}[type(model).__name__]
    made = spec(
        input_size=model.input_size,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        directions=2 if model.bidirectional else 1,
        cell=DECLARED.enums["fastlstm_cell_kind"].index(f"FASTLSTM_{kind}"),
        dtype=int(arrays[0][0].dtype == np.float64),
        isa=DECLARED.enums["fastlstm_isa"].index(f"FASTLSTM_ISA_{isa.upper()}"),
        passes=1,
    )
    size, pointer = SIZE(), ctypes.c_void_p()
    assert library.fastlstm_model_bytes(at(made), at(size)) == 0
    memory = Memory(size.value)
    given = (at(made), at(weights), memory.pointer, 1, None, None, at(pointer))
    assert library.fastlstm_model_pack(*given) == 0
    return np.frombuffer(ctypes.string_at(memory.address, size.value // 8 * 8), arrays[0][0].dtype)


class Model:
    """A model of zeros, packed by hand, and plans for it."""

    def __init__(self, **changes: int) -> None:
        self.spec, size = spec(**changes), SIZE()
        assert library.fastlstm_model_bytes(at(self.spec), at(size)) == 0
        self.memory, self.zeros = Memory(size.value), Memory(1 << 16)
        layers = self.spec.num_layers * self.spec.directions * (2 if self.spec.proj_size else 1)
        zeros = self.zeros.address
        self.weights = (WEIGHTS * layers)(*[WEIGHTS(zeros, zeros, None, zeros)] * layers)
        pointer = ctypes.c_void_p()
        assert self.pack(self.memory.address, pointer) == 0
        self.pointer = pointer

    def pack(self, memory: int | None, pointer: Any, weights: Any = True, threads: int = 1) -> int:
        table = at(self.weights) if weights is True else weights
        where = ctypes.c_void_p(memory)
        given = (at(self.spec), table, where, threads, None, None, at(pointer))
        status: int = library.fastlstm_model_pack(*given)
        return status

    def plan(self, purpose: int, steps: int, batch: int, threads: int = 1) -> tuple[int, Memory]:
        plan = Memory(library.fastlstm_plan_bytes())
        sizes = (ctypes.c_int64(steps), ctypes.c_int64(batch))
        return library.fastlstm_plan_make(
            self.pointer, purpose, *sizes, threads, plan.pointer
        ), plan
