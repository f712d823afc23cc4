# SPDX-License-Identifier: BSD-3-Clause
"""LSTMs whose output is projected: the specification, and what the engine makes of it.

What an entry may be off by is derived in `error_model` and `gradient_spread`. In float64 the flat
bound of the other tests, 1e-12 of the largest entry, holds as well. The tests of bits that run
over every cell have a projected LSTM among them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from fastlstm import _core, reference
from support import engine_runs, error_model, gradient_spread, helpers
from support import training_runs as runs
from support.engine_runs import Case, assert_same_bits, case_of
from support.gradients import OUTPUTS, SUBSETS, Problem, assert_close, torch_gradients

try:
    from threadpoolctl import threadpool_limits  # scikit-learn brings it
except ImportError:
    from contextlib import nullcontext as threadpool_limits

pytestmark = pytest.mark.sanitize

NUM_CONFIGS = 60
FLOAT64_TOLERANCE = 1e-12

# Central differences over a step s are off by s^2 / 6 times the third derivative, which is some 10
# along directions of length 1, and by the rounding of the loss, some 1e-15, over s: 1e-10 each.
STEP = 1e-5
DIFFERENCE_TOLERANCE = 2e-9


def random_config(rng: np.random.Generator) -> helpers.Config:
    """Of few steps and sequences now and then, else as `helpers` draws it; any P below H."""
    config = helpers.random_config(rng)
    units = max(2, config.hidden_size)
    small = rng.random() < 0.5
    steps = min(config.steps, 9 if small else 30)
    lengths = None if config.lengths is None else tuple(min(n, steps) for n in config.lengths)
    return replace(
        config, steps=steps, lengths=lengths, hidden_size=units, proj=int(rng.integers(1, units))
    )


# ---- the specification ----


@pytest.mark.parametrize("seed", range(24))
def test_reference_agrees_with_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    case = Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))
    ours = helpers.reference_forward(*case)
    theirs = helpers.torch_forward(*case, dtype="float64")
    for name in theirs._fields:
        assert_close(getattr(ours, name), getattr(theirs, name), FLOAT64_TOLERANCE, name)
    problem = Problem(replace(config, batch_first=False), seed)
    given = OUTPUTS[:3]
    expected, actual = torch_gradients(problem, given), problem.backward(given)
    assert list(actual) == list(problem.variables())
    for name, gradient in actual.items():
        assert_close(gradient, expected[name], FLOAT64_TOLERANCE, f"{name} of {config}")


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_finite_differences_of_the_reference(bidirectional: bool, ragged: bool) -> None:
    """Every variable along a random direction, for every choice of gradients given."""
    config = helpers.Config(
        4,
        3,
        2,
        5,
        2,
        bidirectional=bidirectional,
        with_state=True,
        lengths=(2, 0, 4) if ragged else None,
        dtype="float64",
        proj=3,
    )
    problem = Problem(config, 1, dropout=0.4)
    gradients, variables = {g: problem.backward(g) for g in SUBSETS}, problem.variables()
    rng = np.random.default_rng(0)
    for name, value in variables.items():
        direction = rng.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        ahead = problem.forward({**variables, name: value + STEP * direction})
        back = problem.forward({**variables, name: value - STEP * direction})
        slopes = {
            n: np.sum(problem.upstream[n] * (getattr(ahead, n) - getattr(back, n))) / (2 * STEP)
            for n in OUTPUTS
        }
        for given, gradient in gradients.items():
            expected = sum(slopes[output] for output in given)
            actual = np.sum(direction * gradient[name])
            assert_close(actual, expected, DIFFERENCE_TOLERANCE, f"{name} from {given}")


# ---- the engine ----


@lru_cache(maxsize=NUM_CONFIGS)  # the instruction sets share it
def known(seed: int) -> tuple[Problem, tuple[str, ...], Any, Any, Any, Any]:
    rng = np.random.default_rng(500 + seed)
    config = replace(random_config(rng), batch_first=False)
    if seed % 7 == 0:  # a batch that is cut into parts
        batch = int(rng.integers(64, 200))
        config = replace(config, steps=min(config.steps, 5), batch=batch, lengths=None)
    dropout = 0.4 if config.num_layers > 1 and seed % 3 == 0 else 0.0
    given = SUBSETS[int(rng.integers(1, len(SUBSETS)))] if seed % 2 else OUTPUTS
    problem = runs.problem_of(config, seed, dropout=dropout)
    with threadpool_limits(1):
        case = config, problem.params, problem.inputs
        outputs = helpers.reference_forward(*case), error_model.spread(*case)
        gradients = problem.backward(given), gradient_spread.spreads(problem, given)
    return problem, given, *outputs, *gradients


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_agrees_with_the_reference(isa: str, seed: int) -> None:
    problem, given, outputs, spread, gradients, spreads = known(seed)
    config, options = problem.config, {"num_threads": 1 + seed % 3}
    lstm = Case(config, problem.params, problem.inputs).lstm(
        gemm="blas" if seed % 5 == 0 else "auto"
    )
    actual = engine_runs.run(lstm, problem.inputs, **options)
    error_model.assert_within(actual, outputs, spread, config)
    trained = runs.gradients(problem, given, batch_first=seed % 2 == 0, **options)
    errors = gradient_spread.errors_in_spreads(problem, trained, gradients, spreads)
    wrong = {n: e for n, e in errors.items() if not e <= gradient_spread.LIMIT}  # NaN too
    assert not wrong, f"errors in spreads: {wrong} of {config} from {given}"
    if config.dtype == "float64":
        for name in actual._fields:
            expected = getattr(outputs, name)
            assert_close(getattr(actual, name), expected, FLOAT64_TOLERANCE, f"{name} of {config}")
        for name, gradient in trained.items():
            largest = np.max(np.abs(gradients[name]), initial=0)
            error = np.max(np.abs(gradient - gradients[name]), initial=0)
            assert error <= FLOAT64_TOLERANCE * largest, f"{name} of {config}"


def test_random_configurations_cover_every_option() -> None:
    configs = [known(seed)[0].config for seed in range(NUM_CONFIGS)]
    for option in ("bias", "bidirectional", "with_state"):
        assert {getattr(config, option) for config in configs} == {False, True}, option
    assert {config.num_layers for config in configs} == {1, 2, 3}
    assert {config.dtype for config in configs} == {"float32", "float64"}
    assert {config.proj == 1 for config in configs} == {False, True}
    assert max(config.proj for config in configs) > 100
    ragged = [config.lengths for config in configs if config.lengths is not None]
    assert 0 < len(ragged) < len(configs)
    assert any(0 in lengths for lengths in ragged)


@pytest.mark.parametrize("units", [2, 17, 40, 70, 129])
def test_every_width(isa: str, dtype: str, units: int) -> None:
    """Panels of outputs of all kinds, whole and remainders; and every one of few rows or many."""
    for proj in sorted({*range(1, min(units, 36)), *range(36, units, 7), units - 1}):
        config = helpers.Config(3, 1 + proj % 8, 3, units, with_state=True, dtype=dtype, proj=proj)
        problem = runs.problem_of(config, proj)
        expected = helpers.reference_forward(config, problem.params, problem.inputs)
        spread = error_model.spread(config, problem.params, problem.inputs)
        lstm = runs.model_of(problem)
        actual = engine_runs.run(lstm, problem.inputs)
        error_model.assert_within(actual, expected, spread, config)
        gradients = runs.gradients(problem)
        spreads = gradient_spread.spreads(problem, OUTPUTS)
        errors = gradient_spread.errors_in_spreads(problem, gradients, problem.backward(), spreads)
        assert max(errors.values()) <= gradient_spread.LIMIT, f"{errors} of {config}"


# ---- bits ----

CONFIGS = [
    helpers.Config(7, 3, 20, 200, 2, with_state=True, lengths=(5, 7, 0), proj=130),
    helpers.Config(9, 64, 9, 32, 2, with_state=True, proj=20),
    helpers.Config(
        6, 130, 3, 7, 2, bidirectional=True, lengths=(*range(6),) * 21 + (6,) * 4, proj=5
    ),
    helpers.Config(
        11, 9, 20, 70, 3, bidirectional=True, lengths=(11, 1, 0, 7, 10, 8, 8, 9, 2), proj=1
    ),
    helpers.Config(10, 2, 20, 300, 2, bidirectional=True, with_state=True, proj=290),
    helpers.Config(40, 1, 8, 64, proj=33),
]


def assert_same(actual: runs.Named, expected: runs.Named, what: object) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert_same_bits(gradient, expected[name], f"{name} of {what}")


def test_any_number_of_threads(isa: str, dtype: str) -> None:
    split = set()
    for seed, config in enumerate(CONFIGS):
        config = replace(config, dtype=dtype)
        problem = runs.problem_of(config, seed, dropout=0.3 if config.num_layers > 1 else 0.0)
        lstm = runs.model_of(problem)
        alone, tape = runs.forward(lstm, problem, num_threads=1)
        expected = runs.backward(lstm, tape, problem, num_threads=1)
        for threads in (2, 3, 5):
            lstm = runs.model_of(problem)  # anew: teams that came late are avoided for a while
            outputs, tape = runs.forward(lstm, problem, num_threads=threads)
            assert_same(outputs, alone, f"{threads} threads, {config}")
            plan = tape._record.engine.plan(config.steps, config.batch, threads, "back")
            split |= {name for name in ("row_groups", "unit_groups") if plan[name] > 1}
            actual = runs.backward(lstm, tape, problem, num_threads=threads)
            assert_same(actual, expected, f"{threads} threads, {config}")
    assert split == {"row_groups", "unit_groups"}


def test_any_plan(isa: str, dtype: str) -> None:
    """More threads than the projection has panels; inputs projected ahead or not."""
    for seed, config in enumerate(CONFIGS):
        case = case_of(replace(config, dtype=dtype), seed)
        engine = (lstm := case.lstm())._engine()
        panels = engine.plan(1, 1, 1)
        most = min(panels["full"] + (panels["remainder"] > 0), _core.team_max(), 3)
        expected = None
        for groups in range(1, most + 1):
            for ahead in (False, True):
                engine.force(1, 1, groups, ahead)
                actual = engine_runs.run(lstm, case.inputs)
                expected = expected or actual
                engine_runs.assert_all_same_bits(actual, expected, (groups, ahead, config))


@pytest.mark.parametrize("kind", ["fast", "middle", "slow"])
def test_any_caches(isa: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for config in (
        CONFIGS[0],
        replace(CONFIGS[4], batch=30),
        helpers.Config(3, 40, 9, 500, proj=400),
    ):
        problem = runs.problem_of(config, 3)
        expected = (
            runs.gradients(problem),
            engine_runs.run(runs.model_of(problem, train=False), problem.inputs),
        )
        _core.assume_caches(kind)
        try:
            actual = (
                runs.gradients(problem),
                engine_runs.run(runs.model_of(problem, train=False), problem.inputs),
            )
        finally:
            _core.assume_caches("cpu")
        assert_same(actual[0], expected[0], config)
        engine_runs.assert_all_same_bits(actual[1], expected[1], config)


def test_gradients_of_a_row_do_not_depend_on_its_batch(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for units, proj in ((9, 4), (40, 33), (70, 24)):
        config = helpers.Config(5, 40, 7, units, 2, with_state=True, dtype=dtype, proj=proj)
        problem = runs.problem_of(config, units)
        whole = runs.gradients(problem)
        for batch in (1, 2, 5, 13, 31):
            rows = rng.permutation(40)[:batch]
            part = runs.problem_of(config, units)
            x, (h_0, c_0), _ = problem.inputs
            part.inputs = helpers.Inputs(x[:, rows], (h_0[:, rows], c_0[:, rows]), None)
            part.upstream = {name: a[:, rows] for name, a in problem.upstream.items()}
            ours = runs.gradients(part, num_threads=1 + batch % 2)
            for name in ("x", "h_0", "c_0"):
                assert_same_bits(ours[name], whole[name][:, rows], f"{name}, {batch} of {config}")


@pytest.mark.parametrize("batch", [1, 5])
def test_a_stream_gives_the_bits_of_a_call(isa: str, dtype: str, batch: int) -> None:
    config = helpers.Config(12, batch, 6, 40, 2, with_state=True, dtype=dtype, proj=25)
    lstm = (case := case_of(config, 2)).lstm()
    x, state, _ = case.inputs
    y, (h_n, c_n) = lstm(x, state)
    stream = lstm.stream(batch)
    assert [a.shape for a in stream.state] == [(2, batch, 25), (2, batch, 40)]
    stream.state = state
    parts = [stream(x[:3]), *(stream(step)[None] for step in x[3:7]), stream(x[7:])]
    assert_same_bits(np.concatenate(parts), y)
    for ours, theirs in zip(stream.state, (h_n, c_n), strict=True):
        assert_same_bits(ours, theirs)
    stream.reset()
    assert_same_bits(stream(x), lstm(x)[0])


# ---- edges ----


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0), (4, 3)])
def test_nothing_to_read(isa: str, dtype: str, steps: int, batch: int) -> None:
    config = helpers.Config(
        steps, batch, 2, 9, 2, True, False, True, True, (0,) * batch, dtype, proj=4
    )
    problem = runs.problem_of(config, 0)
    lstm = runs.model_of(problem)
    outputs, tape = runs.forward(lstm, problem)
    h_0, c_0 = problem.inputs.state or ()
    assert_same_bits(outputs["h_n"], h_0)
    assert_same_bits(outputs["c_n"], c_0)
    assert_same_bits(outputs["y"], np.zeros((steps, batch, 8), dtype))
    assert_same_bits(outputs["cells"], np.zeros((steps, batch, 18), dtype))
    gradients = runs.backward(lstm, tape, problem)
    assert_same_bits(gradients["h_0"], problem.upstream["h_n"])
    assert_same_bits(gradients["c_0"], problem.upstream["c_n"])
    for name, value in problem.params.items():
        assert_same_bits(gradients[name], np.zeros_like(value), name)


def test_nan_stays_in_its_sequence(isa: str, dtype: str) -> None:
    case = case_of(helpers.Config(6, 20, 5, 33, 2, with_state=True, dtype=dtype, proj=18), 1)
    lstm = case.lstm()
    clean = engine_runs.run(lstm, case.inputs)
    case.inputs.x[3, 7] = np.nan
    dirty = engine_runs.run(lstm, case.inputs)
    others = np.arange(20) != 7
    for ours, before in zip(dirty, clean, strict=True):
        assert_same_bits(ours[:, others], before[:, others])
    assert np.isnan(dirty.y[3:, 7]).all()
    assert_same_bits(dirty.y[:3], clean.y[:3])


def test_reference_of_a_cell_is_one_step() -> None:
    rng = np.random.default_rng(0)
    config = helpers.Config(1, 3, 4, 6, with_state=True, dtype="float64", proj=2)
    params = helpers.random_params(config, rng)
    x, (h, c), _ = helpers.random_inputs(config, rng)
    result = reference.lstm_forward(x, params, state=(h, c))
    cell = {name.removesuffix("_l0"): value for name, value in params.items()}
    h_1, c_1 = reference.cell_forward(x[0], h[0], c[0], cell)
    np.testing.assert_array_equal(h_1, result.h_n[0])
    np.testing.assert_array_equal(c_1, result.c_n[0])
