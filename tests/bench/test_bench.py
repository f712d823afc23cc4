# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark's engines against the reference, its measuring, its reports, its command line."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import runtime
from fastlstm.__main__ import main
from fastlstm.bench import (
    agreement,
    chart,
    cli,
    files,
    peers,
    protocol,
    report,
    runner,
    shapes,
    worker,
    zoo,
)
from fastlstm.bench.shapes import Shape
from support import bench_runs
from support.bench_runs import MACHINE, SIZES, shape

# ---- measuring ----


def test_measure_times_short_calls_several_at_a_time() -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    timing = worker.measure(call, 0.002)
    assert 0 < timing["min"] <= timing["median"] < 1e-3
    assert timing["calls"] >= 3 * 2  # far below 50 us, so more than one call a sample
    assert count > timing["calls"]  # warm-up calls are not counted


def test_measure_takes_three_samples_of_a_long_call() -> None:
    assert worker.measure(lambda: sum(range(20_000)), 1e-6)["calls"] >= 3


SHAPES = {
    "plain": shape(7, 3, 5, 6),
    "stacked both ways": shape(9, 4, 5, 20, layers=2, bidirectional=True),
    "ragged": shape(16, 5, 4, 33, ragged=True),
    "ragged both ways": shape(16, 5, 4, 7, bidirectional=True, ragged=True),
    "ragged stack": shape(12, 3, 4, 7, layers=2, bidirectional=True, ragged=True),
    "step": shape(1, 2, 5, 16, layers=2, stream=True),
    "chunk": shape(3, 2, 5, 16, stream=True),
    "float64": shape(7, 3, 5, 6, dtype="float64"),
    "GRU": shape(9, 4, 5, 20, layers=2, bidirectional=True, cell="gru"),
    "GRU step": shape(1, 2, 5, 16, layers=2, stream=True, cell="gru"),
    "ragged GRU": shape(16, 5, 4, 33, ragged=True, cell="gru"),
    "GRU that resets before": shape(
        9, 4, 5, 20, layers=2, bidirectional=True, cell="gru_reset_before"
    ),
    "step that resets before": shape(1, 2, 5, 16, stream=True, cell="gru_reset_before"),
    "RNN": shape(9, 4, 5, 20, layers=2, bidirectional=True, cell="rnn_tanh"),
    "RNN step": shape(1, 2, 5, 16, stream=True, cell="rnn_tanh"),
    "projected": shape(9, 4, 5, 20, layers=2, bidirectional=True, proj=7),
    "projected step": shape(1, 2, 5, 16, layers=2, stream=True, proj=8),
    "peepholes": shape(
        9, 4, 5, 20, layers=2, bidirectional=True, options={"peepholes": True, "gate_clip": 0.5}
    ),
    "hard sigmoids": shape(9, 4, 5, 20, options={"gate_activation": "hard_sigmoid"}),
    "coupled step": shape(1, 2, 5, 16, layers=2, stream=True, options={"coupled": True}),
    "normalised": shape(
        *(9, 4, 5, 20), layers=2, proj=8, options={"layer_norm": "separate", "cell_clip": 0.2}
    ),
    "RNN of relu": shape(9, 4, 5, 20, bidirectional=True, cell="rnn_relu"),
}


def specification(of: Shape) -> agreement.Array:
    """The output of the reference; for a stream that of the last of the calls that are checked."""
    x, calls = shapes.make_input(of), worker.STREAM_CHECK_CALLS if of.stream else 1
    x = np.concatenate([x] * calls)
    forward, _ = bench_runs.passes(of)
    y = forward(x, shapes.make_params(of), lengths=shapes.make_lengths(of)).y
    return y[-of.T :]


engine_worker = bench_runs.engine_worker("inference")


