# SPDX-License-Identifier: BSD-3-Clause
"""What the bits of gradients depend on: the batch for parameters, the sequence alone for the rest.

Not on threads, on what a tape or the memory that it was given held before, nor on padding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastlstm
from fastlstm import _core
from support import gradient_spread, helpers
from support import training_runs as runs
from support.engine_runs import assert_same_bits
from support.gradients import OUTPUTS, Problem
from support.training_runs import Named, random_problem

pytestmark = pytest.mark.sanitize

# Each kind of split: hidden units among the threads, parts of the batch (2 to the most there are),
# fewer and more parts than threads; both directions, dropout, ragged batches, tails of all kinds.
CONFIGS = [
    helpers.Config(7, 1, 20, 256),
    helpers.Config(7, 3, 20, 200, 2, with_state=True, lengths=(5, 7, 0)),
    helpers.Config(9, 64, 9, 32, 2, with_state=True),
    helpers.Config(12, 37, 9, 17, lengths=tuple(k % 13 for k in range(37))),
    helpers.Config(6, 130, 3, 5, 2, bidirectional=True, lengths=tuple(k % 7 for k in range(130))),
    helpers.Config(5, 300, 9, 24),
    helpers.Config(11, 9, 20, 70, 3, bidirectional=True, lengths=(11, 1, 0, 7, 10, 8, 8, 9, 2)),
    helpers.Config(10, 2, 20, 300, 2, bidirectional=True, with_state=True),
    helpers.Config(30, 50, 3, 1, bias=False),
    helpers.Config(4, 40, 9, 270),
]


def assert_same(actual: Named, expected: Named, what: object = "") -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert_same_bits(gradient, expected[name], f"{name} of {what}")


def problem_of(config: helpers.Config, dtype: str, seed: int = 0) -> Problem:
    return runs.problem_of(
        replace(config, dtype=dtype), seed, dropout=0.3 if config.num_layers > 1 else 0.0
    )


# ---- threads ----


def test_any_number_of_threads(isa: str, dtype: str) -> None:
    seen = set()
    for seed, config in enumerate(CONFIGS):
        problem = problem_of(config, dtype, seed)
        lstm = runs.model_of(problem)
        alone, tape = runs.forward(lstm, problem, num_threads=1)
        expected = runs.backward(lstm, tape, problem, num_threads=1)
        for threads in (2, 3, 5) if seed % 2 else (2, 5):
            lstm = runs.model_of(problem)
            outputs, tape = runs.forward(lstm, problem, num_threads=threads)
            what = f"{threads} threads, {config}"
            assert_same(outputs, alone, what)
            plan = tape._record.engine.plan(config.steps, config.batch, threads, "back")
            seen.add((plan["row_groups"] > 1, plan["unit_groups"] > 1, plan["threads"] > 1))
            assert_same(runs.backward(lstm, tape, problem, num_threads=threads), expected, what)
    assert (True, False, True) in seen, "no batch was split among threads"
    assert (False, True, True) in seen, "no layer's units were split among threads"


@pytest.mark.deep
@pytest.mark.parametrize("chunk", range(20))
def test_many_problems_on_any_number_of_threads(isa: str, chunk: int) -> None:
    for seed in range(5000 + 20 * chunk, 5020 + 20 * chunk):
        problem, given = random_problem(seed)
        expected = runs.gradients(problem, given)
        for threads in (2, 3, 5):
            actual = runs.gradients(problem, given, num_threads=threads)
            assert_same(actual, expected, f"{threads} threads, {problem.config}")


# ---- forward ----


@pytest.mark.parametrize("train", [False, True])
def test_outputs_are_those_of_a_call(isa: str, dtype: str, train: bool) -> None:
    """Also in training mode, as long as dropout does not act."""
    for seed, config in enumerate(CONFIGS):
        for batch_first in (False, True):
            problem = runs.problem_of(replace(config, dtype=dtype), seed)
            lstm = runs.model_of(problem, batch_first=batch_first, train=train)
            outputs, _ = runs.forward(lstm, problem)
            x, state, lengths = problem.inputs
            y, (h_n, c_n), cells = lstm(
                runs.swapped(lstm, x), state, lengths=lengths, return_cells=True
            )
            expected = {"y": y, "h_n": h_n, "c_n": c_n, "cells": cells}
            for name in ("y", "cells"):
                expected[name] = runs.swapped(lstm, expected[name])
            assert_same(outputs, expected, config)


# ---- tapes ----


def test_backward_again(isa: str, dtype: str) -> None:
    for config in CONFIGS[:8]:
        problem = problem_of(config, dtype)
        lstm = runs.model_of(problem)
        _, tape = runs.forward(lstm, problem)
        first = runs.backward(lstm, tape, problem)
        kept = {name: a.copy() for name, a in first.items()}
        runs.backward(lstm, tape, problem, ("h_n",), input_grad=False)
        second = runs.backward(lstm, tape, problem, num_threads=2)
        assert_same(second, kept, config)
        assert_same(first, kept, "what the second pass left of the first")
        for name, a in first.items():
            assert not np.shares_memory(a, second[name])


def test_tape_used_for_another_batch(isa: str, dtype: str) -> None:
    """Larger, smaller, of another model and of another dtype: as with a new tape."""
    tape: fastlstm.Tape | None = None
    other = "float64" if dtype == "float32" else "float32"
    for seed, (config, kind) in enumerate(
        zip(CONFIGS * 2, [dtype, other, dtype] * 7, strict=False)
    ):
        problem = problem_of(config, kind, seed)
        lstm = runs.model_of(problem)
        fresh_outputs, fresh = runs.forward(lstm, problem)
        expected = runs.backward(lstm, fresh, problem)
        before = tape
        outputs, tape = runs.forward(lstm, problem, tape=tape)
        assert before is None or tape is before
        assert_same(outputs, fresh_outputs, config)
        assert_same(runs.backward(lstm, tape, problem), expected, config)
        assert tape.seed == fresh.seed
    assert tape is not None


@pytest.mark.parametrize("fill", [0xFF, 0x7F])
def test_what_memory_held_before_counts_for_nothing(isa: str, dtype: str, fill: int) -> None:
    """NaN (0xFF) and huge numbers in the tape and in blocks that are used again."""
    for config in CONFIGS[:6]:
        problem = problem_of(config, dtype)
        lstm = runs.model_of(problem)
        outputs, tape = runs.forward(lstm, problem)
        expected = runs.backward(lstm, tape, problem)
        threads = 3
        plans = [
            tape._record.engine.plan(config.steps, config.batch, threads, purpose)[
                "workspace_bytes"
            ]
            for purpose in ("train", "back")
        ]
        np.frombuffer(tape._memory, np.uint8)[...] = fill
        for size in (*plans, tape._record.engine.memory.size):
            if size >= 1 << 20:  # smaller ones are not kept
                np.frombuffer(_core.Block(size), np.uint8)[...] = fill
        again, _ = runs.forward(lstm, problem, tape=tape, num_threads=threads)
        assert_same(again, outputs, config)
        assert_same(runs.backward(lstm, tape, problem, num_threads=threads), expected, config)


# ---- one sequence among others ----


@pytest.mark.parametrize("units", [1, 5, 16, 20, 33, 60, 130])
def test_any_batch_and_place(isa: str, dtype: str, units: int) -> None:
    """Gradients of a sequence's x, h_0 and c_0 are its own. (Masks of dropout go by place.)"""
    rng = np.random.default_rng(units)
    lengths = tuple(rng.integers(0, 7, 70).tolist()) if units % 5 == 0 else None
    config = helpers.Config(
        6,
        70,
        (1, 3, 9, 20)[units % 4],
        units,
        1 + units % 2,
        bidirectional=units % 3 == 0,
        with_state=True,
        lengths=lengths,
        dtype=dtype,
    )
    problem = runs.problem_of(config, units)
    whole = runs.gradients(problem)
    for batch in (1, 2, 3, 5, 8, 13, 17, 31, 32, 33, 64, 70):
        rows = rng.permutation(70)[:batch]
        part = runs.problem_of(config, units)
        x, (h_0, c_0), _ = problem.inputs
        part.inputs = helpers.Inputs(
            x[:, rows],
            (h_0[:, rows], c_0[:, rows]),
            None if lengths is None else tuple(np.array(lengths)[rows].tolist()),
        )
        part.upstream = {name: a[:, rows] for name, a in problem.upstream.items()}
        ours = runs.gradients(part, num_threads=1 + batch % 2)
        for name in ("x", "h_0", "c_0"):
            assert_same_bits(ours[name], whole[name][:, rows], f"{name}, {batch} rows, {config}")


