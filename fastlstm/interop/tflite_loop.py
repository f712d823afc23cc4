# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs that stand in a TensorFlow Lite file as a loop, which is how Keras 3 exports them.

The body of the loop reads step t of x and the old h and c, and is recognised by its arithmetic::

    sums = W x_t + R h + b           two products, in Keras's order i, f, c, o
    c' = sigmoid(f) c + sigmoid(i) tanh(g)
    h' = sigmoid(o) tanh(c')
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .description import Layer
from .errors import Unsupported
from .gates import to_torch
from .tflite_graph import Array, Model, Operator, Subgraph

_MOST = 64  # operators between two that belong together, and splits that are looked at


@dataclass
class _Sums:
    """What is added up before the gates: products by the tensor that they read, and constants."""

    products: dict[int, Array] = field(default_factory=dict)
    bias: Array | None = None

    def add(self, constant: Array) -> None:
        """One more constant of the sum."""
        flat = constant.reshape(-1)
        self.bias = flat if self.bias is None else self.bias + flat


def loop(model: Model, graph: Subgraph, operator: Operator, name: str) -> Layer:
    """The LSTM that a WHILE is. Raises Unsupported where it is none."""
    options = operator.options(model.schema.WhileOptions())
    number = -1 if options is None else options.BodySubgraphIndex()
    if not 0 <= number < len(model.subgraphs):
        raise Unsupported(model.file, name, "a loop without a body")
    body = model.subgraphs[number]
    if len(body.inputs) != len(operator.inputs) or len(body.outputs) != len(body.inputs):
        raise Unsupported(model.file, name, "a loop whose body has other inputs than it gives")
    found = _cell(body)
    if found is None:
        raise Unsupported(model.file, name, "a loop that is no LSTM as Keras 3 exports it")
    sums, h, c = found
    inputs = [body.inputs.index(h), body.inputs.index(c)]
    sequence = [tensor for tensor in sums.products if tensor != h]
    source = body.made_by.get(sequence[0]) if len(sums.products) == 2 and sequence else None
    if source is None or source.kind != "GATHER" or source.inputs[0] not in body.inputs:
        raise Unsupported(model.file, name, "a loop that does not read its input step by step")
    kernel, recurrent = sums.products[sequence[0]], sums.products[h]
    units = recurrent.shape[1]
    shapes = (4 * units, kernel.shape[1]), (4 * units, units)
    if (kernel.shape, recurrent.shape) != shapes:
        raise Unsupported(model.file, name, "a loop whose weights are of no LSTM")
    weights = {"weight_ih": kernel, "weight_hh": recurrent}
    if sums.bias is not None:
        weights |= {"bias_ih": np.broadcast_to(sums.bias, 4 * units).copy()}
        weights |= {"bias_hh": np.zeros_like(weights["bias_ih"])}
    states = [graph.constant(operator.inputs[at]) for at in inputs]
    initial = None
    if all(state is not None for state in states):
        arrays = [np.asarray(state)[None] for state in states]
        initial = (arrays[0], arrays[1]) if any(array.any() for array in arrays) else None
    steps = graph.shape(operator.inputs[body.inputs.index(source.inputs[0])])
    kept = [graph.shape(given) for given in operator.inputs if len(graph.shape(given)) == 3]
    every = all(shape[0] == steps[0] for shape in kept) if steps else True
    return Layer(
        "lstm",
        name,
        kernel.shape[1],
        units,
        [{key: to_torch(array, "lstm", "tflite") for key, array in weights.items()}],
        return_sequences=every,
        initial_state=initial,
    )


def _cell(body: Subgraph) -> tuple[_Sums, int, int] | None:
    """The sums before the gates, and which inputs of the body are h and c."""
    splits = [operator for operator in body.operators if operator.kind == "SPLIT"]
    for operator in splits[:_MOST]:
        if len(operator.outputs) != 4 or len(operator.inputs) != 2:
            continue
        i, f, g, o = operator.outputs
        gates = [_reader(body, gate, "LOGISTIC") for gate in (i, f, o)]
        candidate = _reader(body, g, "TANH")
        if candidate is None or None in gates:
            continue
        new = _product(body, gates[0], candidate)
        old = next((one for one in _readers(body, gates[1], "MUL") if one.outputs[0] != new), None)
        if new is None or old is None:
            continue
        c_new = _reader(body, new, "ADD")
        if c_new is None or old.outputs[0] not in body.made_by[c_new].inputs:
            continue
        h_new = _product(body, gates[2], _reader(body, c_new, "TANH"))
        if h_new not in body.outputs or c_new not in body.outputs:
            continue
        h = body.inputs[body.outputs.index(h_new)]
        c = body.inputs[body.outputs.index(c_new)]
        sums = _Sums()
        if c in old.inputs and _gather(body, operator.inputs[1], sums, [0]) and h in sums.products:
            return sums, h, c
    return None


def _readers(body: Subgraph, tensor: int | None, kind: str) -> list[Operator]:
    found = [] if tensor is None else body.readers.get(tensor, [])
    return [one for one in found if one.kind == kind]


def _reader(body: Subgraph, tensor: int | None, kind: str) -> int | None:
    """What the only operator of this kind makes of the tensor."""
    found = _readers(body, tensor, kind)
    return found[0].outputs[0] if len(found) == 1 and len(found[0].outputs) == 1 else None


def _product(body: Subgraph, one: int | None, other: int | None) -> int | None:
    """The tensor that is one times the other."""
    found = [
        operator.outputs[0]
        for operator in _readers(body, one, "MUL")
        if set(operator.inputs) == {one, other}
    ]
    return found[0] if len(found) == 1 else None


def _gather(body: Subgraph, tensor: int, sums: _Sums, passed: list[int]) -> bool:
    """Whether the tensor is a sum of products with constants, and of constants."""
    passed[0] += 1
    if passed[0] > _MOST:
        return False
    constant = body.constant(tensor)
    if constant is not None:
        sums.add(constant)
        return constant.dtype.kind == "f"
    maker = body.made_by.get(tensor)
    if maker is None:
        return False
    if maker.kind == "ADD":
        return all(_gather(body, given, sums, passed) for given in maker.inputs)
    if maker.kind == "RESHAPE":
        return _gather(body, maker.inputs[0], sums, passed)
    if maker.kind not in ("FULLY_CONNECTED", "BATCH_MATMUL") or len(maker.inputs) < 2:
        return False
    weight: Any = body.constant(maker.inputs[1])
    if weight is None or weight.ndim != 2 or maker.inputs[0] in sums.products:
        return False
    sums.products[maker.inputs[0]] = weight if maker.kind == "FULLY_CONNECTED" else weight.T
    if len(maker.inputs) > 2 and maker.inputs[2] >= 0:
        bias = body.constant(maker.inputs[2])
        if bias is None:
            return False
        sums.add(bias)
    return True
