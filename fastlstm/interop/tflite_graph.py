# SPDX-License-Identifier: BSD-3-Clause
"""Operators and constants of a TensorFlow Lite file, by the schema of the ``tflite`` package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, Unsupported, library, reading

Array = NDArray[Any]
_TYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "<i1",
    "UINT8": "<u1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
}
_DEEPEST = 8  # operators that a constant passes on its way
_EXPANSION = 8  # bytes of arrays for each byte of the file, at most
_LONGEST = 64  # axes of a tensor
_SLACK = 1 << 16  # bytes that any file may ask for


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator of a subgraph."""

    kind: str
    """its name in the schema: "UNIDIRECTIONAL_SEQUENCE_LSTM" """
    inputs: tuple[int, ...]
    """tensors; -1 for one that is left out"""
    outputs: tuple[int, ...]
    table: Any
    """of the flatbuffer"""

    def options(self, made: Any) -> Any:
        """An object of the schema, made to stand for the operator's options; None without any."""
        found = self.table.BuiltinOptions()
        if found is None:
            return None
        made.Init(found.Bytes, found.Pos)
        return made


class Subgraph:
    """Tensors and operators of one subgraph; a number that is none of a tensor is an error."""

    def __init__(self, model: Model, number: int, table: Any) -> None:
        self._model, self.number = model, number
        self.place = f"subgraph {number}"
        self._constants: dict[int, Array | None] = {}
        self._tensors = model.vector(self.place, table.TensorsLength(), table.Tensors)
        self.inputs = model.numbers(self.place, table.InputsLength(), table.Inputs)
        self.outputs = model.numbers(self.place, table.OutputsLength(), table.Outputs)
        rows = model.vector(self.place, table.OperatorsLength(), table.Operators)
        self.operators = [self._operator(at, row) for at, row in enumerate(rows)]
        self.made_by: dict[int, Operator] = {}
        self.readers: dict[int, list[Operator]] = {}
        """tensor -> the operators that read it"""
        for operator in self.operators:
            self.made_by |= {made: operator for made in operator.outputs if made >= 0}
            for read in {*operator.inputs}:
                self.readers.setdefault(read, []).append(operator)

    def _operator(self, at: int, row: Any) -> Operator:
        place = f"{self.place}: operator {at}"
        inputs = self._model.numbers(place, row.InputsLength(), row.Inputs)
        outputs = self._model.numbers(place, row.OutputsLength(), row.Outputs)
        for number in (*inputs, *outputs):
            if number >= len(self._tensors):
                raise FormatError(self._model.file, place, f"tensor {number} is not in the file")
        return Operator(self._model.kind(place, row.OpcodeIndex()), inputs, outputs, row)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor, as the file says it."""
        found = self._tensors[tensor]
        return tuple(int(found.Shape(at)) for at in range(min(found.ShapeLength(), _LONGEST)))

    def is_variable(self, tensor: int) -> bool:
        """Whether the interpreter keeps it from call to call."""
        return bool(self._tensors[tensor].IsVariable())

    def type_name(self, tensor: int) -> str:
        """Of a tensor's elements: "FLOAT32"."""
        return str(self._model.types.get(self._tensors[tensor].Type(), "unknown"))

    def constant(self, tensor: int, depth: int = 0) -> Array | None:
        """A tensor's values, those of reduced width as floats; None if the graph computes it."""
        if tensor < 0 or depth > _DEEPEST:
            return None
        if tensor not in self._constants:
            self._constants[tensor] = self._constant(tensor, depth)
        return self._constants[tensor]

    def _constant(self, tensor: int, depth: int) -> Array | None:
        maker = self.made_by.get(tensor)
        if maker is not None:
            if maker.kind != "DEQUANTIZE" or len(maker.inputs) != 1:
                return None
            return self.constant(maker.inputs[0], depth + 1)
        found = self._tensors[tensor]
        place = f"{self.place}: tensor {tensor}"
        data = self._model.buffer(place, found.Buffer())
        if not data.size:
            return None
        if found.Sparsity() is not None:
            raise Unsupported(self._model.file, place, "sparse weights are not read")
        kind = self.type_name(tensor)
        if kind not in _TYPES:
            raise Unsupported(self._model.file, place, f"weights of type {kind} are not read")
        shape = self.shape(tensor)
        dtype = np.dtype(_TYPES[kind])
        wanted = 1
        for size in shape:
            wanted *= size
        if min(shape, default=1) < 0 or wanted * dtype.itemsize != data.size:
            what = f"shape {shape} of {kind} does not fit {data.size} bytes"
            raise FormatError(self._model.file, place, what)
        self._model.spend(place, wanted * (4 if dtype.kind in "iu" else dtype.itemsize))
        array = data.view(dtype).reshape(shape) if wanted else np.zeros(shape, dtype)
        return self._floats(place, found.Quantization(), array, kind)

    def _floats(self, place: str, scales: Any, array: Array, kind: str) -> Array:
        if array.dtype.kind == "f":
            if array.dtype.itemsize < 4:
                self._model.reduced.add(kind)
            return np.asarray(array, np.float64 if array.dtype.itemsize == 8 else np.float32)
        count = 0 if scales is None else self._model.length(place, scales.ScaleLength())
        if not count:
            return array.copy()
        self._model.reduced.add(kind)
        self._model.spend(place, 8 * count)
        scale = np.array([scales.Scale(at) for at in range(count)], np.float32)
        zeros = self._model.length(place, scales.ZeroPointLength())
        zero = np.array([scales.ZeroPoint(at) for at in range(zeros)] or [0], np.int64)
        if count > 1:
            axis = scales.QuantizedDimension()
            if (
                not 0 <= axis < array.ndim
                or array.shape[axis] != count
                or len(zero) not in (1, count)
            ):
                what = f"{count} scales do not fit axis {axis} of shape {array.shape}"
                raise FormatError(self._model.file, place, what)
            rows = [1] * array.ndim
            rows[axis] = count
            scale = scale.reshape(rows)
            zero = zero.reshape(rows) if len(zero) == count else zero
        if len(zero) not in (1, count):
            raise FormatError(self._model.file, place, "zero points and scales do not fit")
        if array.dtype.itemsize > 2:
            return np.asarray((array.astype(np.int64) - zero) * scale, np.float32)
        found = array.astype(np.float32)  # holds the integers of 16 bits and their differences
        found -= zero
        found *= scale
        return found