@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched_is_a_batch_of_one(isa: str, dtype: str, batch_first: bool) -> None:
    config = helpers.Config(6, 1, 5, 19, 2, bidirectional=True, with_state=True, dtype=dtype)
    problem = runs.problem_of(config, 4, dropout=0.3)
    lstm = runs.model_of(problem, batch_first=batch_first)
    outputs, tape = runs.forward(lstm, problem)
    expected = runs.backward(lstm, tape, problem)
    x, (h_0, c_0), _ = problem.inputs
    y, (h_n, c_n), cells, tape = lstm.forward(
        x[:, 0], (h_0[:, 0], c_0[:, 0]), return_cells=True, seed=4
    )
    dy, dh_n, dc_n, dcells = (problem.upstream[name][:, 0] for name in OUTPUTS)
    grads = lstm.backward(tape, dy, (dh_n, dc_n), dcells=dcells)
    for name, a in {"y": y, "h_n": h_n, "c_n": c_n, "cells": cells}.items():
        assert_same_bits(a, outputs[name][:, 0], name)
    for name, a in {"x": grads.x, "h_0": grads.h_0, "c_0": grads.c_0}.items():
        assert_same_bits(a, expected[name][:, 0], name)
    for name, a in grads.params.items():
        assert_same_bits(a, expected[name], name)


