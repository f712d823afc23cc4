# SPDX-License-Identifier: BSD-3-Clause
"""Layers of Keras's files of weights alone: names and shapes say some of it, callers the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import FormatError
from .keras_files import Array, Contents
from .keras_graph import Graph, Node

_CELL = re.compile(r"(.*?)(?:/(forward|backward)_layer)?/cell/vars/[0-9]+", re.DOTALL)
_CLASSES = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}  # by gates
_BY_GROUP = {
    "dense": "Dense",
    "embedding": "Embedding",
    "batch_normalization": "BatchNormalization",
}


def graph(contents: Contents, asked: Mapping[str, Any]) -> Graph:
    """Its layers, with a configuration of what is known and of what the caller says.

    `asked` holds the arguments of `from_keras`; "ask" stands for what must be given if needed.
    """
    if contents.lists is not None:
        nodes = [
            _listed(contents.file, name, named, asked) for name, named in contents.lists.items()
        ]
    else:
        nodes = _by_path(contents, asked)
    return Graph(nodes, "a file of weights alone does not say how its layers are connected")


def _listed(
    file: str, name: str, named: Sequence[tuple[str, Array]], asked: Mapping[str, Any]
) -> Node:
    """The layer that has these arrays."""
    parts = [own.removesuffix(":0").split("/") for own, _ in named]
    last = [part[-1] for part in parts]
    arrays = [array for _, array in named]
    if "recurrent_kernel" in last:
        sides = any(
            word.startswith(("forward_", "backward_")) for part in parts for word in part[:-1]
        )
        one = arrays[: len(arrays) // 2] if sides else arrays
        return Node(name, *_recurrent(file, name, one, sides, asked), "", name)
    known = {
        ("embeddings",): "Embedding",
        ("gamma", "beta", "moving_mean", "moving_variance"): "BatchNormalization",
    }
    if last and last[0] == "kernel" and set(last) <= {"kernel", "bias"}:
        kind = {2: "Dense", 3: "Conv1D"}.get(arrays[0].ndim, "unknown")
    else:
        kind = known.get(tuple(last), "unknown")
    return Node(name, kind, {"use_bias": "bias" in last}, "", name)


def _by_path(contents: Contents, asked: Mapping[str, Any]) -> list[Node]:
    cells: dict[str, dict[str, list[Array]]] = {}
    others: dict[str, list[Array]] = {}
    for path, array in contents.paths.items():
        match = _CELL.fullmatch(path)
        if match:
            cells.setdefault(match[1], {}).setdefault(match[2] or "", []).append(array)
        else:
            others.setdefault(path.rpartition("/vars/")[0], []).append(array)
    nodes = []
    for place, sides in cells.items():
        own = contents.names.get(place) or place.rpartition("/")[2]
        both = "forward" in sides
        if both and "backward" not in sides:
            raise FormatError(contents.file, place, "its backward_layer is missing")
        arrays = sides["forward"] if both else next(iter(sides.values()))
        kind, config = _recurrent(contents.file, own, arrays, both, asked)
        nodes.append(Node(own, kind, config, place, own))
    for place, arrays in others.items():
        own = contents.names.get(place) or place.rpartition("/")[2] or "model"
        if place in cells or any(node.name == own for node in nodes):
            continue
        kind = _BY_GROUP.get(re.sub(r"_[0-9]+$", "", place.rpartition("/")[2]), "unknown")
        kind = "Dense" if place.endswith("/layer") and arrays[0].ndim == 2 else kind
        least = {"Dense": 1, "Embedding": 1, "BatchNormalization": 4}
        kind = kind if len(arrays) in (least.get(kind, 0), kind == "Dense" and 2) else "unknown"
        nodes.append(Node(own, kind, {"use_bias": len(arrays) == 2}, place, own))
    return nodes


def _recurrent(
    file: str, name: str, arrays: Sequence[Array], both: bool, asked: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Class and configuration of a recurrent layer with these arrays."""
    if len(arrays) < 2 or arrays[1].ndim != 2 or not arrays[1].shape[0]:
        raise FormatError(file, name, "a recurrent layer has a kernel and a recurrent kernel")
    units, columns = arrays[1].shape
    kind = _CLASSES.get(columns // units if columns % units == 0 else 0)
    if kind is None:
        what = f"a recurrent kernel has shape (H, 4 H), (H, 3 H) or (H, H), got {arrays[1].shape}"
        raise FormatError(file, name, what)
    config: dict[str, Any] = {"units": units, "use_bias": len(arrays) > 2, "return_sequences": True}
    config["activation"] = asked["activation"]
    if len(arrays) > 2 and arrays[2].shape == (2 * columns,):
        kind = f"CuDNN{kind}"  # which has two biases, and sigmoid alone
    elif kind != "SimpleRNN":
        config["recurrent_activation"] = _told(file, name, asked, "recurrent_activation")
    if kind == "GRU" and len(arrays) == 2:
        config["reset_after"] = _told(file, name, asked, "reset_after")
    if not both:
        return kind, config
    mode = _told(file, name, asked, "merge_mode")
    return "Bidirectional", {"layer": {"class_name": kind, "config": config}, "merge_mode": mode}


def _told(file: str, name: str, asked: Mapping[str, Any], what: str) -> Any:
    if asked[what] == "ask":
        hints = {
            "recurrent_activation": "'sigmoid', or 'hard_sigmoid', the default up to Keras 2.2",
            "merge_mode": "'concat', the default, 'sum', 'mul', 'ave' or None",
            "reset_after": "True or False",
        }
        raise FormatError(file, name, f"the file does not tell {what}: hand it over, {hints[what]}")
    return asked[what]
