# SPDX-License-Identifier: BSD-3-Clause
"""ONNX graphs, with graphs in their nodes: who makes a value, and what it is where it is constant.

Constants are folded by ONNX's own reference operators, and of a short list only, none of which
makes much of little: memory is bounded by the file's size.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError, Unsupported, library, reading

Array = NDArray[Any]

# What weights pass on their way to a node.
FOLDED = {
    "Constant", "Identity", "Transpose", "Slice", "Concat", "Unsqueeze", "Squeeze", "Split", "Cast",
    "Gather", "Reshape", "DequantizeLinear",
}  # fmt: skip
# What hands on the values of its first input (Concat: of all of them), whatever the shapes.
_MOVES = FOLDED - {"Constant", "DequantizeLinear"} | {"Expand", "Tile"}
# Bytes of arrays for each byte of the file, at most: of int8 weights there are the integers, the
# floats, and these in another order.
_EXPANSION = 10
_MOST_NODES = 200_000  # of a model, its functions written out


class Source:
    """A model, where it came from, and how much memory may be spent on it."""

    def __init__(
        self, model: Any, file: str, size: int, folder: str | None, of_path: bool = False
    ) -> None:
        self.model, self.file, self.folder, self._of_path = model, file, folder, of_path
        self._left = _EXPANSION * size + (1 << 20)
        self._seen: set[str] = set()
        self.notes: list[str] = []
        self.names: set[str] = set()
        """of all nodes, each of which has one of its own"""

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 1 where the file says none."""
        own = (o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx"))
        return max(own, default=1)

    def spend(self, count: int, place: str, made: int | None = None) -> None:
        """Account for bytes allocated, `count` at most, `made` where that is known; a FormatError
        where the file is too small to ask for so many."""
        left = self._left - count
        self._left -= count if made is None else made
        if left < 0:
            raise FormatError(
                self.file, place, "its constants take many times the bytes of the whole file"
            )

    def tensor(self, tensor: Any, place: str) -> Array:
        """A TensorProto as an array."""
        numpy_helper = library("onnx.numpy_helper", "onnx", "read ONNX files")
        if tensor.data_location == 1:  # EXTERNAL
            self._load_external(tensor, place)
        with reading(self.file, place):
            if tensor.data_type == 8:  # STRING
                raise ValueError("it holds text where numbers belong")
            size = int(np.prod([max(n, 0) for n in tensor.dims], dtype=object))
            stored = len(tensor.raw_data) * 2 or sum(
                len(getattr(tensor, field))
                for field in (
                    "float_data",
                    "int32_data",
                    "int64_data",
                    "double_data",
                    "uint64_data",
                )
            )
            if size > 2 * stored:
                raise ValueError(f"its shape {list(tensor.dims)} needs more bytes than there are")
            helper = library("onnx.helper", "onnx", "read ONNX files")
            item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            self.spend(size * item, place)
            return np.asarray(numpy_helper.to_array(tensor))

    def _load_external(self, tensor: Any, place: str) -> None:
        """Read a tensor's bytes from a file beside the model, from nowhere else."""
        helper = library("onnx.external_data_helper", "onnx", "read ONNX files")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            way = "read it with" if self._of_path else "give the model's path instead, with"
            raise Unsupported(
                self.file,
                place,
                f"its values lie in another file, {location!r}: {way} external_data=True (in a "
                "shell --external-data), which takes files of the model's folder only; or export "
                "it as one file (torch.onnx.export: external_data=False)",
            )
        folder = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(folder, location))
        if not location or os.path.commonpath([folder, path]) != folder:
            raise FormatError(self.file, place, f"{location!r} is not in the model's folder")
        if not os.path.isfile(path):
            raise FormatError(self.file, place, f"there is no file {location!r} beside the model")
        whole = os.path.getsize(path)
        with reading(self.file, place):
            start, count = int(entries.get("offset", 0)), int(entries.get("length", 0))
            if start < 0 or count < 0 or start + count > whole:
                raise ValueError(f"it asks for bytes that {location!r} ({whole}) does not have")
            self._left += 0 if path in self._seen else _EXPANSION * whole
            self._seen.add(path)
            self.spend(count or whole, place)
            helper.load_external_data_for_tensor(tensor, folder)


