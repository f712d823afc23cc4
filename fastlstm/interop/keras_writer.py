# SPDX-License-Identifier: BSD-3-Clause
"""Models of fastlstm as models and files of Keras 3."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from typing import Any

import numpy as np

from fastlstm import saving

from .description import Array, Layer, Model, describe
from .errors import library
from .gates import from_torch
from .keras_graph import snake

_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
# Ours -> Keras 3's name of an activation, which has these numbers.
_ACTIVATIONS: dict[Any, str] = {
    **{name: name for name in ("sigmoid", "tanh", "relu", "softsign", "softplus", "linear", "elu")},
    ("hard_sigmoid", 1 / 6, 0.5): "hard_sigmoid",
    ("leaky_relu", 0.2): "leaky_relu",
}


def to_keras(model: Model, path: str | os.PathLike[str] | None = None) -> Any:
    """A model as one of Keras 3, or as its file.

    Keras takes batches first, (B, T, inputs), and its LSTM and SimpleRNN have one bias: the sum of
    torch's two, which is told by a warning where both are there. A GRU that resets after the
    product has both.

    Parameters
    ----------
    model : LSTM, GRU or RNN, or one of their cells
        Without projection; options only as far as Keras has them, which are activations.
    path : path, optional
        A ``.keras`` file, or weights alone in a ``.weights.h5`` file, to be written with h5py;
        Keras is not needed.

    Returns
    -------
    keras.Sequential or None
        A model whose layers put out all steps, if there is no path.

    Raises
    ------
    ValueError
        Keras has no such model, or the path has another ending.
    TypeError
        `model` is none of fastlstm.
    ImportError
        Keras, or for a file h5py, is not installed.
    OSError
        The file cannot be written.

    Warns
    -----
    UserWarning
        Two biases became one.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> found = interop.to_keras(fastlstm.GRU(3, 4, batch_first=True, seed=0), "model.keras")
    >>> interop.from_keras("model.keras").layers
    {'gru': GRU(3, 4, batch_first=True, dtype=float32)}
    """
    layers = describe(model)
    config = _config(layers)
    arrays = [[_arrays(layer, weights) for weights in layer.weights] for layer in layers]
    if any(_has_two(layer) for layer in layers):
        kind = _CLASSES[layers[0].kind]
        warnings.warn(f"{kind} of Keras has one bias: the sum of both", UserWarning, stacklevel=2)
    if path is None:
        keras = library("keras", "keras", "make a model of Keras")
        made = keras.models.model_from_json(json.dumps(config))
        recurrent = [layer for layer in made.layers if hasattr(layer, "return_sequences")]
        for layer, sides in zip(recurrent, arrays, strict=True):
            layer.set_weights([array for side in sides for array in side])
        return made
    name = os.fspath(path)
    if not isinstance(name, str) or not name.endswith((".keras", ".weights.h5")):
        raise ValueError(f"path must end in .keras or .weights.h5, got {name!r}")
    weights = _hdf5(layers, arrays)
    if name.endswith(".weights.h5"):
        saving.write(name, weights)
        return None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entries = {"metadata.json": json.dumps({"keras_version": "3.0.0"}).encode()}
        entries |= {"config.json": json.dumps(config).encode(), "model.weights.h5": weights}
        for entry, data in entries.items():
            archive.writestr(zipfile.ZipInfo(entry), data)
    saving.write(name, packed.getvalue())
    return None


def _config(layers: list[Layer]) -> dict[str, Any]:
    """The configuration of a Sequential; ValueError for what Keras does not have."""
    first = layers[0]
    dtype = str(first.dtype)
    shape = [None, None, first.input_size]
    found: list[dict[str, Any]] = [
        _serialised("InputLayer", {"batch_shape": shape, "dtype": dtype, "name": "input"})
    ]
    for at, layer in enumerate(layers):
        if at and layer.dropout:
            settings = {"name": f"dropout_{at}", "rate": layer.dropout, "dtype": dtype}
            found.append(_serialised("Dropout", settings))
        own = {"name": layer.name, "units": layer.hidden_size, "return_sequences": True}
        own |= {"use_bias": layer.bias, "dtype": dtype, **_equations(layer)}
        made = _serialised(_CLASSES[layer.kind], own)
        if layer.bidirectional:
            both = {"name": f"bidirectional_{layer.name}", "dtype": dtype, "merge_mode": "concat"}
            backward = _serialised(
                _CLASSES[layer.kind],
                {**own, "name": f"backward_{layer.name}", "go_backwards": True},
            )
            made["config"]["name"] = f"forward_{layer.name}"
            made = _serialised("Bidirectional", {**both, "layer": made, "backward_layer": backward})
        found.append(made)
    inner = {"name": "sequential", "trainable": True, "layers": found}
    return {**_serialised("Sequential", inner, "keras"), "build_config": {"input_shape": shape}}


def _serialised(kind: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _equations(layer: Layer) -> dict[str, Any]:
    """The settings of a layer that say what it computes."""
    if layer.proj_size:
        raise ValueError("Keras has no projection: proj_size must be 0")
    if layer.kind == "rnn":
        return {"activation": layer.nonlinearity}
    if layer.kind == "gru":
        return {"reset_after": layer.reset_after}
    options = layer.options and layer.options.equations()
    if options is None:
        return {"activation": "tanh", "recurrent_activation": "sigmoid"}
    names = ("gate_activation", "candidate_activation", "output_activation")
    odd = [name for name in options.config() if name not in names]
    if odd:
        raise ValueError(f"Keras has no LSTM with {', '.join(odd)}")
    gate, inner, outer = (getattr(options, name) for name in names)
    if inner != outer:
        raise ValueError("Keras has one activation for candidates and outputs: they must be equal")
    for name, value in (("gate_activation", gate), ("candidate_activation", inner)):
        if value not in _ACTIVATIONS:
            raise ValueError(f"Keras 3 has no {name} {value!r}")
    return {"activation": _ACTIVATIONS[inner], "recurrent_activation": _ACTIVATIONS[gate]}


def _keeps_both(layer: Layer) -> bool:
    return layer.kind == "gru" and layer.reset_after


def _has_two(layer: Layer) -> bool:
    """Whether two biases become one, and a bit may be lost."""
    both = layer.bias and not _keeps_both(layer)
    return both and any(weights["bias_hh"].any() for weights in layer.weights)


def _arrays(layer: Layer, weights: Any) -> list[Array]:
    """Kernel, recurrent kernel and bias of one direction, as Keras has them."""
    found = [from_torch(weights[name], layer.kind, "keras") for name in ("weight_ih", "weight_hh")]
    if not layer.bias:
        return found
    if _keeps_both(layer):
        rows = [from_torch(weights[name], layer.kind, "keras") for name in ("bias_ih", "bias_hh")]
        return [*found, np.stack(rows)]
    return [*found, from_torch(weights["bias_ih"] + weights["bias_hh"], layer.kind, "keras")]


def _hdf5(layers: list[Layer], arrays: list[list[list[Array]]]) -> bytes:
    """A file of weights, in memory."""
    h5py = library("h5py", "keras", "write HDF5 files of Keras")
    memory = io.BytesIO()
    counts: dict[str, int] = {}
    with h5py.File(memory, "w") as root:
        for layer, sides in zip(layers, arrays, strict=True):
            kind = "bidirectional" if layer.bidirectional else snake(_CLASSES[layer.kind])
            nth = counts.get(kind, 0)
            counts[kind] = nth + 1
            place = f"layers/{kind}_{nth}" if nth else f"layers/{kind}"
            named = f"bidirectional_{layer.name}" if layer.bidirectional else layer.name
            root.create_group(f"{place}/vars").attrs["name"] = named
            for side, own in zip(("forward_layer/", "backward_layer/"), sides, strict=False):
                base = f"{place}/{side if layer.bidirectional else ''}cell/vars"
                for at, array in enumerate(own):
                    root[f"{base}/{at}"] = array
    return memory.getvalue()
