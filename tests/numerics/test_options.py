# SPDX-License-Identifier: BSD-3-Clause
"""LSTM with options against the reference, and the promise on its bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions, reference
from fastlstm.options import ACTIVATIONS, LAYER_NORMS
from support import option_runs
from support.option_checks import assert_close, assert_passes, assert_same_bits
from support.option_runs import Case

FULL = LSTMOptions(
    peepholes=True, coupled=True, gate_clip=2.0, cell_clip=1.5, gate_activation="hard_sigmoid"
)
VARIANTS = [
    LSTMOptions(peepholes=True),
    FULL,
    LSTMOptions(
        peepholes=True,
        forget_gate=False,
        cell_clip=0.8,
        candidate_activation=("elu", 0.5),
        output_activation="softplus",
    ),
    LSTMOptions(gate_activation=("scaled_tanh", 1.2, 0.7), output_activation="linear"),
    LSTMOptions(peepholes=True, gate_clip=2.0, cell_clip=1.5, layer_norm="sums"),
    LSTMOptions(peepholes=True, coupled=True, layer_norm="separate", norm_epsilon=1e-3),
    LSTMOptions(peepholes=True, zoneout_c=0.3, zoneout_h=0.2),
]
every_variant = pytest.mark.parametrize("options", VARIANTS, ids=str)


@pytest.mark.parametrize("seed", range(110))
def test_agrees_with_the_reference(isa: str, dtype: str, seed: int) -> None:
    case = option_runs.clear_case(seed, dtype)
    lstm = option_runs.model(case)
    found = option_runs.core_results(case, lstm)
    assert_close(found, case)
    i = case.inputs()
    y, (h_n, c_n) = lstm(i.x, i.state, lengths=i.lengths)
    for name, value in {"y": y, "h_n": h_n, "c_n": c_n}.items():
        assert_same_bits(value, found[name], name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cases_cover_every_option(dtype: str) -> None:
    cases = [option_runs.clear_case(seed, dtype) for seed in range(110)]
    for option in ("bias", "bidirectional", "with_state", "ragged"):
        assert {getattr(case, option) for case in cases} == {False, True}, option
    for option in ("peepholes", "coupled", "forget_gate"):
        assert {getattr(case.options, option) for case in cases} == {False, True}, option
    assert {case.options.layer_norm for case in cases} == {None, *LAYER_NORMS}
    assert sum(case.options.proj_clip is not None for case in cases) > 5
    used = [case.options._activations() for case in cases]
    for place in range(3):
        assert {parts[place][0] for parts in used} == set(ACTIVATIONS), place


@pytest.mark.parametrize("sizes", [(60, 20, 9, 40, 1), (3, 130, 17, 70, 2), (9, 2, 200, 120, 1)])
def test_large_sizes(isa: str, dtype: str, sizes: tuple[int, ...]) -> None:
    """Blocked products, several shards and chunks, a tape past the caches; gradients of a smooth
    variant, since with corners some sum of so many is always next to one."""
    smooth = LSTMOptions(peepholes=True, coupled=True, candidate_activation="softsign")
    assert_close_large = Case(*sizes, True, True, True, True, smooth, dtype, 7)  # type: ignore[arg-type]
    lstm = option_runs.model(assert_close_large)
    assert_close(option_runs.core_results(assert_close_large, lstm), assert_close_large)


def test_dropout(isa: str, dtype: str) -> None:
    """Between layers, in training mode, by the masks of the reference."""
    options = LSTMOptions(peepholes=True, cell_clip=50.0, candidate_activation="softsign")
    case = Case(6, 5, 4, 33, 3, True, True, True, True, options, dtype, 1)
    lstm, i = option_runs.model(case, dropout=0.4).train(), case.inputs()
    assert_passes(lstm, i, seed=11, dropout=0.4)


def test_gradients_are_added_where_asked(isa: str) -> None:
    case = Case(5, 3, 4, 9, 2, True, True, True, True, FULL, "float64", 3)
    lstm, i = option_runs.model(case), case.inputs()
    _, _, tape = lstm.forward(i.x, i.state, lengths=i.lengths)
    grads = lstm.backward(tape, i.dy)
    into = {name: np.ones_like(value) for name, value in grads.params.items()}
    assert lstm.backward(tape, i.dy, into=into, input_grad=False).x is None
    for name, value in grads.params.items():
        np.testing.assert_allclose(into[name], 1 + value, rtol=0, atol=1e-12)


def test_what_has_no_effect_has_no_gradient(isa: str) -> None:
    """Where f is no gate of its own, its block of weights and its peephole."""
    for options in (LSTMOptions(coupled=True, peepholes=True), VARIANTS[2]):
        case = Case(5, 3, 4, 9, 1, True, False, True, False, options, "float64", 3)
        lstm, i = option_runs.model(case), case.inputs()
        y, _, tape = lstm.forward(i.x, i.state)
        grads = lstm.backward(tape, i.dy).params
        state = dict(lstm.state_dict())
        for name, value in grads.items():
            block = slice(9, 18) if value.shape[0] == 36 else slice(0)
            if name.startswith("weight_cf"):
                block = slice(None)
            assert not value[block].any(), name
            other = state[name].copy()
            other[block] += 1
            state[name] = other
        lstm.load_state_dict(state)
        assert_same_bits(lstm(i.x, i.state)[0], y)


def test_an_options_object_without_effect_is_the_plain_lstm(isa: str, dtype: str) -> None:
    """To the bit, gradients too: it takes the plain LSTM's kernels."""
    plain = fastlstm.LSTM(7, 33, 2, dtype=dtype, seed=0)
    x = np.random.default_rng(0).standard_normal((5, 4, 7)).astype(dtype)
    for options in (LSTMOptions(), LSTMOptions(forget_bias=1.0), {"gate_activation": "sigmoid"}):
        lstm = fastlstm.LSTM(7, 33, 2, dtype=dtype, seed=0, options=options)
        lstm.load_state_dict(plain.state_dict())
        assert lstm._spec.cell == "lstm"
        assert_same_bits(lstm(x)[0], plain(x)[0])
        assert lstm.explain(5, 4).splitlines()[1:] == plain.explain(5, 4).splitlines()[1:]


