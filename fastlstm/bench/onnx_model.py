# SPDX-License-Identifier: BSD-3-Clause
"""An ONNX model of a stack of layers, with weights in torch's layout as the source."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Shape

# torch keeps an LSTM's gates as i f g o, ONNX as i o f c; a GRU's as r z n, ONNX as z r h.
GATE_ORDERS = {
    "lstm": (0, 3, 1, 2),
    "gru": (1, 0, 2),
    "gru_reset_before": (1, 0, 2),
    "rnn_tanh": (0,),
    "rnn_relu": (0,),
}
NODES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn_tanh": "RNN",
    "rnn_relu": "RNN",
}
ACTIVATIONS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "hard_sigmoid": "HardSigmoid",
    "softsign": "Softsign",
    "softplus": "Softplus",
}
"""Names of both; with their own alpha and beta only."""
PEEPHOLES = ("weight_ci", "weight_co", "weight_cf")
KINDS = {"gate_activation": "sigmoid", "candidate_activation": "tanh", "output_activation": "tanh"}
OPSET = 17


def lacks(shape: Shape) -> str | None:
    """What of the shape an ONNX model cannot say, or does not here; None for nothing."""
    if shape.proj:
        return "ONNX has no projection"
    for name, value in shape.options:
        if name in KINDS and value not in ACTIVATIONS:
            return f"the ONNX model here has no {value}"
        if name not in (*KINDS, "peepholes", "coupled", "gate_clip"):
            return f"ONNX has no {name}"
    return None


def _reorder(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    order, hidden = GATE_ORDERS[shape.cell], shape.H
    return np.concatenate([values[g * hidden : (g + 1) * hidden] for g in order])


def _options(shape: Shape) -> dict[str, Any]:
    """Attributes of a layer's node that its cell asks for."""
    if NODES[shape.cell] == "GRU":
        return {"linear_before_reset": int(shape.cell == "gru")}
    if shape.cell == "rnn_relu":
        return {"activations": ["Relu"] * shape.directions}
    options = dict(shape.options)
    found: dict[str, Any] = {}
    if KINDS.keys() & options.keys():
        names = [ACTIVATIONS[options.get(name, usual)] for name, usual in KINDS.items()]
        found["activations"] = names * shape.directions
    if options.get("coupled"):
        found["input_forget"] = 1
    if "gate_clip" in options:
        found["clip"] = float(options["gate_clip"])
    return found


def build(shape: Shape, params: dict[str, NDArray[Any]]) -> Any:
    """The model as an ``onnx.ModelProto``.

    Inputs   x (T, B, I); lengths int32 (B,) if ragged;
             h_0_l<k> and, of an LSTM, c_0_l<k> (1, B, H) for each layer if it is a stream
    Outputs  y (T, B, D*H); h_n_l<k> and c_n_l<k> likewise if it is a stream
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    element = TensorProto.DOUBLE if shape.dtype == "float64" else TensorProto.FLOAT
    directions, hidden = shape.directions, shape.H
    state_dims = [directions, shape.B, hidden]

    def value(name: str, dims: list[int], kind: int = element) -> Any:
        return helper.make_tensor_value_info(name, kind, dims)

    inputs = [value("x", [shape.T, shape.B, shape.I])]
    outputs = [value("y", [shape.T, shape.B, directions * hidden])]
    if shape.ragged:
        inputs.append(value("lengths", [shape.B], TensorProto.INT32))
    nodes, initializers = [], []

    def constant(name: str, array: NDArray[Any]) -> str:
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    flat = constant("flat", np.array([shape.T, shape.B, directions * hidden], np.int64))
    axis = constant("direction_axis", np.array([1], np.int64))
    current = "x"
    for layer in range(shape.layers):
        suffixes = [f"l{layer}", f"l{layer}_reverse"][:directions]
        stacked = {
            name: np.stack([_reorder(params[f"{name}_{s}"], shape) for s in suffixes])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        bias = np.concatenate([stacked["bias_ih"], stacked["bias_hh"]], axis=1)
        names = [
            current,
            constant(f"W_l{layer}", stacked["weight_ih"]),
            constant(f"R_l{layer}", stacked["weight_hh"]),
            constant(f"B_l{layer}", bias),
            "lengths" if shape.ragged else "",
        ]
        if "weight_ci_l0" in params:  # of i, o and f
            peepholes = [
                np.concatenate([params[f"{name}_{s}"] for name in PEEPHOLES]) for s in suffixes
            ]
            peephole = constant(f"P_l{layer}", np.stack(peepholes))
        results = [f"Y_l{layer}"]
        if shape.stream:
            states = [f"{letter}_0_l{layer}" for letter in shape.states]
            finals = [f"{letter}_n_l{layer}" for letter in shape.states]
            inputs += [value(name, state_dims) for name in states]
            outputs += [value(name, state_dims) for name in finals]
            names += states
            results += finals
        if "weight_ci_l0" in params:
            names += [""] * (7 - len(names)) + [peephole]
        nodes.append(
            helper.make_node(
                NODES[shape.cell],
                names,
                results,
                hidden_size=hidden,
                direction="bidirectional" if shape.bidirectional else "forward",
                **_options(shape),
            )
        )
        # Y is (T, D, B, H); one direction needs no data moved to become (T, B, H).
        current = "y" if layer == shape.layers - 1 else f"x_l{layer + 1}"
        if directions == 1:
            nodes.append(helper.make_node("Squeeze", [results[0], axis], [current]))
        else:
            turned = f"turned_l{layer}"
            nodes.append(helper.make_node("Transpose", [results[0]], [turned], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [turned, flat], [current]))
    graph = helper.make_graph(nodes, "layers", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return model
