# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm models as ONNX models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import fastlstm
from fastlstm import checks, saving

from . import onnx_words
from .description import Array, Layer, Model, describe
from .errors import Unsupported, library
from .gates import ONNX_PEEPHOLES, from_torch

OPSET = 17
_NODES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
_LARGEST = (1 << 31) - 1  # bytes that a protobuf message may have


def to_onnx(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    *,
    lengths: bool = False,
    state: bool = False,
) -> Any:
    """Write a model, or a cell, as an ONNX model that computes the same.

    Time and batch may have any size. Weights are written bit for bit, both biases of torch
    included; dropout, which inference does not have, is not written.

    Parameters
    ----------
    model : LSTM, GRU, RNN or one of their cells
        What to write.
    path : str or os.PathLike of str, optional
        Where to write it; None: nowhere.
    lengths : bool, default False
        Whether the ONNX model has an input `lengths`, int32 (B,): the steps of each sequence.
    state : bool, default False
        Whether it has inputs `h_0` and, of an LSTM, `c_0`, as a call of the model. Cells always
        have them.

    Returns
    -------
    onnx.ModelProto
        With inputs `x` and those asked for, and outputs `y`, `h_n` and, of an LSTM, `c_n`, in the
        shapes of a call of the model; of a cell `h_n` and `c_n`.

    Raises
    ------
    Unsupported
        ONNX has no such layer: one with a projection, or with options beyond peepholes, a coupled
        forget gate, gate_clip and activations.
    ValueError
        The model has more than 2 GiB, or is a cell and `lengths` is asked for.
    TypeError
        `model` is no model.
    OSError
        It cannot be written.
    ImportError
        onnx is not installed.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> model = interop.to_onnx(fastlstm.GRU(3, 4, seed=0), "model.onnx", lengths=True)
    >>> [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    (['x', 'lengths'], ['y', 'h_n'])
    """
    onnx = library("onnx", "onnx", "write ONNX files")
    checks.flag("lengths", lengths)
    checks.flag("state", state)
    layers = describe(model)
    cell = layers[0].cell
    if cell and lengths:
        raise ValueError("lengths must be False for a cell, which takes one step")
    if sum(layer.parameters * layer.dtype.itemsize for layer in layers) > _LARGEST:
        raise ValueError("model has more than the 2 GiB that an ONNX file can hold")
    graph = _Graph(onnx, layers, cell, lengths, state or cell)
    proto = onnx.helper.make_model(
        graph.made(),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="fastlstm",
        producer_version=fastlstm.__version__,
    )
    onnx.checker.check_model(proto)
    if path is not None:
        saving.write(saving.name_of(path), proto.SerializeToString())
    return proto


