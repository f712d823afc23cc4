# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark's training steps: that each engine does the whole work and gets it right, that
memory is measured, targets are judged, and both tasks live in one result file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm.__main__ import main
from fastlstm.bench import (
    agreement,
    cli,
    files,
    limits,
    peers,
    protocol,
    report,
    runner,
    shapes,
    training,
    training_zoo,
    zoo,
)
from fastlstm.bench.shapes import Shape
from support import bench_runs

shape = bench_runs.training_shape

# ---- the work ----


engine_worker = bench_runs.engine_worker("training")


@pytest.mark.parametrize("case", list(bench_runs.TRAINING_SHAPES))
def test_gradients_agree_with_the_reference(
    engine_worker: tuple[str, runner.WorkerProcess], case: str, tmp_path: Path
) -> None:
    name, process = engine_worker
    of = bench_runs.TRAINING_SHAPES[case]
    engine = peers.ENGINES[name]
    if protocol.refusal(engine, of):
        pytest.skip(f"{name}: {protocol.refusal(engine, of)}")
    process.ask("prepare", shape=vars(of), seed=0)
    assert process.ask("measure", seconds=0.001)["median"] > 0
    expected = bench_runs.specification(of)
    difference = bench_runs.difference(process, expected, tmp_path)
    mixed = engine.padded and of.layers > 1 and of.bidirectional
    bench_runs.assert_agreement(of, difference, mixed=mixed)
    # One wrong entry of any output is noticed, so every gradient is really computed and compared.
    for wrong in () if engine.padded else expected:
        twice = {**expected, wrong: 2 * expected[wrong]}
        difference = bench_runs.difference(process, twice, tmp_path)
        assert difference is not None
        assert difference > 0.1, wrong
    process.ask("release")


@pytest.mark.parametrize("name", ["fastlstm", "fastlstm.torch", "fastlstm.torch-packed", "torch"])
def test_steps_repeat(name: str) -> None:
    of = bench_runs.TRAINING_SHAPES["ragged"]
    engine = peers.ENGINES[name]
    if not engine.available():
        pytest.skip(f"{name} is not installed")
    arrays = shapes.make_arrays(of)
    step = engine.prepare(of, arrays, 1)

    def run() -> agreement.Outputs:
        outputs = engine.output(of, step())
        return {key: np.array(values) for key, values in outputs.items()}

    first, second = run(), run()
    assert agreement.difference(of, first, second, None, padded=False) == 0
    expected = {"y", "x", "h_0", "c_0", *arrays.params}
    assert first.keys() == expected


@pytest.mark.parametrize("name", ["fastlstm", "fastlstm.torch"])
def test_every_step_packs_the_parameters_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = bench_runs.TRAINING_SHAPES["plain"]
    owner: Any = fastlstm.LSTM
    if name == "fastlstm.torch":
        pytest.importorskip("torch", reason="it needs PyTorch")
        from fastlstm.torch import engines as owner
    packed = 0
    original = owner._pack

    def pack(*arguments: Any) -> Any:
        nonlocal packed
        packed += 1
        return original(*arguments)

    monkeypatch.setattr(owner, "_pack", pack)
    step = peers.ENGINES[name].prepare(of, shapes.make_arrays(of), 1)
    for count in range(1, 5):
        step()
        assert packed == count


def test_padded_comparison_leaves_out_what_differs_by_design() -> None:
    of = bench_runs.TRAINING_SHAPES["ragged both ways"]
    lengths = shapes.make_lengths(of)
    assert lengths is not None
    ours = bench_runs.specification(of)

    def difference(name: str, padded: bool) -> float | None:
        theirs = {**ours, name: ours[name] + 0.5 * np.max(np.abs(ours[name]))}
        return agreement.difference(of, ours, theirs, lengths, padded)

    for name in ("x", "weight_ih_l0_reverse", "bias_hh_l0_reverse"):
        assert difference(name, padded=True) == 0
        assert difference(name, padded=False) == pytest.approx(0.5)
    for name in ("y", "h_0", "weight_ih_l0", "bias_ih_l0"):
        assert difference(name, padded=True) == difference(name, padded=False) != 0