class Model:
    """A file, whose numbers are checked against its size."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file, self._data = file, data
        self._unread, self._left = len(data) + _SLACK, _EXPANSION * len(data) + _SLACK
        self.schema: Any = library("tflite", "tflite", "read TensorFlow Lite files")
        self.reduced: set[str] = set()
        """types of weights that became float32"""
        if len(data) < 8 or data[4:8] != b"TFL3":
            raise FormatError(
                file, "", "is no TensorFlow Lite file: TFL3 is not in its bytes 4 to 7"
            )
        with reading(file):
            model = self.schema.Model.GetRootAs(data, 0)
            self.version = str(model.Version())
            text = model.Description()
            self.description = text.decode("utf-8", "replace") if isinstance(text, bytes) else ""
            names = vars(self.schema.BuiltinOperator)
            self._names = {code: name for name, code in names.items() if isinstance(code, int)}
            types = vars(self.schema.TensorType)
            self.types = {code: name for name, code in types.items() if isinstance(code, int)}
            self._codes = self.vector("codes", model.OperatorCodesLength(), model.OperatorCodes)
            self._buffers = self.vector("buffers", model.BuffersLength(), model.Buffers)
            rows = self.vector("subgraphs", model.SubgraphsLength(), model.Subgraphs)
            self.subgraphs = [Subgraph(self, at, row) for at, row in enumerate(rows)]
        if not self.subgraphs:
            raise FormatError(file, "", "has no subgraph")

    def length(self, place: str, count: int) -> int:
        """Of a vector, which the file is long enough for."""
        if not 0 <= count <= len(self._data) // 4:
            what = f"a vector of {count} elements is longer than the file"
            raise FormatError(self.file, place, what)
        return count

    def vector(self, place: str, count: int, getter: Any) -> list[Any]:
        """The tables of a vector, 8 bytes each at least."""
        self._read(place, 8 * self.length(place, count))
        return [getter(at) for at in range(count)]

    def numbers(self, place: str, count: int, getter: Any) -> tuple[int, ...]:
        """The integers of a vector."""
        self._read(place, 4 * self.length(place, count))
        return tuple(int(getter(at)) for at in range(count))

    def _read(self, place: str, count: int) -> None:
        """So many bytes of the file are read, each once: no two vectors share them."""
        self._unread -= count
        if self._unread < 0:
            raise FormatError(self.file, place, "its vectors are longer together than the file")

    def spend(self, place: str, count: int) -> None:
        """Account for bytes of an array; FormatError where the file is too small for so many."""
        self._left -= count
        if self._left < 0:
            what = "its constants take many times the bytes of the whole file"
            raise FormatError(self.file, place, what)

    def kind(self, place: str, number: int) -> str:
        """The name of an operator code."""
        if not 0 <= number < len(self._codes):
            raise FormatError(self.file, place, f"operator code {number} is not in the file")
        code = self._codes[number]
        found = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if self._names.get(found) == "CUSTOM":
            text = code.CustomCode()
            return text.decode("utf-8", "replace") if isinstance(text, bytes) else "CUSTOM"
        return str(self._names.get(found, f"operator {found}"))

    def buffer(self, place: str, number: int) -> NDArray[np.uint8]:
        """The bytes of a buffer; none if it is empty."""
        empty = np.zeros(0, np.uint8)
        if not 0 <= number < len(self._buffers):
            raise FormatError(self.file, place, f"buffer {number} is not in the file")
        held = self._buffers[number]
        if hasattr(held, "Offset") and held.Offset() > 1:  # behind the flatbuffer
            first, size = held.Offset(), held.Size()
            if first + size > len(self._data):
                raise FormatError(self.file, place, f"buffer {number} ends behind the file's end")
            return np.frombuffer(self._data, np.uint8, size, first)
        if not held.DataLength():
            return empty
        found: NDArray[np.uint8] = np.asarray(held.DataAsNumpy(), np.uint8)
        return found
