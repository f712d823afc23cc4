# SPDX-License-Identifier: BSD-3-Clause
"""Training as a user does it: accumulation, truncated backpropagation, modes, seeds, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

import fastlstm
from fastlstm import reference
from support import gradient_spread, helpers
from support import training_runs as runs
from support.gradients import OUTPUTS, Problem
from support.training_runs import Named

pytestmark = pytest.mark.sanitize


def small_problem(dtype: str, *, dropout: float = 0.0, seed: int = 0) -> Problem:
    config = helpers.Config(
        9,
        34,  # two parts
        5,
        20,
        num_layers=2,
        bidirectional=True,
        with_state=True,
        lengths=tuple(k % 10 for k in range(34)),
        dtype=dtype,
    )
    return runs.problem_of(config, seed, dropout=dropout)


def assert_equal(actual: Named, expected: Named) -> None:
    assert actual.keys() == expected.keys()
    for name, a in actual.items():
        np.testing.assert_array_equal(a, expected[name], err_msg=name)


# ---- accumulation ----


def accumulated(problem: Problem, kind: str) -> tuple[Named, list[Named]]:
    """The sum of two passes into the same arrays, and the two alone."""
    lstm = runs.model_of(problem)
    _, tape = runs.forward(lstm, problem)
    passes = [OUTPUTS, ("h_n", "cells")]
    alone = [runs.backward(lstm, tape, problem, given) for given in passes]
    arrays = {name: np.zeros_like(p) for name, p in lstm.parameters().items()}
    into = arrays if kind == "a mapping" else fastlstm.Gradients(None, None, None, arrays)
    for given, one in zip(passes, alone, strict=True):
        both = runs.backward(lstm, tape, problem, given, into=into)
        for name in ("x", "h_0", "c_0"):  # these are never added to anything
            np.testing.assert_array_equal(both[name], one[name])
        for name, a in arrays.items():
            assert both[name] is a
    return arrays, alone


@pytest.mark.parametrize("kind", ["a mapping", "gradients"])
def test_into_adds(isa: str, dtype: str, kind: str) -> None:
    """Sums of entries go on from what stands in the array: in another order than adding up two
    results, so equal to rounding only. Each pass is within its spread, and so is their sum."""
    problem = small_problem(dtype)
    arrays, (first, second) = accumulated(problem, kind)
    spreads = [gradient_spread.spreads(problem, given) for given in (OUTPUTS, ("h_n", "cells"))]
    for name, a in arrays.items():
        spread = sum(of_pass[name] for of_pass in spreads)
        error = np.abs(a - (first[name] + second[name]))
        assert (error <= gradient_spread.LIMIT * spread).all(), name
        assert np.abs(a - first[name]).max() > 1e-3, name  # the second was added indeed


@pytest.mark.parametrize("given", ["dy", "dcells", "dh_n", "dc_n"])
def test_into_may_hold_what_is_read(given: str) -> None:
    """Gradients that are added to while they are still read would come out wrong."""
    lstm = fastlstm.LSTM(64, 64, 2, seed=0)
    _, _, tape = lstm.forward(np.ones((4, 8, 64), np.float32))
    results = []
    for apart in (True, False):
        into = {name: np.ones_like(p) for name, p in lstm.parameters().items()}
        state = given in ("dh_n", "dc_n")
        shape = (2, 8, 64) if state else (4, 8, 64)
        shared = into["weight_hh_l1"].reshape(-1)[: int(np.prod(shape))].reshape(shape)
        shared[...] = np.random.default_rng(1).standard_normal(shape)
        grad = shared.copy() if apart else shared
        pair = (grad, None) if given == "dh_n" else (None, grad)
        dy, dcells = grad if given == "dy" else None, grad if given == "dcells" else None
        grads = lstm.backward(tape, dy, pair if state else None, dcells=dcells, into=into)
        results.append({"x": grads.x, "h_0": grads.h_0, "c_0": grads.c_0, **grads.params})
    assert_equal(results[1], results[0])


def test_into_zeros_is_as_new_arrays(isa: str, dtype: str) -> None:
    problem = small_problem(dtype)
    lstm = runs.model_of(problem)
    _, tape = runs.forward(lstm, problem)
    into = {name: np.zeros_like(p) for name, p in lstm.parameters().items()}
    new = runs.backward(lstm, tape, problem)
    assert_equal(runs.backward(lstm, tape, problem, into=into), new)
    threads = {name: np.zeros_like(p) for name, p in lstm.parameters().items()}
    assert_equal(runs.backward(lstm, tape, problem, into=threads, num_threads=3), new)


def test_into_of_many_threads(isa: str, dtype: str) -> None:
    results = []
    for threads in (1, 2, 5):
        problem = small_problem(dtype)
        lstm = runs.model_of(problem)
        _, tape = runs.forward(lstm, problem)
        rng = np.random.default_rng(1)
        into = {n: rng.standard_normal(p.shape).astype(dtype) for n, p in problem.params.items()}
        results.append(runs.backward(lstm, tape, problem, into=into, num_threads=threads))
    assert_equal(results[1], results[0])
    assert_equal(results[2], results[0])


def test_without_the_gradient_of_x(isa: str, dtype: str) -> None:
    problem = small_problem(dtype, dropout=0.4)
    lstm = runs.model_of(problem)
    outputs, tape = runs.forward(lstm, problem)
    whole = runs.backward(lstm, tape, problem)
    part = runs.backward(lstm, tape, problem, input_grad=False)
    assert lstm.backward(tape, outputs["y"], input_grad=False).x is None
    assert whole.pop("x") is not None
    assert_equal(part, whole)


# ---- truncated backpropagation through time ----


@pytest.mark.parametrize("lengths", [None, (11, 0, 6, 3)])
def test_chunks_equal_the_whole(isa: str, dtype: str, lengths: tuple[int, ...] | None) -> None:
    """With the gradient handed through the state nothing is truncated."""
    config = helpers.Config(11, 4, 3, 20, 2, with_state=True, lengths=lengths, dtype=dtype)
    problem = runs.problem_of(config, 0)
    lstm = runs.model_of(problem)
    outputs, tape = runs.forward(lstm, problem)
    expected = runs.backward(lstm, tape, problem)
    x, state, _ = problem.inputs
    chunks = []
    for start, end in pairwise([0, 4, 5, 11]):
        steps = slice(start, end)
        counts = None if lengths is None else np.clip(np.array(lengths) - start, 0, end - start)
        y, state, tape = lstm.forward(x[steps], state, lengths=counts)
        np.testing.assert_array_equal(y, outputs["y"][steps])
        chunks.append((steps, tape))
    np.testing.assert_array_equal(state[0], outputs["h_n"])

    dstate = problem.upstream["h_n"], problem.upstream["c_n"]
    joined: Named = {"x": np.empty_like(x)}
    into = {name: np.zeros_like(p) for name, p in problem.params.items()}
    for steps, tape in reversed(chunks):
        dy, dcells = (problem.upstream[name][steps] for name in ("y", "cells"))
        grads = lstm.backward(tape, dy, dstate, dcells=dcells, into=into)
        joined["x"][steps], dstate = grads.x, (grads.h_0, grads.c_0)
    joined |= {"h_0": dstate[0], "c_0": dstate[1], **into}
    spreads = gradient_spread.spreads(problem, OUTPUTS)
    for name, a in expected.items():
        if name in ("x", "h_0", "c_0"):  # the very same steps
            np.testing.assert_array_equal(joined[name], a, err_msg=name)
        assert (np.abs(joined[name] - a) <= gradient_spread.LIMIT * spreads[name]).all(), name


def test_a_carried_state_without_its_gradient(isa: str, dtype: str) -> None:
    """Truncated: the second chunk's gradients are those of a call that begins with its state."""
    config = helpers.Config(10, 3, 4, 9, 2, with_state=True, dtype=dtype)
    problem = runs.problem_of(config, 0)
    lstm = runs.model_of(problem)
    x, state, _ = problem.inputs
    _, carried, _ = lstm.forward(x[:6], state)
    _, _, tape = lstm.forward(x[6:], carried)
    grads = lstm.backward(tape, problem.upstream["y"][6:])
    second = runs.problem_of(helpers.Config(4, 3, 4, 9, 2, with_state=True, dtype=dtype), 0)
    second.params = problem.params
    second.inputs = helpers.Inputs(x[6:], carried, None)
    second.upstream["y"] = problem.upstream["y"][6:]
    expected, spreads = second.backward(("y",)), gradient_spread.spreads(second, ("y",))
    errors = gradient_spread.errors_in_spreads(second, runs.named(lstm, grads), expected, spreads)
    assert max(errors.values()) <= gradient_spread.LIMIT


