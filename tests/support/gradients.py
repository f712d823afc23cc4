# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs with a batch and gradients to send back through them, and the specification's answers."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import helpers
import numpy as np

from fastlstm import reference

OUTPUTS = ("y", "h_n", "c_n", "cells")
SUBSETS = [given for count in range(5) for given in combinations(OUTPUTS, count)]


class Problem:
    """An LSTM, a batch and random gradients of everything that the forward pass returns."""

    def __init__(self, config: helpers.Config, seed: int, *, dropout: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.config = config
        self.params = helpers.random_params(config, rng)
        self.inputs = helpers.random_inputs(config, rng)
        self.options: dict[str, Any] = {"dropout": dropout, "seed": seed} if dropout else {}
        width = config.num_directions * config.hidden_size
        shapes = dict.fromkeys(("y", "cells"), (config.steps, config.batch, width))
        shapes |= dict.fromkeys(("h_n", "c_n"), config.state_shape)
        self.upstream = {name: rng.standard_normal(shapes[name]) for name in OUTPUTS}

    def variables(self) -> dict[str, np.ndarray]:
        """All that gradients are taken of, by name."""
        zeros = np.zeros(self.config.state_shape)
        h_0, c_0 = self.inputs.state or (zeros, zeros)
        return {"x": self.inputs.x, "h_0": h_0, "c_0": c_0, **self.params}

    def forward(self, variables: dict[str, np.ndarray]) -> reference.Result:
        params = {name: variables[name] for name in self.params}
        state = None if self.inputs.state is None else (variables["h_0"], variables["c_0"])
        lengths = self.inputs.lengths
        x = variables["x"]
        return reference.lstm_forward(x, params, state=state, lengths=lengths, **self.options)

    def backward(self, given: tuple[str, ...] = OUTPUTS) -> dict[str, np.ndarray]:
        """Gradients by the names of `variables`, from the gradients of these outputs."""
        dy, dh_n, dc_n, dcells = (self.upstream[n] if n in given else None for n in OUTPUTS)
        dstate = None if dh_n is None and dc_n is None else (dh_n, dc_n)
        x, state, lengths = self.inputs
        grads = reference.lstm_backward(
            x,
            self.params,
            state=state,
            lengths=lengths,
            dy=dy,
            dstate=dstate,
            dcells=dcells,
            **self.options,
        )
        return by_name(grads)


def by_name(grads: reference.Gradients) -> dict[str, np.ndarray]:
    return {"x": grads.x, "h_0": grads.h_0, "c_0": grads.c_0, **grads.params}


def assert_close(actual: Any, expected: Any, tolerance: float, message: object = "") -> None:
    """Entries within `tolerance` times the largest of them, or times 1 if that is more."""
    assert np.shape(actual) == np.shape(expected), message
    atol = tolerance * max(1.0, np.max(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=str(message))
