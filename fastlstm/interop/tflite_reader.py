# SPDX-License-Identifier: BSD-3-Clause
"""Models of TensorFlow Lite as fastlstm's."""

from __future__ import annotations

import dataclasses
import os

from .description import Layer
from .errors import Unsupported, reading
from .files import contents
from .imported import Imported
from .other import Other
from .tflite_graph import Array, Model, Operator, Subgraph
from .tflite_loop import loop
from .tflite_lstm import KINDS, layer

_ACTIVATIONS = {
    "LOGISTIC": ["sigmoid"],
    "TANH": ["tanh"],
    "RELU": ["relu"],
    "RELU6": ["relu6"],
    "SOFTMAX": ["softmax"],
    "ELU": ["elu"],
    "EXP": ["exponential"],
}
_FUSED = {0: None, 1: "relu", 3: "relu6", 4: "tanh"}
_SAME = ("QUANTIZE", "DEQUANTIZE")  # of weights that are floats here


def from_tflite(source: str | os.PathLike[str] | bytes) -> Imported:
    """The recurrent layers of a model of TensorFlow Lite.

    Weights of reduced width become float32. Where the interpreter reduces inputs and states too
    (int8 models), its outputs differ by its own rounding.

    Parameters
    ----------
    source : path or bytes
        A ``.tflite`` file, or what it holds.

    Returns
    -------
    Imported
        What was found; ``lstm``, ``lstm_1`` ... in the order of the graph.

    Raises
    ------
    FormatError
        A damaged file, or one of another format.
    Unsupported
        No recurrent layer, or none that fastlstm has.
    TypeError
        `source` is neither.
    ImportError
        The package tflite is not installed.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from fastlstm import interop
    >>> found = interop.from_tflite("model.tflite")  # a file with one LSTM
    >>> found.layers
    {'lstm': LSTM(5, 4, batch_first=True, dtype=float32)}
    >>> found.notes
    ['the interpreter keeps states until reset_all_variables()']
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        file, data = "bytes", bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        file, data = os.fspath(source), contents(source)
    else:
        raise TypeError(f"source must be a path or bytes, got {type(source).__name__}")
    model = Model(file, data)
    with reading(file):
        return _Found(model).imported()


class _Found:
    """What is found in a file, operator by operator."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.stacks: dict[str, list[Layer]] = {}
        self.others: list[Other] = []
        self.order: list[str] = []
        self.unsupported: dict[str, str] = {}
        self.notes: list[str] = []
        self.branches = ""
        self._counts: dict[str, int] = {}
        for subgraph in model.subgraphs:
            self._read(subgraph)

    def imported(self) -> Imported:
        """The result; Unsupported where there is no recurrent layer."""
        model = self._model
        if not self.stacks and not self.unsupported:
            kinds = {operator.kind for graph in model.subgraphs for operator in graph.operators}
            what = f"has no recurrent operator, but {', '.join(sorted(kinds)) or 'nothing'}"
            if {"LOGISTIC", "TANH"} <= kinds:
                what += "; recurrent layers that were unrolled into such are not found again"
            raise Unsupported(model.file, "", what)
        if model.reduced:
            kinds_of = ", ".join(sorted(model.reduced))
            self.notes.append(f"weights of {kinds_of} became float32: outputs differ by rounding")
        if any(layers[0].stateful for layers in self.stacks.values()):
            self.notes.append("the interpreter keeps states until reset_all_variables()")
        return Imported(
            model.file,
            "TFLite",
            model.description,
            model.version,
            self.stacks,
            self.others,
            self.order,
            self.unsupported,
            self.notes,
            self.branches,
        )

    def _name(self, kind: str) -> str:
        nth = self._counts.get(kind, 0)
        self._counts[kind] = nth + 1
        return f"{kind}_{nth}" if nth else kind

    def _read(self, graph: Subgraph) -> None:
        recurrent = {operator.kind for operator in graph.operators} & KINDS.keys()
        if graph.number and not recurrent:
            return  # the body of a loop, for example
        if graph.number:
            self.branches = "it has several subgraphs"
        at = graph.inputs[0] if len(graph.inputs) == 1 else None
        for operator in graph.operators:
            if all(graph.constant(made) is not None for made in operator.outputs):
                continue  # weights that become floats
            given = [number for number in operator.inputs if number >= 0]
            moving = [n for n in given if graph.constant(n) is None and not graph.is_variable(n)]
            if moving != [at] or len(operator.outputs) != 1:
                self.branches = self.branches or f"{operator.kind} does not read what is before it"
            self._operator(graph, operator)
            at = operator.outputs[0] if operator.outputs else None
        if list(graph.outputs) != [at]:
            self.branches = self.branches or "its output is not that of its last operator"

    def _operator(self, graph: Subgraph, operator: Operator) -> None:
        if operator.kind in KINDS:
            name = self._name(KINDS[operator.kind])
            self.order.append(name)
            if operator.kind == "WHILE":
                self.branches = self.branches or "it has loops"
            read = loop if operator.kind == "WHILE" else layer
            try:
                self.stacks[name] = [read(self._model, graph, operator, name)]
            except Unsupported as error:
                self.unsupported[name] = error.what
            return
        before = self.order[-1] if self.order else ""
        if before in self.stacks and _takes_last(
            self._model, graph, operator, self.stacks[before][0]
        ):
            lone = dataclasses.replace(self.stacks[before][0], return_sequences=False)
            self.stacks[before] = [lone]
            return
        name = self._name(operator.kind.lower())
        self.order.append(name)
        self.others.append(_other(self._model, graph, operator, name))


