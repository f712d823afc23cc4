# SPDX-License-Identifier: BSD-3-Clause
"""The engine against the reference and PyTorch, on every instruction set and at the edges.

What an output may be off by is derived in `error_model`. In float64 the flat bound of
test_reference.py, 1e-12, holds as well.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import reference
from support import engine_runs, error_model, helpers
from support.engine_runs import (
    Case,
    assert_all_same_bits,
    assert_same_bits,
    case_of,
    large_case,
    random_case,
)

try:
    from threadpoolctl import threadpool_limits  # scikit-learn brings it
except ImportError:
    threadpool_limits = nullcontext

pytestmark = pytest.mark.sanitize

NUM_CONFIGS = 150
DEEP_CONFIGS, DEEP_CHUNK = 2000, 50
FLOAT64_TOLERANCE = 1e-12


class Known:
    """A case with what the reference, PyTorch and the error model say of it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        # NumPy's BLAS wakes its threads at every step of the reference: slow where cores are busy.
        with threadpool_limits(1):
            self.expected = helpers.reference_forward(*case)
            self.spread = error_model.spread(*case)

    def check(self, **options: Any) -> None:
        """Runs the engine. `threads` and `gemm` as an LSTM takes them."""
        threads = options.pop("threads", 1)
        actual = engine_runs.run(self.case.lstm(**options), self.case.inputs, num_threads=threads)
        self.compare(actual, self.expected)

    def compare(self, actual: Any, expected: Any) -> None:
        config = self.case.config
        assert {a.dtype for a in actual} == {np.dtype(config.dtype)}
        # PyTorch in float64 rounds more coarsely than the engine: to 4.8 spreads of the truth,
        # measured in long double, where the engine is at 1.8 and the reference at 1.2.
        if config.dtype == "float32" or expected is self.expected:
            error_model.assert_within(actual, expected, self.spread, config)
        if config.dtype == "float64":
            bound = {"rtol": FLOAT64_TOLERANCE, "atol": FLOAT64_TOLERANCE}
            for name, ours in zip(actual._fields, actual, strict=True):
                theirs = getattr(expected, name)
                np.testing.assert_allclose(ours, theirs, **bound, err_msg=f"{name} of {config}")


@lru_cache(maxsize=NUM_CONFIGS)  # the instruction sets share it
def known(seed: int) -> Known:
    return Known(random_case(seed))


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_agrees_with_the_reference(isa: str, seed: int) -> None:
    known(seed).check()


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_agrees_with_torch(isa: str, seed: int) -> None:
    at = known(seed)
    actual = engine_runs.run(at.case.lstm(), at.case.inputs, num_threads=1)
    ours = helpers.Outputs(actual.y, actual.h_n, actual.c_n)
    at.compare(ours, helpers.torch_forward(*at.case, dtype="float64"))


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_blas_agrees_with_the_reference(isa: str, seed: int) -> None:
    known(seed).check(gemm="blas", threads=1 if seed % 5 else 3)


@pytest.mark.parametrize("seed", range(4))
def test_large_layers(isa: str, seed: int) -> None:
    at = Known(large_case(seed))
    at.check()
    at.check(gemm="blas", threads=2)