class Scope:
    """The values of one graph, and those of the graphs around it."""

    def __init__(self, source: Source, graph: Any, path: str = "", parent: Any = None) -> None:
        self.source, self.graph, self.path, self.parent = source, graph, path, parent
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input} | {
            tensor.values.name for tensor in graph.sparse_initializer
        }
        self.nodes = list(graph.node)  # kept, so that each stays one object with one id
        _all_text(source.file, path, self.nodes)
        self.makers: dict[str, Any] = {}
        for node in self.nodes:
            self.makers |= {name: node for name in node.output if name}
        self.readers: Counter[str] = Counter(value.name for value in graph.output)
        self._folded: dict[str, Array | None] = {}
        self._uniform: dict[str, float | None] = {}
        self._shapes: dict[str, bool] = {}
        self.dequantised: set[str] = set()
        self.names = _node_names(graph, path, source.names)
        self.children = [
            Scope(source, attribute.g, f"{self.names[at]}/{attribute.name}/", self)
            for at, node in enumerate(self.nodes)
            for attribute in node.attribute
            if attribute.HasField("g")
        ]
        for node in self.nodes:
            if node.op_type == "Shape":  # it reads no values
                continue
            for name in node.input:
                if (owner := self.owner(name)) is not None:
                    owner.readers[name] += 1

    def walk(self) -> Iterator[tuple[Scope, str, Any]]:
        """Every node here and inside, with the scope and name it has."""
        children = iter(self.children)
        for name, node in zip(self.names, self.nodes, strict=True):
            yield self, name, node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from next(children).walk()

    def owner(self, name: str) -> Scope | None:
        """The graph that makes a value: this one or one around it; None: none does."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.initializers or name in scope.makers or name in scope.inputs:
                return scope
            scope = scope.parent
        return None

    def maker(self, name: str) -> Any:
        """The node that makes a value; None where none does."""
        owner = self.owner(name)
        return None if owner is None else owner.makers.get(name)

    def declared(self, name: str) -> list[int | None]:
        """The sizes that the file gives a value, None for one of any size; [] if it gives none."""
        owner = self.owner(name)
        if owner is None:
            return []
        for value in (*owner.graph.value_info, *owner.graph.input):
            if value.name == name:
                dims = value.type.tensor_type.shape.dim
                return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        return []

    def constant(self, name: str) -> Array | None:
        """The value where it does not depend on what the model is given, else None."""
        owner = self.owner(name)
        if owner is None:
            raise FormatError(self.source.file, name, "nothing in the graph makes this value")
        return owner._constant(name)

    def _constant(self, name: str) -> Array | None:
        if name not in self._folded:
            self._folded[name] = None  # of a circle: none of its values is constant
            if name in self.initializers:
                self._folded[name] = self.source.tensor(self.initializers[name], name)
            elif name in self.makers and self.makers[name].op_type in FOLDED:
                self._fold(self.makers[name], name)
        return self._folded[name]

    def _fold(self, node: Any, name: str) -> None:
        """Compute a node's outputs if all its inputs are constant."""
        if node.domain not in ("", "ai.onnx"):
            return
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Constant":
            if "value" in attributes:
                self._folded[name] = self.source.tensor(attributes["value"].t, name)
                return
            if "sparse_value" in attributes:
                raise Unsupported(self.source.file, name, "sparse constants are not read")
        given = {}
        for each in node.input:
            if each:
                value = self.constant(each)
                if value is None:
                    return
                given[each] = value
        arrays = [given[each] for each in node.input if each]
        with reading(self.source.file, name):
            most = _cost(node.op_type, arrays, attributes)
            self.source.spend(most, name, made=0)
            made = _run(node, given, self.source.opset)
            copies = [
                value.nbytes
                for value in made.values()
                if not any(np.may_share_memory(value, array) for array in arrays)
            ]
            self.source.spend(sum(copies), name)
        if node.op_type == "DequantizeLinear" or any(self._was_dequantised(n) for n in given):
            self.dequantised |= set(node.output)
        self._folded |= {key: np.asarray(value) for key, value in made.items()}

    def _was_dequantised(self, name: str) -> bool:
        owner = self.owner(name)
        return owner is not None and name in owner.dequantised

    def of_shapes(self, name: str) -> bool:
        """Whether a value depends on shapes and constants alone."""
        owner = self.owner(name)
        return owner is not None and owner._shape_like(name)

    def _shape_like(self, name: str) -> bool:
        if name not in self._shapes:
            self._shapes[name] = False
            node = self.makers.get(name)
            if node is None:
                self._shapes[name] = name in self.initializers
            elif not any(a.HasField("g") for a in node.attribute):
                self._shapes[name] = node.op_type in ("Shape", "Size") or all(
                    self.of_shapes(each) for each in node.input if each
                )
        return self._shapes[name]

    def uniform(self, name: str) -> float | None:
        """The one number that all elements of a value are, whatever its shape; else None."""
        owner = self.owner(name)
        return None if owner is None else owner._uniform_of(name)

    def _uniform_of(self, name: str) -> float | None:
        if name in self._uniform:
            return self._uniform[name]
        self._uniform[name] = None
        node = self.makers.get(name)
        constant = self._constant(name)
        found: float | None = None
        if constant is not None:
            flat = constant.reshape(-1)
            same = constant.dtype.kind in "fiub" and flat.size and (flat == flat[0]).all()
            found = float(flat[0]) if same else None
        elif node is not None and node.op_type == "ConstantOfShape":
            found = 0.0
            for attribute in node.attribute:
                found = float(self.source.tensor(attribute.t, name).reshape(-1)[0])
        elif node is not None and node.op_type in _MOVES:
            names = node.input if node.op_type == "Concat" else node.input[:1]
            values = {self.uniform(each) for each in names}
            found = values.pop() if len(values) == 1 else None
        self._uniform[name] = found
        return found