def test_the_general_cell_without_options_is_the_plain_lstm(isa: str, dtype: str) -> None:
    """But for rounding: clips that never bite make it general."""
    wide = Case(9, 5, 6, 21, 2, True, True, True, True, LSTMOptions(cell_clip=1e6), dtype, 3)
    found = option_runs.core_results(wide, option_runs.model(wide))
    plain = replace(wide, options=LSTMOptions())
    assert_close(found, plain)
    assert_close(option_runs.core_results(plain, option_runs.model(plain)), wide)


# ---- bits ----


@every_variant
@pytest.mark.parametrize("hidden", [1, 5, 16, 33, 70])
def test_stream_in_chunks_is_the_whole(
    isa: str, dtype: str, options: LSTMOptions, hidden: int
) -> None:
    case = Case(23, 3, 6, hidden, 2, True, False, False, False, options, dtype, hidden)
    lstm, i = option_runs.model(case), case.inputs()
    y, (h_n, c_n) = lstm(i.x)
    for sizes in ([1] * 23, [1, 2, 3, 17], [22, 1]):
        stream = lstm.stream(3)
        parts, at = [], 0
        for size in sizes:
            part = stream(i.x[at]) if size == 1 else stream(i.x[at : at + size])
            parts.append(part.reshape(size, 3, hidden).copy())
            at += size
        assert_same_bits(np.concatenate(parts), y, sizes)
        assert_same_bits(stream.state[0], h_n, sizes)
        assert_same_bits(stream.state[1], c_n, sizes)


@every_variant
def test_a_sequence_alone_and_in_a_batch(isa: str, dtype: str, options: LSTMOptions) -> None:
    """Forward, and the gradients that are a sequence's own."""
    case = Case(9, 8, 7, 37, 2, True, True, True, True, options, dtype, 5, 21)
    lstm, i = option_runs.model(case), case.inputs()
    assert i.state is not None
    assert i.lengths is not None
    y, (h_n, c_n), tape = lstm.forward(i.x, i.state, lengths=i.lengths)
    whole = lstm.backward(tape, i.dy, i.dstate)
    assert whole.x is not None
    for b in range(case.batch):
        steps = int(i.lengths[b])
        state = tuple(np.ascontiguousarray(part[:, b]) for part in i.state)
        alone = lstm.forward(i.x[:steps, b], state)  # type: ignore[arg-type]
        assert_same_bits(alone[0], y[:steps, b])
        assert_same_bits(alone[1][0], h_n[:, b])
        assert_same_bits(alone[1][1], c_n[:, b])
        assert not y[steps:, b].any()
        grads = lstm.backward(alone[2], i.dy[:steps, b], [part[:, b] for part in i.dstate])  # type: ignore[arg-type]
        assert grads.x is not None
        assert_same_bits(grads.x, whole.x[:steps, b])
        assert_same_bits(grads.h_0, whole.h_0[:, b])
        assert_same_bits(grads.c_0, whole.c_0[:, b])


