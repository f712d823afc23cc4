# SPDX-License-Identifier: BSD-3-Clause
"""TensorFlow Lite's interpreter against fastlstm on a whole file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .errors import Unsupported, library, reading
from .files import contents
from .tflite_reader import from_tflite


def verify(path: str | os.PathLike[str], *, seed: int = 0) -> dict[str, float]:
    """Run a model of TensorFlow Lite in its interpreter and here.

    Parameters
    ----------
    path : path
        A ``.tflite`` file that is a plain chain.
    seed : int, default 0
        Of the random inputs.

    Returns
    -------
    dict of str to float
        "whole" -> largest difference of the outputs.

    Raises
    ------
    FormatError, OSError, ImportError
        As `from_tflite`; the package ai-edge-litert is needed as well.
    Unsupported
        The file is no plain chain.
    """
    file = os.fspath(path)
    imported = from_tflite(file)
    chain = imported.sequential()
    litert: Any = library("ai_edge_litert.interpreter", "tflite", "verify TensorFlow Lite files")
    with reading(file):
        run = litert.Interpreter(model_content=contents(file), num_threads=1)
        run.allocate_tensors()
        given = run.get_input_details()[0]
        if given["dtype"] != np.float32:
            raise Unsupported(file, "", f"its input is {given['dtype'].__name__}, not float32")
        x = np.random.default_rng(seed).standard_normal(given["shape"]).astype(np.float32)
        run.set_tensor(given["index"], x)
        run.invoke()
        theirs = np.array(run.get_tensor(run.get_output_details()[0]["index"]))
    first = next(iter(imported.stacks.values()))[0]
    ours = chain(x if first.batch_first else x.swapaxes(0, 1))
    if not first.batch_first and ours.ndim == 3:
        ours = ours.swapaxes(0, 1)
    return {"whole": float(np.abs(theirs.astype(np.float64) - ours).max())}
