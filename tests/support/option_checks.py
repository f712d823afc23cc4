# SPDX-License-Identifier: BSD-3-Clause
"""Checks of LSTMs with options: the engine against the reference, that against differences."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastlstm
from fastlstm import reference
from support import option_runs
from support.option_runs import Case, Inputs

# Central differences over a step s are off by s^2 / 6 times the third derivative and by the loss's
# rounding, some 1e-15, over s. Seen: 3e-10. A wrong term shows at 1e-3 and more.
STEP, DIFFERENCE_TOLERANCE = 1e-5, 5e-9


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: object = "") -> None:
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes(), what


def assert_passes(lstm: fastlstm.LSTM, i: Inputs, *, seed: int, **given: Any) -> None:
    """Both passes of a model in training mode with the masks of `seed`, against the reference,
    which is `given` the rest."""
    assert lstm.training
    y, (h_n, c_n), tape = lstm.forward(i.x, i.state, lengths=i.lengths, seed=seed)
    assert lstm.options is not None
    given |= {"state": i.state, "lengths": i.lengths, "options": lstm.options.config()}
    expected = reference.lstm_forward(i.x, i.params, seed=seed, **given)
    grads = lstm.backward(tape, i.dy, i.dstate)
    wanted = reference.lstm_backward(i.x, i.params, dy=i.dy, dstate=i.dstate, seed=seed, **given)
    pairs = [(y, expected.y), (h_n, expected.h_n), (c_n, expected.c_n), (grads.x, wanted.x)]
    pairs += [(grads.params[name], value) for name, value in wanted.params.items()]
    for found, value in pairs:
        assert found is not None
        scale = max(1.0, float(np.abs(value).max()))
        atol = (1e-12 if lstm.dtype == "float64" else 2e-5) * scale
        np.testing.assert_allclose(found, value, rtol=0, atol=atol)


def assert_close(actual: dict[str, np.ndarray], case: Case) -> None:
    """float64: 1e-11 of the largest number. float32: a sum of K numbers is off by some sqrt(K) eps
    of their size, as if each had been off by it, and so is what follows from it; K is I + H for
    outputs, and T B more for gradients of parameters. `conditions` says how far results move when
    inputs and weights are off by eps. Seen: 0.4 of the bound."""
    wanted = option_runs.expected(case)
    assert actual.keys() == wanted.keys()
    moved = option_runs.conditions(case) if case.dtype == "float32" else {}
    for name, value in wanted.items():
        count = case.input_size + case.hidden_size + 2
        count += case.steps * case.batch if name.startswith("d") else 0
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        bound = 1e-11 * scale
        if case.dtype == "float32":
            bound = np.sqrt(count) * moved[name] + np.finfo("float32").eps * scale
        assert actual[name].dtype == case.dtype
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=bound, err_msg=f"{name} {case}"
        )


def loss_of(case: Case, inputs: option_runs.Inputs) -> float:
    i = inputs
    given: dict[str, Any] = {"lengths": i.lengths, "options": case.options.config()}
    given |= {"noisy": case.noise is not None, "seed": case.noise or 0}
    result = reference.lstm_forward(i.x, i.params, state=i.state, **given)
    pairs = zip((i.dy, *i.dstate, i.dcells), result, strict=True)
    return float(sum(np.sum(slope * value) for slope, value in pairs))


def check_differences(case: Case) -> None:
    """Each variable along a random direction of length 1."""
    assert option_runs.least_distance(case) > 20 * STEP
    inputs, found = case.inputs(), option_runs.expected(case)
    assert inputs.state is not None
    rng = np.random.default_rng(1)
    inputs = inputs._replace(x=np.nan_to_num(inputs.x))
    for name, slopes in found.items():
        if not name.startswith("d"):
            continue
        losses = []
        direction = rng.standard_normal(slopes.shape)
        direction /= max(1.0, float(np.linalg.norm(direction)))
        for step in (STEP * direction, -STEP * direction):
            moved = inputs
            if name == "dx":
                moved = inputs._replace(x=inputs.x + step)
            elif name == "dh_0":
                moved = inputs._replace(state=(inputs.state[0] + step, inputs.state[1]))
            elif name == "dc_0":
                moved = inputs._replace(state=(inputs.state[0], inputs.state[1] + step))
            else:
                params = {**inputs.params, name[1:]: inputs.params[name[1:]] + step}
                moved = inputs._replace(params=params)
            losses.append(loss_of(case, moved))
        slope = (losses[0] - losses[1]) / (2 * STEP)
        scale = max(1.0, abs(slope), float(np.abs(slopes).max(initial=0)))
        error = abs(float(np.sum(slopes * direction)) - slope)
        assert error <= DIFFERENCE_TOLERANCE * scale, (name, case)


def clear(case_of: Any) -> Case:
    """The first case of those for seeds 0, 1, ... that is smooth where it is looked at."""
    cases = (case_of(seed) for seed in range(1000))
    return next(case for case in cases if option_runs.least_distance(case) > 1e-3)
