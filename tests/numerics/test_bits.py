# SPDX-License-Identifier: BSD-3-Clause
"""The promise on bits: they depend on the sequence and the model, on nothing else.

Not on its batch nor its place there, not on threads, padding, or how it was cut up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from support import helpers
from support.classes import CLASSES
from support.engine_runs import (
    Case,
    Outputs,
    assert_all_same_bits,
    assert_same_bits,
    case_of,
    random_case,
    rows_of,
    rows_of_outputs,
    run,
)

pytestmark = pytest.mark.sanitize

# Every kind of panel on every instruction set: narrow ones of one and two vectors, alone and after
# whole ones; two chains of sums (H <= 24) and one; all gates in registers and not.
HIDDEN_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 20, 24, 25, 28, 31, 32, 33, 40, 48, 49, 52)
HIDDEN_SIZES += (56, 57, 60, 64, 65, 96, 100, 130)
BATCHES = (*range(1, 21), 33, 64)


# ---- batch ----


@pytest.mark.parametrize("units", HIDDEN_SIZES)
def test_any_batch_and_place(isa: str, dtype: str, cell: str, units: int) -> None:
    rng = np.random.default_rng(units)
    inputs = (1, 3, 9, 20)[units % 4]
    config = helpers.Config(
        6,
        64,
        inputs,
        units,
        num_layers=1 + units % 2,
        bidirectional=units % 3 == 0,
        with_state=True,
        lengths=tuple(rng.integers(0, 7, 64).tolist()) if units % 5 == 0 else None,
        dtype=dtype,
        cell=cell,
    )
    case = case_of(config, units)
    model = case.model()
    whole = run(model, case.inputs, num_threads=1)
    for batch in BATCHES:
        rows = sorted(rng.choice(64, batch, replace=False).tolist())
        for order in (rows, rows[::-1]) if batch < 5 else (rng.permutation(rows).tolist(),):
            part = run(model, rows_of(case.inputs, order), num_threads=1)
            assert_all_same_bits(part, rows_of_outputs(whole, order), f"{batch} rows of {config}")


def test_registers_hold_a_small_layer_of_one_row_only(isa: str, dtype: str) -> None:
    # Guards the sizes above: both kernels of one row must be met.
    lanes = {"avx512": 64, "avx2": 32, "generic": 16}[isa] // np.dtype(dtype).itemsize
    vectors = []
    for units in HIDDEN_SIZES:
        plan = fastlstm.LSTM(1, units, dtype=dtype)._engine().plan(6, 1, 1)
        assert plan["lanes"] == lanes
        vectors.append(4 * plan["full"] + plan["remainder"])
    assert min(vectors) <= 2
    assert max(vectors) > 14


@pytest.mark.parametrize("units", [3, 20, 33, 60, 130])
def test_projection_ahead_or_inside_the_step(isa: str, dtype: str, units: int) -> None:
    case = case_of(helpers.Config(40, 64, 17, units, 2, bidirectional=True, dtype=dtype), units)
    engine = (lstm := case.lstm())._engine()
    assert engine.plan(40, 1, 1)["project_steps"] > engine.plan(1, 1, 1)["project_steps"] == 0
    alone = [run(lstm, rows_of(case.inputs, [row]), num_threads=1) for row in (0, 63)]
    for ahead in (False, True):
        engine.force(1, 1, 1, ahead)
        assert (engine.plan(40, 64, 1)["project_steps"] > 0) == ahead
        whole = run(lstm, case.inputs)
        for at, outputs in enumerate(alone):
            assert_all_same_bits(outputs, rows_of_outputs(whole, [63 * at]))


# ---- threads ----

SPLIT_CONFIGS = [
    helpers.Config(12, 1, 20, 256),
    helpers.Config(12, 3, 20, 200, 2, with_state=True, lengths=(7, 12, 0)),
    helpers.Config(20, 64, 9, 32, 2),
    helpers.Config(40, 37, 9, 17, lengths=tuple(range(4, 41))),
    helpers.Config(30, 50, 3, 1),
    helpers.Config(40, 1, 8, 64, bidirectional=True),
    helpers.Config(40, 9, 20, 70, 3, bidirectional=True, lengths=(40, 1, 0, 7, 39, 30, 30, 31, 2)),
    helpers.Config(10, 2, 20, 300, 2, bidirectional=True, with_state=True),
    helpers.Config(10, 8, 20, 330, 2),
    helpers.Config(15, 2, 50, 130),
    helpers.Config(40, 64, 9, 2, 2, bidirectional=True),
    helpers.Config(30, 8, 9, 90, bidirectional=True),
]


def test_any_number_of_threads(isa: str, dtype: str) -> None:
    seen = set()
    for seed, config in enumerate(SPLIT_CONFIGS):
        case = case_of(replace(config, dtype=dtype), seed)
        alone = run(case.lstm(), case.inputs, num_threads=1)
        for threads in (2, 3, 4, 5):
            lstm = case.lstm()  # anew: a model whose team came late takes one thread for a while
            plan = lstm._engine().plan(config.steps, config.batch, threads)
            split = tuple(plan[k] for k in ("dir_groups", "row_groups", "unit_groups"))
            assert np.prod(split) == plan["threads"] <= threads
            seen.add(tuple(groups > 1 for groups in split))
            team = run(lstm, case.inputs, num_threads=threads)
            assert_all_same_bits(team, alone, f"{threads} threads, split {split}, of {config}")
    singles = {(True, False, False), (False, True, False), (False, False, True)}
    assert singles <= seen, "no shape was split by directions, by rows, or by units alone"
    assert {(True, True, False), (True, False, True)} <= seen, "no shape was split in two ways"


@pytest.mark.parametrize("limit", ["1", "2", "3"])
def test_fewer_threads_than_planned(limit: str) -> None:
    # The run-time may give fewer than asked for; the caller then does it all.
    script = (
        "import hashlib, sys, numpy as np, fastlstm\n"
        "for bidirectional, batch, units in ((False, 1, 256), (False, 64, 33), (True, 5, 128)):\n"
        "    lstm = fastlstm.LSTM(9, units, 2, bidirectional=bidirectional, seed=0)\n"
        "    x = np.random.default_rng(0).standard_normal((30, batch, 9)).astype('f4')\n"
        "    plan = lstm._engine().plan(30, batch, 4)\n"
        "    assert plan['threads'] == 4, plan\n"
        "    lengths = np.arange(batch) % 31\n"
        "    y, (h, c) = lstm(x, lengths=lengths, num_threads=int(sys.argv[1]))\n"
        "    print(hashlib.sha256(y.tobytes() + h.tobytes() + c.tobytes()).hexdigest())\n"
    )

    def outputs(threads: int, environment: dict[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(threads)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            cwd=Path(fastlstm.__file__).parents[1],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert outputs(4, {"OMP_THREAD_LIMIT": limit}) == outputs(1, {})


def test_calls_from_many_threads_at_once(isa: str, dtype: str, cell: str) -> None:
    # Large enough that the calls let go of the GIL, of changing sizes that share one workspace.
    case = case_of(
        helpers.Config(25, 12, 30, 100, 2, bidirectional=True, dtype=dtype, cell=cell), 1
    )
    model = case.model()
    inputs = [rows_of(case.inputs, slice(0, batch)) for batch in (12, 1, 7, 3)]
    expected = [run(model, i, num_threads=1) for i in inputs]

    def work(caller: int) -> None:
        for turn in range(12):
            i = (caller + turn) % 4
            assert_all_same_bits(run(model, inputs[i], num_threads=1 + turn % 2), expected[i])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


# ---- all of it at random ----


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(400))
def test_random_configurations(isa: str, seed: int) -> None:
    rng = np.random.default_rng(10_000 + seed)
    config = replace(helpers.random_config(rng), batch_first=False)
    case = Case(config, helpers.random_params(config, rng), helpers.random_inputs(config, rng))
    lstm = case.lstm()
    x, state, lengths = case.inputs
    whole = run(lstm, case.inputs, num_threads=1)
    for threads in rng.choice(np.arange(2, 9), 2, replace=False).tolist():
        assert_all_same_bits(run(case.lstm(), case.inputs, num_threads=threads), whole, config)
    for _ in range(3):
        rows = rng.permutation(config.batch)[: rng.integers(1, config.batch + 1)].tolist()
        part = run(lstm, rows_of(case.inputs, rows), num_threads=int(rng.integers(1, 4)))
        assert_all_same_bits(part, rows_of_outputs(whole, rows), config)
    if not config.bidirectional:
        at = int(rng.integers(0, config.steps + 1))
        left = np.array(lengths if lengths is not None else [config.steps] * config.batch)
        first = run(lstm, helpers.Inputs(x[:at], state, tuple(np.minimum(left, at).tolist())))
        rest = tuple(np.maximum(left - at, 0).tolist())
        second = run(lstm, helpers.Inputs(x[at:], (first.h_n, first.c_n), rest))
        joined = Outputs(
            np.concatenate([first.y, second.y]),
            second.h_n,
            second.c_n,
            np.concatenate([first.cells, second.cells]),
        )
        assert_all_same_bits(joined, whole, config)


# ---- padding ----


@pytest.mark.parametrize("units", [1, 5, 20, 33, 60, 130])
def test_padded_or_ragged(isa: str, dtype: str, cell: str, units: int) -> None:
    lengths = (9, 0, 4, 9, 1, 8, 3, 3, 6)
    config = helpers.Config(
        9, 9, 7, units, 2, True, False, True, True, lengths=lengths, dtype=dtype, cell=cell
    )
    case = case_of(config, units)
    model = case.model()
    ragged = run(model, case.inputs)
    for row, length in enumerate(lengths):
        one = rows_of(case.inputs, [row])
        trimmed = run(model, one._replace(x=one.x[:length], lengths=None))
        whole = rows_of_outputs(ragged, [row])
        for name in ("y", "cells"):
            ours = getattr(whole, name)
            if ours is not None:
                past = np.zeros_like(ours[length:])
                assert_same_bits(ours[:length], getattr(trimmed, name), f"{name} of row {row}")
                assert_same_bits(ours[length:], past, f"padding of row {row}")
        states = [one._replace(y=None, cells=None) for one in (whole, trimmed)]
        assert_all_same_bits(*states, f"row {row}")


def test_lengths_of_all_steps_are_no_lengths(isa: str, dtype: str, cell: str) -> None:
    case = case_of(helpers.Config(7, 5, 3, 30, 2, bidirectional=True, dtype=dtype, cell=cell), 1)
    model = case.model()
    assert_all_same_bits(
        run(model, case.inputs._replace(lengths=(7,) * 5)), run(model, case.inputs)
    )


def test_forward_direction_of_padded_input(isa: str, dtype: str, cell: str) -> None:
    case = case_of(helpers.Config(9, 6, 5, 40, 2, dtype=dtype, cell=cell), 2)
    model = case.model()
    padded = run(model, case.inputs)
    lengths = (2, 9, 0, 5, 7, 1)
    ragged = run(model, case.inputs._replace(lengths=lengths))
    for row, length in enumerate(lengths):
        assert_same_bits(ragged.y[:length, row], padded.y[:length, row])


# ---- chunks and steps ----


@pytest.mark.parametrize("units", [1, 4, 16, 20, 33, 60, 130])
@pytest.mark.parametrize("batch", [1, 3, 13])
def test_whole_in_chunks_or_step_by_step(isa: str, dtype: str, units: int, batch: int) -> None:
    config = helpers.Config(
        23, batch, 6, units, 1 + units % 3, with_state=True, bias=units != 16, dtype=dtype
    )
    case = case_of(config, units + batch)
    lstm = case.lstm()
    x, state, _ = case.inputs
    whole = run(lstm, case.inputs)
    for cuts in ([*range(24)], [0, 10, 20, 23], [0, 1, 1, 5, 6, 22, 23], [0, 23]):
        parts = list(pairwise(cuts))
        outs, last = [], state
        for a, b in parts:
            outs.append(run(lstm, helpers.Inputs(x[a:b], last, None)))
            last = outs[-1].h_n, outs[-1].c_n
        joined = Outputs(
            np.concatenate([o.y for o in outs]), *last, np.concatenate([o.cells for o in outs])
        )
        assert_all_same_bits(joined, whole, f"calls {cuts}")
        for threads in (1, 2):
            stream = case.lstm().stream(batch, num_threads=threads)
            stream.state = state
            y = np.concatenate([stream(x[a:b]) for a, b in parts])
            assert_same_bits(y, whole.y, f"stream {cuts}")
            for ours, theirs in zip(stream.state, whole[1:3], strict=True):
                assert_same_bits(ours, theirs, f"state of stream {cuts}")
    stream.reset()  # forgets all
    y = np.stack([stream(x_t) for x_t in x])
    assert_same_bits(y, run(lstm, case.inputs._replace(state=None)).y, "single steps")


def test_stream_keeps_what_the_caller_keeps(isa: str) -> None:
    case = case_of(helpers.Config(40, 2, 5, 12), 1)
    lstm = case.lstm()
    stream = lstm.stream(2)
    kept = [stream(x_t) for x_t in case.inputs.x[:20]]
    views = [stream(x_t)[1:, ::2] for x_t in case.inputs.x[20:30]]
    for x_t in case.inputs.x[30:]:
        stream(x_t)
    whole = run(lstm, case.inputs).y
    assert_same_bits(np.stack(kept), whole[:20])
    assert_same_bits(np.stack(views), whole[20:30, 1:, ::2])


@pytest.mark.parametrize("units", [1, 8, 17, 33, 64])
@pytest.mark.parametrize("cell", CLASSES)
def test_cell_by_cell(isa: str, dtype: str, cell: str, units: int) -> None:
    config = helpers.Config(12, 3, 5, units, with_state=True, dtype=dtype, cell=cell)
    case, of = case_of(config, units), CLASSES[cell]
    step, whole = case.step(), run(case.model(), case.inputs)
    state = tuple(part[0] for part in case.inputs.state or ())[: 1 + of.has_c]
    for t, x_t in enumerate(case.inputs.x):
        alone = of.stepped(step, x_t[1], tuple(part[1] for part in state))
        state = of.stepped(step, x_t, state)
        for part, one, expected in zip(state, alone, (whole.y, whole.cells), strict=False):
            assert_same_bits(part, expected[t])
            assert_same_bits(one, part[1])


# ---- layers and directions ----


@pytest.mark.parametrize("units", [2, 16, 40, 130])
def test_reverse_direction_is_the_forward_one_of_the_reversed_sequence(
    isa: str, dtype: str, units: int
) -> None:
    case = case_of(helpers.Config(8, 5, 6, units, bidirectional=True, dtype=dtype), units)
    both = run(case.lstm(), case.inputs)
    params = {n.removesuffix("_reverse"): p for n, p in case.params.items() if "reverse" in n}
    one = case._replace(config=replace(case.config, bidirectional=False), params=params)
    reversed_x = case.inputs._replace(x=case.inputs.x[::-1])
    reverse = run(one.lstm(), reversed_x)
    assert_same_bits(both.y[:, :, units:], reverse.y[::-1])
    assert_same_bits(both.cells[:, :, units:], reverse.cells[::-1])
    assert_same_bits(both.h_n[1:], reverse.h_n)
    assert_same_bits(both.c_n[1:], reverse.c_n)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_stack_is_its_layers_one_by_one(
    isa: str, dtype: str, cell: str, bidirectional: bool
) -> None:
    config = helpers.Config(
        11, 4, 6, 19, 3, bidirectional=bidirectional, lengths=(11, 5, 0, 7), dtype=dtype, cell=cell
    )
    case = case_of(config, 5)
    stack = run(case.model(), case.inputs)
    x = case.inputs.x
    for layer in range(3):
        params = {
            n.replace(f"_l{layer}", "_l0"): p for n, p in case.params.items() if f"_l{layer}" in n
        }
        one = Case(replace(config, input_size=x.shape[-1], num_layers=1), params, case.inputs)
        x = run(one.model(), case.inputs._replace(x=x)).y
    assert_same_bits(x, stack.y)


# ---- instruction sets ----


def outputs_on(isa: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    monkeypatch.setattr("fastlstm.runtime._isa", isa)
    return run(case.lstm(), case.inputs)


def test_avx2_and_avx512_agree(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # More than is promised: both fuse every multiply-add, sum in the same order, and scale by 2^n
    # exactly wherever it makes a difference.
    if not {"avx2", "avx512"} <= set(fastlstm.available_isas()):
        pytest.skip("this machine lacks AVX2 or AVX-512")
    for seed in range(60):
        case = random_case(seed, dtype=dtype)
        avx2 = outputs_on("avx2", case, monkeypatch)
        assert_all_same_bits(outputs_on("avx512", case, monkeypatch), avx2, case.config)


def test_generic_differs_as_it_fuses_nothing(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    best = fastlstm.available_isas()[0]
    if best == "generic":
        pytest.skip("this machine has the generic kernels only")
    differ = 0
    for seed in range(10):
        case = random_case(seed, dtype=dtype)
        ours = outputs_on("generic", case, monkeypatch)
        differ += ours.y.tobytes() != outputs_on(best, case, monkeypatch).y.tobytes()
    assert differ > 5


def test_comparing_bits_sees_one_bit() -> None:
    a = np.ones((2, 3), np.float32)
    b = a.copy()
    assert_same_bits(a, b)
    b[1, 2] = np.nextafter(b[1, 2], 2)
    with pytest.raises(AssertionError, match=r"1 of 6 .* at \(1, 2\)"):
        assert_same_bits(a, b)
    with pytest.raises(AssertionError):
        assert_same_bits(np.zeros(1), -np.zeros(1))
