# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark's shapes, and its limits by numbers worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from fastlstm.bench import limits, onnx_model, peers, protocol, shapes, training, zoo
from fastlstm.bench.shapes import Shape
from fastlstm.spec import CELLS
from support.bench_runs import MACHINE, shape

# ---- shapes and zoo ----


def test_zoo_names_models_and_sources() -> None:
    assert len(zoo.ZOO) >= 24
    assert len({entry.name for entry in zoo.ZOO}) == len(zoo.ZOO)
    for entry in zoo.ZOO:
        assert len(entry.model) > 5, entry.name
        assert len(entry.source) > 5, entry.name


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("uci-har", (128, 64, 9, 32)),
        ("neuralhydrology", (365, 256, 32, 64)),
        ("amp-neuralpi", (2048, 1, 1, 20)),
        ("amp-proteus", (2048, 1, 1, 40)),
        ("japanese-vowels", (29, 32, 12, 64)),
    ],
)
def test_zoo_has_the_promised_sizes(name: str, sizes: tuple[int, int, int, int]) -> None:
    (entry,) = zoo.find([name])
    found = (entry.T, entry.B, entry.I, entry.H)
    assert found == sizes


def test_every_name_is_unique_across_lists_unless_the_shape_is_the_same() -> None:
    by_name: dict[str, Shape] = {}
    for entry in (*zoo.ZOO, *(target.shape for target in zoo.TARGETS), *zoo.SWEEP):
        assert by_name.setdefault(entry.name, entry) == entry


def test_targets_cover_the_promised_shapes() -> None:
    lstms = [t for t in zoo.TARGETS if t.shape.cell == "lstm"]
    single = {t.shape.H: t.ratio for t in lstms if t.shape.B == 1 and t.shape.T >= 25}
    assert {h: single[h] for h in (128, 256, 512, 1024)} == dict.fromkeys(
        (128, 256, 512, 1024), 1.2
    )
    batches = {t.shape.B for t in zoo.TARGETS if t.ratio == 1.05 and t.shape.H >= 256}
    assert batches == {8, 32, 64, 128}
    against = {t.against for t in zoo.TARGETS if t.shape.ragged}
    assert against == {"torch", "torch-padded"}
    assert all(t.against == "best" or t.against in peers.ENGINES for t in zoo.TARGETS)
    ahead = {t.shape.name for t in zoo.TARGETS if t.shape.cell == "gru" and t.against == "best"}
    assert ahead == {entry.name for entry in zoo.ZOO if entry.cell == "gru"}
    assert len(ahead) >= 10


def test_every_cell_has_all_that_the_benchmark_says_of_it() -> None:
    assert {name: CELLS[name].gates for name in shapes.GATES} == shapes.GATES
    for table in (shapes.WORDS, onnx_model.GATE_ORDERS, onnx_model.NODES, limits.CHAINS):
        assert table.keys() == shapes.GATES.keys()
    assert training.CLASSES.keys() == shapes.GATES.keys()
    for cell, gates in shapes.GATES.items():
        of = shape(2, 1, 3, 4, cell=cell)
        assert sorted(onnx_model.GATE_ORDERS[cell]) == list(range(gates))
        assert of.states == (("h", "c") if CELLS[cell].has_c else ("h",))
        assert of.describe().endswith(shapes.WORDS[cell])
        why = protocol.refusal(peers.ENGINES["jax"], of)
        assert why == (None if cell == "lstm" else "it is written for the plain LSTM")


