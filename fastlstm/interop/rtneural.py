# SPDX-License-Identifier: BSD-3-Clause
"""RTNeural's JSON files: its own, those of AIDA-X, and state dicts of NeuralPi and Proteus.

RTNeural's own have layers one after another, each with the weights that Keras gives it. AIDA-X adds
gains and a skip of the input. GuitarML's have ``model_data`` and a ``state_dict`` of PyTorch, whose
recurrent layer is called ``rec`` and whose dense one ``lin``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastlstm import saving

from . import json_files
from .description import Array, Layer, Model, describe
from .errors import FormatError, Unsupported, reading
from .gates import from_torch
from .imported import Imported
from .json_files import array, number, whole
from .keras_graph import Node
from .keras_layers import Reading, recurrent
from .keras_others import other
from .keras_weights import OfList
from .other import Other

_CLASSES = {
    "activation": "Activation",
    "batchnorm": "BatchNormalization",
    "conv1d": "Conv1D",
    "dense": "Dense",
    "gru": "GRU",
    "lstm": "LSTM",
    "prelu": "PReLU",
    "time-distributed-dense": "Dense",
}
_MOST_LAYERS, _MOST_ARRAYS = 1000, 16  # of a file; of a layer
_NAME = re.compile(r"(.*)\.(weight_ih|weight_hh|bias_ih|bias_hh)_l([0-9]{1,3})", re.DOTALL)


def from_rtneural(source: str | os.PathLike[str] | Mapping[str, Any]) -> Imported:
    """The recurrent layers of a model of RTNeural, NeuralPi, Proteus or AIDA-X.

    Parameters
    ----------
    source : path or mapping
        A JSON file, or what it holds. Layers take batches first: (B, T, inputs).

    Returns
    -------
    Imported
        What was found. A file of RTNeural, AIDA-X or GuitarML is a chain; a state dict with other
        names does not say how its layers are connected.

    Raises
    ------
    FormatError
        A damaged file, or one of another format.
    Unsupported
        No recurrent layer.
    TypeError
        `source` is neither.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from fastlstm import interop
    >>> model = {"in_shape": [None, None, 1], "layers": [
    ...     {"type": "lstm", "activation": "tanh", "shape": [None, None, 1],
    ...      "weights": [[[0.5] * 4], [[0.1] * 4], [0.0] * 4]}]}
    >>> interop.from_rtneural(model).sequential()([[[1.0], [2.0]]]).shape
    (1, 2, 1)
    """
    file, found = json_files.read(source)
    with reading(file):
        if isinstance(found.get("layers"), list):
            return _layers(file, found)
        state = found.get("state_dict", found)
        if isinstance(state, Mapping) and any(_NAME.fullmatch(str(name)) for name in state):
            return _state_dict(file, found, state)
    has = ", ".join(repr(str(key)) for key in list(found)[:8]) or "nothing"
    raise FormatError(file, "", f"must have layers, or a state dict of PyTorch, has {has}")


def _layers(file: str, found: Mapping[str, Any]) -> Imported:
    told = Reading(file, "2")
    stacks: dict[str, Sequence[Layer]] = {}
    others: list[Other] = []
    order: list[str] = []
    _gain(file, found, "in_gain", others, order)
    if len(found["layers"]) > _MOST_LAYERS:
        what = f"must be up to {_MOST_LAYERS}, got {len(found['layers'])}"
        raise FormatError(file, "layers", what)
    for at, layer in enumerate(found["layers"]):
        if not isinstance(layer, Mapping) or layer.get("type") not in _CLASSES:
            kind = layer.get("type") if isinstance(layer, Mapping) else layer
            if isinstance(kind, str):
                others.append(Other(f"{kind}_{at}", kind, dict(layer)))
                order.append(f"{kind}_{at}")
                continue
            raise FormatError(file, f"layers[{at}]", f"must have a type, got {kind!r:.40}")
        name = f"{layer['type']}_{at}"
        given = layer.get("weights") or []
        if not isinstance(given, list) or len(given) > _MOST_ARRAYS:
            raise FormatError(file, name, f"weights must be a list of up to {_MOST_ARRAYS} arrays")
        node = Node(name, _CLASSES[layer["type"]], _config(file, name, layer, len(given)), "", name)
        arrays = [array(file, f"{name}: weights[{n}]", value) for n, value in enumerate(given)]
        weights = OfList(file, name, arrays)
        order.append(name)
        if node.kind in ("LSTM", "GRU"):
            (made,) = recurrent(told, node, weights.take)
            stacks[name] = [made]
            continue
        others.append(other(told, node, weights.take, weights.rest))
    if not stacks:
        raise Unsupported(file, "", "has no recurrent layer")
    _skip(file, found.get("in_skip", 0), others, order)
    _gain(file, found, "out_gain", others, order)
    made_by = "AIDA-X" if any(name in found for name in ("in_skip", "in_gain")) else "RTNeural"
    return Imported(file, "RTNeural", made_by, "", stacks, others, order, notes=told.notes)


def _config(file: str, name: str, layer: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What Keras would say of the layer, which has so many arrays."""
    kind = layer["type"]
    config: dict[str, Any] = {"return_sequences": True, "use_bias": count > 1}
    if kind in ("lstm", "gru"):  # RTNeural's have tanh and sigmoid, whatever the file says
        return {**config, "use_bias": count > 2, "reset_after": True}
    if kind != "batchnorm" and layer.get("activation"):
        config["activation"] = layer["activation"]
    if kind == "conv1d":
        config["padding"] = "causal"
        config["dilation_rate"] = whole(file, f"{name}: dilation", layer.get("dilation", 1), 1)
        config["groups"] = whole(file, f"{name}: groups", layer.get("groups", 1), 1)
        config["strides"] = whole(file, f"{name}: strides", layer.get("strides", 1), 1)
    if kind == "batchnorm":
        affine = count == 4
        epsilon = number(file, f"{name}: epsilon", layer.get("epsilon", 1e-3))
        config |= {"scale": affine, "center": affine, "epsilon": epsilon}
    return config


