# SPDX-License-Identifier: BSD-3-Clause
"""Running the engine on the configurations of `helpers`, and comparing bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastlstm
from support import helpers
from support.classes import CLASSES


class Outputs(NamedTuple):
    y: np.ndarray
    h_n: np.ndarray
    c_n: Any  # None of a cell that keeps no c,
    cells: Any  # as is this


class Case(NamedTuple):
    """A configuration with parameters and inputs."""

    config: helpers.Config
    params: dict[str, np.ndarray]
    inputs: helpers.Inputs

    def lstm(self, **options: Any) -> fastlstm.LSTM:
        lstm = fastlstm.LSTM(
            **self.config.lstm_arguments,
            dtype=self.config.dtype,
            seed=0,
            options=self.config.options,
            **options,
        )
        lstm.load_state_dict(self.params)
        return lstm

    def model(self, **options: Any) -> Any:
        """An LSTM, or a GRU or an RNN where the configuration says so."""
        if self.config.cell.startswith("lstm"):
            return self.lstm(**options)
        assert options.pop("gemm", "native") == "native", "BLAS is for an LSTM"
        of = CLASSES[self.config.cell]
        options |= of.options
        rnn = of.layer(**self.config.lstm_arguments, dtype=self.config.dtype, seed=0, **options)
        rnn.load_state_dict(self.params)
        return rnn

    def step(self) -> Any:
        """The first layer's cell."""
        of, config = CLASSES[self.config.cell], self.config
        sizes = (config.input_size, config.hidden_size, config.bias)
        cell = of.step(*sizes, dtype=config.dtype, **of.options)
        cell.load_state_dict({name: self.params[f"{name}_l0"] for name in cell.state_dict()})
        return cell


# Every cell with each of its ways to project inputs.
CELLS_AND_GEMM = [
    ("lstm", "native"),
    ("lstm", "blas"),
    ("lstm_general", "native"),
    ("lstm_general", "blas"),
    ("lstmp", "native"),
    ("lstmp", "blas"),
    ("rnn_tanh", "native"),
    ("rnn_relu", "native"),
    ("gru", "native"),
    ("gru_reset_before", "native"),
]


def case_of(config: helpers.Config, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    return Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))


def run(model: Any, inputs: helpers.Inputs, **options: Any) -> Outputs:
    """Of the states that are given, an RNN or a GRU takes h_0 alone."""
    x, state, lengths = inputs
    if isinstance(model, fastlstm.LSTM):
        y, (h_n, c_n), cells = model(x, state, lengths=lengths, return_cells=True, **options)
        return Outputs(y, h_n, c_n, cells)
    y, h_n = model(x, None if state is None else state[0], lengths=lengths, **options)
    return Outputs(y, h_n, None, None)


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
        ours, theirs = getattr(actual, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), f"{name} of {what}"
        if ours is not None:
            assert_same_bits(ours, theirs, f"{name} of {what}")


def random_case(seed: int, *, dtype: str | None = None) -> Case:
    rng = np.random.default_rng(seed)
    config = helpers.random_config(rng, dtype=dtype)
    return Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))


def large_case(seed: int) -> Case:
    """More units than a cache level holds weights of."""
    rng = np.random.default_rng(seed)
    batch, steps = int(rng.integers(1, 14)), int(rng.integers(1, 12))
    config = helpers.Config(
        steps,
        batch,
        int(rng.integers(1, 130)),
        int(rng.integers(200, 521)),
        num_layers=int(rng.integers(1, 3)),
        bidirectional=bool(rng.random() < 0.5),
        with_state=bool(rng.random() < 0.5),
        lengths=tuple(map(int, rng.integers(0, steps + 1, batch))) if rng.random() < 0.5 else None,
        dtype=str(rng.choice(["float32", "float64"])),
    )
    return Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))


def rows_of(inputs: helpers.Inputs, rows: list[int] | slice) -> helpers.Inputs:
    """The same sequences of a time-major batch, in the order given."""
    x, state, lengths = inputs
    if lengths is not None:
        lengths = tuple(np.array(lengths)[rows].tolist())
    if state is not None:
        state = state[0][:, rows], state[1][:, rows]
    return helpers.Inputs(x[:, rows], state, lengths)


def rows_of_outputs(outputs: Outputs, rows: list[int] | slice) -> Outputs:
    return Outputs(*(None if a is None else a[:, rows] for a in outputs))
