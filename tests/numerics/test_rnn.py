# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.RNN and GRU against the reference and PyTorch, and the promise on their bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastlstm
from support import rnn_runs
from support.rnn_runs import KINDS, TORCH_KINDS, Case

every_kind = pytest.mark.parametrize("kind", KINDS)


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: object = "") -> None:
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes(), what


def assert_close(actual: dict[str, Any], expected: dict[str, Any], case: Case) -> None:
    """A sum of K numbers is off by eps sqrt(K) of their size or so, and hands its error on; K is
    I + H for outputs, and T B more for gradients of parameters. Measured for NumPy in float32 over
    the cases here: 0.9 sqrt(K) eps of the largest number; the rest is for what tanh is off by."""
    assert actual.keys() == expected.keys()
    eps = np.finfo(case.dtype).eps
    for name, wanted in expected.items():
        count = case.input_size + case.hidden_size + 2
        count += case.steps * case.batch if name.startswith("d") else 0
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        assert actual[name].dtype == case.dtype
        np.testing.assert_allclose(
            actual[name],
            wanted,
            rtol=0,
            atol=6 * np.sqrt(count) * eps * scale,
            err_msg=f"{name} {case}",
        )


# Twenty of a GRU take as long as forty of an RNN.
@pytest.mark.parametrize(
    ("kind", "seed"),
    [(k, seed) for k in KINDS for seed in range(8 if k == "gru_reset_before" else 20)],
)
def test_agrees_with_the_reference(isa: str, dtype: str, kind: str, seed: int) -> None:
    case = rnn_runs.clear_case(seed, kind, dtype)
    rnn = rnn_runs.model(case)
    found = rnn_runs.core_results(case, rnn)
    assert_close(found, rnn_runs.reference_results(case), case)
    i = case.inputs()
    y, h_n = rnn(i.x, i.h_0, lengths=i.lengths)
    assert_same_bits(y, found["y"])
    assert_same_bits(h_n, found["h_n"])


@pytest.mark.parametrize("kind", TORCH_KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_torch(dtype: str, kind: str, seed: int) -> None:
    """All as torch.nn names and lays it out, batch_first too."""
    case = rnn_runs.clear_case(100 + seed, kind, dtype)
    rnn, i = rnn_runs.model(case), case.inputs()
    expected = rnn_runs.torch_results(case)
    assert_close(rnn_runs.core_results(case, rnn), expected, case)
    turned = rnn_runs.model(case, batch_first=True)
    y, h_n = turned(i.x.swapaxes(0, 1), i.h_0, lengths=i.lengths)
    whole = rnn(i.x, i.h_0, lengths=i.lengths)
    assert_same_bits(y.swapaxes(0, 1), whole[0])
    assert_same_bits(h_n, whole[1])


@every_kind
@pytest.mark.parametrize("sizes", [(3, 2, 5, 300, 1), (2, 70, 300, 130, 2), (200, 1, 1, 20, 1)])
def test_large_sizes(isa: str, dtype: str, kind: str, sizes: tuple[int, ...]) -> None:
    """Many steps, sequences and units, forward and, in float64, backward."""
    case = Case(*sizes, True, True, True, True, kind, dtype, 7)  # type: ignore[arg-type]
    found, expected = rnn_runs.core_results(case, rnn_runs.model(case)), {}
    expected = rnn_runs.reference_results(case)
    for name in [] if dtype == "float64" else [n for n in expected if n.startswith("d")]:
        del found[name], expected[name]
    assert_close(found, expected, case)


@every_kind
def test_no_gradient_of_one_kind(isa: str, kind: str) -> None:
    """dy or dh_n alone are what zeros in place of the other give."""
    case = rnn_runs.random_case(3, kind, "float64")
    rnn, i = rnn_runs.model(case), case.inputs()
    _, _, tape = rnn.forward(i.x, i.h_0, lengths=i.lengths)
    options: dict[str, Any] = {"h_0": i.h_0, "lengths": i.lengths}
    for given in ({"dy": i.dy}, {"dh_n": i.dh_n}):
        expected = rnn_runs.reference_backward(case, i.x, i.params, **given, **options)
        grads = rnn.backward(tape, given.get("dy"), given.get("dh_n"))
        wanted = {"dx": expected.x, "dh_0": expected.h_0, **expected.params}
        found: dict[str, Any] = {"dx": grads.x, "dh_0": grads.h_0, **grads.params}
        for name, value in wanted.items():
            scale = max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12 * scale)
    into = {name: np.ones_like(value) for name, value in grads.params.items()}
    more = rnn.backward(tape, None, i.dh_n, into=into, input_grad=False)
    assert more.x is None
    for name, value in grads.params.items():
        np.testing.assert_allclose(
            into[name], 1 + value, rtol=0, atol=1e-12 * (1 + abs(value).max())
        )


