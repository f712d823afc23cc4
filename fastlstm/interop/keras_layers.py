# SPDX-License-Identifier: BSD-3-Clause
"""A recurrent layer of Keras as a `Layer`: its configuration and its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastlstm import LSTMOptions

from .description import Layer
from .errors import FormatError, Unsupported
from .gates import to_torch
from .keras_graph import Node, class_of, part, snake

Array = NDArray[Any]
Take = Callable[[str, int], list[Array]]  # (path inside the layer, how many) -> the next arrays

CELLS = {
    "LSTM": "lstm",
    "CuDNNLSTM": "lstm",
    "LSTMCell": "lstm",
    "GRU": "gru",
    "CuDNNGRU": "gru",
    "GRUCell": "gru",
    "SimpleRNN": "rnn",
    "SimpleRNNCell": "rnn",
}
_CONVOLVED = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
RECURRENT = (
    "Bidirectional",
    "RNN",
    *_CONVOLVED,
    *(kind for kind in CELLS if not kind.endswith("Cell")),
)


@dataclass
class Reading:
    """A file that is read: whose Keras made it, and what is to be told of it."""

    file: str
    version: str
    notes: list[str] = field(default_factory=list)

    def hard_sigmoid(self, place: str) -> list[Any]:
        """Keras 3 takes x / 6 + 1/2, all before it 0.2 x + 1/2."""
        if not self.version:
            what = "nothing tells which hard_sigmoid it is: hand over Keras's version, '2' or '3'"
            raise FormatError(self.file, place, what)
        first = self.version.split(".")[0]
        return ["hard_sigmoid", 0.2 if first in ("0", "1", "2") else 1 / 6, 0.5]

    def activation(self, place: str, value: Any, config: Mapping[str, Any] = {}) -> list[Any]:
        """A name, and numbers where it has some, as `elementwise` and `LSTMOptions` have them."""
        if isinstance(value, Mapping):  # serialised: a function, or a layer
            kind = part(self.file, place, value, "class_name", str)
            inner = value.get("config")
            if kind == "function" or isinstance(inner, str):
                return self.activation(place, inner)
            return self.activation(place, kind, inner if isinstance(inner, Mapping) else {})
        name = "linear" if value is None else value
        if not isinstance(name, str):
            raise FormatError(self.file, place, f"activation must be a name, got {name!r}")
        if name in ("hard_sigmoid", "HardSigmoid"):
            return self.hard_sigmoid(place)
        if name == "leaky_relu":
            return ["leaky_relu", 0.2]
        if name == "LeakyReLU":
            return ["leaky_relu", _number(config, "negative_slope", _number(config, "alpha", 0.3))]
        if name == "ELU":
            return ["elu", _number(config, "alpha", 1.0)]
        if name == "ReLU":
            most = config.get("max_value")
            slope = _number(config, "negative_slope", 0.0)
            numbers = [slope, np.inf if most is None else most, _number(config, "threshold", 0.0)]
            return ["relu"] if numbers == [0, np.inf, 0] else ["relu", *numbers]
        if name == "Softmax":
            axis = config.get("axis", -1)
            return ["softmax" if axis == -1 else f"softmax over axis {axis}"]
        return [{"swish": "silu", "Linear": "linear"}.get(name, name)]


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    """A number of a configuration, which may stand in an array's serialised form."""
    value = config.get(name, default)
    if isinstance(value, Mapping):
        value = value.get("config", {}).get("value", default)
    return float(default if value is None else value)


def policy(config: Mapping[str, Any]) -> str:
    """The precision that a layer computes in, "" where its configuration says none that is a name:
    "float32", "mixed_float16", "int8" ..."""
    value = config.get("dtype")
    inner = value.get("config") if isinstance(value, Mapping) else None
    if isinstance(inner, Mapping):
        value = inner.get("mode", inner.get("name"))
    return value if isinstance(value, str) else ""


def _floats(reading: Reading, place: str, arrays: Sequence[Array]) -> list[Array]:
    """Arrays of one dtype that fastlstm has; half precision becomes float32, and is told."""
    for array in arrays:
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise FormatError(reading.file, place, f"weights are {array.dtype}, must be floats")
    wide = any(array.dtype == np.float64 for array in arrays)
    if any(array.dtype.itemsize < 4 for array in arrays):
        reading.notes.append(f"{place}: weights of half precision became float32")
    return [np.asarray(array, np.float64 if wide else np.float32) for array in arrays]