def test_find_lists_the_names_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no shape named nothing, nobody"):
        zoo.find(["crnn", "nothing", "nobody"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": 0}, "T must be a positive integer"),
        ({"B": -1}, "B must be"),
        ({"I": 2.5}, "I must be"),
        ({"H": True}, "H must be"),
        ({"layers": 0}, "layers must be"),
        ({"dtype": "float16"}, "dtype must be"),
        (
            {"cell": "elman"},
            "cell must be one of lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, got 'elman'",
        ),
        ({"proj": 2}, "proj must be 0, or of an LSTM below H, got 2"),
        ({"proj": 1, "cell": "gru"}, "proj must be 0, or of an LSTM"),
        ({"proj": -1}, "proj must be"),
        ({"options": {"coupled": True}, "cell": "gru"}, "options are of an LSTM, got {'coupled'"),
        ({"stream": True, "ragged": True}, "a stream is neither"),
        ({"stream": True, "bidirectional": True}, "a stream is neither"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shape(**{"name": "x", "model": "", "source": "", "T": 2, "B": 2, "I": 2, "H": 2, **change})


def test_lengths_span_an_eighth_to_all_and_the_input_is_zero_after_them() -> None:
    ragged = shape(80, 500, 3, 4, ragged=True)
    lengths = shapes.make_lengths(ragged)
    assert lengths is not None
    assert lengths.max() == 80
    assert lengths.min() == 10  # 500 draws from 71 values miss the lowest once in 1,200 seeds
    assert not np.all(np.diff(lengths) <= 0)
    x = shapes.make_input(ragged)
    past = np.arange(80)[:, None] >= lengths
    assert not x[past].any()
    assert x[~past].all()
    assert shapes.make_lengths(shape(80, 5, 3, 4)) is None


def test_params_have_torch_names_and_shapes() -> None:
    params = shapes.make_params(shape(1, 1, 5, 6, layers=2, bidirectional=True, dtype="float64"))
    assert params["weight_ih_l0_reverse"].shape == (24, 5)
    assert params["weight_ih_l1"].shape == (24, 12)
    assert params["weight_hh_l1_reverse"].shape == (24, 6)
    assert params["bias_hh_l0"].shape == (24,)
    assert len(params) == 16
    gru = shapes.make_params(shape(1, 1, 5, 6, cell="gru"))
    assert [value.shape for value in gru.values()] == [(18, 5), (18, 6), (18,), (18,)]
    assert all(value.dtype == np.float64 for value in params.values())
    assert max(np.abs(value).max() for value in params.values()) <= 6**-0.5


# ---- limits: the expected values are worked out by hand in the comments ----


def test_flops_of_a_plain_layer() -> None:
    assert limits.flops(shape(10, 4, 8, 16)) == 8 * 10 * 4 * 16 * (8 + 16)


def test_flops_and_limits_of_other_cells() -> None:
    """Three gates or one instead of four."""
    of = {cell: shape(10, 32, 50, 100, cell=cell) for cell in shapes.GATES}
    assert limits.flops(of["gru"]) == 6 * 10 * 32 * 100 * (50 + 100)
    assert limits.flops(of["rnn_relu"]) == 2 * 10 * 32 * 100 * (50 + 100)
    # arithmetic is the limit: 25.6 us a step and 128 us of the LSTM, see below
    assert limits.limit(of["gru"], MACHINE).seconds == pytest.approx((256e-6 + 128e-6) * 3 / 4)
    # latency: 20 ns of the LSTM's 107 cycles; 57 of the RNN's; its input 2 * 50 * 8 -> 8 ns
    bound = limits.limit(shape(50, 1, 1, 8, cell="rnn_tanh"), MACHINE)
    assert bound.seconds == pytest.approx(50 * 20e-9 * 57 / 107 + 8e-9)
    assert bound.bound == "latency"


def test_flops_and_limits_with_a_projection() -> None:
    # a row: 4 * 16 * (8 + 3) products and 3 * 16; in the second layer 4 * 16 * (3 + 3) and 3 * 16
    assert limits.flops(shape(10, 4, 8, 16, proj=3)) == 2 * 40 * (704 + 48)
    assert limits.flops(shape(10, 4, 8, 16, layers=2, proj=3)) == 2 * 40 * (704 + 48 + 384 + 48)
    # H 1000, P 400: 4 * 400,000 + 400,000 weights, 8 MB -> 4.92 + 140 us a step; I 10: 8 us
    bound = limits.limit(shape(10, 1, 10, 1000, proj=400), MACHINE)
    assert bound.seconds == pytest.approx(10 * 144.92e-6 + 8e-6)
    assert bound.bound == "bandwidth"
    params = shapes.make_params(shape(1, 1, 5, 6, proj=2))
    assert [v.shape for v in params.values()] == [(24, 5), (24, 2), (24,), (24,), (2, 6)]


def test_flops_of_stacked_directions() -> None:
    # layer 0: 2 * 8 * 16 * (8 + 16) = 6144; layer 1: 2 * 8 * 16 * (32 + 16) = 12288; 40 rows
    assert limits.flops(shape(10, 4, 8, 16, layers=2, bidirectional=True)) == 40 * (6144 + 12288)


def test_flops_count_valid_steps_only() -> None:
    ragged = shape(40, 6, 8, 16, ragged=True)
    lengths = shapes.make_lengths(ragged)
    assert lengths is not None
    assert lengths.sum() < 240
    assert limits.flops(ragged) == 8 * int(lengths.sum()) * 16 * (8 + 16)
    assert limits.active_rows(ragged).sum() == lengths.sum()


def test_limit_by_arithmetic() -> None:
    # step 8 * 32 * 100^2 = 2.56e6 flop -> 25.6 us; weights 160 kB at 200 GB/s only 0.8 us
    # input 8 * 10 * 32 * 50 * 100 = 12.8e6 flop -> 128 us
    bound = limits.limit(shape(10, 32, 50, 100), MACHINE)
    assert bound.seconds == pytest.approx(10 * 25.6e-6 + 128e-6)
    assert bound.bound == "arithmetic"


# Reading more than the two caches hold takes 32 kB / 400 GB/s + 968 kB / 200 GB/s = 4.92 us, and
# 20 us for each further MB.


def test_limit_by_bandwidth() -> None:
    # H 1000: 16 MB -> 4.92 + 300 us a step; arithmetic 80 us
    # input I 10: 8 * 10 * 10 * 1000 = 0.8e6 flop -> 8 us; its 160 kB take 0.08 + 0.64 us
    bound = limits.limit(shape(10, 1, 10, 1000), MACHINE)
    assert bound.seconds == pytest.approx(10 * 304.92e-6 + 8e-6)
    assert bound.bound == "bandwidth"


def test_limit_by_latency() -> None:
    # H 8: 512 flop -> 5 ns, 1 kB at 400 GB/s = 2.6 ns, so 20 ns a step; input 8 * 50 * 8 -> 32 ns
    bound = limits.limit(shape(50, 1, 1, 8), MACHINE)
    assert bound.seconds == pytest.approx(50 * 20e-9 + 32e-9)
    assert bound.bound == "latency"


def test_limit_of_one_step_reads_the_input_weights_too() -> None:
    # recurrent 16 MB -> 304.92 us; input 8 MB -> 4.92 + 140 us; arithmetic 80 and 40 us
    bound = limits.limit(shape(1, 1, 500, 1000, stream=True), MACHINE)
    assert bound.seconds == pytest.approx((304.92 + 144.92) * 1e-6)


def test_limit_of_float64_doubles_bytes_and_halves_the_peak() -> None:
    # step 25.6 us at 50 GF/s = 51.2 us; input 256 us
    bound = limits.limit(shape(10, 32, 50, 100, dtype="float64"), MACHINE)
    assert bound.seconds == pytest.approx(10 * 51.2e-6 + 256e-6)


def test_limit_shares_the_weights_among_threads() -> None:
    # 4 threads, H 1000: 4 MB each -> 4.92 + 60 us a step; arithmetic 20 us; input 2 us
    four = limits.Machine(4, MACHINE.flops, MACHINE.bandwidth, MACHINE.chain)
    assert limits.limit_seconds(shape(10, 1, 10, 1000), four) == pytest.approx(651.2e-6)
    # 16 threads: 1 MB each fits the second level: 4.92 us a step, arithmetic 5 us; input 0.5 us
    many = limits.Machine(16, MACHINE.flops, MACHINE.bandwidth, MACHINE.chain)
    assert limits.limit_seconds(shape(10, 1, 10, 1000), many) == pytest.approx(50.5e-6)


def test_limit_of_a_ragged_batch_follows_the_running_rows() -> None:
    ragged = shape(40, 8, 100, 1000, ragged=True)
    lengths = shapes.make_lengths(ragged)
    assert lengths is not None
    rows = limits.active_rows(ragged)
    assert rows.min() < 4 < rows.max()  # so that either side of the maximum decides somewhere
    # A row takes 8e6 flop, 80 us; the weights 304.92 us; the input 8e5 flop, 8 us a row
    steps = sum(max(running * 80e-6, 304.92e-6) for running in rows)
    expected = steps + int(lengths.sum()) * 8e-6
    assert limits.limit_seconds(ragged, MACHINE) == pytest.approx(expected)


def test_directions_take_turns_in_the_cache_of_one_thread() -> None:
    # H 400: 2.56 MB a direction -> 4.92 + 31.2 us each; arithmetic 12.8 us; input I 1: 32 ns a row
    both = shape(10, 1, 1, 400, bidirectional=True)
    assert limits.limit_seconds(both, MACHINE) == pytest.approx(10 * (2 * 36.12e-6 + 2 * 32e-9))
    two = limits.Machine(2, MACHINE.flops, MACHINE.bandwidth, MACHINE.chain)
    assert limits.limit_seconds(both, two) == pytest.approx(10 * (36.12e-6 + 32e-9))


def test_both_directions_are_twice_the_work() -> None:
    one = limits.limit_seconds(shape(10, 32, 50, 100), MACHINE)
    two = limits.limit_seconds(shape(10, 32, 50, 100, bidirectional=True), MACHINE)
    assert two == pytest.approx(2 * one)


def test_cache_sizes_are_plausible() -> None:
    sizes = limits.cache_sizes()
    assert len(sizes) >= 2
    assert list(sizes) == sorted(sizes)
    assert 4 << 10 <= sizes[0] <= 1 << 20


def test_measure_machine_gives_plausible_limits() -> None:
    machine = limits.measure_machine(1, seconds=0.01)
    assert 1e8 < machine.flops["float64"] < machine.flops["float32"] < 1e13
    assert all(1e8 < rate < 1e13 for _, rate in machine.bandwidth)
    assert math.isinf(machine.bandwidth[-1][0])
    assert 5e-9 < machine.chain < 1e-6
    json.dumps(machine.as_dict(), allow_nan=False)
