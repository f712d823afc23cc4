# SPDX-License-Identifier: BSD-3-Clause
"""Which layers a configuration of Keras has, where their weights lie, whether they are a chain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import FormatError

MODELS = ("Sequential", "Functional", "Model")
_HOMES = ("keras", "tf_keras", "tensorflow")  # packages whose classes are Keras's own
_DEEPEST = 32  # models in each other


@dataclass(frozen=True, eq=False)
class Node:
    """One layer of a model, of those in models inside it too."""

    name: str
    """with those of the models that it is in: "encoder/lstm" """
    kind: str
    """its class in Keras"""
    config: Mapping[str, Any]
    place: str
    """where files that go by classes have its weights"""
    outer: str
    """the layer of the outermost model that it is in: files that go by names have it"""
    trainable: bool = True
    """whether it and all that it is in are; files that go by names sort by it"""


@dataclass(frozen=True, eq=False)
class Graph:
    """The layers of a model, in the order of the graph where they are a chain."""

    nodes: Sequence[Node]
    branches: str
    """why they are no chain; empty where they are"""


def part(file: str, place: str, holder: Any, name: str, kind: type, default: Any = ...) -> Any:
    """A value of a configuration, of this type; FormatError where it is not."""
    if not isinstance(holder, Mapping):
        raise FormatError(file, place, f"must be a mapping, got {type(holder).__name__}")
    value = holder.get(name, default)
    if value is ... or (value is not default and not isinstance(value, kind)):
        got = "nothing" if value is ... else type(value).__name__
        raise FormatError(file, place, f"{name} must be a {kind.__name__}, got {got}")
    return value


def class_of(file: str, place: str, holder: Any) -> str:
    """The class that a configuration is of; with its package before it where it is none of Keras's
    own, which may have any name: "mine>LSTM"."""
    kind: str = part(file, place, holder, "class_name", str)
    module, registered = holder.get("module"), holder.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        return registered
    if isinstance(module, str) and module and module.partition(".")[0] not in _HOMES:
        return f"{module}>{kind}"
    return kind


def snake(name: str) -> str:
    """How files that go by classes write a class: "SimpleRNN" is simple_rnn."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z]+)|(?<=[a-z])(?=[A-Z])", "_", name).lower()


def graph(file: str, config: Any) -> Graph:
    """The layers of a model's configuration, or of a layer's."""
    kind = class_of(file, "config", config)
    if kind in MODELS:
        found, branches = _model(file, config, "", "", "", True, 0)
        return Graph(found, branches)
    inner = part(file, "config", config, "config", Mapping)
    name = part(file, kind, inner, "name", str, snake(kind))
    return Graph([Node(name, kind, inner, "", name)], "")


def _model(
    file: str, config: Any, prefix: str, place: str, outer: str, trainable: bool, depth: int
) -> tuple[list[Node], str]:
    if depth > _DEEPEST:
        raise FormatError(file, prefix, "its models are nested too deeply")
    where = prefix or "config"
    inner = config.get("config")
    if isinstance(inner, list):  # of a Sequential before Keras 2.2.3
        inner = {"layers": inner}
    layers = part(file, where, inner, "layers", list)
    counts: Counter[str] = Counter()
    made: dict[str, list[Node]] = {}
    branches = ""
    for at, layer in enumerate(layers):
        kind = class_of(file, f"{where}: layer {at}", layer)
        settings = layer.get("config") or {}
        named = settings if isinstance(settings, Mapping) else {}
        name = layer.get("name") or named.get("name") or f"{snake(kind)}_{at}"
        if not isinstance(name, str) or name in made:
            raise FormatError(file, f"{where}: layer {at}", f"its name {name!r} is not its own")
        key = snake(layer["class_name"])
        nth, counts[key] = counts[key], counts[key] + 1
        there = f"{place}layers/{key}_{nth}" if nth else f"{place}layers/{key}"
        own = trainable and named.get("trainable", True) is not False
        whole = f"{prefix}/{name}" if prefix else name
        if kind in MODELS:
            args = (whole, f"{there}/", outer or name, own, depth + 1)
            made[name], inside = _model(file, layer, *args)
            branches = branches or inside
        else:
            if not isinstance(settings, Mapping):
                raise FormatError(file, whole, "config must be a mapping")
            made[name] = [Node(whole, kind, settings, there, outer or name, own)]
    order = list(made)
    if config["class_name"] != "Sequential":
        order, apart = _chain(layers, inner, list(made))
        branches = branches or apart
    return [node for name in order for node in made[name]], branches


def _chain(layers: list[Any], config: Mapping[str, Any], names: list[str]) -> tuple[list[str], str]:
    """The names in the order of the calls, and why they are no chain."""
    below: dict[str, str] = {}
    for layer, name in zip(layers, names, strict=True):
        calls = layer.get("inbound_nodes") or []
        if len(calls) > 1:
            return names, f"{name} is called {len(calls)} times"
        sources = [source for call in calls for source in _sources(call)]
        if len(sources) > 1:
            return names, f"{name} has {len(sources)} inputs"
        if sources:
            source, tensor = sources[0]
            if source not in names or tensor:
                return names, f"{name} reads output {tensor} of {source}"
            below[name] = source
    first = [name for name in names if name not in below]
    if len(first) != 1:
        return names, f"it begins in {len(first)} places"
    above: dict[str, str] = {}
    for name, source in below.items():
        if source in above:
            return names, f"{source} is read by {above[source]} and {name}"
        above[source] = name
    order = first
    while order[-1] in above and len(order) <= len(names):
        order.append(above[order[-1]])
    if len(order) != len(names):
        return names, "its layers do not follow each other"
    outputs = _flat(config.get("output_layers"))
    if len(outputs) > 1 or (outputs and outputs[0][0] != order[-1]):
        return names, f"it has outputs of {', '.join(name for name, _ in outputs)}"
    if outputs and outputs[0][1]:
        return names, f"its output is a state of {order[-1]}"
    return order, ""


def _sources(call: Any) -> list[tuple[str, Any]]:
    """Layers, and numbers of their outputs, that one call of a layer reads."""
    found = []
    todo = [call]
    while todo:
        item = todo.pop()
        if isinstance(item, Mapping):
            history = item.get("keras_history")  # of Keras 3
            if isinstance(history, list) and len(history) == 3:
                found.append((str(history[0]), history[2]))
            else:
                todo += item.values()
        elif isinstance(item, list):
            plain = len(item) in (3, 4) and isinstance(item[0], str) and isinstance(item[1], int)
            if plain and isinstance(item[2], int):  # of Keras 2
                found.append((item[0], item[2]))
                todo += item[3:]
            else:
                todo += item
    return found


def _flat(outputs: Any) -> list[tuple[str, Any]]:
    """Layers, and numbers of their outputs, in `output_layers`: [name, 0, 0], or a list of such."""
    if not isinstance(outputs, list) or not outputs:
        return []
    if isinstance(outputs[0], str):
        return [(outputs[0], outputs[2] if len(outputs) > 2 else 0)]
    return [name for item in outputs for name in _flat(item)]
