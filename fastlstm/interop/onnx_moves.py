# SPDX-License-Identifier: BSD-3-Clause
"""Where the axes of a recurrent node's output go until another node reads them."""

from __future__ import annotations

from typing import Any

from .description import Layer
from .onnx_graph import Scope

# Y of a node has four axes, by these letters: time, directions, batch, units. The node above reads
# three, the last one directions and units together, "DH". By batch_first.
_AXES = {False: ["T", "D", "B", "H"], True: ["B", "T", "D", "H"]}
_READ = {False: ["T", "B", "DH"], True: ["B", "T", "DH"]}
KINDS = ("Identity", "Dropout", "Squeeze", "Transpose", "Reshape")

_LONGEST = 16  # of a vector of sizes
Size = int | str  # of an axis: a number, or "T" or "B", which any call may have otherwise


class Moves:
    """The axes of one node's output, moved by nodes that change no value."""

    def __init__(self, scope: Scope, below: Layer) -> None:
        self.scope, self.below = scope, below
        self.width = below.hidden_size * len(below.weights)
        self.axes = list(_AXES[below.batch_first])
        self.seen: dict[str, list[Size]] = {}
        """value -> its sizes, of all values on the way"""
        self._known: dict[str, list[Size] | None] = {}

    def lead(self, way: list[Any]) -> bool:
        """Whether the nodes hand each output on to where a layer above reads it."""
        moved = all(self.move(step) for step in way)
        return moved and self.axes == _READ[self.below.batch_first]

    def move(self, step: Any) -> bool:
        """Take the axes through one node; False where it does something else than moving them."""
        if step.domain not in ("", "ai.onnx"):
            return False
        attributes = {attribute.name: attribute for attribute in step.attribute}
        self.seen[step.input[0]] = [self._size(axis) for axis in self.axes]
        after: list[str] | None = None
        if step.op_type == "Transpose":
            after = self._transposed(attributes)
        elif step.op_type == "Squeeze":
            after = self._squeezed(self._sizes_in(step, attributes, "axes"))
        elif step.op_type == "Reshape":
            after = self._reshaped(step.input[0], self._sizes_in(step, attributes, "shape"))
        elif step.op_type == "Concat":
            after = self._together(step)
        elif step.op_type == "Identity" or is_idle(self.scope, step):
            after = self.axes
        if after is None:
            return False
        self.axes = after
        return True

    def _together(self, step: Any) -> list[str] | None:
        """The axes after both directions were cut apart and laid beside each other."""
        if self.axes != _AXES[False] or not self.below.bidirectional:
            return None
        return list(_READ[False]) if halves(self.scope, step) is not None else None

    def _size(self, axis: str) -> Size:
        known = {"D": len(self.below.weights), "H": self.below.hidden_size, "DH": self.width}
        return known.get(axis, axis)

    def _sizes_in(self, step: Any, attributes: dict[str, Any], name: str) -> list[Size] | None:
        """Axes or a shape, of an attribute or of the second input; None where they are unknown."""
        if name in attributes:
            return list(attributes[name].ints)
        if len(step.input) < 2 or not step.input[1]:
            return None
        return self.sizes(step.input[1])

    def sizes(self, name: str) -> list[Size] | None:
        """What a vector of sizes holds, computed of the shapes of values on the way."""
        if name not in self._known:
            self._known[name] = None  # of a circle
            found = self._computed(name)
            self._known[name] = None if found is None or len(found) > _LONGEST else found
        return self._known[name]

    def _computed(self, name: str) -> list[Size] | None:
        constant = self.scope.constant(name)
        if constant is not None:
            return [int(number) for number in constant.reshape(-1)[: _LONGEST + 1]]
        node = self.scope.maker(name)
        if node is None:
            return None
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Shape":
            of = self.seen.get(node.input[0])
            first = attributes["start"].i if "start" in attributes else 0
            last = attributes["end"].i if "end" in attributes else None
            return None if of is None else of[first:last]
        parts = [self.sizes(each) for each in node.input if each]
        given = [part for part in parts if part is not None]
        if len(given) < len(parts) or not given:
            return None
        if node.op_type in ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"):
            return given[0]
        if node.op_type == "Concat":
            return [size for part in given for size in part]
        if node.op_type == "Mul":
            return _product(given)
        return _picked(node.op_type, given)

    def _transposed(self, attributes: dict[str, Any]) -> list[str] | None:
        """The axes in the order of `perm`, backwards if nobody says."""
        perm = [*range(len(self.axes))][::-1]
        if "perm" in attributes:
            perm = list(attributes["perm"].ints)
        if sorted(perm) != list(range(len(self.axes))):
            return None
        return [self.axes[at] for at in perm]

    def _squeezed(self, which: list[Size] | None) -> list[str] | None:
        """The axes without that of the one direction."""
        if which is None or len(which) != 1 or self.below.bidirectional:
            return None
        at = int(which[0])
        if not -len(self.axes) <= at < len(self.axes) or self.axes[at] != "D":
            return None
        return ["DH" if axis == "H" else axis for axis in self.axes if axis != "D"]

    def _reshaped(self, name: str, shape: list[Size] | None) -> list[str] | None:
        """The axes after a reshape of value `name` that puts directions and units together.

        Of one direction that may stand anywhere. The sizes of time and batch must be certain: 0
        keeps the one at this place, -1 is what is left, and a number must be what the file says.
        """
        axes = self.axes
        if shape is None or len(shape) != 3 or len(axes) != 4 or shape[2] not in (self.width, -1):
            return None
        kept = [axis for axis in axes if axis != "D"]
        if kept[-1] != "H" or (self.below.bidirectional and axes[2:] != ["D", "H"]):
            return None
        declared = dict(zip(axes, self.scope.declared(name), strict=False))
        certain = 0
        for at, axis in enumerate(kept[:2]):
            same = shape[at] == 0 and axes[at] == axis
            certain += same or shape[at] == axis or shape[at] == (declared.get(axis) or axis)
        left = sum(size == -1 for size in shape)
        if left > 1 or certain + sum(size == -1 for size in shape[:2]) < 2:
            return None
        return [*kept[:2], "DH"]


