# SPDX-License-Identifier: BSD-3-Clause
"""Models and files of Keras as fastlstm's."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fastlstm.file_kinds import existing

from . import keras_bare, keras_graph, keras_weights
from .errors import FormatError, Unsupported, reading
from .imported import Imported
from .keras_files import Contents, read
from .keras_graph import Graph
from .keras_layers import RECURRENT, Reading, recurrent
from .keras_others import other, repeated
from .keras_weights import Weights

_MASK_ENDS = ("conv1d", "flatten", "repeat_vector")  # and pooling: what is behind has no mask


def from_keras(
    source: Any,
    weights: Any = None,
    *,
    recurrent_activation: str = "ask",
    activation: str = "tanh",
    merge_mode: str | None = "ask",
    reset_after: bool | str = "ask",
    version: str = "",
) -> Imported:
    """The recurrent layers of a model of Keras 2 or 3, and what stands around them.

    Keras itself is not needed: files are read as JSON and, with h5py, HDF5; nothing in them is run.

    Parameters
    ----------
    source : model, layer, mapping, or path
        A live model or layer of Keras or tf_keras; a configuration (``{"class_name": ...,
        "config": ...}``); or the path of a ``.keras``, ``.h5``, ``.weights.h5`` or ``.json`` file.
    weights : path, list of arrays, or mapping of str to lists of arrays, optional
        For a configuration alone: a file of weights, or what ``get_weights`` gives: for one layer a
        list, for several by their names.
    recurrent_activation : str, optional
        What a file of weights alone does not tell: what makes gates. "ask": an error where it is
        needed.
    activation : str, default "tanh"
        Likewise, what makes candidates and outputs.
    merge_mode, reset_after : str, bool or None, optional
        Likewise, how two directions are merged and where a GRU without biases resets.
    version : str, optional
        Of Keras, where nothing tells it and a hard_sigmoid asks: before 3 that is 0.2 x + 0.5,
        since then x / 6 + 0.5.

    Returns
    -------
    Imported
        What was found; each layer by its name in Keras.

    Raises
    ------
    FormatError
        A damaged file, or one that does not tell enough.
    Unsupported
        No recurrent layer, or none that fastlstm has.
    TypeError, ValueError
        A wrong argument.
    ImportError
        h5py is needed and not installed.
    OSError
        A file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import interop
    >>> config = {"class_name": "LSTM", "config": {"name": "lstm", "units": 2}}
    >>> arrays = [np.ones((3, 8)), np.ones((2, 8)), np.ones(8)]
    >>> interop.from_keras(config, arrays).layers["lstm"]
    LSTM(3, 2, batch_first=True, dtype=float64)
    """
    asked = {
        "recurrent_activation": recurrent_activation,
        "activation": activation,
        "merge_mode": merge_mode,
        "reset_after": reset_after,
    }
    if isinstance(source, (str, os.PathLike)):
        contents = read(existing(source))
    elif isinstance(source, Mapping):
        contents = Contents("config", source, str(source.get("keras_version", "")))
    else:
        return _of_live(source)
    return _of_contents(contents, weights, asked, version)


def _of_contents(
    contents: Contents, weights: Any, asked: Mapping[str, Any], version: str
) -> Imported:
    file = contents.file
    has_arrays = bool(contents.paths) or contents.lists is not None
    held = contents
    if has_arrays and weights is not None:
        raise ValueError("weights must be None for a file that has some")
    if not has_arrays:
        if weights is None:
            raise ValueError(f"{file} is a configuration alone: hand over its weights")
        if isinstance(weights, (str, os.PathLike)):
            held = read(existing(weights))
        elif not isinstance(weights, (Mapping, list, tuple)):
            raise TypeError(
                "weights must be a path, a list of arrays or a mapping of them, "
                f"got {type(weights).__name__}"
            )
    version = contents.version or held.version or version
    if not version and held.lists is not None:
        version = "1"  # which wrote lists and no version yet
    with reading(file):
        if contents.config is None:
            graph = keras_bare.graph(contents, asked)
        else:
            graph = keras_graph.graph(file, contents.config)
        if held is contents and not has_arrays:
            arrays = keras_weights.of_arrays(file, weights, graph.nodes)
        else:
            arrays = keras_weights.of_contents(held, graph.nodes)
        return _assembled(Reading(file, version), graph, arrays)


def _of_live(source: Any) -> Imported:
    """A model or a layer, by what it says of itself."""
    if not (hasattr(source, "get_config") and hasattr(source, "get_weights")):
        raise TypeError(
            "source must be a model or layer of Keras, a configuration or a path, "
            f"got {type(source).__name__}"
        )
    kind = type(source).__name__
    root = sys.modules.get(type(source).__module__.split(".")[0])
    version = str(getattr(root, "__version__", "")) or "3"
    if not getattr(source, "built", True):
        raise ValueError(f"{kind} {source.name} has no weights yet: call it or build it first")
    with reading(kind):
        inner = json.loads(json.dumps(source.get_config(), default=_plain))
        config = {"class_name": kind, "config": inner, "module": type(source).__module__}
        if hasattr(source, "layers") and "layers" in inner:
            config["class_name"] = "Functional" if "output_layers" in inner else "Sequential"
            del config["module"]  # classes of models go by what they hold
        graph = keras_graph.graph(kind, config)
        lists = keras_weights.of_model(source)
        arrays = keras_weights.of_arrays(kind, lists, graph.nodes)
        return _assembled(Reading(kind, version), graph, arrays)


def _plain(value: Any) -> Any:
    """A value of a configuration that JSON does not have: an activation by its name."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else {"class_name": type(value).__name__, "config": {}}