# ---- what a tape keeps ----


def changed_x(lstm: fastlstm.LSTM, problem: Problem) -> None:
    problem.inputs.x[...] = 7


def changed_state(lstm: fastlstm.LSTM, problem: Problem) -> None:
    for part in problem.inputs.state or ():
        part[...] = 7


def changed_parameters(lstm: fastlstm.LSTM, problem: Problem) -> None:
    for p in lstm.parameters().values():
        p += 1


def loaded_parameters(lstm: fastlstm.LSTM, problem: Problem) -> None:
    lstm.load_state_dict({name: p * 0 for name, p in lstm.state_dict().items()})


def changed_mode(lstm: fastlstm.LSTM, problem: Problem) -> None:
    lstm.eval()
    lstm(np.zeros((2, 2, 5), lstm.dtype))


def other_calls(lstm: fastlstm.LSTM, problem: Problem) -> None:
    runs.forward(lstm, problem_with_other_sizes(lstm))
    lstm(np.zeros((2, 2, 5), lstm.dtype))


def problem_with_other_sizes(lstm: fastlstm.LSTM) -> Problem:
    config = helpers.Config(30, 50, 5, 20, 2, bidirectional=True, dtype=lstm.dtype.name)
    return runs.problem_of(config, 9)


CHANGES: list[Callable[[fastlstm.LSTM, Problem], None]] = [
    changed_x,
    changed_state,
    changed_parameters,
    loaded_parameters,
    changed_mode,
    other_calls,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_gradients_are_of_the_forward_pass(
    isa: str, dtype: str, change: Callable[[fastlstm.LSTM, Problem], None]
) -> None:
    """Whatever is changed between forward and backward."""
    problem = small_problem(dtype, dropout=0.4)
    expected = runs.gradients(problem)
    problem = small_problem(dtype, dropout=0.4)
    lstm = runs.model_of(problem)
    outputs, tape = runs.forward(lstm, problem)
    change(lstm, problem)
    for a in outputs.values():
        a[...] = 7
    assert_equal(runs.backward(lstm, tape, problem), expected)


def test_lengths_may_be_changed_afterwards(isa: str) -> None:
    problem = small_problem("float32")
    lstm = runs.model_of(problem)
    lengths = np.array(problem.inputs.lengths)
    y, _, tape = lstm.forward(problem.inputs.x, problem.inputs.state, lengths=lengths)
    lengths[...] = 9
    dy = np.ones_like(y)
    grads = lstm.backward(tape, dy)
    expected = runs.model_of(problem)
    _, _, tape = expected.forward(
        problem.inputs.x, problem.inputs.state, lengths=problem.inputs.lengths
    )
    assert_equal(grads.params, expected.backward(tape, dy).params)


def test_a_model_alike_goes_back_through_a_tape(isa: str) -> None:
    """With the parameters of the one that made it: data-parallel replicas do so."""
    problem = small_problem("float32")
    lstm = runs.model_of(problem)
    _, tape = runs.forward(lstm, problem)
    other = copy.deepcopy(lstm)
    for p in other.parameters().values():
        p *= 2
    expected = runs.backward(lstm, tape, problem)
    assert_equal(runs.backward(other, tape, problem), expected)


def test_tape_says_its_size() -> None:
    problem = small_problem("float64")
    lstm = runs.model_of(problem)
    assert fastlstm.Tape().nbytes == 0
    _, tape = runs.forward(lstm, problem)
    # Gates and cells at least, once per step that is taken, and x.
    steps = sum(problem.inputs.lengths or ())
    assert tape.nbytes >= 8 * (steps * 2 * 2 * 5 * 20 + problem.inputs.x.size)
    assert str(tape.nbytes) in repr(tape)
    small = lstm.forward(problem.inputs.x[:1])[2]
    assert small.nbytes < tape.nbytes
    assert tape.seed == 0


# ---- dropout ----


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_masks_are_those_of_the_reference(isa: str, dtype: str, p: float) -> None:
    """Shown by a second layer that passes on what it reads: its gates are those of one input."""
    units = 21
    lstm = fastlstm.LSTM(4, units, 2, dropout=p, bidirectional=False, dtype=dtype, seed=0).train()
    for name, a in lstm.parameters().items():
        if name.endswith("_l1"):
            a[...] = 0
    lstm.weight_ih_l1[2 * units : 3 * units] = np.eye(units)  # g = tanh(x), i = f = o = 1/2
    x = np.random.default_rng(0).standard_normal((7, 13, 4)).astype(dtype)
    for seed in (0, 1, 2**32, 2**64 - 1):
        y, _, tape = lstm.forward(x, seed=seed)
        assert tape.seed == seed
        first = np.abs(y[0]) > 0  # later steps remember
        mask = reference.dropout_mask(seed, 0, 7, 13, units, p)
        np.testing.assert_array_equal(first, mask[0] > 0)
        expected = reference.lstm_forward(x, lstm.parameters(), dropout=p, seed=seed)
        tolerance = 2e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(y, expected.y, rtol=0, atol=tolerance)
    if p == 1:
        grads = lstm.backward(tape, np.ones_like(y))
        assert not grads.x.any()
        assert not grads.params["weight_ih_l0"].any()
        assert not grads.params["weight_ih_l1"].any()
        assert grads.params["bias_ih_l1"].any()


def test_seeds(isa: str) -> None:
    """The same seed, the same masks; drawn ones follow from the model's own seed."""

    def made(seed: object = 3) -> fastlstm.LSTM:
        return fastlstm.LSTM(4, 8, 2, dropout=0.5, seed=seed).train()

    x = np.random.default_rng(0).standard_normal((5, 6, 4)).astype(np.float32)
    lstm = made()
    same = [lstm.forward(x, seed=11)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (lstm.forward(x, seed=12)[0] != same[0]).any()
    drawn = [lstm.forward(x)[2].seed for _ in range(4)]
    assert len(set(drawn)) == 4
    assert all(0 <= seed < 2**64 for seed in drawn)
    again = made()
    assert [again.forward(x)[2].seed for _ in range(4)] == drawn
    assert [made(4).forward(x)[2].seed for _ in range(4)] != drawn
    assert made(None).forward(x)[2].seed != made(None).forward(x)[2].seed
    generator = [made(np.random.default_rng(5)).forward(x)[2].seed for _ in range(2)]
    assert generator[0] == generator[1]
    y, _, tape = lstm.forward(x)  # a drawn seed can be used again
    np.testing.assert_array_equal(lstm.forward(x, seed=tape.seed)[0], y)
    twin, twins = copy.deepcopy(again), pickle.loads(pickle.dumps(again))
    following = [again.forward(x)[2].seed for _ in range(3)]
    for other in (twin, twins):
        assert [other.forward(x)[2].seed for _ in range(3)] == following


def test_no_dropout_in_eval_mode_nor_in_one_layer(isa: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 6, 4)).astype(np.float32)
    lstm = fastlstm.LSTM(4, 8, 2, dropout=0.5, seed=3)
    plain = lstm(x)[0]
    np.testing.assert_array_equal(lstm.forward(x, seed=1)[0], plain)
    lstm.train()
    assert (lstm.forward(x, seed=1)[0] != plain).any()
    np.testing.assert_array_equal(lstm(x)[0], plain)  # a plain call is inference
    lstm.eval()
    y, _, tape = lstm.forward(x, seed=1)
    np.testing.assert_array_equal(y, plain)
    grads = lstm.backward(tape, np.ones_like(y))
    without = fastlstm.LSTM(4, 8, 2, seed=3)
    y, _, tape = without.forward(x)
    assert_equal(grads.params, without.backward(tape, np.ones_like(y)).params)
    with pytest.warns(UserWarning, match="dropout"):
        one = fastlstm.LSTM(4, 8, 1, dropout=0.5, seed=3).train()
    np.testing.assert_array_equal(one.forward(x, seed=1)[0], one(x)[0])


# ---- nothing to do ----


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 3), (4, 0), (0, 0)])
def test_nothing_to_read_hands_the_gradients_through(
    isa: str, dtype: str, steps: int, batch: int
) -> None:
    config = helpers.Config(
        steps, batch, 2, 9, 2, bidirectional=True, lengths=(0,) * batch, dtype=dtype
    )
    problem = runs.problem_of(config, 0, dropout=0.5)
    for threads in (1, 3):
        grads = runs.gradients(problem, num_threads=threads)
        np.testing.assert_array_equal(grads["h_0"], problem.upstream["h_n"])
        np.testing.assert_array_equal(grads["c_0"], problem.upstream["c_n"])
        np.testing.assert_array_equal(grads["x"], np.zeros((steps, batch, 2)))
        for name, value in problem.params.items():
            np.testing.assert_array_equal(grads[name], np.zeros_like(value))


def test_denormals_stay_for_the_caller(isa: str, dtype: str) -> None:
    """They are flushed inside only. Bits: arithmetic would not tell one from zero meanwhile."""
    tiny = np.finfo(dtype).tiny
    problem = small_problem(dtype)
    problem.upstream = {name: a * (tiny / 3) for name, a in problem.upstream.items()}
    for threads in (1, 2):
        grads = runs.gradients(problem, num_threads=threads)
        assert all(np.isfinite(a).all() for a in grads.values())
        denormals = np.arange(1, 65).astype(f"i{tiny.itemsize}").view(dtype)
        assert (denormals * np.ones(64, dtype)).tobytes() == denormals.tobytes()
