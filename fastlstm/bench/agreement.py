# SPDX-License-Identifier: BSD-3-Clause
"""Whether two engines computed the same thing: a fast wrong answer is no result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Shape

Array = NDArray[Any]
Outputs = dict[str, Array]
"""What a call gave: y (T, B, D*H); of a training step also gradients, under the names of what they
belong to: x, h_0, c_0 if there is one, and torch's names of the parameters."""


def difference(
    shape: Shape, ours: Outputs, theirs: Outputs, lengths: Array | None, padded: bool
) -> float | None:
    """The largest difference of two engines' outputs: absolute in y, which lies within +-1, and
    relative to the largest entry of each gradient. None if nothing can be compared.

    A NaN in either counts as the largest number there is. A padded engine runs on past each
    sequence's end, so only what can agree is compared (`_comparable`).

    Raises ValueError if names or shapes of the outputs differ.
    """
    if ours.keys() != theirs.keys():
        raise ValueError(f"outputs {sorted(theirs)}, not {sorted(ours)}")
    for name, values in theirs.items():
        if values.shape != ours[name].shape:
            raise ValueError(f"{name} of shape {values.shape}, not {ours[name].shape}")
    if padded and lengths is not None:
        ours, theirs = (_comparable(shape, outputs, lengths) for outputs in (ours, theirs))
    if not ours:
        return None
    return max(_distance(name, ours[name], theirs[name]) for name in ours)


def _comparable(shape: Shape, outputs: Outputs, lengths: Array) -> Outputs:
    """What a padded engine has in common with one that knows the lengths.

    With zero dy in the padding, no gradient comes from there in the forward direction; the reverse
    direction starts in the padding, so its state, what reads it and all their gradients differ.
    """
    if shape.bidirectional and shape.layers > 1:
        return {}
    valid = np.arange(shape.T)[:, None] < lengths[None, :]
    kept = {"y": outputs["y"][valid][:, : shape.outputs]}
    for name, values in outputs.items():
        if name in ("h_0", "c_0"):
            kept[name] = values if not shape.bidirectional else values[:1]
        elif name != "y" and not (shape.bidirectional and (name == "x" or "_reverse" in name)):
            kept[name] = values
    return kept


def _distance(name: str, ours: Array, theirs: Array) -> float:
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    distance = float(np.max(np.abs(a - b), initial=0.0))
    if name != "y" and distance > 0:
        # 0 against something else is as wrong as it gets, whatever its size.
        distance /= max(float(np.max(np.abs(a), initial=0.0)), np.finfo(np.float64).tiny)
    return float(np.nan_to_num(distance, nan=np.finfo(np.float64).max))
