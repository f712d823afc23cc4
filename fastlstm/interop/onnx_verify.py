# SPDX-License-Identifier: BSD-3-Clause
"""ONNX Runtime against fastlstm on the recurrent layers of a file.

Each layer of a stack runs as a node of its own in ONNX Runtime, with the nodes of the file that
make its weights, so that what the importer folded and reordered is what is compared.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .description import Array, Layer, stack
from .errors import library
from .onnx_graph import Scope
from .onnx_reader import from_onnx, is_recurrent, opened, scope_of

_STEPS, _BATCH = 9, 3
_WEIGHTS = {"DynamicQuantizeLSTM": (1, 2, 3, 7, 8, 9, 10, 11)}


def verify(
    path: str | os.PathLike[str] | bytes | Any, *, external_data: bool = False, seed: int = 0
) -> dict[str, float]:
    """Run the recurrent layers of an ONNX model in ONNX Runtime and here.

    Parameters
    ----------
    path : path, bytes or onnx.ModelProto
        As of `from_onnx`.
    external_data : bool, default False
        As of `from_onnx`.
    seed : int, default 0
        Of the random inputs and initial states.

    Returns
    -------
    dict of str to float
        Name of each layer of `from_onnx(path).layers` -> largest difference of the outputs.

    Raises
    ------
    FormatError, TypeError, OSError, ImportError
        As `from_onnx`; onnxruntime is needed as well.
    """
    runtime = library("onnxruntime", "onnx", "verify ONNX files")
    imported = from_onnx(path, external_data=external_data)
    scope = scope_of(opened(path, external_data))
    nodes = {name: (inside, node) for inside, name, node in scope.walk() if is_recurrent(node)}
    rng = np.random.default_rng(seed)
    found = {}
    for name, layers in imported.stacks.items():
        first = layers[0]
        x = rng.standard_normal((_STEPS, _BATCH, first.input_size)).astype(first.dtype)
        theirs, states = x, []
        for layer in layers:
            state = _state(layer, rng)
            states.append(state)
            theirs = _by_runtime(runtime, *nodes[layer.name], layer, theirs, state)
        ours = _by_fastlstm(layers, x, states)
        found[name] = float(np.abs(ours.astype(np.float64) - theirs).max())
    return found


def _state(layer: Layer, rng: np.random.Generator) -> list[Array]:
    """An initial state, (D, B, H) each."""
    shape = (len(layer.weights), _BATCH, layer.hidden_size)
    count = 2 if layer.kind == "lstm" else 1
    return [rng.uniform(-0.5, 0.5, shape).astype(layer.dtype) for _ in range(count)]


def _by_runtime(
    runtime: Any, scope: Scope, node: Any, layer: Layer, x: Array, state: list[Array]
) -> Array:
    """Outputs (T, B, D*H) of one node of the file, x (T, B, I)."""
    onnx = library("onnx", "onnx", "verify ONNX files")
    helper = onnx.helper
    alone = onnx.NodeProto.FromString(node.SerializeToString())
    kept = [a for a in node.attribute if a.name != "layout"]  # ONNX Runtime has the one only
    del alone.attribute[:]
    alone.attribute.extend(kept)
    at = _WEIGHTS.get(node.op_type, (1, 2, 3, 7))
    nodes: list[Any] = []
    tensors: dict[str, Any] = {}
    names = {i: node.input[i] for i in at if i < len(node.input) and node.input[i]}
    renamed = {}
    for name in dict.fromkeys(names.values()):
        renamed[name] = _copied(scope, name, nodes, tensors)
    inputs = ["x", *[""] * 4, "h_0", *["c_0"] * (layer.kind == "lstm")]
    inputs += [""] * (max(names) + 1 - len(inputs))
    for i, name in names.items():
        inputs[i] = renamed[name]
    del alone.input[:]
    alone.input.extend(inputs)
    del alone.output[:]
    alone.output.append("y")
    element = helper.np_dtype_to_tensor_dtype(layer.dtype)
    feeds = {"x": x, **dict(zip(("h_0", "c_0"), state, strict=False))}
    graph = helper.make_graph(
        [*nodes, alone],
        "alone",
        [helper.make_tensor_value_info(key, element, value.shape) for key, value in feeds.items()],
        [helper.make_tensor_value_info("y", element, None)],
        list(tensors.values()),
    )
    model = scope.source.model
    proto = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, feeds)
    steps, directions, batch, hidden = y.shape
    flat: Array = y.transpose(0, 2, 1, 3).reshape(steps, batch, directions * hidden)
    return flat


def _copied(scope: Scope, name: str, nodes: list[Any], tensors: dict[str, Any]) -> str:
    """The name, in another graph, of a constant value: it and the nodes that make it are copied
    there, their names after the graph that they come from."""
    owner = scope.owner(name)
    assert owner is not None
    whole = f"{id(owner)}/{name}"
    if whole in tensors or any(whole in node.output for node in nodes):
        return whole
    onnx = library("onnx", "onnx", "verify ONNX files")
    if name in owner.initializers:
        array = owner.source.tensor(owner.initializers[name], name)
        tensors[whole] = onnx.numpy_helper.from_array(array, whole)
        return whole
    made = onnx.NodeProto.FromString(owner.makers[name].SerializeToString())
    inputs = [_copied(owner, each, nodes, tensors) if each else "" for each in made.input]
    outputs = [f"{id(owner)}/{each}" if each else "" for each in made.output]
    del made.input[:], made.output[:]
    made.input.extend(inputs)
    made.output.extend(outputs)
    nodes.append(made)
    return whole


def _by_fastlstm(layers: list[Layer] | Any, x: Array, states: list[list[Array]]) -> Array:
    """Outputs (T, B, D*H) of the layers as one object."""
    model: Any = stack(layers)
    parts = [np.concatenate(part) for part in zip(*states, strict=True)]
    state = parts[0] if len(parts) == 1 else tuple(parts)
    turn = slice(None, None, -1) if layers[0].go_backwards else slice(None)
    given = np.ascontiguousarray(x[turn])
    if model.batch_first:
        given = given.transpose(1, 0, 2)
    y, _ = model(given, state)
    y = y.transpose(1, 0, 2) if model.batch_first else y
    return np.asarray(y[turn])