@pytest.mark.parametrize("case", list(SHAPES))
def test_engine_agrees_with_the_reference(
    engine_worker: tuple[str, runner.WorkerProcess], case: str, tmp_path: Path
) -> None:
    name, process = engine_worker
    of = SHAPES[case]
    if protocol.refusal(peers.ENGINES[name], of):
        pytest.skip(f"{name}: {protocol.refusal(peers.ENGINES[name], of)}")
    process.ask("prepare", shape=vars(of), seed=0)
    difference = bench_runs.difference(process, {"y": specification(of)}, tmp_path)
    mixed = peers.ENGINES[name].padded and of.layers > 1
    bench_runs.assert_agreement(of, difference, mixed=mixed)
    assert process.ask("measure", seconds=0.001)["median"] > 0
    process.ask("release")


def test_a_wrong_value_is_noticed() -> None:
    of = SHAPES["ragged both ways"]
    lengths = shapes.make_lengths(of)
    assert lengths is not None
    y = specification(of)

    def difference(other: agreement.Array, padded: bool) -> float | None:
        return agreement.difference(of, {"y": y}, {"y": other}, lengths, padded)

    wrong = y.copy()
    wrong[0, 1, 2] += 0.25
    assert difference(wrong, padded=False) == pytest.approx(0.25)
    assert difference(wrong, padded=True) == pytest.approx(0.25)
    late = y.copy()
    late[-1, int(np.argmin(lengths)), 0] += 0.25  # past the end of the shortest
    assert difference(late, padded=False) == pytest.approx(0.25)
    assert difference(late, padded=True) == 0
    late[0, 0, 0] = np.nan
    assert difference(late, padded=False) == np.finfo(np.float64).max
    with pytest.raises(ValueError, match="y of shape"):
        difference(y[1:], padded=False)


def test_a_worker_that_cannot_start_says_why() -> None:
    process = runner.WorkerProcess("no such engine", 1)
    assert process.broken is not None
    assert "no such engine" in process.broken
    with pytest.raises(runner.WorkerError, match="no such engine"):
        process.ask("measure", seconds=0.1)
    process.close()


def test_a_worker_survives_a_bad_request() -> None:
    process = runner.WorkerProcess("fastlstm", 1)
    with pytest.raises(runner.WorkerError, match="KeyError"):
        process.ask("dance")
    of = SHAPES["plain"]
    process.ask("prepare", shape=vars(of), seed=0)
    assert process.ask("measure", seconds=0.001)["calls"] >= 3
    process.close()


def test_runner_reports_a_missing_engine_and_measures_the_rest() -> None:
    plan = runner.Plan(rounds=2, seconds=0.001)
    with runner.Runner(["fastlstm", "fastlstm-padded"], [1], plan) as session:
        (result,) = session.run(SHAPES["plain"])
    assert len(result.engines["fastlstm"].rounds) == 2
    assert result.missing == {"fastlstm-padded": "the shape is not ragged"}
    assert session.versions == {}  # its workers are gone


# ---- reports, on figures made up here ----


def made_up() -> list[runner.Result]:
    def measured(*rounds: float) -> runner.Measurement:
        return runner.Measurement(list(rounds), calls=10, max_abs_diff=1e-7)

    of = zoo.find(["T100-B1-I256-H256"])[0]
    one = runner.Result(of, 1)
    one.engines = {
        "fastlstm": measured(2e-3, 9e-3, 1e-3),
        "torch": measured(5e-3, 4e-3, 3e-3),
        "onnxruntime": measured(3e-3, 3e-3, 3e-3),
    }
    one.missing = {"openvino": "RuntimeError: no"}
    two = runner.Result(of, 2)
    two.engines = {"fastlstm": measured(1e-3), "torch": measured(2.5e-3)}
    return [one, two]


def test_medians_and_ratios() -> None:
    one, two = made_up()
    assert one.engines["fastlstm"].seconds == 2e-3
    assert one.best_peer() == "onnxruntime"
    assert one.ratio("torch") == pytest.approx(2.0)
    assert one.ratio("openvino") is None
    assert two.best_peer() == "torch"


def test_disagreements_are_named() -> None:
    one, two = made_up()
    assert runner.disagreements([one, two]) == []
    two.engines["torch"].max_abs_diff = 3e-5
    (line,) = runner.disagreements([one, two])
    assert "torch" in line
    two.engines["torch"].max_abs_diff = np.finfo(np.float64).max
    assert len(runner.disagreements([one, two])) == 1