def _gain(
    file: str, found: Mapping[str, Any], key: str, others: list[Other], order: list[str]
) -> None:
    """A gain in decibels, of AIDA-X."""
    value = found.get(key)
    if isinstance(value, (int, float)) and value:
        decibels = number(file, key, value)
        if abs(decibels) > 200:
            raise FormatError(file, key, f"must be from -200 to 200 dB, got {decibels}")
        config = {"gain": 10 ** (decibels / 20), "is_input": key == "in_gain"}
        others.append(Other(key, "gain", config))
        order.append(key)


def _skip(file: str, value: Any, others: list[Other], order: list[str]) -> None:
    """Columns of the input that are added to the output."""
    columns = whole(file, "skip", value if value is not None else 0)
    if columns:
        others.append(Other("skip", "skip", {"columns": columns}))
        order.append("skip")


def _state_dict(file: str, found: Mapping[str, Any], state: Mapping[str, Any]) -> Imported:
    data = found.get("model_data", {})
    if not isinstance(data, Mapping):
        raise FormatError(file, "model_data", "must be a mapping")
    groups: dict[str, dict[int, dict[str, Array]]] = {}
    dense: dict[str, dict[str, Array]] = {}
    for key, value in state.items():
        match = _NAME.fullmatch(str(key))
        place = f"state_dict: {key}"
        if match:
            layers = groups.setdefault(match[1], {})
            layers.setdefault(int(match[3]), {})[match[2]] = array(file, place, value)
        else:
            head, _, last = str(key).rpartition(".")
            dense.setdefault(head, {})[last] = array(file, place, value)
    stacks = {
        name: [_torch_layer(file, name, at, layers) for at in range(len(layers))]
        for name, layers in groups.items()
    }
    others = [
        Other(name, "dense" if "weight" in own and own["weight"].ndim == 2 else "unknown", {}, own)
        for name, own in dense.items()
    ]
    order = list(dict.fromkeys(_head(str(key)) for key in state))
    branches, notes = _unconnected(order, stacks, {item.name: item for item in others}), []
    if not branches and "model_data" not in found:
        notes.append("layers are taken to follow each other in the file's order, as they fit")
    if not branches:
        _skip(file, data.get("skip", 0), others, order)
    made_by = "GuitarML" if "model_data" in found else "PyTorch"
    return Imported(
        file, "RTNeural", made_by, "", stacks, others, order, notes=notes, branches=branches
    )


def _head(key: str) -> str:
    """The layer that a name of a state dict is of."""
    match = _NAME.fullmatch(key)
    return match[1] if match else key.rpartition(".")[0]


def _unconnected(
    order: Sequence[str], stacks: Mapping[str, Sequence[Layer]], others: Mapping[str, Other]
) -> str:
    """Why layers do not follow each other in this order; "" where they fit."""
    width = None
    for name in order:
        if name in stacks:
            takes, gives = stacks[name][0].input_size, stacks[name][-1].hidden_size
        elif others[name].kind == "dense":
            gives, takes = others[name].weights["weight"].shape
        else:
            return f"a state dict does not say what {name} does"
        if width is not None and takes != width:
            return f"{name} takes {takes} inputs, and what is before it has {width} outputs"
        width = gives
    return ""


