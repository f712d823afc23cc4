# SPDX-License-Identifier: BSD-3-Clause
"""What stands between recurrent layers, as importers report it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .description import Array


@dataclass(frozen=True, eq=False)
class Other:
    """What stands between or around recurrent layers: a dense layer, an activation ...

    Parameters
    ----------
    name : str
        Its name in the file.
    kind : str
        What it is: "dense", "conv1d", "embedding", "activation" ..., or the format's own word for
        what has none of ours.
    config : mapping
        What the file says of it, by the format's own names.
    weights : mapping of str to ndarray
        Its arrays, as the file has them.
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