@pytest.mark.deep
@pytest.mark.parametrize("chunk", range(DEEP_CONFIGS // DEEP_CHUNK))
def test_many_configurations(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seeds from 1,000 on: none that the quick tests have. The instruction sets share a reference.
    cases = [random_case(1000 + chunk * DEEP_CHUNK + i) for i in range(DEEP_CHUNK)]
    cases += [large_case(1000 + chunk * 2 + i) for i in range(2)]
    for i, case in enumerate(cases):
        at = Known(case)
        theirs = helpers.torch_forward(*case, dtype="float64")
        for isa in fastlstm.available_isas():
            monkeypatch.setattr("fastlstm.runtime._isa", isa)
            actual = engine_runs.run(case.lstm(), case.inputs)
            at.compare(actual, at.expected)
            at.compare(helpers.Outputs(actual.y, actual.h_n, actual.c_n), theirs)
            at.check(gemm="blas", threads=1 + i % 4)


def test_isa_is_the_one_asked_for(isa: str) -> None:
    assert fastlstm.LSTM(3, 4)._engine().isa == isa


# ---- long sequences: several blocks of steps, several projections ----


@pytest.mark.parametrize("threads,gemm", [(1, "native"), (2, "native"), (2, "blas")])
@pytest.mark.parametrize(
    "config",
    [
        # Inner outputs of a block have to fit a cache.
        helpers.Config(500, 5, 10, 160, num_layers=3, lengths=(500, 0, 463, 462, 1)),
        helpers.Config(4000, 1, 9, 40, num_layers=2, dtype="float64"),
        # Two directions are cut up only so that a caller can interrupt.
        helpers.Config(500, 11, 30, 250, num_layers=2, bidirectional=True),
    ],
    ids=["three-layers", "one-row", "two-directions"],
)
def test_blocks_and_projections_join(
    isa: str, config: helpers.Config, threads: int, gemm: str
) -> None:
    at = long_known(config)
    lstm = at.case.lstm(gemm=gemm)
    plan = lstm._engine().plan(config.steps, config.batch, threads)
    assert plan["block_steps"] < config.steps
    assert 0 < plan["project_steps"] < config.steps
    at.check(gemm=gemm, threads=threads)


@lru_cache(maxsize=3)
def long_known(config: helpers.Config) -> Known:
    return Known(case_of(config, 0))


# ---- what a call takes and gives ----


def test_state_of_none_is_zeros(isa: str, dtype: str, cell: str) -> None:
    case = case_of(
        helpers.Config(5, 3, 4, 21, num_layers=2, bidirectional=True, dtype=dtype, cell=cell), 1
    )
    model = case.model()
    zeros = np.zeros(case.config.h_shape, dtype), np.zeros(case.config.c_shape, dtype)
    with_zeros = engine_runs.run(model, case.inputs._replace(state=zeros))
    assert_all_same_bits(engine_runs.run(model, case.inputs), with_zeros)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("cell", "gemm"), engine_runs.CELLS_AND_GEMM)
def test_out_is_filled_and_returned(
    isa: str, dtype: str, cell: str, gemm: str, batch_first: bool
) -> None:
    config = helpers.Config(
        9, 6, 5, 13, 2, True, batch_first, True, lengths=(9, 0, 3, 8, 1, 5), dtype=dtype, cell=cell
    )
    case = case_of(config, 2)
    model = case.model(gemm=gemm)
    expected = engine_runs.run(model, case.inputs)
    shape = expected.y.shape
    wide = np.full((2 * shape[0], shape[1] + 3, shape[2] + 7), 7, dtype)
    outs = {
        "contiguous": np.full(shape, 7, dtype),
        "other axis first": np.full((shape[1], shape[0], shape[2]), 7, dtype).swapaxes(0, 1),
        "part of an array": wide[::2, 2:-1, 3:-4],
        "backwards": np.full(shape, 7, dtype)[::-1, ::-1],
    }
    for what, out in outs.items():
        actual = engine_runs.run(model, case.inputs, out=out)
        assert actual.y is out
        assert_all_same_bits(actual, expected, what)
    rest = np.ones(wide.shape, bool)
    rest[::2, 2:-1, 3:-4] = False
    assert (wide[rest] == 7).all(), "wrote beside out"


def test_out_may_be_the_memory_of_an_input(isa: str) -> None:
    config = helpers.Config(7, 3, 16, 8, 2, bidirectional=True, with_state=True)
    case = case_of(config, 3)
    lstm = case.lstm()
    expected = engine_runs.run(lstm, case.inputs)
    x = case.inputs.x.copy()
    assert_all_same_bits(engine_runs.run(lstm, case.inputs._replace(x=x), out=x), expected, "x")
    # h_0 stands in the first steps of y, c_0 in later ones.
    out = np.empty((7, 3, 16), np.float32)
    states = out.reshape(-1)[: 2 * 96].reshape(2, 4, 3, 8)
    states[:] = case.inputs.state
    inputs = case.inputs._replace(state=(states[0], states[1]))
    assert_all_same_bits(engine_runs.run(lstm, inputs, out=out), expected, "states")


@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched_is_a_batch_of_one(isa: str, dtype: str, batch_first: bool) -> None:
    config = helpers.Config(6, 1, 5, 19, 2, True, batch_first, True, True, dtype=dtype)
    case = case_of(config, 4)
    lstm = case.lstm()
    batch = engine_runs.run(lstm, case.inputs)
    at = 0 if batch_first else 1
    h_0, c_0 = case.inputs.state or ()
    alone = engine_runs.run(
        lstm, helpers.Inputs(case.inputs.x.squeeze(at), (h_0[:, 0], c_0[:, 0]), None)
    )
    expected = (batch.y.squeeze(at), batch.h_n[:, 0], batch.c_n[:, 0], batch.cells.squeeze(at))
    assert_all_same_bits(alone, engine_runs.Outputs(*expected))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("cell", "gemm"), engine_runs.CELLS_AND_GEMM)
def test_any_strides_of_x(isa: str, cell: str, gemm: str, batch_first: bool) -> None:
    config = helpers.Config(8, 5, 6, 17, 2, batch_first=batch_first, bidirectional=True, cell=cell)
    case = case_of(config, 5)
    model = case.model(gemm=gemm)
    x = case.inputs.x
    wide = np.full((2 * x.shape[0], 3 * x.shape[1], x.shape[2] + 2), np.nan, np.float32)
    wide[::2, ::-3, 1:-1] = x
    columns = np.full((*x.shape[:2], 2 * x.shape[2]), np.nan, np.float32)
    columns[:, :, ::-2] = x
    views = {
        "every other": wide[::2, ::-3, 1:-1],
        "backwards": np.ascontiguousarray(x[::-1])[::-1],
        "other axis first": np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
        "Fortran order": np.asfortranarray(x),
        "columns backwards": columns[:, :, ::-2],
        "unaligned": np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(x.shape),
        "other byte order": x.astype(">f4"),
    }
    expected = engine_runs.run(model, case.inputs)
    for what, view in views.items():
        assert not view.flags.c_contiguous or what in ("unaligned", "other byte order")
        assert_all_same_bits(engine_runs.run(model, case.inputs._replace(x=view)), expected, what)
    same = np.broadcast_to(x[:, :1], x.shape)
    copied = engine_runs.run(model, case.inputs._replace(x=same.copy()))
    assert_all_same_bits(engine_runs.run(model, case.inputs._replace(x=same)), copied, "broadcast")


def test_states_of_any_strides(isa: str) -> None:
    case = case_of(helpers.Config(3, 4, 2, 9, 2, bidirectional=True, with_state=True), 6)
    lstm = case.lstm()
    h_0, c_0 = case.inputs.state or ()
    views = np.asfortranarray(h_0), np.repeat(c_0, 2, axis=1)[:, ::2]
    actual = engine_runs.run(lstm, case.inputs._replace(state=views))
    assert_all_same_bits(actual, engine_runs.run(lstm, case.inputs))


@pytest.mark.parametrize("gemm", ["native", "blas"])
@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0), (4, 3)])
def test_nothing_to_read_gives_the_initial_state(
    isa: str, dtype: str, gemm: str, steps: int, batch: int
) -> None:
    config = helpers.Config(
        steps, batch, 5, 9, 2, True, False, True, True, lengths=(0,) * batch, dtype=dtype
    )
    case = case_of(config, 7)
    lstm = case.lstm(gemm=gemm)
    h_0, c_0 = case.inputs.state or ()
    zeros = np.zeros((steps, batch, 18), dtype)
    empty = steps == 0 or batch == 0
    for lengths in [case.inputs.lengths, None] if empty else [case.inputs.lengths]:
        for threads in (1, 3):
            actual = engine_runs.run(
                lstm, case.inputs._replace(lengths=lengths), num_threads=threads
            )
            assert_all_same_bits(actual, engine_runs.Outputs(zeros, h_0, c_0, zeros))