def _torch_layer(file: str, name: str, at: int, layers: dict[int, dict[str, Array]]) -> Layer:
    place = f"{name}: layer {at}"
    if at not in layers or not {"weight_ih", "weight_hh"} <= layers[at].keys():
        raise FormatError(file, place, "weight_ih or weight_hh is missing")
    weights = layers[at]
    w_ih, w_hh = weights["weight_ih"], weights["weight_hh"]
    units = w_hh.shape[-1] if w_hh.ndim == 2 else 0
    gates = len(w_hh) // units if units and len(w_hh) % units == 0 else 0
    kind = {4: "lstm", 3: "gru", 1: "rnn"}.get(gates)
    if kind is None or w_ih.ndim != 2:
        what = f"weights have shapes {w_ih.shape} and {w_hh.shape}, of no LSTM, GRU or RNN"
        raise FormatError(file, place, what)
    with reading(file, place):
        return Layer(kind, name, w_ih.shape[1], units, [weights], batch_first=True)


def to_rtneural(
    model: Model,
    path: str | os.PathLike[str] | None = None,
    *,
    dense: Sequence[tuple[Any, Any]] = (),
) -> dict[str, Any]:
    """A model in RTNeural's own JSON, which its ``json_parser`` and AIDA-X read.

    RTNeural's LSTM has one bias: the sum of torch's two, in float32. Where the second one is 0, and
    for a GRU, which has both, `from_rtneural` brings back every bit.

    Parameters
    ----------
    model : LSTM or GRU, or one of their cells
        Of one direction, without projection or options; a GRU that resets after the product.
    path : path, optional
        Where to write it as well.
    dense : sequence of (weight, bias), optional
        Dense layers behind it, as ``torch.nn.Linear`` has them: (outputs, inputs) and (outputs,).

    Returns
    -------
    dict
        What the file holds.

    Raises
    ------
    ValueError
        RTNeural has no such model, or a dense layer does not fit.
    TypeError
        `model` is none of fastlstm.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> found = interop.to_rtneural(fastlstm.LSTM(1, 8, seed=0), dense=[([[0.5] * 8], [0.0])])
    >>> [layer["type"] for layer in found["layers"]]
    ['lstm', 'dense']
    """
    layers = describe(model)
    made = []
    for layer in layers:
        why = _not_rtneural(layer)
        if why:
            raise ValueError(f"RTNeural has no {why}")
        made.append(_written(layer))
    width = layers[-1].hidden_size
    for weight, bias in dense:
        kernel, shift = np.asarray(weight, np.float32), np.asarray(bias, np.float32)
        if kernel.ndim != 2 or kernel.shape[1] != width or shift.shape != kernel.shape[:1]:
            raise ValueError(
                f"dense must have weights (outputs, {width}) and biases (outputs,), "
                f"got {kernel.shape} and {shift.shape}"
            )
        width = len(kernel)
        arrays = [kernel.T.tolist(), shift.tolist()]
        made.append(
            {"type": "dense", "activation": "", "shape": [None, None, width], "weights": arrays}
        )
    found = {"in_shape": [None, None, layers[0].input_size], "layers": made}
    if path is not None:
        saving.write(saving.name_of(path), json.dumps(found).encode())
    return found


def _not_rtneural(layer: Layer) -> str:
    """What the layer is that RTNeural does not have; "" if nothing."""
    if layer.kind == "rnn":
        return "plain RNN"
    if layer.bidirectional:
        return "second direction"
    if layer.proj_size:
        return "projection"
    if layer.options is not None and layer.options.equations() is not None:
        return f"LSTM with {layer.options}"
    if not layer.reset_after:
        return "GRU that resets before the product"
    return "float64" if layer.dtype == np.float64 else ""


def _written(layer: Layer) -> dict[str, Any]:
    weights = layer.with_bias().weights[0]
    biases = np.stack([weights["bias_ih"], weights["bias_hh"]])
    bias = biases.sum(axis=0) if layer.kind == "lstm" else biases
    arrays = [
        from_torch(weights[name], layer.kind, "rtneural") for name in ("weight_ih", "weight_hh")
    ]
    rows = [from_torch(row, layer.kind, "rtneural") for row in np.atleast_2d(bias)]
    arrays.append(rows[0] if layer.kind == "lstm" else np.stack(rows))
    return {
        "type": layer.kind,
        "activation": "tanh",
        "shape": [None, None, layer.hidden_size],
        "weights": [found.tolist() for found in arrays],
    }