def _takes_last(model: Model, graph: Subgraph, operator: Operator, lone: Layer) -> bool:
    """Whether the operator takes the last step alone, as Keras without return_sequences does."""
    if operator.kind != "STRIDED_SLICE" or len(operator.inputs) != 4:
        return False
    options = operator.options(model.schema.StridedSliceOptions())
    begin, _, strides = (graph.constant(number) for number in operator.inputs[1:])
    axis = 1 if lone.batch_first else 0
    if options is None or begin is None or strides is None or begin.shape != (3,):
        return False
    rest = 0b111 & ~(1 << axis)
    whole = all(options.BeginMask() & 1 << n or begin[n] == 0 for n in range(3) if n != axis)
    return bool(
        options.ShrinkAxisMask() == 1 << axis
        and begin[axis] == -1
        and whole
        and options.EndMask() & rest == rest
        and (strides == 1).all()
    )


def _is_scaled(model: Model, operator: Operator) -> bool:
    """Whether it is a softmax of its input times a number."""
    if operator.kind != "SOFTMAX":
        return False
    options = operator.options(model.schema.SoftmaxOptions())
    return options is not None and options.Beta() != 1


def _other(model: Model, graph: Subgraph, operator: Operator, name: str) -> Other:
    """Any operator between recurrent ones, with its constants."""
    weights: dict[str, Array] = {}
    for at, number in enumerate(operator.inputs):
        found = graph.constant(number)
        if found is not None:
            weights[str(at)] = found
    if operator.kind == "FULLY_CONNECTED" and "1" in weights:
        options = operator.options(model.schema.FullyConnectedOptions())
        fused = 0 if options is None else options.FusedActivationFunction()
        shuffled = options is not None and options.WeightsFormat()
        if fused in _FUSED and not shuffled:
            names = {"weight": weights["1"]}
            if "2" in weights:
                names["bias"] = weights["2"]
            return Other(name, "dense", {"activation": _FUSED[fused]}, names)
    if operator.kind in _ACTIVATIONS and not _is_scaled(model, operator):
        return Other(name, "activation", {"activation": _ACTIVATIONS[operator.kind]})
    if operator.kind in _SAME:
        return Other(name, "quantize")
    return Other(name, operator.kind, {}, weights)