def _cell(
    reading: Reading, place: str, kind: str, config: Mapping[str, Any], take: Take, where: str
) -> dict[str, Any]:
    """What a `Layer` has of one cell: kind, sizes, weights, options."""
    cell = CELLS[kind]
    cudnn = kind.startswith("CuDNN")
    bias = cudnn or part(reading.file, place, config, "use_bias", bool, True)
    arrays = _floats(reading, place, take(where, 2 + bias))
    kernel, recurrent, *biases = arrays
    if kernel.ndim != 2 or recurrent.ndim != 2:
        what = f"kernels must have two axes, have shapes {kernel.shape} and {recurrent.shape}"
        raise FormatError(reading.file, place, what)
    units, gates = recurrent.shape[0], {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    if (
        recurrent.shape != (units, gates * units)
        or kernel.shape[1] != gates * units
        or not kernel.size
    ):
        raise FormatError(
            reading.file,
            place,
            f"a {kind} must have kernels of shape (I, {gates} H) and (H, {gates} H), got "
            f"{kernel.shape} and {recurrent.shape}",
        )
    if units != config.get("units", units):
        what = f"says {config['units']} units, and its weights have {units}"
        raise FormatError(reading.file, place, what)
    if biases and biases[0].shape == (2 * gates * units,) and cell != "rnn":
        kernel, recurrent = _from_cudnn(kernel, recurrent, gates)
        biases = [biases[0].reshape(2, -1)]
    found: dict[str, Any] = {
        "kind": cell,
        "input_size": len(kernel),
        "hidden_size": units,
        **_equations(reading, place, kind, config, biases),
    }
    weights = {"weight_ih": kernel, "weight_hh": recurrent}
    if biases:
        if biases[0].size not in (gates * units, 2 * gates * units):
            what = f"bias must have {gates * units} numbers, has shape {biases[0].shape}"
            raise FormatError(reading.file, place, what)
        rows = biases[0].reshape(-1, gates * units)
        weights["bias_ih"] = rows[0]
        weights["bias_hh"] = rows[1] if len(rows) == 2 else np.zeros_like(rows[0])
    found["weights"] = {name: to_torch(array, cell, "keras") for name, array in weights.items()}
    return found


def _from_cudnn(kernel: Array, recurrent: Array, gates: int) -> tuple[Array, Array]:
    """Kernels of CuDNNLSTM and CuDNNGRU: their numbers lie in memory as cuDNN has them."""
    wide, units = kernel.shape[0], recurrent.shape[0]
    inner = [
        np.ascontiguousarray(gate).reshape(units, wide).T for gate in np.split(kernel, gates, 1)
    ]
    across = [gate.T for gate in np.split(recurrent, gates, 1)]
    return np.concatenate(inner, axis=1), np.concatenate(across, axis=1)


def _equations(
    reading: Reading, place: str, kind: str, config: Mapping[str, Any], biases: Sequence[Array]
) -> dict[str, Any]:
    """What makes the cell another one than the plain one; Unsupported where fastlstm has none."""
    inner = reading.activation(place, config.get("activation", "tanh"))
    outer = reading.activation(place, config.get("recurrent_activation", "sigmoid"))
    cell = CELLS[kind]
    if cell == "lstm":
        try:
            options = LSTMOptions(
                gate_activation=tuple(outer),
                candidate_activation=tuple(inner),
                output_activation=tuple(inner),
            )
        except (TypeError, ValueError) as error:
            raise Unsupported(reading.file, place, str(error)) from error
        return {"options": None if options == LSTMOptions() else options}
    if cell == "rnn":
        if inner not in (["tanh"], ["relu"]):
            what = f"activation of an RNN must be tanh or relu, this one's is {inner[0]}"
            raise Unsupported(reading.file, place, what)
        return {"nonlinearity": inner[0]}
    if inner != ["tanh"] or outer != ["sigmoid"]:
        what = "activations of a GRU must be tanh and sigmoid, this one's are "
        raise Unsupported(reading.file, place, f"{what}{inner[0]} and {outer[0]}")
    if biases:
        return {"reset_after": biases[0].ndim == 2}
    return {"reset_after": part(reading.file, place, config, "reset_after", bool, False)}


def recurrent(reading: Reading, node: Node, take: Take) -> list[Layer]:
    """The layers of a recurrent layer of Keras: one, or one for each of stacked cells or, where its
    directions differ, for each direction. Raises Unsupported for what fastlstm does not have."""
    if node.kind in _CONVOLVED:
        raise Unsupported(reading.file, node.name, f"{node.kind} is none that fastlstm has")
    if node.kind == "Bidirectional":
        return _bidirectional(reading, node, take)
    config = node.config
    around = _around(reading, node.name, config)
    if (name := policy(config)) and "float16" in name:
        reading.notes.append(f"{node.name}: Keras computes it in {name}, and rounds as that does")
    cells = _cells(reading, node.name, node.kind, config)
    found = [
        _cell(reading, node.name, kind, settings, take, where) for kind, settings, where in cells
    ]
    if len(found) == 1:
        return [_layer(node.name, [found[0]], around)]
    layers = []
    for at, cell in enumerate(found):
        own = dict(around)
        own["return_sequences"] = around["return_sequences"] or at < len(found) - 1
        if at:  # what is below it has been turned round already
            own["go_backwards"] = own["reversed_outputs"] = False
        layers.append(_layer(f"{node.name}/{at}", [cell], own))
    return layers


def _cells(
    reading: Reading, place: str, kind: str, config: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any], str]]:
    """Class, configuration and path of each cell."""
    if kind in CELLS:
        return [(kind, config, "cell")]
    cell = part(reading.file, place, config, "cell", Mapping)
    inner = class_of(reading.file, place, cell)
    settings = part(reading.file, place, cell, "config", Mapping)
    if inner != "StackedRNNCells":
        if inner not in CELLS:
            raise Unsupported(reading.file, place, f"its cell {inner} is none that fastlstm has")
        return [(inner, settings, "cell")]
    found = []
    counts: dict[str, int] = {}
    for stacked in part(reading.file, place, settings, "cells", list):
        kind = class_of(reading.file, place, stacked)
        if kind not in CELLS:
            raise Unsupported(reading.file, place, f"its cell {kind} is none that fastlstm has")
        nth = counts.get(kind, 0)
        counts[kind] = nth + 1
        where = f"cell/cells/{snake(kind)}" + (f"_{nth}" if nth else "")
        found.append((kind, part(reading.file, place, stacked, "config", Mapping), where))
    return found


