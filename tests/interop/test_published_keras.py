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


def constants(given: dict[str, Any]) -> list[np.ndarray]:
    """The weights of one of Keras's own cases."""
    inputs, units = np.shape(given["x_btI"])[-1], given["units"]
    bias = np.full(4 * units, given["bias_const"], np.float32)
    bias[units : 2 * units] = 1  # unit_forget_bias
    return [
        np.full((inputs, 4 * units), given["kernel_const"], np.float32),
        np.full((units, 4 * units), given["recurrent_const"], np.float32),
        bias,
    ]


@pytest.mark.parametrize("name", ["keras/correctness", "keras/go_backwards"])
def test_keras_s_own_cases(name: str) -> None:
    entry = cases.golden_entries()[name]
    given = entry["inputs"]
    config = {"units": given["units"], "go_backwards": given["go_backwards"]}
    found = interop.from_keras({"class_name": "LSTM", "config": config}, constants(given))
    y = found.sequential()(np.float32(given["x_btI"]))
    np.testing.assert_allclose(y, entry["expected"]["out"], rtol=0, atol=entry["tol"])


def test_keras_s_case_of_a_given_state() -> None:
    """As a Keras model gives a layer a state: the importer's layer takes it in a call."""
    entry = cases.golden_entries()["keras/initial_state"]
    given = entry["inputs"]
    found = interop.from_keras({"class_name": "LSTM", "config": {"units": 2}}, constants(given))
    model = found.model
    assert model.batch_first
    start = tuple(np.float32(given[name])[None] for name in ("h0", "c0"))
    _, (h_n, _) = model(np.float32(given["x_btI"]), start)
    expected = np.float32(entry["expected"]["out"])
    np.testing.assert_allclose(h_n[0], expected, rtol=0, atol=entry["tol"])