def _assembled(told: Reading, graph: Graph, arrays: Mapping[str, Weights]) -> Imported:
    stacks: dict[str, Sequence[Any]] = {}
    others: list[Any] = []
    order: list[str] = []
    unsupported: dict[str, str] = {}
    branches = graph.branches
    masked = False
    for node in graph.nodes:
        if node.kind == "InputLayer":
            continue
        own = arrays[node.name]
        with reading(told.file, node.name):
            if node.kind not in RECURRENT:
                found = other(told, node, own.take, own.rest)
                if (inside := repeated(node)) in RECURRENT:
                    unsupported[node.name] = f"TimeDistributed of {inside}, a sequence of sequences"
                others.append(found)
                order.append(node.name)
                if found.kind == "masking" or found.config.get("mask_zero") is True:
                    masked = True
                elif found.kind in _MASK_ENDS or "pooling" in found.kind:
                    masked = False
                continue
            try:
                layers = recurrent(told, node, own.take)
            except Unsupported as error:
                unsupported[node.name] = error.what
                order.append(node.name)
                continue
            if not layers[0].stateful and isinstance(node.config, Mapping):
                _all_taken(told.file, node.name, own)
            if len(layers) > 1 and node.kind == "Bidirectional":
                branches = branches or f"{node.name} has directions that differ"
        for layer in layers:
            stacks[layer.name] = [dataclasses.replace(layer, has_lengths=masked)]
            order.append(layer.name)
        masked = masked and layers[-1].return_sequences
    if not stacks and not unsupported:
        kinds = sorted({node.kind for node in graph.nodes}) or ["nothing"]
        raise Unsupported(told.file, "", f"has no recurrent layer, but {', '.join(kinds)}")
    if any(layers[0].stateful for layers in stacks.values()):
        told.notes.append("stateful: hand on states yourself, or use stream()")
    version = told.version
    return Imported(
        told.file,
        "Keras",
        "Keras",
        version,
        stacks,
        others,
        order,
        unsupported,
        told.notes,
        branches,
    )


def _all_taken(file: str, name: str, weights: Weights) -> None:
    """Arrays that are left over say that the configuration is another layer's."""
    left = weights.rest() if isinstance(weights, keras_weights.OfList) else {}
    if left:
        shapes = ", ".join(str(array.shape) for array in left.values())
        raise FormatError(file, name, f"has more arrays than its configuration, of shape {shapes}")
