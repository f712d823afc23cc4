# SPDX-License-Identifier: BSD-3-Clause
"""Keras against fastlstm on the recurrent layers of a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm.file_kinds import existing

from .description import Layer
from .errors import Unsupported, library, reading
from .keras_reader import from_keras
from .sequential import Sequential

_STEPS, _BATCH = 9, 3


def verify(path: str | os.PathLike[str], *, seed: int = 0) -> dict[str, float]:
    """Run the recurrent layers of a model of Keras in Keras and here.

    Parameters
    ----------
    path : path
        A ``.keras`` or ``.h5`` file of a whole model, which Keras loads in its safe mode.
    seed : int, default 0
        Of the random inputs.

    Returns
    -------
    dict of str to float
        Name of each layer of `from_keras(path).layers` that Keras has by this name -> largest
        difference of the outputs.

    Raises
    ------
    FormatError, OSError, ImportError
        As `from_keras`; Keras is needed as well, and says what it cannot load.
    Unsupported
        Keras has none of the layers by itself.
    """
    file = existing(path)
    imported = from_keras(file)
    keras = library("keras", "keras", "verify files of Keras")
    with reading(file):
        model = keras.models.load_model(file, compile=False, safe_mode=True)
    rng = np.random.default_rng(seed)
    found = {}
    for name, layers in imported.stacks.items():
        layer = _of_name(model, name)
        if layer is not None:
            found[name] = _difference(file, layer, name, layers, imported.layers[name], rng)
    if not found:
        raise Unsupported(file, "", "Keras has no layer by the names that were found")
    return found


def _of_name(model: Any, name: str) -> Any:
    """The layer in a model, or in models inside it; None where there is none."""
    for part in name.split("/"):
        inside = {layer.name: layer for layer in getattr(model, "layers", None) or []}
        if part not in inside:
            return None
        model = inside[part]
    return model


def _difference(
    file: str, layer: Any, name: str, layers: Sequence[Layer], model: Any, rng: np.random.Generator
) -> float:
    shape = (_BATCH, _STEPS, layers[0].input_size)
    if layer.__class__.__name__ != "RNN" and getattr(layer, "stateful", False):
        layer.stateful = False  # so that it takes another batch
    x = rng.standard_normal(shape).astype(layers[0].dtype)
    theirs = layer(x)
    theirs = theirs[0] if isinstance(theirs, (list, tuple)) else theirs
    theirs = np.asarray(theirs.detach() if hasattr(theirs, "detach") else theirs, np.float64)
    ours = Sequential(file, [(name, layers, model)])(x)
    return float(np.abs(theirs - ours).max())