# ---- padding ----


def test_padding_counts_for_nothing(isa: str, dtype: str) -> None:
    """NaN, infinity or zeros in padded x, dy and dcells; dx is +0 there."""
    for seed, config in enumerate(c for c in CONFIGS if c.lengths is not None):
        problem = problem_of(config, dtype, seed)
        results = []
        for fill in (np.nan, np.inf, 0.0, -1e30):
            for row, length in enumerate(config.lengths or ()):
                for a in (problem.inputs.x, problem.upstream["y"], problem.upstream["cells"]):
                    a[length:, row] = fill
            results.append(runs.gradients(problem))
            assert all(np.isfinite(a).all() for a in results[-1].values())
            assert_same(results[-1], results[0], config)
        for row, length in enumerate(config.lengths or ()):
            padded = results[0]["x"][length:, row]
            assert_same_bits(padded, np.zeros_like(padded), f"dx past the end of {row}")


def test_lengths_of_all_steps_are_no_lengths(isa: str, dtype: str) -> None:
    for config in CONFIGS[::2]:
        problem = problem_of(replace(config, lengths=None), dtype)
        plain = runs.gradients(problem)
        problem.inputs = problem.inputs._replace(lengths=(config.steps,) * config.batch)
        ragged = runs.gradients(problem)
        spreads = gradient_spread.spreads(problem, OUTPUTS)
        for name, a in ragged.items():
            if name in ("x", "h_0", "c_0"):
                assert_same_bits(a, plain[name], f"{name} of {config}")
            # The sequences are dealt to the parts of the batch in another way.
            error = np.abs(a - plain[name])
            assert (error <= gradient_spread.LIMIT * spreads[name]).all(), f"{name} of {config}"


def test_missing_gradients_are_zeros(isa: str, dtype: str) -> None:
    for config in CONFIGS[:8]:
        problem = problem_of(config, dtype)
        lstm = runs.model_of(problem)
        _, tape = runs.forward(lstm, problem)
        for given in (("y",), ("h_n",), ("c_n",), ("cells",), ("y", "c_n")):
            absent = runs.backward(lstm, tape, problem, given)
            kept = problem.upstream
            problem.upstream = {
                n: a if n in given else 0 * np.nan_to_num(a) for n, a in kept.items()
            }
            zeros = runs.backward(lstm, tape, problem, OUTPUTS)
            problem.upstream = kept
            for name, a in absent.items():  # of signed zeros nothing is promised
                np.testing.assert_array_equal(a, zeros[name], err_msg=f"{name} from {given}")


# ---- NaN ----


@pytest.mark.parametrize("where", ["y", "h_n", "c_n", "cells"])
def test_nan_stays_in_its_sequence(isa: str, dtype: str, where: str) -> None:
    """And is in the gradients of all parameters of its own layer and those below."""
    config = helpers.Config(6, 40, 5, 33, 2, True, False, True, True, dtype=dtype)
    problem = runs.problem_of(config, 3)
    clean = runs.gradients(problem)
    problem.upstream[where][3, 7] = np.nan
    dirty = runs.gradients(problem)
    others = np.arange(40) != 7
    for name in ("x", "h_0", "c_0"):
        assert_same_bits(dirty[name][:, others], clean[name][:, others], name)
        assert np.isnan(dirty[name][:, 7]).any()
    for name in problem.params:
        assert np.isnan(dirty[name]).any() or (
            where in ("h_n", "c_n") and name.endswith("_l1")  # index 3 is layer 1 in reverse
        ), name
