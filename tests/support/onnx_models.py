# SPDX-License-Identifier: BSD-3-Clause
"""ONNX models of one recurrent node, ONNX Runtime as their oracle, and fastlstm's answer in the
node's shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

Arrays = dict[str, np.ndarray]
INPUTS = {
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
WEIGHTS = ("W", "R", "B", "P")
OPSET = 17


@dataclass
class Node:
    """One recurrent node: its values, those of them that a call feeds, and its attributes."""

    kind: str
    values: Arrays
    fed: tuple[str, ...] = ("X",)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def batch_first(self) -> bool:
        return self.attributes.get("layout", 0) == 1

    @property
    def outputs(self) -> list[str]:
        return ["Y", "Y_h", *["Y_c"] * (self.kind == "LSTM")]

    def feeds(self) -> Arrays:
        return {name: value for name, value in self.values.items() if name in self.fed}

    def model(self) -> Any:
        """The node with all that is not fed as initializers."""
        onnx = pytest.importorskip("onnx")
        names = [name if name in self.values else "" for name in INPUTS[self.kind]]
        while not names[-1]:
            names.pop()
        node = onnx.helper.make_node(
            self.kind, names, self.outputs, self.kind.lower(), **self.attributes
        )
        return model_of([node], self.feeds(), self.outputs, self.constants())

    def constants(self) -> Arrays:
        return {name: value for name, value in self.values.items() if name not in self.fed}


def model_of(nodes: list[Any], feeds: Arrays, outputs: list[str], constants: Arrays) -> Any:
    """A model of these nodes, whose outputs are float."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(name, kinds[name], value.shape)
            for name, value in feeds.items()
        ],
        [helper.make_tensor_value_info(name, real, None) for name in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def by_runtime(model: Any, feeds: Arrays) -> list[np.ndarray]:
    """What ONNX Runtime makes of it."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = model if isinstance(model, (str, bytes)) else model.SerializeToString()
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def by_fastlstm(
    model: Any,
    layer: Any,
    x: np.ndarray,
    state: tuple[np.ndarray, ...] | None = None,
    lengths: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Y, Y_h and Y_c of a node of one layer, which `layer` describes, as the node shapes them."""
    if layer.batch_first:
        x = x.transpose(1, 0, 2)
        state = None if state is None else tuple(h.transpose(1, 0, 2) for h in state)
    model = type(model)(**{**model.config(), "batch_first": False}) if layer.batch_first else model
    if layer.batch_first:
        model.load_state_dict(layer.model().state_dict())
    if layer.go_backwards:
        x = in_reverse(x, lengths)
    given = None if state is None else state if len(state) > 1 else state[0]
    y, end = model(np.ascontiguousarray(x), given, lengths=lengths)
    if layer.go_backwards:
        y = in_reverse(y, lengths)
    ends = [*end] if isinstance(end, tuple) else [end]
    steps, batch, width = y.shape
    directions = len(layer.weights)
    y = y.reshape(steps, batch, directions, width // directions).transpose(0, 2, 1, 3)
    if layer.batch_first:
        return [y.transpose(2, 0, 1, 3), *[h.transpose(1, 0, 2) for h in ends]]
    return [y, *ends]


def in_reverse(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Each sequence from its own last step to its first; what is behind it stays."""
    if lengths is None:
        return x[::-1]
    turned = x.copy()
    for row, count in enumerate(lengths):
        turned[:count, row] = x[:count, row][::-1]
    return turned


def tolerance(node: Node, expected: list[np.ndarray]) -> float:
    """Rounding at its worst while no step magnifies what it is given: each step rounds a sum of
    I + H products, two biases and some ten operations behind it, once on either side."""
    x, r = node.values["X"], node.values["R"]
    steps = x.shape[1 if node.batch_first else 0]
    operations = x.shape[2] + r.shape[2] + 12
    largest = max(1.0, *[float(np.abs(value).max(initial=0.0)) for value in expected])
    return 2 * steps * operations * float(np.finfo(np.float32).eps) * largest


def random_node(seed: int, kind: str) -> Node:
    """With every attribute and input that ONNX Runtime has, by chance; weights small enough that no
    step magnifies errors."""
    rng = np.random.default_rng(seed)
    steps, batch, inputs, hidden = (int(n) for n in rng.integers(1, [8, 5, 7, 9]))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    bound = 1 / np.sqrt(hidden)

    def values(*shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    rows = GATES[kind] * hidden
    node = Node(kind, {"X": rng.standard_normal((steps, batch, inputs)).astype(np.float32)})
    node.values |= {
        "W": values(directions, rows, inputs),
        "R": values(directions, rows, hidden),
    }
    node.attributes = {"direction": direction, "hidden_size": hidden}
    if rng.random() < 0.7:
        node.values["B"] = values(directions, 2 * rows)
    if rng.random() < 0.4:
        node.values["sequence_lens"] = rng.integers(1, steps + 1, batch).astype(np.int32)
        node.fed += ("sequence_lens",)
    if rng.random() < 0.5:
        for name in ("initial_h", "initial_c")[: 1 + (kind == "LSTM")]:
            node.values[name] = values(directions, batch, hidden)
        node.fed += ("initial_h", "initial_c")
    if kind == "LSTM":
        _lstm_attributes(node, rng, values(directions, 3 * hidden), directions)
    elif kind == "GRU":
        node.attributes["linear_before_reset"] = int(rng.integers(2))
    elif rng.random() < 0.5:
        node.attributes["activations"] = [str(rng.choice(["Relu", "Tanh"]))] * directions
    return node


# Name -> how many of alpha and beta it has; slopes stay at one or below.
_ACTIVATIONS = {
    "Sigmoid": 0, "Tanh": 0, "HardSigmoid": 2, "Relu": 0, "LeakyRelu": 1, "ThresholdedRelu": 1,
    "Elu": 1, "Softsign": 0, "Softplus": 0, "ScaledTanh": 2, "Affine": 2,
}  # fmt: skip


def _lstm_attributes(
    node: Node, rng: np.random.Generator, peepholes: np.ndarray, directions: int
) -> None:
    if rng.random() < 0.4:
        node.values["P"] = peepholes
    if rng.random() < 0.3:
        node.attributes["clip"] = float(rng.uniform(0.2, 1.0))
    if rng.random() < 0.3:
        node.attributes["input_forget"] = 1
    if rng.random() < 0.6:
        gates = ["Sigmoid", "HardSigmoid"]
        names = [str(rng.choice(gates)), *[str(n) for n in rng.choice([*_ACTIVATIONS], 2)]]
        alpha = [round(float(rng.uniform(0.2, 1)), 3) for n in names if _ACTIVATIONS[n] > 0]
        beta = [round(float(rng.uniform(0.2, 1)), 3) for n in names if _ACTIVATIONS[n] > 1]
        node.attributes["activations"] = names * directions
        if alpha:
            node.attributes["activation_alpha"] = alpha * directions
        if beta:
            node.attributes["activation_beta"] = beta * directions