def test_table_shows_times_rate_ratios_and_share() -> None:
    header, (first, second) = report.rows(made_up(), list(peers.ENGINES), {1: MACHINE})
    cells = dict(zip(header, first, strict=True))
    assert cells["fastlstm ms"] == "2"
    assert cells["vs torch"] == "2.00"
    assert cells["vs best"] == "1.50"
    # 8 * 100 * 256 * 512 = 104.9 Mflop in 2 ms. Limit: 1048576 B of weights take 4.92 us and
    # 48576 B / 50 GB/s = 0.97 us, so 0.589 ms; the input 52.4 Mflop, 0.524 ms; 1.113 of 2 ms
    assert cells["GFLOP/s"] == "52.4"
    assert cells["% of limit"] == "56"
    assert dict(zip(header, second, strict=True))["% of limit"] == "-"
    lines = report.text_table(made_up(), list(peers.ENGINES), {}).splitlines()
    assert len(lines) == 4
    assert len(lines[0]) == len(lines[1]) == len(lines[2])


def test_targets_are_judged() -> None:
    one, _ = made_up()
    verdicts = report.judge([one], zoo.TARGETS)
    assert [(v.required, v.met) for v in verdicts] == [(1.2, True)]
    assert verdicts[0].value == pytest.approx(1.5)
    one.engines["fastlstm"].rounds = [2.9e-3]
    assert not report.judge([one], zoo.TARGETS)[0].met
    del one.engines["fastlstm"]
    assert report.judge([one], zoo.TARGETS)[0].value is None


def test_gains_by_threads_and_shares_of_the_limit_are_judged() -> None:
    of_time, of_threads = report.judge(made_up(), zoo.TARGETS, {1: MACHINE})
    assert (of_time.required, of_threads.required) == (1.2, 1.7)
    assert of_threads.value == pytest.approx(2.0)
    assert of_threads.met
    many = zoo.find(["T50-B64-I512-H512"])[0]  # 13.4 Gflop at 100 Gflop/s
    results = [runner.Result(many, 1), runner.Result(many, 2), runner.Result(many, 2)]
    for result, seconds in zip(results, (0.16, 0.1, 0.09), strict=True):
        result.engines = {"fastlstm": runner.Measurement([seconds], 1, 0.0)}
    both = {1: MACHINE, 2: replace(MACHINE, threads=2)}
    _, slow, fast, share = report.judge(results, zoo.TARGETS, both)
    assert [v.met for v in (slow, fast, share)] == [False, True, False]
    assert share.value == pytest.approx(13.42 / 16, abs=1e-3)
    step = zoo.find(["T1-B1-I128-H128-stream"])[0]
    results = [runner.Result(step, 1), runner.Result(step, 2)]
    for result in results:
        result.engines = {"fastlstm": runner.Measurement([1e-5], 1, 0.0)}
    assert report.judge(results, zoo.TARGETS, both)[1].required == 1.0


def test_scaling_compares_ours_with_ours() -> None:
    ((result, gain, bound),) = report.scaling(made_up(), {})
    assert (result.threads, gain, bound) == (2, pytest.approx(2.0), "")


def test_markdown_has_every_section() -> None:
    page = report.markdown(
        made_up(), list(peers.ENGINES), {1: MACHINE}, {"torch": "2.13"}, zoo.TARGETS
    )
    for text in ("## 1 thread\n", "## 2 threads", "2 of 2 met", "by threads", "torch 2.13"):
        assert text in page
    better = next(line for line in page.splitlines() if line.endswith("| torch | 2.5 | 2 | 2.50 |"))
    assert "| 1 | 2 |" in better
    widths = {line.count("|") for line in page.split("## 2 threads")[0].splitlines() if "|" in line}
    assert len(widths) == 1


def test_document_is_strict_json() -> None:
    values = report.document(made_up(), {1: MACHINE}, {"torch": "2.13"}, runner.Plan(), zoo.TARGETS)
    again = json.loads(json.dumps(values, allow_nan=False, default=str))
    record = again["results"][0]
    assert record["engines"]["torch"]["rounds"] == [5e-3, 4e-3, 3e-3]
    assert record["ratio_to_best"] == pytest.approx(1.5)
    assert record["limit"]["bound"] == "bandwidth"
    assert again["results"][1]["limit"] is None
    assert again["targets"][0]["met"] is True


