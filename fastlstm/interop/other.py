# SPDX-License-Identifier: BSD-3-Clause
"""What stands between recurrent layers, as importers report it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .description import Array


@dataclass(frozen=True, eq=False, repr=False)
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

    Examples
    --------
    >>> import torch
    >>> from fastlstm import interop
    >>> model = torch.nn.Sequential(torch.nn.GRU(3, 4), torch.nn.Linear(4, 2))
    >>> other = interop.from_torch(model).others[0]
    >>> other.name, other.kind, other.weights["weight"].shape
    ('1', 'Linear', (2, 4))
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = {name: np.shape(array) for name, array in self.weights.items()}
        return f"<Other {self.name!r}: {self.kind}, weights of shapes {shapes}>"
