# SPDX-License-Identifier: BSD-3-Clause
"""Which recurrent nodes of a graph lie on each other with nothing between but moves of axes."""

from __future__ import annotations

from typing import Any

from .description import Layer, apart
from .onnx_graph import Scope

Found = tuple[Scope, str, Any, Layer]

# Y of a node has four axes, by these letters: time, directions, batch, units. The node above reads
# three, the last one directions and units together, "DH".
_AXES = {False: ["T", "D", "B", "H"], True: ["B", "T", "D", "H"]}
_READ = {False: ["T", "B", "DH"], True: ["B", "T", "DH"]}


def joined(found: list[Found]) -> tuple[dict[str, list[Layer]], set[int]]:
    """Name of the lowest node -> layers of one object, in the order of the graph; and the ids of
    the nodes between them."""
    makers = {scope_key(scope, node.output[0]): at for at, (scope, _, node, _) in enumerate(found)
              if len(node.output) and node.output[0]}  # fmt: skip
    above: dict[int, int] = {}
    between: set[int] = set()
    for at, (scope, _, node, layer) in enumerate(found):
        lower, way = _below(scope, node, makers)
        if lower is None or lower in above or not way:
            continue
        below_scope, _, below_node, below = found[lower]
        same_lengths = _input(below_node, 4) == _input(node, 4)
        if below_scope is not scope or not same_lengths or apart(below, layer):
            continue
        if (below.initial_state is None) != (layer.initial_state is None):
            continue
        if _leads(scope, below, way):
            above[lower] = at
            between |= {id(step) for step in way}
    stacks = {}
    for at in range(len(found)):
        if at in above.values():
            continue
        chain = [at]
        while chain[-1] in above:
            chain.append(above[chain[-1]])
        stacks[found[at][1]] = [found[each][3] for each in chain]
    return stacks, between


def scope_key(scope: Scope, name: str) -> tuple[int, str]:
    """A value by the graph that makes it."""
    owner = scope.owner(name)
    return id(owner), name


def _input(node: Any, at: int) -> str:
    return node.input[at] if len(node.input) > at else ""


def _below(
    scope: Scope, node: Any, makers: dict[tuple[int, str], int]
) -> tuple[int | None, list[Any]]:
    """The recurrent node whose outputs this one reads, and the nodes on the way, from below."""
    name = _input(node, 0)
    way: list[Any] = []
    while True:
        owner = scope.owner(name)
        if owner is None or owner.readers[name] != 1:
            return None, []
        if (id(owner), name) in makers:
            return makers[id(owner), name], way[::-1]
        step = owner.makers.get(name)
        moves = ("Identity", "Dropout", "Squeeze", "Transpose", "Reshape")
        if step is None or step.op_type not in moves or step in way or not len(step.input):
            return None, []
        way.append(step)
        name = step.input[0]


def _leads(scope: Scope, below: Layer, way: list[Any]) -> bool:
    """Whether the nodes between hand each output on to where the layer above reads it."""
    axes = list(_AXES[below.batch_first])
    width = below.hidden_size * len(below.weights)
    for step in way:
        attributes = {attribute.name: attribute for attribute in step.attribute}
        after: list[str] | None = axes
        if step.op_type == "Transpose":
            after = _transposed(axes, attributes)
        elif step.op_type == "Squeeze":
            after = _squeezed(axes, _ints(scope, step, attributes, "axes"), below)
        elif step.op_type == "Reshape":
            after = _reshaped(axes, _ints(scope, step, attributes, "shape"), below, width)
        elif step.op_type == "Dropout" and _input(step, 2) and scope.uniform(step.input[2]) != 0:
            return False
        if after is None:
            return False
        axes = after
    return axes == _READ[below.batch_first]


def _transposed(axes: list[str], attributes: dict[str, Any]) -> list[str] | None:
    """The axes in the order of `perm`, backwards if nobody says."""
    perm = [*range(len(axes))][::-1]
    if "perm" in attributes:
        perm = list(attributes["perm"].ints)
    if sorted(perm) != list(range(len(axes))):
        return None
    return [axes[at] for at in perm]


def _ints(scope: Scope, step: Any, attributes: dict[str, Any], name: str) -> list[int] | None:
    """Axes or a shape, of an attribute or of the second input; None where they are not constant."""
    if name in attributes:
        return list(attributes[name].ints)
    if not _input(step, 1):
        return None
    value = scope.constant(step.input[1])
    return None if value is None else [int(number) for number in value.reshape(-1)]


def _squeezed(axes: list[str], which: list[int] | None, below: Layer) -> list[str] | None:
    """The axes without that of the one direction."""
    if which is None or len(which) != 1 or below.bidirectional:
        return None
    at = which[0] + len(axes) * (which[0] < 0)
    if not 0 <= at < len(axes) or axes[at] != "D":
        return None
    return ["DH" if axis == "H" else axis for axis in axes if axis != "D"]


def _reshaped(
    axes: list[str], shape: list[int] | None, below: Layer, width: int
) -> list[str] | None:
    """The axes after a reshape that puts directions and units together.

    Of one direction that may stand anywhere. The sizes of time and batch must be certain: 0 keeps
    the one at this place, -1 is what is left.
    """
    if shape is None or len(shape) != 3 or len(axes) != 4 or shape[2] not in (width, -1):
        return None
    if below.bidirectional and axes[2:] != ["D", "H"]:
        return None
    kept = [axis for axis in axes if axis != "D"]
    if kept[-1] != "H":
        return None
    certain = [shape[at] == 0 and axes[at] == kept[at] for at in (0, 1)]
    free = [number == -1 for number in shape]
    if sum(free) > 1 or not all(sure or left for sure, left in zip(certain, free[:2], strict=True)):
        return None
    return [*kept[:2], "DH"]