def test_gradients_of_other_names_or_shapes_are_refused() -> None:
    of = bench_runs.TRAINING_SHAPES["plain"]
    ours = bench_runs.specification(of)
    some = {name: values for name, values in ours.items() if name != "h_0"}
    with pytest.raises(ValueError, match="outputs"):
        agreement.difference(of, ours, some, None, padded=False)
    with pytest.raises(ValueError, match="x of shape"):
        agreement.difference(of, ours, {**ours, "x": ours["x"][1:]}, None, padded=False)


def test_a_zero_gradient_against_another_is_a_disagreement() -> None:
    of = bench_runs.TRAINING_SHAPES["plain"]
    ours = {"y": np.zeros(3), "x": np.zeros(3)}
    assert agreement.difference(of, ours, ours, None, padded=False) == 0
    theirs = {"y": np.zeros(3), "x": np.full(3, 1e-9)}
    found = agreement.difference(of, ours, theirs, None, padded=False)
    assert found is not None
    assert found > 1


def test_output_gradient_is_zero_after_the_ends() -> None:
    of = bench_runs.TRAINING_SHAPES["ragged both ways"]
    arrays = shapes.make_arrays(of)
    assert arrays.dy is not None
    assert arrays.lengths is not None
    past = np.arange(of.T)[:, None] >= arrays.lengths
    assert arrays.dy.shape == (of.T, of.B, 2 * of.H)
    assert not arrays.dy[past].any()
    assert arrays.dy[~past].all()
    assert shapes.make_arrays(Shape("t", "", "none", 2, 2, 2, 2)).dy is None


def test_engines_without_training_say_so() -> None:
    for name in ("onnxruntime", "openvino", "fastlstm-padded"):
        refused = protocol.refusal(peers.ENGINES[name], bench_runs.TRAINING_SHAPES["plain"])
        assert refused == "it is not measured in training"
    inference = Shape("t", "", "none", 2, 2, 2, 2)
    refused = protocol.refusal(peers.ENGINES["fastlstm.torch-packed"], inference)
    assert refused == "it is not measured in inference"
    with pytest.raises(ValueError, match="a stream is inference"):
        shape(2, 2, 2, 2, stream=True)


# ---- memory ----


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_peak_counts_what_a_step_holds_and_not_what_was_there() -> None:
    def prepare(of: Shape) -> training.Step:
        if training.TINY["T"] >= of.T:
            return lambda: None
        before = np.ones(64 << 20, np.uint8)

        def step() -> object:
            passing = np.ones(48 << 20, np.uint8)  # given back before the step ends
            size = passing.nbytes + before.nbytes
            del passing
            return np.ones(16 << 20, np.uint8), size

        return step

    peak = training.peak_bytes(prepare, shape(1000, 8, 8, 8))
    if peak is None:
        pytest.skip("the mark of the highest resident size cannot be reset here")
    # 48 MiB at the worst moment; pages are counted in lots, and Python itself may take a few.
    assert 46 << 20 < peak < 54 << 20


def test_runner_measures_memory_of_training_only() -> None:
    plan = runner.Plan(rounds=1, seconds=0.001)
    of = shape(200, 32, 16, 64)
    with runner.Runner(["fastlstm"], [1], plan) as session:
        (result,) = session.run(of)
        (inference,) = session.run(Shape("t", "", "none", 4, 2, 3, 3))
    peak = result.engines["fastlstm"].peak_bytes
    if peak is None:
        pytest.skip("the mark of the highest resident size cannot be reset here")
    # The tape alone keeps five values of each cell and step, 4 bytes each.
    assert peak > 5 * 4 * of.T * of.B * of.H
    assert inference.engines["fastlstm"].peak_bytes is None


# ---- shapes, limits, targets ----


def test_training_is_three_times_the_arithmetic() -> None:
    machine = limits.Machine(2, {"float32": 100e9}, ((float("inf"), 50e9),), 20e-9)
    # 8 * 10 * 4 * 16 * (8 + 16) flop forward, thrice that for the step, on two times 100 GF/s
    of = shape(10, 4, 8, 16)
    assert limits.flops(of) == 3 * 122880
    assert limits.limit(of, machine) == limits.Limit(3 * 122880 / 200e9, "arithmetic")