def test_any_number_of_steps_of_no_rows() -> None:
    lstm = fastlstm.LSTM(3, 2, 2, bidirectional=True)
    x = np.empty((2**40, 0, 3), np.float32)
    assert lstm(x)[0].shape == (2**40, 0, 4)
    y, (h_n, c_n), tape = lstm.forward(x)
    assert y.shape == (2**40, 0, 4)
    assert h_n.shape == c_n.shape == (4, 0, 2)
    grads = lstm.backward(tape, y)
    assert grads.x is not None
    assert grads.x.shape == x.shape
    assert all((values == 0).all() for values in grads.params.values())


def test_results_are_new_arrays_and_inputs_stay(isa: str) -> None:
    case = case_of(helpers.Config(4, 3, 5, 6, with_state=True, lengths=(0, 4, 2)), 8)
    lstm = case.lstm()
    h_0, c_0 = case.inputs.state or ()
    before = [a.copy() for a in (case.inputs.x, h_0, c_0)]
    first = engine_runs.run(lstm, case.inputs)
    kept = [a.copy() for a in first]
    second = engine_runs.run(lstm, case.inputs._replace(x=-case.inputs.x))
    for a, b in zip(first, kept, strict=True):
        assert_same_bits(a, b)
    for a in (*first, *second):
        assert not any(np.shares_memory(a, b) for b in (case.inputs.x, h_0, c_0))
    for a, b in zip((case.inputs.x, h_0, c_0), before, strict=True):
        assert_same_bits(a, b, "input")