class _Graph:
    """Nodes, inputs, outputs and constants while a model is written.

    Inside, arrays are time-major, as ONNX Runtime takes them: x (T, B, I), Y (T, D, B, H).
    """

    def __init__(
        self, onnx: Any, layers: list[Layer], cell: bool, lengths: bool, state: bool
    ) -> None:
        self.onnx, self.layers, self.cell = onnx, layers, cell
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.states = ("h", "c") if layers[0].kind == "lstm" else ("h",)
        first = layers[0]
        double = onnx.TensorProto.DOUBLE
        self.element = double if first.dtype == np.float64 else onnx.TensorProto.FLOAT
        self.directions, self.hidden = len(first.weights), first.hidden_size
        axes: list[Any] = ["batch", "time"] if first.batch_first else ["time", "batch"]
        axes = ["batch"] if cell else axes
        wide = [len(layers) * self.directions, "batch", self.hidden]
        of_state = ["batch", self.hidden] if cell else wide
        self.inputs = [self.value("x", [*axes, first.input_size])]
        if lengths:
            self.inputs.append(self.value("lengths", ["batch"], onnx.TensorProto.INT32))
        if state:
            self.inputs += [self.value(f"{letter}_0", of_state) for letter in self.states]
        self.outputs = [self.value(f"{letter}_n", of_state) for letter in self.states]
        if not cell:
            y = self.value("y", [*axes, self.directions * self.hidden])
            self.outputs.insert(0, y)
        self.lengths, self.state = lengths, state

    def value(self, name: str, dims: list[Any], kind: int | None = None) -> Any:
        """An input or output; axes that are names may have any size."""
        return self.onnx.helper.make_tensor_value_info(name, kind or self.element, dims)

    def constant(self, name: str, array: Array) -> str:
        """A value that the model holds."""
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """One more node, named by its first output."""
        name = f"{kind}_{outputs[0]}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, outputs, name, **attributes))

    def made(self) -> Any:
        """The graph, all layers written."""
        first, last = self.layers[0], len(self.layers) - 1
        below = "x"
        if self.cell:
            axis = self.constant("axis_0", np.array([0], np.int64))
            below = "x_step"
            self.node("Unsqueeze", ["x", axis], [below])
        elif first.batch_first:
            below = "x_time_major"
            self.node("Transpose", ["x"], [below], perm=[1, 0, 2])
        starts = self._starts()
        for at, layer in enumerate(self.layers):
            self._layer(at, layer, below, starts[at])
            if self.cell:
                continue
            below = f"y_l{at}" if at < last or first.batch_first else "y"
            self._flattened(f"Y_l{at}", below)
        if first.batch_first and not self.cell:
            self.node("Transpose", [below], ["y"], perm=[1, 0, 2])
        for letter in self.states:
            ends = [f"{letter}_n_l{at}" for at in range(last + 1)]
            if self.cell:
                self.node("Squeeze", [*ends, "axis_0"], [f"{letter}_n"])
            elif last:
                self.node("Concat", ends, [f"{letter}_n"], axis=0)
            else:
                self.node("Identity", ends, [f"{letter}_n"])
        return self.onnx.helper.make_graph(
            self.nodes, "fastlstm", self.inputs, self.outputs, self.constants
        )

    def _starts(self) -> list[list[str]]:
        """Names of each layer's initial state."""
        count = len(self.layers)
        if not self.state:
            return [[] for _ in self.layers]
        found: list[list[str]] = [[] for _ in self.layers]
        for letter in self.states:
            whole = f"{letter}_0"
            names = [f"{letter}_0_l{at}" for at in range(count)]
            if self.cell:
                self.node("Unsqueeze", [whole, "axis_0"], names)
            elif count > 1:
                parts = "layers" if letter == "c" else self.constant(
                    "layers", np.full(count, self.directions, np.int64)
                )  # fmt: skip
                self.node("Split", [whole, parts], names, axis=0)
            else:
                names = [whole]
            for start, name in zip(found, names, strict=True):
                start.append(name)
        return found

    def _layer(self, at: int, layer: Layer, below: str, start: list[str]) -> None:
        """The node of one layer with its weights."""
        kind = layer.kind
        if layer.proj_size:
            raise Unsupported("model", layer.name, "ONNX has no LSTM with a projection (proj_size)")
        stacked = {
            name: np.stack([from_torch(mapping[name], kind, "onnx") for mapping in layer.weights])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            if name in layer.weights[0]
        }
        inputs = [
            below,
            self.constant(f"W_l{at}", stacked["weight_ih"]),
            self.constant(f"R_l{at}", stacked["weight_hh"]),
            "",
            "lengths" if self.lengths else "",
            *(start or [""] * len(self.states)),
        ]
        if layer.bias:
            both = np.concatenate([stacked["bias_ih"], stacked["bias_hh"]], axis=1)
            inputs[3] = self.constant(f"B_l{at}", both)
        attributes: dict[str, Any] = {}
        if kind == "gru":
            attributes["linear_before_reset"] = int(layer.reset_after)
        elif kind == "rnn" and layer.nonlinearity == "relu":
            attributes["activations"] = ["Relu"] * self.directions
        elif layer.options is not None:
            try:
                attributes = onnx_words.attributes_of(layer.options, self.directions)
            except onnx_words.Unknown as error:
                raise Unsupported("model", layer.name, str(error)) from error
            if layer.options.peepholes:
                rows = [
                    np.concatenate([mapping[f"weight_c{gate}"] for gate in ONNX_PEEPHOLES])
                    for mapping in layer.weights
                ]
                inputs.append(self.constant(f"P_l{at}", np.stack(rows)))
        while not inputs[-1]:
            inputs.pop()
        ends = [f"{letter}_n_l{at}" for letter in self.states]
        self.node(
            _NODES[kind],
            inputs,
            ["" if self.cell else f"Y_l{at}", *ends],
            hidden_size=self.hidden,
            direction="bidirectional" if layer.bidirectional else "forward",
            **attributes,
        )

    def _flattened(self, y: str, name: str) -> None:
        """Y (T, D, B, H) as (T, B, D*H)."""
        if self.directions == 1:
            if not any(constant.name == "axis_1" for constant in self.constants):
                self.constant("axis_1", np.array([1], np.int64))
            self.node("Squeeze", [y, "axis_1"], [name])
            return
        if not any(constant.name == "flat" for constant in self.constants):
            self.constant("flat", np.array([0, 0, self.directions * self.hidden], np.int64))
        self.node("Transpose", [y], [f"{y}_turned"], perm=[0, 2, 1, 3])
        self.node("Reshape", [f"{y}_turned", "flat"], [name])