@every_variant
def test_any_number_of_threads(isa: str, dtype: str, options: LSTMOptions) -> None:
    """Sizes at which more than one thread is used, also between the hidden units."""
    for sizes, proj_size in (((30, 24, 64, 100, 2), 0), ((12, 2, 64, 300, 1), 70)):
        case = Case(*sizes, True, True, True, True, options, dtype, 5, proj_size)  # type: ignore[arg-type]
        lstm = option_runs.model(case)
        results = [option_runs.core_results(case, lstm, num_threads=n) for n in (1, 2, 3)]
        for other in results[1:]:
            for name, value in results[0].items():
                assert_same_bits(other[name], value, name)


@pytest.mark.parametrize("seed", range(10))
def test_instruction_sets_agree(dtype: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2 and AVX-512 have the same operations, so the same bits."""
    if not {"avx2", "avx512"} <= set(fastlstm.available_isas()):
        pytest.skip("needs AVX2 and AVX-512")
    case = option_runs.random_case(seed, dtype)
    results = []
    for name in ("avx2", "avx512"):
        monkeypatch.setattr("fastlstm.runtime._isa", name)
        y, state = option_runs.model(case)(case.inputs().x, lengths=case.inputs().lengths)
        results.append((y, *state))
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


def test_blas_projections(isa: str, dtype: str) -> None:
    pytest.importorskip("scipy")
    for options in (VARIANTS[0], *VARIANTS[-2:]):
        case = Case(7, 5, 6, 21, 2, True, True, True, True, options, dtype, 3)
        assert_close(option_runs.core_results(case, option_runs.model(case, gemm="blas")), case)


# ---- values that are no numbers, or large ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_odd_values_travel(isa: str, dtype: str, name: str, value: float) -> None:
    """As in the reference, and in the sequence that has them only."""
    options = LSTMOptions(peepholes=True, candidate_activation=name, output_activation=name)
    case = Case(3, 4, 2, 9, 1, True, False, False, False, options, dtype, 2)
    lstm, i = option_runs.model(case), case.inputs()
    clean = lstm(i.x)[0]
    x = i.x.copy()
    x[1, 2, 1] = value
    y = lstm(x)[0]
    expected = reference.lstm_forward(x, i.params, options=options.config(), dtype=dtype).y
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert np.array_equal(np.isinf(y), np.isinf(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(y[finite], expected[finite], rtol=2e-4, atol=2e-5)
    rest = [0, 1, 3]
    assert_same_bits(y[:, rest], clean[:, rest])
    assert_same_bits(y[:1], clean[:1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_one_by_one(isa: str, dtype: str, name: str) -> None:
    """What h shows of b(z) with open gates, over all magnitudes, within bounds that
    kernels/activations.inc.h states; doubled, for the roundings around it."""
    options = LSTMOptions(
        forget_gate=False,
        gate_activation=("affine", 0.0, 1.0),
        candidate_activation=name,
        output_activation="linear",
    )
    lstm = fastlstm.LSTM(1, 1, bias=False, dtype=dtype, options=options)
    ones = {key: np.zeros_like(value) for key, value in lstm.state_dict().items()}
    ones["weight_ih_l0"][:] = 1
    lstm.load_state_dict(ones)
    sizes = np.concatenate([np.geomspace(1e-6, 80, 400), np.linspace(0, 8, 200)])
    z = np.concatenate([sizes, -sizes]).astype(dtype)
    y = lstm(z[None, :, None])[0][0, :, 0]
    expected = reference.activations.activation(name)[0](z.astype(np.float64))
    bound = {"float32": 2.4e-7, "float64": 5e-16}[dtype]
    error = np.abs(y - expected) / np.maximum(1, np.abs(expected))
    assert error.max() <= bound, z[error.argmax()]


@pytest.mark.parametrize("name", ["gate_clip", "cell_clip", "proj_clip"])
def test_a_clip_below_normal_numbers_clips(isa: str, dtype: str, name: str) -> None:
    """Kernels flush such a number to zero, which is not the zero that means no clip."""
    proj_size = 2 if name == "proj_clip" else 0
    lstm = fastlstm.LSTM(2, 3, dtype=dtype, seed=0, proj_size=proj_size, options={name: 1e-310})
    y, (_, c_n), tape = lstm.forward(np.ones((3, 2, 2), dtype))
    tiny = np.finfo(dtype).tiny
    assert np.abs(y).max() <= tiny
    assert proj_size or np.abs(c_n).max() <= tiny
    assert np.abs(lstm.backward(tape, np.ones_like(y)).x).max() <= tiny


def test_a_product_of_alpha_and_beta_may_overflow(isa: str) -> None:
    options = {"candidate_activation": ("scaled_tanh", 1e20, 1e20)}
    lstm = fastlstm.LSTM(2, 3, seed=0, options=options)
    y, _, tape = lstm.forward(np.ones((3, 1, 2), np.float32))
    assert np.isfinite(lstm.backward(tape, np.ones_like(y)).x).all()
