# SPDX-License-Identifier: BSD-3-Clause
"""The specification's gradients against finite differences, autograd, hand, and at the edges."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pytest

from fastlstm import reference
from support import helpers
from support.gradients import (
    OUTPUTS,
    SUBSETS,
    Problem,
    assert_close,
    by_name,
    torch_gradients,
)

# Central differences over a step s are off by s^2 / 6 times the third derivative, which is some 10
# along directions of length 1, and by the rounding of the loss, some 1e-15, over s: 1e-10 each.
# Seen: 4.5e-10. A wrong term shows at 1e-3 and more.
STEP = 1e-5
DIFFERENCE_TOLERANCE = 2e-9

# Rounding only, relative to the largest entry, since the sums of a weight's gradient run over all
# steps and sequences. Seen: 5e-15.
TORCH_TOLERANCE = 1e-12


def small_config(**options: Any) -> helpers.Config:
    lengths = (2, 0, 4) if options.pop("ragged", False) else None
    options = {"dtype": "float64", "lengths": lengths, **options}
    return helpers.Config(4, 3, 2, 3, **options)


# ---- finite differences ----


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_finite_differences(
    num_layers: int, bidirectional: bool, bias: bool, ragged: bool, with_state: bool, dropout: float
) -> None:
    """Every variable along a random direction, for every choice of gradients given."""
    config = small_config(
        num_layers=num_layers,
        bidirectional=bidirectional,
        bias=bias,
        ragged=ragged,
        with_state=with_state,
    )
    problem = Problem(config, num_layers, dropout=dropout)
    gradients = {given: problem.backward(given) for given in SUBSETS}
    variables = problem.variables()
    # The zeros that stand for a missing state have gradients too: from here on it is there.
    problem.inputs = problem.inputs._replace(state=(variables["h_0"], variables["c_0"]))
    rng = np.random.default_rng(0)
    for name, value in variables.items():
        direction = rng.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        ahead = problem.forward({**variables, name: value + STEP * direction})
        back = problem.forward({**variables, name: value - STEP * direction})
        slopes = {
            output: np.sum(
                problem.upstream[output] * (getattr(ahead, output) - getattr(back, output))
            )
            / (2 * STEP)
            for output in OUTPUTS
        }
        for given, gradient in gradients.items():
            expected = sum(slopes[output] for output in given)
            actual = np.sum(direction * gradient[name])
            assert_close(actual, expected, DIFFERENCE_TOLERANCE, f"{name} from {given}")


def test_finite_differences_of_every_entry() -> None:
    config = small_config(num_layers=2, bidirectional=True, ragged=True, with_state=True)
    problem = Problem(config, 0, dropout=0.4)
    gradients, variables = problem.backward(), problem.variables()
    for name, value in variables.items():
        slopes = np.zeros(value.shape)
        for place in np.ndindex(value.shape):
            losses = []
            for step in (STEP, -STEP):
                moved = value.copy()
                moved[place] += step
                result = problem.forward({**variables, name: moved})
                losses.append(
                    sum(np.sum(problem.upstream[n] * getattr(result, n)) for n in OUTPUTS)
                )
            slopes[place] = (losses[0] - losses[1]) / (2 * STEP)
        assert_close(gradients[name], slopes, DIFFERENCE_TOLERANCE, name)


# ---- PyTorch ----


def random_problem(seed: int) -> tuple[Problem, tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    config = replace(helpers.random_config(rng), batch_first=False)
    seen = [given for given in SUBSETS if given and "cells" not in given]
    return Problem(config, seed), seen[seed % len(seen)]


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_torch(seed: int) -> None:
    problem, given = random_problem(seed)
    expected = torch_gradients(problem, given)
    actual = problem.backward(given)
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert_close(gradient, expected[name], TORCH_TOLERANCE, f"{name} of {problem.config}")


def test_random_problems_cover_every_option() -> None:
    configs = [random_problem(seed)[0].config for seed in range(60)]
    for option in ("bias", "bidirectional", "with_state"):
        assert {getattr(config, option) for config in configs} == {False, True}, option
    assert {config.num_layers for config in configs} == {1, 2, 3}
    ragged = [config.lengths for config in configs if config.lengths is not None]
    assert 0 < len(ragged) < len(configs)
    assert any(0 in lengths for lengths in ragged)
    assert any(min(lengths) > 0 and len({*lengths}) > 1 for lengths in ragged)
    assert any(list(lengths) != sorted(lengths, reverse=True) for lengths in ragged)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_agrees_with_torch_cell_by_cell(dropout: float, bidirectional: bool, ragged: bool) -> None:
    """Dropout and the gradient of cells: torch.lstm_cell in loops that autograd goes back through.

    One sequence after the other, over its own steps only: no padding, no packing.
    """
    torch = pytest.importorskip("torch")
    config = helpers.Config(
        7,
        4,
        3,
        5,
        num_layers=3,
        bidirectional=bidirectional,
        with_state=True,
        lengths=(3, 7, 1, 5) if ragged else None,
        dtype="float64",
    )
    problem = Problem(config, 3, dropout=dropout)
    leaves = {n: torch.tensor(v, requires_grad=True) for n, v in problem.variables().items()}
    width = config.num_directions * config.hidden_size
    loss = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(config.lengths or [config.steps] * config.batch):
        below = list(leaves["x"][:length, row])
        for layer in range(config.num_layers):
            if layer and dropout:
                mask = reference.dropout_mask(
                    3, layer - 1, config.steps, config.batch, width, dropout
                )
                below = [
                    v * torch.tensor(m) for v, m in zip(below, mask[:length, row], strict=True)
                ]
            shown: list[list[Any]] = [[] for _ in range(length)]
            for direction, suffix in enumerate(["", "_reverse"][: config.num_directions]):
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weights = [leaves[f"{name}_l{layer}{suffix}"] for name in names]
                index = layer * config.num_directions + direction
                h, c = leaves["h_0"][index, row], leaves["c_0"][index, row]
                for t in range(length) if not direction else reversed(range(length)):
                    h, c = (
                        a[0] for a in torch.lstm_cell(below[t][None], (h[None], c[None]), *weights)
                    )
                    shown[t].append((h, c))
                for name, final in (("h_n", h), ("c_n", c)):
                    loss = loss + (final * torch.tensor(problem.upstream[name][index, row])).sum()
            below = [torch.cat([h for h, _ in pairs]) for pairs in shown]
        for t, pairs in enumerate(shown):
            for name, parts in zip(("y", "cells"), zip(*pairs, strict=True), strict=True):
                upstream = torch.tensor(problem.upstream[name][t, row])
                loss = loss + (torch.cat(parts) * upstream).sum()
    expected = torch.autograd.grad(loss, list(leaves.values()))
    actual = problem.backward()
    for (name, gradient), grad in zip(actual.items(), expected, strict=True):
        assert_close(gradient, grad.numpy(), TORCH_TOLERANCE, name)


# ---- truncated backpropagation through time ----


@pytest.mark.parametrize("lengths", [None, (11, 0, 6, 3)])
def test_chunks_equal_the_whole(lengths: tuple[int, ...] | None) -> None:
    """State carried from chunk to chunk, its gradient handed back: nothing is truncated."""
    config = helpers.Config(
        11, 4, 3, 5, num_layers=2, with_state=True, lengths=lengths, dtype="float64"
    )
    problem = Problem(config, 0)
    x, state, _ = problem.inputs
    chunks = []
    for start, end in pairwise([0, 4, 5, 11]):
        steps = slice(start, end)
        counts = None if lengths is None else np.clip(np.array(lengths) - start, 0, end - start)
        chunks.append((steps, {"state": state, "lengths": counts}))
        result = reference.lstm_forward(x[steps], problem.params, **chunks[-1][1])
        state = result.h_n, result.c_n

    dstate = problem.upstream["h_n"], problem.upstream["c_n"]
    dx = np.empty_like(x)
    dparams = {name: np.zeros_like(value) for name, value in problem.params.items()}
    for steps, options in reversed(chunks):
        dy, dcells = (problem.upstream[name][steps] for name in ("y", "cells"))
        grads = reference.lstm_backward(
            x[steps], problem.params, dy=dy, dcells=dcells, dstate=dstate, **options
        )
        dx[steps], dstate = grads.x, (grads.h_0, grads.c_0)
        for name, gradient in grads.params.items():
            dparams[name] += gradient
    joined = by_name(reference.Gradients(dx, *dstate, dparams))
    for name, gradient in problem.backward().items():
        assert_close(joined[name], gradient, 1e-13, name)


# ---- by hand and at the edges ----


def test_one_step_by_hand() -> None:
    # The gates of test_reference.py's step: i = 3/4, f = 1/4, g = 3/5, o = 4/5, tanh(c_1) = 3/5.
    target = np.array([log(3), -log(3), log(2), log(4)])
    x, h_0, dh, dc = 2.0, 0.5, 1.0, 0.25
    params = {
        "weight_ih_l0": (target / 2 / x)[:, None],
        "weight_hh_l0": (target / 2 / h_0)[:, None],
    }
    c_0 = 4 * (log(2) - 3 / 4 * 3 / 5)
    grads = reference.lstm_backward(
        [[[x]]], params, state=([[[h_0]]], [[[c_0]]]), dstate=([[[dh]]], [[[dc]]])
    )
    dc_1 = dc + dh * 4 / 5 * 16 / 25
    dz = np.array(
        [
            dc_1 * 3 / 5 * 3 / 16,
            dc_1 * c_0 * 3 / 16,
            dc_1 * 3 / 4 * 16 / 25,
            dh * 3 / 5 * 4 / 25,
        ]
    )
    np.testing.assert_allclose(grads.params["weight_ih_l0"], x * dz[:, None], rtol=1e-14)
    np.testing.assert_allclose(grads.params["weight_hh_l0"], h_0 * dz[:, None], rtol=1e-14)
    np.testing.assert_allclose(grads.x, [[[np.sum(dz * target) / 2 / x]]], rtol=1e-14)
    np.testing.assert_allclose(grads.h_0, [[[np.sum(dz * target) / 2 / h_0]]], rtol=1e-14)
    np.testing.assert_allclose(grads.c_0, [[[dc_1 / 4]]], rtol=1e-14)


def test_ragged_batch_is_its_sequences_one_by_one() -> None:
    config = small_config(num_layers=2, bidirectional=True, ragged=True, with_state=True)
    problem = Problem(config, 1)
    for row, length in enumerate(config.lengths or ()):
        assert np.isnan(problem.inputs.x[length:, row]).all()
        for name in ("y", "cells"):
            problem.upstream[name][length:, row] = np.nan
    batch = problem.backward()
    total = {name: np.zeros_like(value) for name, value in problem.params.items()}
    x, (h_0, c_0), lengths = problem.inputs
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = reference.lstm_backward(
            x[:length, one],
            problem.params,
            state=(h_0[:, one], c_0[:, one]),
            dy=problem.upstream["y"][:length, one],
            dstate=(problem.upstream["h_n"][:, one], problem.upstream["c_n"][:, one]),
            dcells=problem.upstream["cells"][:length, one],
        )
        assert_close(batch["x"][:length, one], alone.x, 1e-14)
        assert np.all(batch["x"][length:, one] == 0)
        assert_close(batch["h_0"][:, one], alone.h_0, 1e-14)
        assert_close(batch["c_0"][:, one], alone.c_0, 1e-14)
        for name, gradient in alone.params.items():
            total[name] += gradient
    for name, gradient in total.items():
        assert_close(batch[name], gradient, 1e-14, name)


def test_a_sequence_of_length_zero_touches_nothing() -> None:
    """Its gradients pass through, and a NaN in its state, which no step reads, stays there."""
    problem = Problem(small_config(num_layers=2, ragged=True, with_state=True), 2)
    clean = problem.backward()
    for a in problem.inputs.state or ():
        a[:, 1] = np.nan
    dirty = problem.backward()
    for name, gradient in clean.items():
        np.testing.assert_array_equal(dirty[name], gradient, err_msg=name)
    np.testing.assert_array_equal(clean["h_0"][:, 1], problem.upstream["h_n"][:, 1])
    np.testing.assert_array_equal(clean["c_0"][:, 1], problem.upstream["c_n"][:, 1])


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 3), (4, 0), (0, 0)])
def test_nothing_to_read_hands_the_gradients_through(steps: int, batch: int) -> None:
    config = helpers.Config(
        steps, batch, 2, 3, num_layers=2, bidirectional=True, lengths=(0,) * batch, dtype="float64"
    )
    problem = Problem(config, 0, dropout=0.5)
    grads = problem.backward()
    np.testing.assert_array_equal(grads["h_0"], problem.upstream["h_n"])
    np.testing.assert_array_equal(grads["c_0"], problem.upstream["c_n"])
    np.testing.assert_array_equal(grads["x"], np.zeros((steps, batch, 2)))
    for name, value in problem.params.items():
        np.testing.assert_array_equal(grads[name], np.zeros_like(value))


def test_leaves_what_it_was_given_alone_and_keeps_its_order() -> None:
    problem = Problem(small_config(num_layers=2, bidirectional=True, with_state=True), 0)
    before = {name: value.copy() for name, value in problem.upstream.items()}
    variables = {name: value.copy() for name, value in problem.variables().items()}
    assert list(problem.backward()) == list(variables)
    for name, value in problem.upstream.items():
        np.testing.assert_array_equal(value, before[name])
    for name, value in problem.variables().items():
        np.testing.assert_array_equal(value, variables[name])


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_dtype_is_that_of_the_whole_computation(dtype: str) -> None:
    problem = Problem(small_config(num_layers=2), 0)
    run = {"dy": problem.upstream["y"], "dropout": 0.25, "seed": 1}
    actual, exact = (
        by_name(reference.lstm_backward(problem.inputs.x, problem.params, dtype=d, **run))
        for d in (dtype, "longdouble")
    )
    assert {a.dtype for a in actual.values()} == {np.dtype(dtype)}
    for name, gradient in actual.items():
        assert_close(gradient, exact[name], 20 * float(np.finfo(dtype).eps), name)
    for coarser in ("float32", "float64"):
        if np.finfo(coarser).eps > np.finfo(dtype).eps:
            assert np.mean(actual["x"] != actual["x"].astype(coarser)) > 0.9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dy", np.zeros((4, 3, 4))),
        ("dcells", np.zeros((3, 4, 3))),
        ("dstate", (np.zeros((2, 3, 3)), None)),
        ("dstate", (None, np.zeros((1, 3, 1)))),
        ("state", (np.zeros((1, 3, 3)), np.zeros((3, 3)))),
        ("lengths", [1, 2, 5]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: Any) -> None:
    problem = Problem(small_config(), 0)
    with pytest.raises(ValueError, match=name):
        reference.lstm_backward(problem.inputs.x, problem.params, **{name: value})
