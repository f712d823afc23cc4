# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs with a batch and gradients to send back through them, and the specification's answers."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from fastlstm import reference
from support import helpers

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
        steps, directions = (config.steps, config.batch), config.num_directions
        shapes: dict[str, tuple[int, ...]] = {
            "y": (*steps, directions * config.outputs),
            "h_n": config.h_shape,
            "c_n": config.c_shape,
            "cells": (*steps, directions * config.hidden_size),
        }
        self.upstream = {name: rng.standard_normal(shapes[name]) for name in OUTPUTS}

    def variables(self) -> dict[str, np.ndarray]:
        """All that gradients are taken of, by name."""
        zeros = np.zeros(self.config.h_shape), np.zeros(self.config.c_shape)
        h_0, c_0 = self.inputs.state or zeros
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


def torch_gradients(problem: Problem, given: tuple[str, ...]) -> dict[str, np.ndarray]:
    """By torch.nn.LSTM, which shows no cells and has masks of its own, in float64.

    Rows of length 0, which packed sequences refuse, are joined to its results by hand.
    """
    torch = pytest.importorskip("torch")
    rnn = torch.nn.utils.rnn
    config, lengths = problem.config, problem.inputs.lengths
    module = torch.nn.LSTM(**config.lstm_arguments, dtype=torch.float64)
    module.load_state_dict({n: torch.tensor(v).double() for n, v in problem.params.items()})
    x, h_0, c_0 = (
        torch.tensor(problem.variables()[name], dtype=torch.float64, requires_grad=True)
        for name in ("x", "h_0", "c_0")
    )
    if lengths is None:
        y, (h_n, c_n) = module(x, (h_0, c_0))
        results = {"y": y, "h_n": h_n, "c_n": c_n}
    else:
        keep = [row for row, length in enumerate(lengths) if length > 0]
        results = {"y": torch.zeros(problem.upstream["y"].shape, dtype=torch.float64)}
        results |= {"h_n": h_0.clone(), "c_n": c_0.clone()}
        if keep:
            counts = [lengths[row] for row in keep]
            packed = rnn.pack_padded_sequence(x[:, keep], counts, enforce_sorted=False)
            out, (h_n, c_n) = module(packed, (h_0[:, keep], c_0[:, keep]))
            results["h_n"][:, keep], results["c_n"][:, keep] = h_n, c_n
            y, _ = rnn.pad_packed_sequence(out, total_length=config.steps)
            results["y"][:, keep] = y
    return torch_backward(problem, results, given, {"x": x, "h_0": h_0, "c_0": c_0}, module)


def torch_backward(
    problem: Problem, results: dict[str, Any], given: tuple[str, ...], leaves: Any, module: Any
) -> dict[str, np.ndarray]:
    torch = pytest.importorskip("torch")
    leaves = leaves | dict(module.named_parameters())
    loss = sum((results[n] * torch.tensor(problem.upstream[n])).sum() for n in given)
    grads = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return {name: grad.numpy() for name, grad in zip(leaves, grads, strict=True)}
