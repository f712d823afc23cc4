# SPDX-License-Identifier: BSD-3-Clause
"""Which recurrent nodes of a graph lie on each other with nothing between but moves of axes."""

from __future__ import annotations

from typing import Any

from . import onnx_moves
from .description import Layer, apart
from .onnx_graph import Scope

Found = tuple[Scope, str, Any, Layer]


def joined(found: list[Found]) -> tuple[dict[str, list[Layer]], set[int]]:
    """Name of the lowest node -> layers of one object, in the order of the graph; and the ids of
    the nodes between them."""
    makers = {_key(scope, node.output[0]): at for at, (scope, _, node, _) in enumerate(found)
              if len(node.output) and node.output[0]}  # fmt: skip
    above: dict[int, int] = {}
    between: set[int] = set()
    for at, (scope, _, node, layer) in enumerate(found):
        lower, way, cut = _below(scope, node, makers)
        if lower is None or lower in above or not way:
            continue
        below_scope, _, below_node, below = found[lower]
        same_lengths = _input(below_node, 4) == _input(node, 4)
        if below_scope is not scope or not same_lengths or apart(below, layer):
            continue
        if (below.initial_state is None) != (layer.initial_state is None):
            continue
        if onnx_moves.Moves(scope, below).lead(way):
            above[lower] = at
            between |= {id(step) for step in [*way, *cut]}
    stacks = {}
    inner = set(above.values())
    for at in range(len(found)):
        if at in inner:
            continue
        chain = [at]
        while chain[-1] in above:
            chain.append(above[chain[-1]])
        stacks[found[at][1]] = [found[each][3] for each in chain]
    return stacks, between


def _key(scope: Scope, name: str) -> tuple[int, str]:
    """A value by the graph that makes it."""
    owner = scope.owner(name)
    return id(owner), name


def _input(node: Any, at: int) -> str:
    return node.input[at] if len(node.input) > at else ""


def _below(
    scope: Scope, node: Any, makers: dict[tuple[int, str], int]
) -> tuple[int | None, list[Any], list[Any]]:
    """The recurrent node whose outputs this one reads, the nodes on the way, from below, and those
    that cut its directions apart before one of them lays them together."""
    name = _input(node, 0)
    way: list[Any] = []
    passed: set[int] = set()
    while True:
        owner = scope.owner(name)
        if owner is None or owner.readers[name] != 1:
            return None, [], []
        if (id(owner), name) in makers:
            return makers[id(owner), name], way[::-1], []
        step = owner.makers.get(name)
        if step is None or id(step) in passed or not len(step.input):
            return None, [], []
        way.append(step)
        if step.op_type == "Concat":
            found = onnx_moves.halves(owner, step)
            lower = None if found is None else makers.get((id(owner), found[0]))
            return lower, way[::-1], [] if found is None else found[1]
        if step.op_type not in onnx_moves.KINDS:
            return None, [], []
        passed.add(id(step))
        name = step.input[0]