def test_training_zoo_names_models_sources_and_training_batches() -> None:
    names = [entry.name for entry in training_zoo.ZOO]
    assert len(set(names)) == len(names) >= 14
    for entry in training_zoo.ZOO:
        assert entry.train, entry.name
        assert not entry.stream, entry.name
        assert len(entry.model) > 5, entry.name
        assert len(entry.source) > 5, entry.name
    (awd,) = training_zoo.find(["awd-lstm-middle"])
    assert (awd.T, awd.B, awd.H) == (70, 80, 1150)
    (trained,) = training_zoo.find(["gnmt-layer"])  # of the inference zoo
    assert trained.train
    with pytest.raises(ValueError, match="no shape named nothing"):
        training_zoo.find(["nothing"])
    with pytest.raises(ValueError, match="a stream is inference"):
        training_zoo.find(["dtln-stream"])


def test_targets_are_those_promised_at_one_and_two_threads() -> None:
    for threads in (1, 2):
        found = {
            t.shape.describe(): t.ratio
            for t in training_zoo.TARGETS
            if t.measure == "time" and t.threads == threads
        }
        assert found == {
            "T100 B8 I256 H256": 1.15,
            "T100 B32 I256 H256": 1.3,
            "T50 B64 I512 H512": 1.1,
            "T25 B128 I1024 H1024": 1.05,
            "T365 B256 I32 H64": 3.0,
            "T128 B64 I9 H32": 1.9,
            **{f"T100 B1 I{h} H{h}": 1.5 for h in (128, 256, 512, 1024)},
            **{f"T100 B32 I{h} H{h} ragged": 3.0 for h in (128, 256)},
            "T29 B32 I12 H64 bi ragged": 4.0,
            "T100 B32 I256 H256 float64": 1.8,
            "T128 B64 I9 H32 float64": 1.8,
            "T100 B32 I256 H256 GRU": 2.5,
            "T100 B32 I256 H256 P128": 1.8,
        }
    for target in training_zoo.TARGETS:
        if target.measure == "adapter":
            # Packing is PyTorch's own work, so there it is left out.
            packed = "-packed" if target.shape.ragged else ""
            assert target.against == f"fastlstm.torch{packed}"
    for measure in ("memory", "adapter"):
        assert sum(t.measure == measure for t in training_zoo.TARGETS) == 2 * len(found)


def made_up(ours: float, adapter: float, torch: float) -> runner.Result:
    result = runner.Result(training_zoo.find(["T100-B8-I256-H256"])[0], 1)
    result.engines = {
        name: runner.Measurement([seconds], 10, 1e-7)
        for name, seconds in (("fastlstm", ours), ("fastlstm.torch", adapter), ("torch", torch))
    }
    result.engines["fastlstm"].peak_bytes = 10_000_000
    result.engines["torch"].peak_bytes = 15_000_000
    return result


@pytest.mark.parametrize(
    ("ours", "adapter", "met"),
    [
        (10e-3, 10.4e-3, True),  # 4 % more
        (10e-3, 10.6e-3, False),  # 6 % more
        (100e-6, 119e-6, True),  # 19 % but 19 us
        (100e-6, 121e-6, False),
    ],
)
def test_adapter_may_take_5_percent_or_20_microseconds(
    ours: float, adapter: float, met: bool
) -> None:
    verdicts = report.judge([made_up(ours, adapter, 1.2 * ours)], training_zoo.TARGETS)
    time, memory, added = verdicts
    assert (time.value, time.met) == (pytest.approx(1.2), True)
    assert (memory.value, memory.met) == (pytest.approx(1.5), True)
    assert added.met == met
    assert "5 % or 20 us for fastlstm.torch" in added.text


def test_a_target_without_figures_is_missed() -> None:
    result = made_up(1e-3, 1e-3, 2e-3)
    del result.engines["fastlstm.torch"]
    result.engines["torch"].peak_bytes = None
    time, memory, added = report.judge([result], training_zoo.TARGETS)
    assert time.met
    assert (memory.value, memory.met, added.value, added.met) == (None, False, None, False)