def _all_text(file: str, path: str, nodes: list[Any]) -> None:
    """Refuse names that are no UTF-8, for which protobuf gives bytes."""
    for at, node in enumerate(nodes):
        names = (node.name, node.op_type, node.domain, *node.input, *node.output)
        if any(isinstance(name, bytes) for name in names):
            raise FormatError(file, f"{path}node {at}", "a name of it is no UTF-8")


def _node_names(graph: Any, path: str, used: set[str]) -> list[str]:
    """A name for each node, different from all others of the model: its own, or its operator's with
    a number; the way to its graph before it where that is needed."""
    found: list[str] = []
    for at, node in enumerate(graph.node):
        name = node.name or f"{path}{node.op_type}_{at}"
        if name in used:
            name = path + name
        while name in used:
            name = f"{name}_{at}"
        used.add(name)
        found.append(name)
    return found


def _cost(kind: str, arrays: list[Array], attributes: dict[str, Any]) -> int:
    """Bytes at most of what an operator makes of these."""
    if kind == "Gather":
        data, indices = arrays[0], arrays[1]
        axis = attributes["axis"].i if "axis" in attributes else 0
        return int(indices.size * (data.nbytes // max(data.shape[axis], 1)))
    if kind in ("Cast", "DequantizeLinear"):
        return arrays[0].size * 8
    return sum(array.nbytes for array in arrays)


def _run(node: Any, given: dict[str, Array], version: int) -> dict[str, Any]:
    """What a node makes, by ONNX's own reference implementation."""
    onnx = library("onnx", "onnx", "read ONNX files")
    reference = library("onnx.reference", "onnx", "read ONNX files")
    value = onnx.helper.make_empty_tensor_value_info
    outputs = [name for name in node.output if name]
    graph = onnx.helper.make_graph(
        [node], "node", [value(name) for name in given], [value(name) for name in outputs]
    )
    if node.op_type == "DequantizeLinear":  # the reference has no older one, which means the same
        version = max(version, 19)
    opsets = [onnx.helper.make_opsetid("", version)]
    alone = onnx.helper.make_model(graph, opset_imports=opsets)
    results = reference.ReferenceEvaluator(alone).run(None, given)
    return dict(zip(outputs, results, strict=True))


def inlined(model: Any, file: str) -> Any:
    """The model without functions of its own, each written out where it is called."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, inside: frozenset[tuple[str, str]]) -> int:
        if len(nodes) > _MOST_NODES:
            raise FormatError(file, "graph", f"it has more than {_MOST_NODES} nodes")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in inside:
                raise FormatError(file, node.op_type, "a function calls itself")
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key], inside | {key})
            total += sizes.get(key, 1)
            total += sum(size(a.g.node, inside) for a in node.attribute if a.HasField("g"))
        return total

    with reading(file):
        if size(model.graph.node, frozenset()) > _MOST_NODES:
            raise FormatError(
                file, "graph", f"its functions write out to more than {_MOST_NODES} nodes"
            )
        if not model.functions:
            return model
        return library("onnx.inliner", "onnx", "read ONNX files").inline_local_functions(model)
