# SPDX-License-Identifier: BSD-3-Clause
"""Which arrays of a file, of a model or of a caller belong to which layer of Keras."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError
from .keras_files import Contents
from .keras_graph import Node
from .keras_others import count

Array = NDArray[Any]


class Weights:
    """The arrays of one layer, which are taken from it piece by piece."""

    def take(self, where: str, number: int) -> list[Array]:
        """The next arrays, or those under a path inside the layer."""
        raise NotImplementedError

    def rest(self) -> dict[str, Array]:
        """All arrays that nobody took, by names."""
        raise NotImplementedError


class _OfPaths(Weights):
    def __init__(self, contents: Contents, place: str) -> None:
        self._contents, self._place = contents, place

    def take(self, where: str, number: int) -> list[Array]:
        base = "/".join(part for part in (self._place, where, "vars") if part)
        found = []
        for at in range(number):
            place = f"{base}/{at}"
            if place not in self._contents.paths:
                raise FormatError(self._contents.file, place, "the array is missing")
            found.append(self._contents.paths[place])
        return found

    def rest(self) -> dict[str, Array]:
        base = f"{self._place}/"
        paths = self._contents.paths
        return {path.removeprefix(base): paths[path] for path in paths if path.startswith(base)}


class OfList(Weights):
    def __init__(self, file: str, name: str, arrays: Sequence[Array]) -> None:
        self._file, self._name, self._left = file, name, list(arrays)

    def take(self, where: str, number: int) -> list[Array]:
        if len(self._left) < number:
            what = f"{number} arrays are needed, {len(self._left)} are there"
            raise FormatError(self._file, self._name, what)
        found, self._left = self._left[:number], self._left[number:]
        return found

    def rest(self) -> dict[str, Array]:
        return {str(at): array for at, array in enumerate(self._left)}


def of_contents(contents: Contents, nodes: Sequence[Node]) -> dict[str, Weights]:
    """The weights of each layer, by its name."""
    if contents.lists is None:
        return {node.name: _OfPaths(contents, place) for node, place in _places(contents, nodes)}
    return of_lists(
        contents.file,
        {name: [array for _, array in named] for name, named in contents.lists.items()},
        nodes,
    )


def _places(contents: Contents, nodes: Sequence[Node]) -> Iterator[tuple[Node, str]]:
    """Where each layer's arrays lie. One that stands in several models is saved once: its other
    places are empty, and its name and configuration are the same there."""
    filled = set()
    for path in contents.paths:
        parts = path.split("/")
        filled |= {"/".join(parts[:at]) for at in range(1, len(parts))}
    saved: dict[str, list[Node]] = {}
    for node in nodes:
        if node.place in filled:
            saved.setdefault(node.name.rpartition("/")[2], []).append(node)
    for node in nodes:
        same = [
            one
            for one in saved.get(node.name.rpartition("/")[2], [])
            if node.place not in filled
            and one.kind == node.kind
            and _bare(one.config) == _bare(node.config)
        ]
        yield node, same[0].place if len(same) == 1 else node.place


def _bare(config: Any) -> Any:
    """A configuration without the numbers that tell objects of one session apart."""
    if isinstance(config, Mapping):
        return {key: _bare(value) for key, value in config.items() if key != "shared_object_id"}
    return [_bare(value) for value in config] if isinstance(config, list) else config


def of_lists(
    file: str, lists: Mapping[str, Sequence[Array]], nodes: Sequence[Node]
) -> dict[str, Weights]:
    """Likewise, of lists by the outermost layer: those that it trains, then the others."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.outer, []).append(node)
    found: dict[str, Weights] = {}
    for outer, inside in groups.items():
        arrays = list(lists.get(outer, []))
        if len(inside) == 1:
            found[inside[0].name] = OfList(file, inside[0].name, arrays)
            continue
        shares = []
        for node in inside:
            own = count(node)
            if own is None:
                what = (
                    f"how many weights a {node.kind} has is not known, and those behind it follow"
                )
                raise FormatError(file, node.name, what)
            shares.append(own if node.trainable else (0, sum(own)))
        if sum(map(sum, shares)) != len(arrays):
            what = f"{sum(map(sum, shares))} arrays are needed, {len(arrays)} are there"
            raise FormatError(file, outer, what)
        trained, fixed = 0, sum(share[0] for share in shares)
        for node, (first, second) in zip(inside, shares, strict=True):
            own_arrays = arrays[trained : trained + first] + arrays[fixed : fixed + second]
            found[node.name] = OfList(file, node.name, own_arrays)
            trained, fixed = trained + first, fixed + second
    return found


def of_arrays(file: str, given: Any, nodes: Sequence[Node]) -> dict[str, Weights]:
    """Likewise, of a list of arrays for the only layer, or of one list for each name."""
    if isinstance(given, Mapping):
        lists = given
    elif len(nodes) == 1:
        lists = {nodes[0].name: given}
    else:
        raise TypeError(
            f"weights of {len(nodes)} layers must be a mapping of their names to lists of arrays, "
            f"got {type(given).__name__}"
        )
    found: dict[str, Weights] = {}
    for node in nodes:
        own = lists.get(node.name, ())
        found[node.name] = OfList(file, node.name, [np.asarray(array) for array in own])
    return found


def of_model(model: Any, prefix: str = "") -> dict[str, list[Array]]:
    """Layers of a live model, or the layer itself, by name: what their ``get_weights`` gives."""
    inside = getattr(model, "layers", None)
    if inside is None or getattr(model, "forward_layer", None) is not None:
        return {f"{prefix}{model.name}": _of_layer(model)}
    found: dict[str, list[Array]] = {}
    for layer in inside:
        below = f"{prefix}{layer.name}"
        if isinstance(getattr(layer, "layers", None), list):
            found |= of_model(layer, f"{below}/")
        else:
            found[below] = _of_layer(layer)
    return found


def _of_layer(layer: Any) -> list[Array]:
    """Without the states that a layer keeps, which Keras 3 counts among its weights."""
    sides = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
    if all(side is not None for side in sides):
        return [array for side in sides for array in _of_layer(side)]
    cell: Any = getattr(layer, "cell", None)
    source = cell if hasattr(cell, "get_weights") else layer
    if getattr(layer, "lora_enabled", False):  # its kernel is the sum; files have that alone
        main: Any = getattr(layer, "kernel", getattr(layer, "embeddings", None))
        whole = main.detach() if hasattr(main, "detach") else main
        bias = getattr(layer, "bias", None)
        return [np.asarray(whole), *([] if bias is None else [np.asarray(bias.numpy())])]
    return [np.asarray(array) for array in source.get_weights()]
