# SPDX-License-Identifier: BSD-3-Clause
"""LSTM files of Neural Amp Modeler (``.nam``): JSON with all weights in one list.

Of each layer there are W_ih and W_hh side by side, row by row, the sum of both biases, and the
first h and c; behind all layers the weights of the head, outputs by units, and its biases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from . import json_files
from .description import Layer
from .errors import FormatError, Unsupported, reading
from .imported import Imported
from .json_files import array, whole
from .other import Other


def from_nam(source: str | os.PathLike[str] | Mapping[str, Any]) -> Imported:
    """The LSTM of a file of Neural Amp Modeler, and the dense layer behind it.

    Parameters
    ----------
    source : path or mapping
        A ``.nam`` file whose architecture is LSTM, or what it holds. Layers take batches first: (B,
        T, inputs).

    Returns
    -------
    Imported
        The stack "lstm" with its initial state, which `sequential` begins with, and "head".

    Raises
    ------
    FormatError
        A damaged file, or one of another format.
    Unsupported
        Another architecture, WaveNet for example.
    TypeError
        `source` is neither.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from fastlstm import interop
    >>> config = {"input_size": 1, "hidden_size": 2, "num_layers": 1}
    >>> amp = {"version": "0.5.4", "architecture": "LSTM", "config": config, "weights": [0.1] * 39}
    >>> interop.from_nam(amp).model
    LSTM(1, 2, batch_first=True, dtype=float32)
    """
    file, found = json_files.read(source)
    kind, config = found.get("architecture"), found.get("config")
    if not isinstance(kind, str) or not isinstance(config, Mapping):
        raise FormatError(file, "", "must have an architecture and a config, as a .nam file has")
    if kind != "LSTM":
        raise Unsupported(file, "architecture", f"is {kind}: only LSTM is recurrent")
    inputs, units, count = (
        whole(file, f"config: {name}", config.get(name), 1)
        for name in ("input_size", "hidden_size", "num_layers")
    )
    outputs = whole(file, "config: out_channels", config.get("out_channels", 1), 1)
    numbers = array(file, "weights", found.get("weights"))
    if numbers.ndim != 1:
        raise FormatError(file, "weights", "must be one list of numbers")
    wanted = outputs * (units + 1)
    for at in range(min(count, 1000)):
        wanted += 4 * units * ((units if at else inputs) + units + 1) + 2 * units
    if count > 1000 or wanted != numbers.size:
        what = f"must have {wanted} numbers for its config, has {numbers.size}"
        raise FormatError(file, "weights", what)
    layers, first = [], 0
    for at in range(count):
        wide = units if at else inputs
        both = 4 * units * (wide + units)
        matrix = numbers[first : first + both].reshape(4 * units, wide + units)
        first += both
        bias = numbers[first : first + 4 * units]
        state = numbers[first + 4 * units : first + 6 * units].reshape(2, 1, 1, units)
        first += 6 * units
        weights = {
            "weight_ih": matrix[:, :wide].copy(),
            "weight_hh": matrix[:, wide:].copy(),
            "bias_ih": bias.copy(),
            "bias_hh": 0 * bias,
        }
        with reading(file, f"layer {at}"):
            layers.append(
                Layer(
                    "lstm",
                    f"lstm_{at}" if count > 1 else "lstm",
                    wide,
                    units,
                    [weights],
                    batch_first=True,
                    initial_state=(state[0].copy(), state[1].copy()),
                )
            )
    weight = numbers[first : first + outputs * units].reshape(outputs, units).copy()
    head = {"weight": weight, "bias": numbers[first + outputs * units :].copy()}
    version = found.get("version", "")
    return Imported(
        file,
        "NAM",
        "Neural Amp Modeler",
        version if isinstance(version, str) else "",
        {"lstm": layers},
        [Other("head", "dense", {}, head)],
        ["lstm", "head"],
    )
