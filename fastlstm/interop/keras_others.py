# SPDX-License-Identifier: BSD-3-Clause
"""What stands between recurrent layers of Keras as an `Other`; how many arrays a layer has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keras_graph import Node, class_of, part
from .keras_layers import CELLS, Reading, Take, policy
from .other import Other

Array = NDArray[Any]

# Class -> our word for it, and names of its weights in Keras's order, each with the setting that it
# hangs on ("" for always).
_OTHERS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "Activation": ("activation", ()),
    "AlphaDropout": ("dropout", ()),
    "ActivityRegularization": ("dropout", ()),
    "AveragePooling1D": ("average_pooling1d", ()),
    "BatchNormalization": (
        "batch_norm",
        (("gamma", "scale"), ("beta", "center"), ("moving_mean", ""), ("moving_variance", "")),
    ),
    "Conv1D": ("conv1d", (("kernel", ""), ("bias", "use_bias"))),
    "Dense": ("dense", (("kernel", ""), ("bias", "use_bias"))),
    "Dropout": ("dropout", ()),
    "ELU": ("activation", ()),
    "Embedding": ("embedding", (("embeddings", ""),)),
    "Flatten": ("flatten", ()),
    "GaussianDropout": ("dropout", ()),
    "GaussianNoise": ("dropout", ()),
    "GlobalAveragePooling1D": ("global_average_pooling1d", ()),
    "GlobalMaxPooling1D": ("global_max_pooling1d", ()),
    "InputLayer": ("input", ()),
    "LayerNormalization": ("layer_norm", (("gamma", "scale"), ("beta", "center"))),
    "LeakyReLU": ("activation", ()),
    "Masking": ("masking", ()),
    "MaxPooling1D": ("max_pooling1d", ()),
    "PReLU": ("prelu", (("alpha", ""),)),
    "ReLU": ("activation", ()),
    "RepeatVector": ("repeat_vector", ()),
    "Softmax": ("activation", ()),
    "SpatialDropout1D": ("dropout", ()),
}
# What does to each step of a sequence what TimeDistributed makes it do.
_STEPWISE = ("activation", "batch_norm", "dense", "dropout", "layer_norm", "prelu")


def _is_other_kind(kind: str, config: Mapping[str, Any]) -> str:
    """What the layer is by options that give its class other weights: integers with scales
    (``model.quantize`` of Keras 3), for example; "" if it is what its class says."""
    precision = policy(config)
    if config.get("quantization_config") or precision.startswith(("int", "float8", "gptq", "awq")):
        return f"{kind} in {precision or 'int8'}"
    return "LayerNormalization by rms" if config.get("rms_scaling") else ""


def count(node: Node) -> tuple[int, int] | None:
    """How many trainable weights and how many others a layer has; None of one that is not known."""
    config, kind = node.config, node.kind
    if kind in ("TimeDistributed", "Bidirectional"):
        layer = config.get("layer")
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), Mapping):
            return None
        inner = Node(node.name, str(layer.get("class_name")), layer["config"], "", node.outer)
        found = count(inner)
        return found if found is None or kind != "Bidirectional" else (2 * found[0], 0)
    if kind in CELLS:
        return 2 + (kind.startswith("CuDNN") or bool(config.get("use_bias", True))), 0
    if kind not in _OTHERS or _is_other_kind(kind, config):
        return None
    names = [name for name, hangs in _OTHERS[kind][1] if not hangs or config.get(hangs, True)]
    fixed = sum(name.startswith("moving") for name in names)
    return len(names) - fixed, fixed


def repeated(node: Node) -> str:
    """The class that a TimeDistributed layer runs over each step; "" of any other layer."""
    layer = node.config.get("layer") if node.kind == "TimeDistributed" else None
    return str(layer.get("class_name", "")) if isinstance(layer, Mapping) else ""


def other(reading: Reading, node: Node, take: Take, rest: Callable[[], dict[str, Array]]) -> Other:
    """Any other layer; `rest` gives all arrays of one that is not known."""
    kind, config, where, inner = node.kind, dict(node.config), "", node.kind
    if kind == "TimeDistributed":
        layer = part(reading.file, node.name, config, "layer", Mapping)
        inner = class_of(reading.file, node.name, layer)
        if inner in _OTHERS and _OTHERS[inner][0] in _STEPWISE:
            config = dict(part(reading.file, node.name, layer, "config", Mapping))
            kind, where = inner, "layer"
            if config.get("axis") in (1, [1]):
                config["axis"] = -1
    if odd := _is_other_kind(kind, config):
        return Other(node.name, odd, config, rest())
    if kind not in _OTHERS:
        return Other(node.name, kind, config, rest())
    word, names = _OTHERS[kind]
    if word == "activation" and kind != "Activation":
        config["activation"] = reading.activation(node.name, kind, config)
    elif "activation" in config:
        config["activation"] = reading.activation(node.name, config["activation"])
    wanted = [name for name, hangs in names if not hangs or config.get(hangs, True)]
    arrays = [
        array.astype(np.float32)
        if array.dtype.itemsize == 2 and array.dtype.kind in "fV"
        else array
        for array in (take(where, len(wanted)) if wanted else [])
    ]
    return Other(node.name, word, config, dict(zip(wanted, arrays, strict=True)))


def _widened(array: Array) -> Array:
    """Half precision as float32, all else as it is."""
    half = array.dtype.name in ("float16", "bfloat16")
    return array.astype(np.float32) if half else array
