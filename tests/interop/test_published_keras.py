# SPDX-License-Identifier: BSD-3-Clause
"""Layers of Keras that others published, through the importer: no Keras is needed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import cases
from support.helpers import shared_data

# The configurations that the README of the data gives.
KERAS_JS: list[dict[str, Any]] = [
    {"recurrent_activation": "hard_sigmoid"},
    {"activation": "sigmoid"},
    {"recurrent_activation": "hard_sigmoid", "return_sequences": True},
    {"recurrent_activation": "hard_sigmoid", "go_backwards": True},
    {"recurrent_activation": "hard_sigmoid", "go_backwards": True, "return_sequences": True},
]


@pytest.mark.parametrize("number", range(5))
def test_keras_js(number: int) -> None:
    text = shared_data("keras_js/lstm_0_to_4.json").read_text()
    case = json.loads(text)[f"recurrent.LSTM.{number}"]

    def array(given: dict[str, Any]) -> np.ndarray:
        return np.float32(given["data"]).reshape(given["shape"])

    weights = [array(given) for given in case["weights"]]
    config = {**KERAS_JS[number], "use_bias": len(weights) == 3}
    found = interop.from_keras({"class_name": "LSTM", "config": config}, weights, version="2.0")
    y = found.sequential()(array(case["input"])[None])[0]
    expected = array(case["expected"]).reshape(y.shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["keras/correctness", "keras/go_backwards"])
def test_keras_s_own_cases(name: str) -> None:
    entry = cases.golden_entries()[name]
    given, tolerance = entry["inputs"], entry["tol"]
    x, units = np.float32(given["x_btI"]), given["units"]
    bias = np.full(4 * units, given["bias_const"], np.float32)
    bias[units : 2 * units] = 1  # unit_forget_bias
    weights = [
        np.full((x.shape[-1], 4 * units), given["kernel_const"], np.float32),
        np.full((units, 4 * units), given["recurrent_const"], np.float32),
        bias,
    ]
    config = {"units": units, "go_backwards": given["go_backwards"]}
    found = interop.from_keras({"class_name": "LSTM", "config": config}, weights)
    expected = np.float32(entry["expected"]["out"])
    np.testing.assert_allclose(found.sequential()(x), expected, rtol=0, atol=tolerance)
