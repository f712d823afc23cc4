# SPDX-License-Identifier: BSD-3-Clause
"""Running the engine on the configurations of `helpers`, and comparing bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastlstm
from support import helpers


class Outputs(NamedTuple):
    y: np.ndarray
    h_n: np.ndarray
    c_n: np.ndarray
    cells: np.ndarray


class Case(NamedTuple):
    """A configuration with parameters and inputs."""

    config: helpers.Config
    params: dict[str, np.ndarray]
    inputs: helpers.Inputs

    def lstm(self, **options: Any) -> fastlstm.LSTM:
        lstm = fastlstm.LSTM(
            **self.config.lstm_arguments, dtype=self.config.dtype, seed=0, **options
        )
        lstm.load_state_dict(self.params)
        return lstm


def case_of(config: helpers.Config, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    return Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))


def run(lstm: fastlstm.LSTM, inputs: helpers.Inputs, **options: Any) -> Outputs:
    y, (h_n, c_n), cells = lstm(
        inputs.x, inputs.state, lengths=inputs.lengths, return_cells=True, **options
    )
    return Outputs(y, h_n, c_n, cells)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: object = "") -> None:
    """Shape, dtype and every bit: 0.0 is not -0.0, and NaN is itself only."""
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    if np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes():
        return
    whole = f"i{actual.itemsize}"
    differ = np.ascontiguousarray(actual).view(whole) != np.ascontiguousarray(expected).view(whole)
    largest = np.abs(actual - expected).max()
    raise AssertionError(
        f"{what}: {differ.sum()} of {differ.size} elements differ, by up to {largest:.3g}, "
        f"the first at {tuple(int(i) for i in np.argwhere(differ)[0])}"
    )


def assert_all_same_bits(actual: Outputs, expected: Outputs, what: object = "") -> None:
    for name in Outputs._fields:
        assert_same_bits(getattr(actual, name), getattr(expected, name), f"{name} of {what}")
