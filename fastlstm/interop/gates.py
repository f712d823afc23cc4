# SPDX-License-Identifier: BSD-3-Clause
"""How formats order gates and lay out weights: the one place that knows.

A weight of G gates and H units has G blocks of H rows (or columns), one for each gate. Gates are
called as in torch: i, f, g, o of an LSTM (g is Keras's and ONNX's c), r, z, n of a GRU (n is
their h), and the RNN has the one gate n.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Format -> order of the gates, by kind of layer.
ORDERS: dict[str, dict[str, str]] = {
    "torch": {"lstm": "ifgo", "gru": "rzn", "rnn": "n"},
    "keras": {"lstm": "ifgo", "gru": "zrn", "rnn": "n"},
    "onnx": {"lstm": "iofg", "gru": "zrn", "rnn": "n"},
    "tflite": {"lstm": "ifgo"},
    "rtneural": {"lstm": "ifgo", "gru": "zrn"},
}

# Format -> whether matrices are (inputs, gates x H), where torch's are (gates x H, inputs).
TRANSPOSED: dict[str, bool] = {
    "torch": False,
    "keras": True,
    "onnx": False,
    "tflite": False,
    "rtneural": True,
}

# Order of the peepholes in ONNX's input P, (D, 3H); by the gates' names.
ONNX_PEEPHOLES = "iof"


def reorder(array: Array, kind: str, source: str, target: str, axis: int = 0) -> Array:
    """The array with the blocks of its gates in another format's order.

    Parameters
    ----------
    array : ndarray
        As many values along `axis` as the gates have units together.
    kind : {"lstm", "gru", "rnn"}
        What layer they are of.
    source, target : str
        Formats, keys of `ORDERS`.
    axis : int, default 0
        Along which gates follow each other.

    Returns
    -------
    ndarray
        A copy, or the array itself where both orders are the same.

    Raises
    ------
    ValueError
        The axis is no multiple of the gates.
    """
    have, want = ORDERS[source][kind], ORDERS[target][kind]
    if array.shape[axis] % len(have):
        raise ValueError(
            f"axis {axis} must hold {len(have)} gates of equal size, got shape {array.shape}"
        )
    if have == want:
        return array
    blocks = np.split(array, len(have), axis)
    return np.concatenate([blocks[have.index(gate)] for gate in want], axis)


def to_torch(array: Array, kind: str, source: str) -> Array:
    """A matrix or bias of one layer and direction, of another format, as torch has it."""
    if array.ndim == 2 and TRANSPOSED[source]:
        array = array.T
    return np.ascontiguousarray(reorder(array, kind, source, "torch"))


def from_torch(array: Array, kind: str, target: str) -> Array:
    """A matrix or bias of one layer and direction, of torch, as another format has it."""
    array = reorder(array, kind, "torch", target)
    if array.ndim == 2 and TRANSPOSED[target]:
        array = array.T
    return np.ascontiguousarray(array)
