# SPDX-License-Identifier: BSD-3-Clause
"""ONNX graphs that are a plain chain: recurrent layers, dense layers, activations, an embedding."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from . import onnx_moves
from .description import Array, Layer
from .onnx_graph import Scope
from .other import Other

# ONNX's activations between layers -> ours, with the attributes that are their numbers.
_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "Relu": ("relu", {}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "Softmax": ("softmax", {}),
    "LogSoftmax": ("log_softmax", {}),
    "Softsign": ("softsign", {}),
    "Softplus": ("softplus", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Elu": ("elu", {"alpha": 1.0}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
}


# What final states pass on their way to an output of the graph.
_OF_STATES = {
    "Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
# Axes of what a chain puts out.
_OUTPUTS = (["B", "T", "F"], ["T", "B", "F"], ["B", "F"])


class BranchError(Exception):
    """The graph is no plain chain; the text says why."""


def _final_states(scope: Scope, nodes: Mapping[str, Any]) -> tuple[list[str], Counter[str]]:
    """The outputs of the graph that are final states of recurrent nodes, whatever their shape; and
    how often they and the nodes that move them read each value."""
    recurrent = {id(node) for node in nodes.values()}
    states: set[str] = set()
    moves: list[Any] = []
    for node in scope.nodes:  # what a node reads is made by those before it
        if id(node) in recurrent:
            states |= {name for name in node.output[1:] if name}
        elif node.op_type in _OF_STATES and node.domain in ("", "ai.onnx"):
            given = [name for name in node.input if name]
            if any(name in states for name in given) and all(
                name in states or scope.of_shapes(name) for name in given
            ):
                moves.append(node)
                states |= {*node.output}
    found = [value.name for value in scope.graph.output if value.name in states]
    reads = Counter(found)
    for node in reversed(moves):
        if any(reads[name] for name in node.output):
            reads.update(node.input)
            if any(scope.readers[name] > reads[name] for name in node.output):
                raise BranchError(f"{node.output[0]}, a final state, is an output and read as well")
    return found, reads


class Chain:
    """A walk from the only input to the only output, final states apart.

    `axes` are the axes of the current value: "T", "B", and "F" for the columns; before the first
    recurrent layer says which is which, the first two are "0" and "1".
    """

    def __init__(
        self, scope: Scope, stacks: Mapping[str, Sequence[Layer]], nodes: Mapping[str, Any]
    ) -> None:
        self.scope, self.nodes = scope, nodes
        self.stacks = {name: list(layers) for name, layers in stacks.items()}
        self.parts: list[str | Other] = []
        graph = scope.graph
        inputs = [value.name for value in graph.input if value.name not in scope.initializers]
        self.states, self._of_states = _final_states(scope, nodes)
        ends = [value.name for value in graph.output if value.name not in self.states]
        if len(inputs) != 1 or len(ends) != 1:
            beside = f", beside {len(self.states)} of final states" if self.states else ""
            raise BranchError(f"it has {len(inputs)} inputs and {len(ends)} outputs{beside}")
        self.current, self.end = inputs[0], ends[0]
        rank = len(scope.declared(self.current))
        if rank not in (2, 3):
            raise BranchError(f"its input has {rank} axes")
        self.axes = ["0", "1", "F"][:rank]
        self.time_major: list[bool] = []
        self._names = {id(node): name for name, node in zip(scope.names, scope.nodes, strict=True)}
        self._readers: dict[str, list[Any]] = {}
        for node in scope.nodes:
            if node.op_type != "Shape":
                for each in {*node.input}:
                    self._readers.setdefault(each, []).append(node)
        self._moves: onnx_moves.Moves | None = None

    def walk(self) -> None:
        """All the way; BranchError where something else than a chain comes."""
        end = self.end
        for _ in self.scope.nodes:
            if self.current == end:
                break
            readers = self._readers.get(self.current, [])
            beside = self._beside()
            if beside is not None:
                readers = [beside]
            elif len(readers) != 1 or self.scope.readers[self.current] != 1:
                count = self.scope.readers[self.current]
                where = f"is read {count} times" if readers else "is read in another graph"
                raise BranchError(f"{self.current} {where}")
            self._step(readers[0])
        if self.current != end:
            raise BranchError("it does not lead from the input to the output")
        if self._moves is not None or self.axes not in _OUTPUTS:
            raise BranchError("its output is no (B, T, columns) and no (B, columns)")
        if len(self.axes) == 3:
            self.time_major.append(self.axes[0] == "T")
        if len([part for part in self.parts if isinstance(part, str)]) != len(self.stacks):
            raise BranchError("it has recurrent layers apart from the chain")

    def _beside(self) -> Any:
        """The node that lays the directions of a layer, cut apart, beside each other; or None."""
        if self._moves is None or len(self._readers.get(self.current, [])) != 2:
            return None
        for node in self.scope.nodes:
            found = onnx_moves.halves(self.scope, node) if node.op_type == "Concat" else None
            if found is not None and found[0] == self.current:
                return node
        return None

    def _step(self, node: Any) -> None:
        kind, name = node.op_type, self._names[id(node)]
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if name in self.stacks:
            self._recurrent(node, name)
            return
        if node.domain not in ("", "ai.onnx"):
            raise BranchError(f"{name} ({kind} of {node.domain}) is no operator of ONNX")
        if self._moves is not None:
            if not self._moves.move(node):
                raise BranchError(f"{name} ({kind}) moves axes in a way that is not known")
            if "D" not in self._moves.axes:
                self.axes = ["F" if axis == "DH" else axis for axis in self._moves.axes]
                self._moves = None
        elif kind == "Transpose" and len(self.axes) == 3:
            perm = list(attributes["perm"].ints) if "perm" in attributes else [2, 1, 0]
            if sorted(perm) != [0, 1, 2]:
                raise BranchError(f"{name} (Transpose) has {len(perm)} axes")
            self.axes = [self.axes[at] for at in perm]
        elif kind == "Gather":
            self._gather(node, name, attributes)
            self.axes = [axis for axis in self.axes if axis != "last"]
        elif kind == "Slice":
            self._slice(node, name)
        elif kind == "Squeeze":
            self._squeeze(node, name, attributes)
        elif kind in ("MatMul", "Gemm", "Add"):
            self._dense(node, name, attributes)
        elif kind in _ACTIVATIONS:
            self._activation(kind, name, attributes)
        elif kind != "Identity" and not onnx_moves.is_idle(self.scope, node):
            raise BranchError(f"{name} ({kind}) is no layer of a chain")
        self.current = node.output[0]

    def _recurrent(self, node: Any, name: str) -> None:
        layers = self.stacks[name]
        first, last = layers[0], self.nodes[layers[-1].name]
        if self._moves is not None or len(self.axes) != 3 or node.input[0] != self.current:
            raise BranchError(f"{name} does not read the chain")
        if first.has_lengths or first.has_state:
            raise BranchError(f"{name} is given {'lengths' if first.has_lengths else 'a state'}")
        wanted = ["B", "T", "F"] if first.batch_first else ["T", "B", "F"]
        if "0" in self.axes:
            known = dict(zip(self.axes, wanted, strict=True))
            if known.get("F") != "F":
                raise BranchError(f"{name} reads its input's columns as time or batch")
            self.time_major.append(known["0"] == "T")
            self.axes = wanted
        if self.axes != wanted:
            raise BranchError(f"{name} reads time and batch exchanged")
        for layer in layers:
            for state in self.nodes[layer.name].output[1:]:
                if state and self.scope.readers[state] > self._of_states[state]:
                    raise BranchError(f"the final state of {name} is read")
        self.parts.append(name)
        self._moves = onnx_moves.Moves(self.scope, layers[-1])
        self.current = last.output[0]

    def _gather(self, node: Any, name: str, attributes: dict[str, Any]) -> None:
        """An embedding of the input, or the last step of a layer."""
        axis = attributes["axis"].i if "axis" in attributes else 0
        table = self.scope.constant(node.input[0])
        if table is not None and table.ndim == 2 and axis == 0 and self.axes == ["0", "1"]:
            self.parts.append(Other(name, "embedding", {}, {"embeddings": table}))
            self.axes = ["0", "1", "F"]
            return
        at = self.scope.constant(node.input[1]) if node.input[0] == self.current else None
        if at is None or at.ndim or int(at) != -1:
            raise BranchError(f"{name} (Gather) is neither an embedding nor a last step")
        self._last_step(name, axis)

    def _last_step(self, name: str, axis: int) -> None:
        """The last stack puts out its last step alone, which a node takes along an axis."""
        top = self.parts[-1] if self.parts else None
        layers = self.stacks[top] if isinstance(top, str) else []
        fit = layers and not layers[-1].bidirectional and not layers[-1].go_backwards
        if not fit or not -3 <= axis < len(self.axes) or self.axes[axis] != "T":
            raise BranchError(f"{name} takes something else than a layer's last step")
        layers[-1] = dataclasses.replace(layers[-1], return_sequences=False)
        self.axes[axis] = "last"

    def _slice(self, node: Any, name: str) -> None:
        """From the last step on: an axis of one."""
        arrays = [self.scope.constant(each) for each in node.input[1:] if each]
        found = [array.reshape(-1).tolist() for array in arrays if array is not None]
        if len(found) < 3 or [len(part) for part in found] != [1] * len(node.input[1:]):
            raise BranchError(f"{name} (Slice) is no last step")
        (start,), (end,), (axis,), *steps = found
        if start != -1 or end < 1 << 30 or steps not in ([], [[1]]):
            raise BranchError(f"{name} (Slice) is no last step")
        self._last_step(name, axis)

    def _squeeze(self, node: Any, name: str, attributes: dict[str, Any]) -> None:
        """The last step without its axis."""
        axes = list(attributes["axes"].ints) if "axes" in attributes else []
        if len(node.input) > 1:
            given = self.scope.constant(node.input[1])
            axes = [] if given is None else [int(axis) for axis in given.reshape(-1)]
        if len(axes) != 1 or not -3 <= axes[0] < len(self.axes) or self.axes[axes[0]] != "last":
            raise BranchError(f"{name} (Squeeze) is of no last step")
        del self.axes[axes[0]]

    def _dense(self, node: Any, name: str, attributes: dict[str, Any]) -> None:
        """x W, its bias, or both."""
        others = [each for each in node.input if each != self.current]
        arrays = [self.scope.constant(each) for each in others]
        given = [array for array in arrays if array is not None]
        if len(given) < len(arrays) or len(node.input) == len(others) or self.axes[-1] != "F":
            raise BranchError(f"{name} ({node.op_type}) is no dense layer")
        if node.op_type == "Add":
            self._bias(name, given)
            return
        plain = all(
            attributes[key].f == 1 for key in ("alpha", "beta") if key in attributes
        ) and not ("transA" in attributes and attributes["transA"].i)
        kernel = given[0] if given else None
        if node.input[0] != self.current or kernel is None or kernel.ndim != 2 or not plain:
            raise BranchError(f"{name} ({node.op_type}) is no dense layer")
        if "transB" in attributes and attributes["transB"].i:
            kernel = kernel.T
        weights = {"kernel": kernel}
        if len(given) > 1:
            columns = kernel.shape[1]
            if given[1].shape not in ((), (1,), (1, 1), (columns,), (1, columns)):
                raise BranchError(f"{name} (Gemm) adds something else than a bias")
            weights["bias"] = given[1].reshape(-1)
        self.parts.append(Other(name, "dense", {}, weights))

    def _bias(self, name: str, given: list[Array]) -> None:
        last = self.parts[-1] if self.parts else None
        if (
            not isinstance(last, Other)
            or last.kind != "dense"
            or "bias" in last.weights
            or len(given) != 1
            or given[0].shape != (last.weights["kernel"].shape[1],)
        ):
            raise BranchError(f"{name} (Add) adds something else than a dense layer's bias")
        weights = {**last.weights, "bias": given[0]}
        self.parts[-1] = dataclasses.replace(last, weights=weights)

    def _activation(self, kind: str, name: str, attributes: dict[str, Any]) -> None:
        ours, settings = _ACTIVATIONS[kind]
        numbers = [
            float(attributes[key].f) if key in attributes else value
            for key, value in settings.items()
        ]
        if kind in ("Softmax", "LogSoftmax"):
            usual = -1 if self.scope.source.opset >= 13 else 1  # all from there on together
            axis = attributes["axis"].i if "axis" in attributes else usual
            if axis not in (-1, len(self.axes) - 1) or self.axes[-1] != "F":
                raise BranchError(f"{name} ({kind}) is of another axis than the columns")
        config = {"activation": [ours, *numbers] if numbers else ours}
        self.parts.append(Other(name, "activation", config))