def _around(reading: Reading, place: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a `Layer` has beside the cell."""

    def flag(name: str) -> bool:
        return bool(part(reading.file, place, config, name, bool, False))

    for name in ("dropout", "recurrent_dropout"):
        if config.get(name):
            reading.notes.append(f"{place}: {name}={config[name]} is for training: left out")
    backwards = flag("go_backwards")
    return {
        "batch_first": not flag("time_major"),
        "go_backwards": backwards,
        "reversed_outputs": backwards,
        "return_sequences": flag("return_sequences"),
        "stateful": flag("stateful"),
        "zero_outputs": flag("zero_output_for_mask"),
    }


def _layer(name: str, cells: list[dict[str, Any]], around: dict[str, Any]) -> Layer:
    first = {key: value for key, value in cells[0].items() if key != "weights"}
    return Layer(name=name, weights=[cell["weights"] for cell in cells], **first, **around)


def _bidirectional(reading: Reading, node: Node, take: Take) -> list[Layer]:
    inner = part(reading.file, node.name, node.config, "layer", Mapping)
    kind = class_of(reading.file, node.name, inner)
    config = part(reading.file, node.name, inner, "config", Mapping)
    other = part(reading.file, node.name, node.config, "backward_layer", Mapping, None)
    there = config if other is None else part(reading.file, node.name, other, "config", Mapping)
    there_kind = kind if other is None else class_of(reading.file, node.name, other)
    mode = node.config.get("merge_mode", "concat")
    if mode not in ("concat", "sum", "mul", "ave", None):
        raise FormatError(reading.file, node.name, f"merge_mode {mode!r} is none of Keras's")
    sides = []
    for at, (cls, settings) in enumerate(((kind, config), (there_kind, there))):
        if cls not in RECURRENT or cls in ("Bidirectional", *_CONVOLVED):
            raise Unsupported(reading.file, node.name, f"{cls} is none that fastlstm has")
        cells = _cells(reading, node.name, cls, settings)
        if len(cells) > 1:
            raise Unsupported(reading.file, node.name, "two directions of stacked cells")
        where = f"{('forward_layer', 'backward_layer')[at]}/{cells[0][2]}"
        sides.append(_cell(reading, node.name, *cells[0][:2], take, where))
    around = _around(reading, node.name, config)
    around["zero_outputs"] = around["return_sequences"]  # whatever the layer says
    same = [key for key in sides[0] if key != "weights" and sides[0][key] != sides[1][key]]
    biased = ["bias_ih" in cell["weights"] for cell in sides]
    if not same and biased[0] == biased[1] and not around["go_backwards"]:
        return [_layer(node.name, sides, {**around, "merge_mode": mode})]
    first = _layer(f"{node.name}/forward_layer", sides[:1], around)
    around |= {"go_backwards": not around["go_backwards"], "reversed_outputs": False}
    return [first, _layer(f"{node.name}/backward_layer", sides[1:], around)]