@pytest.mark.parametrize("gemm", ["native", "blas"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("where", ["x", "h_0", "c_0"])
def test_nan_stays_in_its_sequence(
    isa: str, dtype: str, gemm: str, threads: int, where: str
) -> None:
    config = helpers.Config(
        6, 7, 5, 33, 2, True, False, True, True, lengths=(6, 6, 2, 6, 0, 5, 6), dtype=dtype
    )
    case = case_of(config, 9)
    lstm = case.lstm(gemm=gemm)
    x, (h_0, c_0), lengths = case.inputs
    clean = engine_runs.run(lstm, case.inputs)
    x, h_0, c_0 = x.copy(), h_0.copy(), c_0.copy()
    {"x": x[2], "h_0": h_0[0], "c_0": c_0[1]}[where][3, 1] = np.nan
    dirty = helpers.Inputs(x, (h_0, c_0), lengths)
    actual = engine_runs.run(case.lstm(gemm=gemm), dirty, num_threads=threads)
    expected = helpers.reference_forward(config, case.params, dirty)
    others = np.arange(7) != 3
    for name in actual._fields:
        ours, theirs = getattr(actual, name), getattr(expected, name)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=name)
        assert np.isnan(ours[:, 3]).any(), name
        if gemm == "native":
            assert_same_bits(ours[:, others], getattr(clean, name)[:, others], name)
        else:
            assert np.isfinite(ours[:, others]).all()


@pytest.mark.parametrize("gemm", ["native", "blas"])
@pytest.mark.parametrize("units", [1, 3, 17, 40])
def test_infinity_and_huge_numbers_are_as_in_the_reference(
    isa: str, dtype: str, gemm: str, units: int
) -> None:
    config = helpers.Config(4, 9, 3, units, 2, with_state=True, dtype=dtype)
    case = case_of(config, 10)
    x, (h_0, c_0), _ = case.inputs
    huge = np.finfo(dtype).max / 1e3
    for row, value in enumerate((np.inf, -np.inf, huge, -huge)):
        x[1, row, 0] = value
        c_0[0, 8 - row, :] = value
    x[2, 4, :2] = np.inf, -np.inf  # NaN where their weights have one sign
    h_0[1, 0, 0], h_0[0, 1, 0] = np.inf, -np.inf
    actual = engine_runs.run(case.lstm(gemm=gemm), case.inputs)
    expected = helpers.reference_forward(config, case.params, case.inputs)
    # Saturated gates are exact; the others are those of the finite tests.
    tolerance = 1e-5 if dtype == "float32" else FLOAT64_TOLERANCE
    for name in actual._fields:
        ours, theirs = getattr(actual, name), getattr(expected, name)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=name)
    assert units < 17 or 0 < np.isnan(actual.y).sum() < actual.y.size


def test_denormals_count_as_zero_and_stay_so_for_the_caller(isa: str, dtype: str) -> None:
    tiny = np.finfo(dtype).tiny
    case = case_of(helpers.Config(3, 5, 4, 20, 2, with_state=True, dtype=dtype), 11)
    x, (h_0, c_0), _ = case.inputs
    x[:, 1] = h_0[:, 2] = c_0[:, 3] = tiny / 3
    params = {n: p * (tiny if n.endswith("l0") else 1) for n, p in case.params.items()}
    case = case._replace(params=params)
    actual = engine_runs.run(case.lstm(), case.inputs)
    expected = helpers.reference_forward(case.config, params, case.inputs)
    tolerance = 1e-5 if dtype == "float32" else FLOAT64_TOLERANCE
    for name in actual._fields:
        ours, theirs = getattr(actual, name), getattr(expected, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)
    # Bits: arithmetic would neither make a denormal nor tell it from zero while they are flushed.
    denormals = np.arange(1, 65).astype(f"i{tiny.itemsize}").view(dtype)
    assert (denormals * np.ones(64, dtype)).tobytes() == denormals.tobytes()


def test_cell_is_one_step(isa: str, dtype: str) -> None:
    for batch, units, inputs in [(1, 1, 1), (3, 20, 7), (0, 4, 2), (17, 70, 40)]:
        case = case_of(helpers.Config(1, batch, inputs, units, with_state=True, dtype=dtype), 12)
        params = {name.removesuffix("_l0"): value for name, value in case.params.items()}
        h_0, c_0 = (part[0] for part in case.inputs.state or ())
        h, c = case.step()(case.inputs.x[0], (h_0, c_0))
        expected = reference.cell_forward(case.inputs.x[0], h_0, c_0, params)
        spreads = error_model.spread(*case)
        for actual, exact, spread in zip((h, c), expected, spreads[1:3], strict=True):
            assert actual.shape == (batch, units)
            assert (np.abs(actual - exact) <= error_model.LIMIT * spread[0]).all()
