# SPDX-License-Identifier: BSD-3-Clause
"""Gradients of the engine against the reference, PyTorch and finite differences.

What an entry may be off by is derived in `gradient_spread`. In float64 a flat bound relative to the
largest entry holds as well: 1e-10 is asked for, 1e-12 is what a sum of some 10^4 terms allows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

import fastlstm
from support import gradient_spread, helpers
from support import training_runs as runs
from support.gradients import OUTPUTS, SUBSETS, Problem
from support.training_runs import Named, random_problem

try:
    from threadpoolctl import threadpool_limits  # scikit-learn brings it
except ImportError:
    from contextlib import nullcontext as threadpool_limits

pytestmark = pytest.mark.sanitize

NUM_PROBLEMS = 110
DEEP_PROBLEMS, DEEP_CHUNK = 1200, 40
FLOAT64_TOLERANCE = 1e-12


class Known:
    """A problem with what the reference, PyTorch and the spread say of it."""

    def __init__(self, problem: Problem, given: tuple[str, ...] = OUTPUTS) -> None:
        self.problem, self.given = problem, given
        # NumPy's BLAS wakes its threads at every step of the reference: slow where cores are busy.
        with threadpool_limits(1):
            self.expected = problem.backward(given)
            self.spreads = gradient_spread.spreads(problem, given)

    def check(self, actual: Named, expected: Named | None = None) -> None:
        expected = self.expected if expected is None else expected
        what = f"{self.problem.config} {self.problem.options} from {self.given}"
        errors = gradient_spread.errors_in_spreads(self.problem, actual, expected, self.spreads)
        wrong = {n: e for n, e in errors.items() if not e <= gradient_spread.LIMIT}  # NaN too
        assert not wrong, f"errors in spreads: {wrong} of {what}"
        if self.problem.config.dtype == "float64":
            for name, gradient in actual.items():
                largest = np.max(np.abs(expected[name]), initial=0)
                error = np.max(np.abs(gradient - expected[name]), initial=0)
                assert error <= FLOAT64_TOLERANCE * largest, f"{name} of {what}"


@lru_cache(maxsize=NUM_PROBLEMS)  # the instruction sets share it
def known(seed: int) -> Known:
    return Known(*random_problem(seed))


@pytest.mark.parametrize("seed", range(NUM_PROBLEMS))
def test_agrees_with_the_reference(isa: str, seed: int) -> None:
    at = known(seed)
    at.check(runs.gradients(at.problem, at.given, batch_first=seed % 2 == 0))


def test_random_problems_cover_every_option() -> None:
    problems = [random_problem(seed) for seed in range(NUM_PROBLEMS)]
    configs = [problem.config for problem, _ in problems]
    for option in ("bias", "bidirectional", "with_state"):
        assert {getattr(config, option) for config in configs} == {False, True}, option
    assert {config.num_layers for config in configs} == {1, 2, 3}
    assert {config.dtype for config in configs} == {"float32", "float64"}
    ragged = [config.lengths for config in configs if config.lengths is not None]
    assert 0 < len(ragged) < len(configs)
    assert any(0 in lengths and max(lengths) > 0 for lengths in ragged)
    assert any(list(lengths) != sorted(lengths, reverse=True) for lengths in ragged)
    assert len({problem.options.get("dropout") for problem, _ in problems}) == 4
    for name in OUTPUTS:
        assert {name in given for _, given in problems} == {False, True}
    parts = set()
    for config in configs:
        lstm = fastlstm.LSTM(**config.lstm_arguments, dtype=config.dtype, seed=0).train()
        plan = lstm._engine(2).plan(config.steps, config.batch, 1, "back")
        parts.add(plan["row_groups"])
    assert {1, 2} <= parts, "no batch was cut into parts"
    assert max(parts) > 2
    assert max(config.hidden_size for config in configs) > 200
    assert max(config.batch for config in configs) > 200


def large_problem(seed: int) -> Problem:
    """Weights larger than caches, or batches of many parts; several chunks of steps."""
    rng = np.random.default_rng(seed)
    wide = seed % 2 == 0
    steps = int(rng.integers(5, 12)) if wide else int(rng.integers(20, 40))
    batch = int(rng.integers(1, 90)) if wide else int(rng.integers(150, 301))
    config = helpers.Config(
        steps,
        batch,
        int(rng.integers(1, 130)) if wide else int(rng.integers(1, 30)),
        int(rng.integers(200, 301)) if wide else int(rng.integers(3, 50)),
        num_layers=int(rng.integers(1, 3)),
        bidirectional=bool(rng.random() < 0.5),
        with_state=bool(rng.random() < 0.5),
        lengths=tuple(map(int, rng.integers(0, steps + 1, batch))) if rng.random() < 0.5 else None,
        dtype=str(rng.choice(["float32", "float64"])),
    )
    return runs.problem_of(config, seed)


@lru_cache(maxsize=4)
def large_known(seed: int) -> Known:
    return Known(large_problem(seed))


@pytest.mark.parametrize("seed", range(4))
def test_large(isa: str, seed: int) -> None:
    at = large_known(seed)
    at.check(runs.gradients(at.problem))


@pytest.mark.parametrize("seed", range(24))
def test_blas_agrees_with_the_reference(isa: str, seed: int) -> None:
    at = known(seed)
    at.check(runs.gradients(at.problem, at.given, num_threads=1 + seed % 2, gemm="blas"))


@pytest.mark.parametrize("seed", range(6))
def test_a_wrong_entry_would_be_seen(seed: int) -> None:
    """Off by a hundred-thousandth (float64: 10^-13) of the largest in its array."""
    at = Known(random_problem(seed)[0])
    right = runs.gradients(at.problem)
    at.check(right)
    share = 1e-5 if at.problem.config.dtype == "float32" else 1e-13
    seen = 0
    for name, a in right.items():
        wrong = a.copy()
        place = np.unravel_index(np.argmax(np.abs(a)), a.shape)
        wrong[place] *= 1 + share
        try:
            at.check({**right, name: wrong})
        except AssertionError:
            seen += 1
    assert seen >= 0.7 * len(right)  # some have larger spreads


@pytest.mark.deep
@pytest.mark.parametrize("chunk", range(DEEP_PROBLEMS // DEEP_CHUNK))
def test_many_problems(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seeds from 1,000 on: none that the quick tests have. The instruction sets share a reference.
    for i in range(DEEP_CHUNK):
        seed = 1000 + chunk * DEEP_CHUNK + i
        large = i % 20 == 0
        at = Known(large_problem(seed)) if large else Known(*random_problem(seed))
        like_torch = None if large else at  # the large ones would take longer than all others
        if like_torch and (at.problem.options or "cells" in at.given):
            # PyTorch draws other masks and returns no cells.
            given = tuple(name for name in at.given if name != "cells") or OUTPUTS[:3]
            like_torch = Known(runs.problem_of(at.problem.config, seed), given)
        theirs = like_torch and runs.by_torch(like_torch.problem, like_torch.given)
        for isa in fastlstm.available_isas():
            monkeypatch.setattr("fastlstm.runtime._isa", isa)
            options = {"batch_first": seed % 2 == 0, "num_threads": 1 + i % 2}
            actual = runs.gradients(at.problem, at.given, **options)
            at.check(actual)
            if like_torch and like_torch is not at:
                actual = runs.gradients(like_torch.problem, like_torch.given, **options)
            if like_torch:
                like_torch.check(actual, theirs)


@lru_cache(maxsize=12)
def known_by_torch(seed: int) -> Known:
    config = replace(helpers.random_config(np.random.default_rng(seed)), batch_first=False)
    at = Known(runs.problem_of(config, seed), OUTPUTS[:3])
    at.expected = runs.by_torch(at.problem, at.given)
    return at


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_torch(isa: str, seed: int) -> None:
    at = known_by_torch(seed)
    at.check(runs.gradients(at.problem, at.given))


# ---- finite differences ----

# Central differences over a step s are off by s^2 / 6 times the third derivative, which is some 10
# along directions of length 1, and by the rounding of the loss, some 1e-15, over s: 1e-10 each.
STEP = 1e-5
DIFFERENCE_TOLERANCE = 2e-9


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("layout", ["time", "batch", "one"])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_finite_differences(
    isa: str,
    num_layers: int,
    bidirectional: bool,
    bias: bool,
    ragged: bool,
    layout: str,
    dropout: float,
) -> None:
    """Every variable along a random direction, for every choice of gradients given, the engine
    alone: nothing of the reference."""
    if layout == "one" and ragged:
        pytest.skip("one sequence is not ragged")
    if num_layers == 1 and dropout:
        pytest.skip("no dropout in one layer")
    rng = np.random.default_rng(num_layers)
    lstm = fastlstm.LSTM(
        2, 3, num_layers, bias, layout == "batch", dropout, bidirectional, dtype=float, seed=0
    ).train()
    directions = 1 + bidirectional
    outer = {"time": (4, 3), "batch": (3, 4), "one": (4,)}[layout]
    state_shape = (num_layers * directions, *(() if layout == "one" else (3,)), 3)
    variables = {
        "x": rng.standard_normal((*outer, 2)),
        "h_0": rng.standard_normal(state_shape),
        "c_0": rng.standard_normal(state_shape),
        **{name: p.copy() for name, p in lstm.parameters().items()},
    }
    upstream = [
        rng.standard_normal(shape)
        for shape in [(*outer, 3 * directions), state_shape, state_shape, (*outer, 3 * directions)]
    ]

    def forward(at: Named) -> tuple[tuple[np.ndarray, ...], fastlstm.Tape]:
        for name, p in lstm.parameters().items():
            p[...] = at[name]
        y, (h_n, c_n), cells, tape = lstm.forward(
            at["x"],
            (at["h_0"], at["c_0"]),
            lengths=[2, 0, 4] if ragged else None,
            return_cells=True,
            seed=7,
        )
        return (y, h_n, c_n, cells), tape

    _, tape = forward(variables)
    chosen = [[n in given for n in OUTPUTS] for given in SUBSETS if given]
    gradients = []
    for flags in chosen:
        dy, dh_n, dc_n, dcells = (u if f else None for u, f in zip(upstream, flags, strict=True))
        gradients.append(lstm.backward(tape, dy, (dh_n, dc_n), dcells=dcells))
    for name, value in variables.items():
        direction = rng.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        ahead, _ = forward({**variables, name: value + STEP * direction})
        back, _ = forward({**variables, name: value - STEP * direction})
        slopes = [
            float(np.sum(u * (a - b))) / (2 * STEP)
            for u, a, b in zip(upstream, ahead, back, strict=True)
        ]
        for flags, gradient in zip(chosen, gradients, strict=True):
            expected = sum(s for s, f in zip(slopes, flags, strict=True) if f)
            ours = gradient.params.get(name, getattr(gradient, name, None))
            error = abs(float(np.sum(direction * ours)) - expected)
            assert error <= DIFFERENCE_TOLERANCE * max(1.0, abs(expected)), f"{name}, {flags}"