def is_idle(scope: Scope, node: Any) -> bool:
    """Whether a node is a Dropout of inference, which changes nothing."""
    trains = len(node.input) > 2 and node.input[2]
    return node.op_type == "Dropout" and (not trains or scope.uniform(trains) == 0)


def _product(parts: list[list[Size]]) -> list[Size] | None:
    """Of two vectors of sizes, element by element; a name times 1 alone is known."""
    found: list[Size] = []
    for one, other in zip(*parts, strict=len(parts) == 2):
        if isinstance(one, int) and isinstance(other, int):
            found.append(one * other)
        elif 1 in (one, other):
            found.append(other if one == 1 else one)
        else:
            return None
    return found


def _picked(kind: str, parts: list[list[Size]]) -> list[Size] | None:
    """What Gather or Slice takes out of a vector of sizes."""
    whole, *numbers = parts
    at = [[int(n) for n in part if isinstance(n, int)] for part in numbers]
    if kind == "Gather" and len(at) == 1:
        return [whole[n] for n in at[0] if -len(whole) <= n < len(whole)]
    if kind == "Slice" and len(at) in (2, 3) and len(at[0]) == len(at[1]) == 1:
        return whole[at[0][0] : at[1][0]]
    return None


def halves(scope: Scope, node: Any) -> tuple[str, list[Any]] | None:
    """Of a Concat that lays the two directions of a value (T, 2, B, H) beside each other, as
    tf2onnx writes them: the value, and the nodes that cut it apart; None of any other one."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if node.op_type != "Concat" or len(node.input) != 2 or axis not in (-1, 2):
        return None
    wholes, nodes = [], []
    for at, name in enumerate(node.input):
        squeeze = scope.maker(name)
        cut = scope.maker(squeeze.input[0]) if squeeze is not None and squeeze.input else None
        if cut is None or (squeeze.op_type, cut.op_type) != ("Squeeze", "Slice") or not cut.input:
            return None
        if _numbers(scope, squeeze, "axes", 1) != [1]:
            return None
        parts = [_numbers(scope, cut, key, place) for key, place in _SLICE]
        start, end, along, step = (part if part and len(part) == 1 else [None] for part in parts)
        step = [1] if parts[3] is None and len(cut.input) < 5 else step
        if [*start, *along, *step] != [at, 1, 1] or end[0] is None or (end[0] == 1) != (at == 0):
            return None
        owner = scope.owner(cut.input[0])
        read_once = scope.readers[name] == 1 and scope.readers[squeeze.input[0]] == 1
        if owner is not scope or scope.readers[cut.input[0]] != 2 or not read_once or end[0] < 1:
            return None
        wholes.append(cut.input[0])
        nodes += [cut, squeeze]
    return (wholes[0], nodes) if wholes[0] == wholes[1] else None


_SLICE = (("starts", 1), ("ends", 2), ("axes", 3), ("steps", 4))  # attribute, or which input


def _numbers(scope: Scope, node: Any, name: str, at: int) -> list[int] | None:
    """Constant integers of an attribute, or of an input; None where there are none."""
    for attribute in node.attribute:
        if attribute.name == name:
            return list(attribute.ints)
    value = scope.constant(node.input[at]) if len(node.input) > at and node.input[at] else None
    return None if value is None else [int(number) for number in value.reshape(-1)[:_LONGEST]]
