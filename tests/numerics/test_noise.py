# SPDX-License-Identifier: BSD-3-Clause
"""Noise of LSTMs in training against the reference with the same seed, its masks as they show in
results, and the promise on bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions
from fastlstm.options import NOISE
from fastlstm.reference.noise import Noise
from fastlstm.reference.options import completed
from fastlstm.spec import BACKWARD, FORWARD
from support import option_runs
from support.option_checks import assert_close, assert_passes, assert_same_bits
from support.option_runs import Case

pytestmark = pytest.mark.sanitize
ALL = LSTMOptions(peepholes=True, **dict.fromkeys(NOISE, 0.3))
CASES = 24


def noisy_case(seed: int, dtype: str) -> Case:
    """A random case with noise of two kinds or more; of float32, no rounding turns its gradients
    over."""
    for attempt in range(1000):
        rng = np.random.default_rng((seed, attempt, 9))
        case = option_runs.random_case(1000 * seed + attempt + 7, dtype)
        norm = {"layer_norm": (None, "sums", "separate")[seed % 3], "norm_epsilon": 0.3}
        options = replace(case.options, **option_runs.random_noise(rng), **norm)
        case = replace(case, options=options, noise=2**40 + seed, steps=min(case.steps, 6))
        if dtype == "float64":
            return case
        case = replace(case, steps=min(case.steps, 4), batch=min(case.batch, 4))
        if option_runs.least_distance(case) > 1e-4:
            return case
    raise AssertionError("there is no such case")


@pytest.mark.parametrize("seed", range(CASES))
def test_agrees_with_the_reference(isa: str, dtype: str, seed: int) -> None:
    case = noisy_case(seed, dtype)
    lstm = option_runs.model(case)
    found = option_runs.core_results(case, lstm)
    assert_close(found, case)
    # In inference mode onto a tape, and a call in either mode.
    calm, i = replace(case, noise=None), case.inputs()
    wanted = option_runs.core_results(calm, lstm.eval())
    if dtype == "float64":
        assert_close(wanted, calm)
    for model in (lstm, lstm.train()):
        y, (h_n, c_n) = model(i.x, i.state, lengths=i.lengths)
        for name, value in {"y": y, "h_n": h_n, "c_n": c_n}.items():
            assert_same_bits(value, wanted[name], name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cases_cover_all_noise(dtype: str) -> None:
    cases = [noisy_case(seed, dtype) for seed in range(CASES)]
    for name in NOISE:
        with_it = [case for case in cases if getattr(case.options, name)]
        assert {case.bidirectional for case in with_it} == {False, True}, name
        assert {case.ragged for case in with_it} == {False, True}, name
        assert {bool(case.proj_size) for case in with_it} == {False, True}, name
        assert {case.options.peepholes for case in with_it} == {False, True}, name
        assert {case.options.layer_norm for case in with_it} == {None, "sums", "separate"}, name
        assert {case.options.proj_clip is None for case in with_it} == {False, True}, name


@pytest.mark.parametrize("sizes", [(60, 20, 9, 40, 1), (3, 130, 17, 70, 2), (9, 2, 200, 120, 1)])
def test_large_sizes(isa: str, sizes: tuple[int, ...]) -> None:
    """Blocked products, several shards and chunks."""
    for proj_size in (0, 30):
        flags = (True, True, True, True)
        case = Case(*sizes, *flags, ALL, "float64", 7, proj_size, 5)  # type: ignore[misc]
        assert_close(option_runs.core_results(case, option_runs.model(case)), case)


def test_with_dropout_between_layers(isa: str, dtype: str) -> None:
    case = Case(6, 5, 4, 33, 3, True, True, True, True, ALL, dtype, 1, 0, 11)
    lstm, i = option_runs.model(case, dropout=0.4), case.inputs()
    assert_passes(lstm, i, seed=11, dropout=0.4, noisy=True)


# ---- masks, as they show ----


def bare(options: dict[str, float], size: int, **blocks: np.ndarray) -> fastlstm.LSTM:
    """An LSTM without bias whose gates are 1 and whose candidate is its sum: c_t = c_{t-1} + g."""
    lstm = fastlstm.LSTM(
        size,
        size,
        bias=False,
        dtype="float64",
        options=LSTMOptions(
            forget_gate=False,
            gate_activation=("affine", 0.0, 1.0),
            candidate_activation="linear",
            output_activation="linear",
            **options,  # type: ignore[arg-type]
        ),
    )
    state = {name: np.zeros((4 * size, size)) for name in ("weight_ih_l0", "weight_hh_l0")}
    for name, block in blocks.items():
        state[f"{name}_l0"][2 * size : 3 * size] = block
    lstm.load_state_dict(state)
    return lstm.train()


@pytest.mark.parametrize("name", NOISE)
def test_masks_are_those_of_the_reference(isa: str, name: str) -> None:
    """Read off what comes out, to the bit; and as many are kept as should be."""
    size, steps, batch, p, seed = 39, 11, 39, 0.3, 2**63 + 5
    noise = Noise(completed({name: p}), seed)
    one = np.eye(size)
    x, state = (
        np.ones((steps, batch, size)),
        (np.ones((1, batch, size)), np.zeros((1, batch, size))),
    )
    weights = {"weight_hh" if name in ("variational_dropout", "weight_drop") else "weight_ih": one}
    if name == "weight_drop":  # h_0 of sequence b reads column b of W_hh
        x, state, weights = x[:1], (one[None], state[1]), {"weight_hh": np.ones((size, size))}
    if name == "variational_dropout":
        x = x[:1]
    if name == "zoneout_h":
        state = (np.full((1, batch, size), 0.5), state[1])
    y, (_, c_n), cells, _ = bare({name: p}, size, **weights).forward(
        x, state, return_cells=True, seed=seed
    )
    if name == "weight_drop":
        mask = noise.dropped(np.ones((4 * size, size)), 0)[2 * size : 3 * size].T
        shown = c_n[0]
    elif name == "variational_dropout":
        mask, shown = noise.mask(name, 0, (1, batch, size), np.float64)[0], c_n[0]
    elif name == "input_dropout":
        shown = cells[0]
        mask = noise.of_input(0, x)[0]
        np.testing.assert_allclose(cells, mask * np.arange(1, steps + 1)[:, None, None], rtol=1e-14)
    elif name == "recurrent_dropout":
        shown = np.diff(cells, axis=0, prepend=0)
        mask = noise.mask(name, 0, (steps, batch, size), np.float64)
    else:
        values = cells if name == "zoneout_c" else y
        first = state[1] if name == "zoneout_c" else state[0]
        before = np.concatenate([first, values[:-1]])
        mask = (noise.mask(name, 0, (steps, batch, size), np.float64) == 0).astype(float)
        shown = (values == before).astype(float)
    np.testing.assert_allclose(shown, mask, rtol=1e-13, atol=1e-13)
    kept = float(np.mean(shown != 0)) if "zoneout" not in name else 1 - float(shown.mean())
    count = shown.size
    assert abs(kept - (1 - p)) <= 5 * np.sqrt(p * (1 - p) / count)


# ---- bits ----


@pytest.mark.parametrize(("proj_size", "norm"), [(0, None), (21, None), (21, "separate")])
def test_threads_padding_and_batch(isa: str, dtype: str, proj_size: int, norm: str | None) -> None:
    """A sequence has its bits by its place in the batch, whoever comes behind it; its own gradients
    too, and those of parameters whatever the threads."""
    options = replace(ALL, layer_norm=norm, proj_clip=0.3 if norm else None)
    case = Case(9, 8, 7, 37, 2, True, True, True, True, options, dtype, 5, proj_size, 3)
    lstm, i = option_runs.model(case), case.inputs()
    whole = option_runs.core_results(case, lstm)
    for threads in (2, 3):
        again = option_runs.core_results(case, lstm, num_threads=threads)
        for name, value in whole.items():
            assert_same_bits(again[name], value, (threads, name))
    assert i.lengths is not None
    assert i.state is not None
    few, steps = 5, int(i.lengths[:5].max())
    part = slice(0, few)
    y, (h_n, c_n), tape = lstm.forward(
        i.x[:steps, part],
        tuple(np.ascontiguousarray(s[:, part]) for s in i.state),  # type: ignore[arg-type]
        lengths=i.lengths[part],
        seed=3,
    )
    assert_same_bits(y, whole["y"][:steps, part])
    assert_same_bits(h_n, whole["h_n"][:, part])
    assert_same_bits(c_n, whole["c_n"][:, part])
    states = tuple(np.ascontiguousarray(d[:, part]) for d in i.dstate)
    grads = lstm.backward(tape, i.dy[:steps, part], states, dcells=i.dcells[:steps, part])  # type: ignore[arg-type]
    assert grads.x is not None
    assert_same_bits(grads.x, whole["dx"][:steps, part])
    assert_same_bits(grads.h_0, whole["dh_0"][:, part])
    assert_same_bits(grads.c_0, whole["dc_0"][:, part])


@pytest.mark.parametrize("split", [(2, 1, 1), (1, 1, 2)])
@pytest.mark.parametrize("ahead", [False, True])
def test_every_split(isa: str, split: tuple[int, int, int], ahead: bool) -> None:
    case = Case(7, 6, 5, 70, 2, True, True, True, True, ALL, "float32", 5, 40, 3)
    lstm, i = option_runs.model(case), case.inputs()
    y, (h_n, c_n), tape = lstm.forward(i.x, i.state, lengths=i.lengths, seed=3)
    assert tape._record is not None
    engine, memory = tape._record.engine, fastlstm._core.Block(tape.nbytes)
    engine.force(*split, ahead, "train")
    found = [np.full_like(a, np.nan) for a in (y, h_n, c_n)]
    assert i.state is not None
    engine.forward(
        i.x, found[0], *i.state, *found[1:], None, i.lengths, 4, False, memory, 0.0, 3, noisy=True
    )
    for actual, expected in zip(found, (y, h_n, c_n), strict=True):
        assert_same_bits(actual, expected)


def test_same_seed_same_bits_and_others_differ() -> None:
    case = Case(5, 4, 6, 9, 2, True, False, False, False, ALL, "float32", 1, 0, 3)
    i = case.inputs()
    for name in NOISE:
        options = LSTMOptions(**{name: 0.5})  # type: ignore[arg-type]
        lstm = option_runs.model(replace(case, options=options))
        y = lstm.forward(i.x, seed=3)[0]
        assert_same_bits(lstm.forward(i.x, seed=3)[0], y)
        assert not np.array_equal(lstm.forward(i.x, seed=4)[0], y), name
        assert not np.array_equal(lstm.forward(i.x, seed=3 + 2**32)[0], y), name


def test_odd_values_stay_in_their_sequence(isa: str) -> None:
    case = Case(4, 3, 6, 9, 1, True, False, False, False, ALL, "float32", 1, 0, 3)
    lstm, i = option_runs.model(case), case.inputs()
    clean = lstm.forward(i.x, seed=3)[0]
    x = i.x.copy()
    x[1, 1] = np.nan
    y = lstm.forward(x, seed=3)[0]
    assert np.isnan(y[1:, 1]).any()
    assert_same_bits(y[:, [0, 2]], clean[:, [0, 2]])
    assert_same_bits(y[:1], clean[:1])


def test_blocks_count_normalisation_and_noise(isa: str) -> None:
    """A call is stopped between blocks, of 20 ms by the estimate. Most of it is these where layers
    are small: a row's norm takes some 200 ns, and the masks of a vector 300."""

    def block(purpose: str, **options: Any) -> dict[str, Any]:
        lstm = fastlstm.LSTM(4, 8, seed=0, options=LSTMOptions(peepholes=True, **options))
        return lstm._engine(FORWARD | BACKWARD).plan(10**6, 64, 1, purpose)

    noise = dict.fromkeys(NOISE, 0.3)
    for purpose, cost, options in (
        ("infer", 200, {"layer_norm": "sums"}),
        ("train", 200, {"layer_norm": "sums"}),
        ("train", 300, noise),
        ("train", 500, {"layer_norm": "sums", **noise}),
    ):
        plan = block(purpose, **options)
        rows = 64 // plan["row_groups"]
        assert 0 < plan["block_steps"] * rows * cost <= 2e7, (purpose, options)
    assert block("infer", **noise)["block_steps"] == block("infer")["block_steps"]