# ---- command line ----


def test_bench_prints_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [str(tmp_path / "new" / "r.json"), str(tmp_path / "r.md")]
    how = ["--engines", "fastlstm", "--rounds", "1", "--seconds", "0.001", "--quick"]
    status = main(["bench", *SIZES, "--bidirectional", *how, "--json", "--output", *files])
    assert status == 0
    values = json.loads(capsys.readouterr().out)
    (record,) = values["results"]
    assert (record["shape"]["T"], record["shape"]["bidirectional"]) == (4, True)
    assert record["engines"]["fastlstm"]["seconds"] > 0
    assert record["share_of_limit"] > 0
    assert values["versions"]["fastlstm"] == fastlstm.__version__
    assert json.loads(Path(files[0]).read_text())["results"][0]["shape"] == record["shape"]
    assert "## 1 thread" in Path(files[1]).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--hidden-size 4", "go together"),
        ("--batch 4", "needs --input-size and --hidden-size"),
        ("--input-size 4 --hidden-size 4 --stream --ragged", "a stream is neither"),
        ("--input-size 0 --hidden-size 4", "'0' is not a positive integer"),
        ("--steps ten", "'ten' is not a positive integer"),
        ("--shapes nothing", "no shape named nothing"),
        ("--engines nothing", "invalid choice"),
        ("--output table.txt", "must end in .json or .md"),
        ("--seconds 0", "--seconds must be above 0"),
        ("--seconds nan", "--seconds must be above 0"),
        (f"--threads {4 * (os.cpu_count() or 1) + 1}", "CPUs"),
        ("--dtype float16", "invalid choice"),
        ("--cell elman", "invalid choice"),
        ("--cell gru", "needs --input-size and --hidden-size"),
        ('--options {"coupled":true}', "needs --input-size and --hidden-size"),
        ("--input-size 4 --hidden-size 4 --options 3", "'3' is no object of JSON"),
        ('--input-size 4 --hidden-size 4 --options {"x":1}', "options must be some of"),
        ('--input-size 4 --hidden-size 4 --options {"proj_clip":1}', "need a proj_size"),
        ("--input-size 4 --hidden-size 4 --proj 4", "proj must be 0, or of an LSTM below H"),
    ],
)
def test_bad_options_end_with_a_message(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_engines_go_by_the_names_in_charts_too() -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    for name in peers.ENGINES:
        given = parser.parse_args(["--engines", name, chart.name(name), chart.name(name).upper()])
        assert given.engines == [name] * 3


def test_absent_engines_are_left_out_with_one_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(protocol, "found", lambda *modules: modules == ("fastlstm",))
    assert cli.choose_engines(None, pytest.fail) == ["fastlstm", "fastlstm-padded"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert "torch is left out: it needs torch, not installed here" in lines
    assert "fastlstm.torch is left out: it needs torch, not installed here" in lines
    with pytest.raises(ZeroDivisionError):
        cli.choose_engines(["torch"], lambda _: 1 / 0)


def test_info_shows_the_configuration(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert fastlstm.__version__ in capfd.readouterr().out


def test_files_are_named_after_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"model name": "AMD EPYC 7R13 (R)", "cpu family": "25", "model": "1"}
    monkeypatch.setattr(runtime, "cpu_field", lambda name: known.get(name, ""))
    best, worst = (runtime.available_isas()[i] for i in (0, -1))
    monkeypatch.setattr(runtime, "_isa", best)
    assert files.machine_name() == "amd-epyc-7r13-r-family-25-model-1"
    monkeypatch.setattr(runtime, "_isa", worst)
    assert files.machine_name() == f"amd-epyc-7r13-r-family-25-model-1-{worst}"
    known["cpu family"] = known["model"] = ""
    assert files.machine_name() == f"amd-epyc-7r13-r-{worst}"