def test_training_table_shows_gradient_flops_and_memory() -> None:
    machine = limits.Machine(1, {"float32": 100e9}, ((float("inf"), 50e9),), 20e-9)
    result = made_up(10e-3, 11e-3, 15e-3)
    header, (cells,) = report.rows([result], list(peers.ENGINES), {1: machine})
    found = dict(zip(header, cells, strict=True))
    # 3 * 8 * 100 * 8 * 256 * 512 = 2.5166 Gflop in 10 ms
    assert found["GFLOP/s"] == "252"
    assert found["% of FMA"] == "252"
    assert (found["fastlstm MB"], found["torch MB"]) == ("10", "15")
    assert found["vs torch"] == found["vs best"] == "1.50"
    assert "vs fastlstm.torch" not in found


def test_page_explains_memory_only_where_it_shows_it() -> None:
    result, words = made_up(10e-3, 11e-3, 15e-3), "MB are what a step adds"
    assert words in report.markdown([result], list(peers.ENGINES), {}, {}, (), "training")
    for measured in result.engines.values():
        measured.peak_bytes = None
    page = report.markdown([result], list(peers.ENGINES), {}, {}, (), "training")
    assert words not in page
    assert " MB |" not in page
    assert "with parameters packed anew." in page


# ---- files and command line ----


def test_files_keep_the_other_task(tmp_path: Path) -> None:
    page, values = tmp_path / "r.md", tmp_path / "r.json"
    files.write(page, "training", "# Training\n\nold\n", {})
    files.write(page, "inference", "# Benchmark\n\n## 1 thread\n\ntable\n", {})
    files.write(page, "training", "# Training\n\nnew\n", {})
    assert page.read_text() == "# Benchmark\n\n## 1 thread\n\ntable\n\n# Training\n\nnew\n"
    files.write(values, "inference", "", {"task": "inference", "results": [1]})
    files.write(values, "training", "", {"task": "training", "results": [2]})
    files.write(values, "inference", "", {"task": "inference", "results": [3]})
    found = json.loads(values.read_text())
    assert (found["results"], found["training"]["results"]) == ([3], [2])
    values.write_text("not JSON")
    files.write(values, "training", "", {"results": [4]})
    assert json.loads(values.read_text()) == {"training": {"results": [4]}}


def test_bench_train_reports_a_shape_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = [str(tmp_path / "r.json"), str(tmp_path / "r.md")]
    how = ["--engines", "fastlstm", "onnxruntime", "--rounds", "1", "--seconds", "0.001"]
    options = [*bench_runs.SIZES, *how, "--no-limits", "--json", "--output", *output]
    assert main(["bench", "--train", *options]) == 0
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    (record,) = values["results"]
    assert values["task"] == "training"
    assert record["shape"]["train"] is True
    assert record["flops"] == 3 * 8 * 4 * 2 * 5 * (3 + 5)
    assert record["engines"]["fastlstm"]["seconds"] > 0
    assert "onnxruntime is left out: it is not measured in training" in printed.err
    assert json.loads(Path(output[0]).read_text())["training"]["results"] == [record]
    assert Path(output[1]).read_text().startswith("# Training\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], training_zoo.ZOO),
        (["--targets"], list(dict.fromkeys(t.shape for t in training_zoo.TARGETS))),
    ],
)
def test_train_chooses_training_shapes(options: list[str], expected: Any) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    chosen = cli.choose_shapes(parser.parse_args(["--train", *options]), pytest.fail)
    assert chosen == list(expected)
    swept = cli.choose_shapes(parser.parse_args(["--train", "--sweep"]), pytest.fail)
    assert all(entry.train for entry in swept)
    assert len(swept) == sum(not entry.stream for entry in zoo.SWEEP)


def test_engines_of_training_that_are_absent_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(protocol, "found", lambda *modules: modules == ("fastlstm",))
    assert cli.choose_engines(None, pytest.fail, "training") == ["fastlstm"]
    assert capsys.readouterr().err.splitlines() == [
        "fastlstm.torch is left out: it needs torch, not installed here",
        "torch is left out: it needs torch, not installed here",
        "jax is left out: it needs jax, not installed here",
    ]