@every_kind
def test_dropout(isa: str, dtype: str, kind: str) -> None:
    """Between layers, in training mode, by the masks of the reference."""
    case = Case(6, 5, 4, 33, 3, True, True, True, True, kind, dtype, 1)
    rnn, i = rnn_runs.model(case, dropout=0.4).train(), case.inputs()
    y, h_n, tape = rnn.forward(i.x, i.h_0, lengths=i.lengths, seed=11)
    assert tape.seed == 11
    options: dict[str, Any] = {"h_0": i.h_0, "lengths": i.lengths, "dropout": 0.4, "seed": 11}
    forward = rnn_runs.reference_forward(case, i.x, i.params, **options)
    expected = dict(zip(("y", "h_n"), forward, strict=True))
    assert_close({"y": y, "h_n": h_n}, expected, case)
    if kind != "relu" or dtype == "float64":  # else rounding may turn relu's gradients over
        grads = rnn.backward(tape, i.dy, i.dh_n)
        wanted = rnn_runs.reference_backward(case, i.x, i.params, dy=i.dy, dh_n=i.dh_n, **options)
        found: Any = rnn_runs.named(y, h_n, grads.x, grads.h_0, grads.params)
        assert_close(found, rnn_runs.named(*expected.values(), *wanted), case)
    assert_same_bits(
        rnn.eval()(i.x, i.h_0, lengths=i.lengths)[0],
        rnn_runs.model(case)(i.x, i.h_0, lengths=i.lengths)[0],
    )


# ---- bits ----


@every_kind
@pytest.mark.parametrize("hidden", [1, 5, 16, 33, 130])
def test_stream_in_chunks_is_the_whole(isa: str, dtype: str, kind: str, hidden: int) -> None:
    case = Case(23, 3, 6, hidden, 2, True, False, False, False, kind, dtype, hidden)
    rnn, i = rnn_runs.model(case), case.inputs()
    y, h_n = rnn(i.x)
    for sizes in ([1] * 23, [1, 2, 3, 17], [22, 1], [23]):
        stream = rnn.stream(3)
        parts, at = [], 0
        for size in sizes:
            part = stream(i.x[at]) if size == 1 else stream(i.x[at : at + size])
            parts.append(part.reshape(size, 3, hidden).copy())
            at += size
        assert_same_bits(np.concatenate(parts), y, sizes)
        assert_same_bits(stream.state, h_n, sizes)
        assert stream.c is None
    stream.state = h_n[:, :, ::-1].copy()
    assert_same_bits(stream.state, h_n[:, :, ::-1])
    assert_same_bits(stream(i.x[:4]), rnn(i.x[:4], h_n[:, :, ::-1])[0])
    stream.reset()
    assert not stream.state.any()
    assert_same_bits(stream(i.x[0]), y[0])


@every_kind
@pytest.mark.parametrize("seed", range(4))
def test_a_sequence_alone_and_in_a_batch(isa: str, dtype: str, kind: str, seed: int) -> None:
    case = rnn_runs.random_case(200 + seed, kind, dtype)
    rnn, i = rnn_runs.model(case), case.inputs()
    y, h_n = rnn(i.x, i.h_0, lengths=i.lengths)
    for b in range(min(case.batch, 8)):
        steps = case.steps if i.lengths is None else int(i.lengths[b])
        alone = rnn(i.x[:steps, b], None if i.h_0 is None else i.h_0[:, b])
        assert_same_bits(alone[0], y[:steps, b])
        assert_same_bits(alone[1], h_n[:, b])
        assert not y[steps:, b].any()


