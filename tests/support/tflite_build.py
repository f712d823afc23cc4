# SPDX-License-Identifier: BSD-3-Clause
"""TensorFlow Lite files made operator by operator, and what the interpreter gives for them."""

from __future__ import annotations

from typing import Any

import numpy as np

# Of LSTMs: inputs by name, in the operator's order.
_GATES = ("i", "f", "g", "o")


class Builder:
    """A model of one subgraph, tensor by tensor."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, b"fastlstm test"
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs, self.model.operatorCodes = [self.graph], []

    def tensor(
        self,
        shape: tuple[int, ...],
        data: np.ndarray | None = None,
        *,
        variable: bool = False,
        scale: np.ndarray | float | None = None,
        axis: int = 0,
    ) -> int:
        """A new tensor, float32 or what its data are; its number."""
        found = self.schema.TensorT()
        found.shape, found.isVariable = list(shape), variable
        found.name = f"t{len(self.graph.tensors)}".encode()
        kinds = self.schema.TensorType
        kind = np.dtype(np.float32 if data is None else data.dtype).name.upper()
        found.type = getattr(kinds, kind)
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            found.buffer = len(self.model.buffers) - 1
        if scale is not None:
            found.quantization = self.schema.QuantizationParametersT()
            found.quantization.scale = np.atleast_1d(np.float32(scale))
            found.quantization.zeroPoint = np.zeros(len(found.quantization.scale), np.int64)
            found.quantization.quantizedDimension = axis
        self.graph.tensors.append(found)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, inputs: list[int], outputs: list[int], options: Any) -> None:
        """One more operator; `options` is an object of the schema."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        found = self.schema.OperatorT()
        found.opcodeIndex = len(self.model.operatorCodes) - 1
        found.inputs, found.outputs = inputs, outputs
        name = type(options).__name__.removesuffix("T")
        found.builtinOptionsType = getattr(self.schema.BuiltinOptions, name)
        found.builtinOptions = options
        self.graph.operators.append(found)

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        import flatbuffers

        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def side(
    rng: np.random.Generator, inputs: int, units: int, config: dict[str, Any]
) -> list[np.ndarray | None]:
    """17 constants of one direction and 4 of its layer normalisation, in TFLite's order."""
    outputs = config["projection"] or units

    def some(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.6, shape).astype(np.float32)

    gates: list[np.ndarray | None] = [some(units, inputs) for _ in _GATES]
    gates += [some(units, outputs) for _ in _GATES]
    gates += [some(units) if config["peepholes"] else None for _ in range(3)]
    gates += [some(units) for _ in _GATES]
    gates.append(some(outputs, units) if config["projection"] else None)
    gates.append(np.zeros(outputs, np.float32) if config["projection"] else None)
    norms: list[np.ndarray | None] = [some(units) + 1 if config["norm"] else None for _ in _GATES]
    if config["coupled"]:
        gates[0] = gates[4] = gates[8] = gates[11] = norms[0] = None
    return gates + norms


def lstm(seed: int, config: dict[str, Any]) -> tuple[bytes, np.ndarray]:
    """A file with one LSTM of a configuration, and inputs for it.

    Parameters
    ----------
    seed : int
        Of sizes and weights.
    config : dict
        Of bools and numbers: both, projection, peepholes, coupled, norm, cell_clip, proj_clip,
        time_major, and reduce, "", "int8" or "float16".
    """
    rng = np.random.default_rng(seed)
    made = Builder()
    steps, batch = int(rng.integers(1, 7)), int(rng.integers(1, 4))
    if config["both"] and not config["time_major"]:
        batch = 1  # of several rows the interpreter (2.3) reads memory that it never wrote
    inputs, units = int(rng.integers(1, 9)), int(rng.integers(max(2, config["projection"] + 1), 12))
    outputs = config["projection"] or units
    first = (steps, batch) if config["time_major"] else (batch, steps)
    x = made.tensor((*first, inputs))
    sides = [side(rng, inputs, units, config) for _ in range(2 if config["both"] else 1)]

    def constant(array: np.ndarray | None, at: int) -> int:
        if array is None:
            return -1
        if config["reduce"] == "int8" and (array.ndim == 2 or at in (8, 9, 10)):
            scale = float(np.abs(array).max() / 127)
            rounded = np.round(array / scale).astype(np.int8)
            return made.tensor(array.shape, rounded, scale=scale)
        return made.tensor(array.shape, array)

    places = [x]
    for own in sides:
        places += [constant(array, at) for at, array in enumerate(own[:17])]
    for _ in sides:
        places += [
            made.tensor((batch, outputs), variable=True),
            made.tensor((batch, units), variable=True),
        ]
    schema = made.schema
    if config["both"]:
        options = schema.BidirectionalSequenceLSTMOptionsT()
        options.mergeOutputs = True
        places += [-1] * 9
    else:
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        places += [constant(array, at + 17) for at, array in enumerate(sides[0][17:])]
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.cellClip, options.projClip = config["cell_clip"], config["proj_clip"]
    options.timeMajor = config["time_major"]
    y = made.tensor((*first, outputs * len(sides)))
    kind = "BIDIRECTIONAL" if config["both"] else "UNIDIRECTIONAL"
    made.operator(f"{kind}_SEQUENCE_LSTM", places, [y], options)
    return made.bytes([x], [y]), rng.normal(0, 1, (*first, inputs)).astype(np.float32)


def interpreted(data: bytes, x: np.ndarray) -> np.ndarray:
    """What the interpreter gives."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=data, num_threads=1)
    run.allocate_tensors()
    run.set_tensor(run.get_input_details()[0]["index"], x)
    run.invoke()
    return np.array(run.get_tensor(run.get_output_details()[0]["index"]))