@every_kind
@pytest.mark.parametrize("sizes", [(5, 40, 7, 33, 2), (4, 19, 30, 130, 1), (6, 30, 3, 5, 1)])
def test_gradients_of_a_sequence_alone_and_in_a_batch(
    isa: str, dtype: str, kind: str, sizes: tuple[int, ...]
) -> None:
    """Those of x and h_0, whatever the batch, its parts and the lengths in it."""
    case = Case(*sizes, True, True, True, True, kind, dtype, 3)  # type: ignore[arg-type]
    rnn, i = rnn_runs.model(case), case.inputs()
    assert i.lengths is not None
    assert i.h_0 is not None
    grads = rnn.backward(rnn.forward(i.x, i.h_0, lengths=i.lengths)[2], i.dy, i.dh_n)
    assert grads.x is not None
    for b in range(0, case.batch, 6):
        steps = int(i.lengths[b])
        _, _, tape = rnn.forward(i.x[:steps, b], i.h_0[:, b])
        alone = rnn.backward(tape, i.dy[:steps, b], i.dh_n[:, b])
        assert_same_bits(alone.x, grads.x[:steps, b])
        assert_same_bits(alone.h_0, grads.h_0[:, b])


@every_kind
def test_any_number_of_threads(isa: str, dtype: str, kind: str) -> None:
    """Sizes at which more than one thread is used."""
    case = Case(40, 24, 64, 160, 2, True, True, True, True, kind, dtype, 5)
    rnn, i = rnn_runs.model(case), case.inputs()
    results = []
    for threads in (1, 2, 3):
        options: dict[str, Any] = {"lengths": i.lengths, "num_threads": threads}
        y, h_n, tape = rnn.forward(i.x, i.h_0, **options)
        grads = rnn.backward(tape, i.dy, i.dh_n, num_threads=threads)
        assert_same_bits(rnn(i.x, i.h_0, **options)[0], y)
        assert grads.x is not None
        results.append(rnn_runs.named(y, h_n, grads.x, grads.h_0, grads.params))
    for other in results[1:]:
        for name, value in results[0].items():
            assert_same_bits(other[name], value, name)


@every_kind
def test_instruction_sets_agree(dtype: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2 and AVX-512 have the same operations, so the same bits; but gradients of a GRU are sums
    over its gates in an order that vectors give."""
    if not {"avx2", "avx512"} <= set(fastlstm.available_isas()):
        pytest.skip("needs AVX2 and AVX-512")
    case = rnn_runs.random_case(17, kind, dtype)
    results = []
    for name in ("avx2", "avx512"):
        monkeypatch.setattr("fastlstm.runtime._isa", name)
        results.append(rnn_runs.core_results(case, rnn_runs.model(case)))
    for name in ("y", "h_n") if case.is_gru else results[0]:
        assert_same_bits(results[1][name], results[0][name], name)


# ---- values that are no numbers ----


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_travel(isa: str, dtype: str, kind: str, value: float) -> None:
    """As in the reference, and in the sequence that has them only."""
    case = Case(7, 5, 3, 17, 2, True, False, False, False, kind, dtype, 2)
    rnn, i = rnn_runs.model(case), case.inputs()
    clean = rnn(i.x)[0]
    x = i.x.copy()
    x[3, 2, 1] = value
    y = rnn(x)[0]
    expected = rnn_runs.reference_forward(case, x, i.params, dtype=dtype).y
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert np.array_equal(np.isinf(y), np.isinf(expected))
    assert not np.array_equal(y[:, 2], clean[:, 2])
    rest = [0, 1, 3, 4]
    assert_same_bits(y[:, rest], clean[:, rest])
    assert_same_bits(y[:3], clean[:3])


@every_kind
def test_sums_that_overflow_into_a_bound(isa: str, dtype: str, kind: str) -> None:
    """tanh of what is large is 1; relu of it is it; a GRU keeps all of its state, or nothing."""
    case = Case(1, 1, 1, 9, 1, True, False, False, False, kind, dtype, 0)
    rnn = rnn_runs.model(case)
    rnn.load_state_dict({name: np.ones_like(v) for name, v in rnn.state_dict().items()})
    large = np.array([[[1e30]], [[-1e30]]], dtype)
    y = rnn(large)[0][:, 0]
    if case.is_gru:
        assert (y[0] == 0).all()
        assert (y[1] == -1).all()
    elif kind == "tanh":
        assert (y[0] == 1).all()
        assert (y[1] == -1).all()
    else:
        np.testing.assert_allclose(y[0], 1e30, rtol=1e-6)
        assert (y[1] == 0).all() or (y[1] > 0).all()  # 9e30 of the step before minus 1e30
        np.testing.assert_allclose(y[1], 8e30, rtol=1e-6)
