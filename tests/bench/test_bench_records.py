# SPDX-License-Identifier: BSD-3-Clause
"""Files of results read back: what a run wrote, and what is wrong with others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastlstm.bench import peers, records
from support import ROOT, bench_records
from support.bench_records import REGIMES, SHAPES


def test_what_was_written_is_read(tmp_path: Path) -> None:
    inference, training = bench_records.chapters(tmp_path)
    assert (inference.title, training.title) == ("Inference", "Training")
    assert inference.threads == [1, 2]
    assert inference.engines == list(peers.ENGINES)
    assert [row.shape for row in inference.rows] == SHAPES * 2
    assert [row.regime for row in inference.rows] == REGIMES * 2
    assert [row.regime for row in training.rows] == ["training"]
    assert [machine.threads for machine in inference.machines] == [1, 2]
    row = inference.rows[0]
    torch = row.engines["torch"]
    position = list(peers.ENGINES).index("torch")
    assert torch.seconds == pytest.approx(1e-5 * 1.1**position)
    assert (torch.least, torch.most) == pytest.approx((0.9 * torch.seconds, 2 * torch.seconds))
    assert row.peers == ["torch", "torch-padded", "onnxruntime", "openvino", "jax"]
    assert row.ratio("torch") == row.ratio_to_best == pytest.approx(1.1**position)
    assert row.ratio("nobody") is None
    assert row.limit is not None
    assert row.share == pytest.approx(row.limit / 1e-5)


def test_regimes_are_groups_of_rows(tmp_path: Path) -> None:
    inference, _ = bench_records.chapters(tmp_path)
    groups = inference.regimes(2)
    assert list(groups) == ["stream", "single", "batch", "ragged", "cells"]
    assert [len(group) for group in groups.values()] == [1, 1, 2, 1, 3]
    assert all(row.threads == 2 for group in groups.values() for row in group)


def test_published_models_are_told_from_sizes_alone(tmp_path: Path) -> None:
    values = bench_records.both()
    values["results"][2]["shape"]["source"] = "none: sizes of our targets"
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values))
    one = records.read(path)[0]
    assert [len(group) for group in one.published(1).values()] == [1, 1, 1, 1, 3]
    for record in values["results"]:
        record["shape"]["source"] = "none"
    path.write_text(json.dumps(values))
    one = records.read(path)[0]
    assert one.published(1) == one.regimes(1)  # better than nothing


def test_a_file_of_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"training": bench_records.both()["training"]}))
    (one,) = records.read(path)
    assert one.task == "training"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "bench" / "results").glob("*.json")), ids=lambda path: path.name
)
def test_kept_results_are_read(path: Path) -> None:
    for one in records.read(path):
        assert one.rows
        assert {1, 2} == set(one.threads)
        assert all(row.share is not None and row.ratio_to_best for row in one.rows)


def _in(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts a value where the keys lead."""

    def change(values: dict[str, Any]) -> None:
        there: Any = values
        for key in keys[:-1]:
            there = there[key]
        there[keys[-1]] = value

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a later schema": (_in("schema", value=2), "schema must be 1, got 2"),
    "a schema of training": (_in("training", "schema", value=None), "training.schema must be an"),
    "training is a list": (_in("training", value=[]), "training must be an object, got []"),
    "no results": (_in("results", value=[]), "results must hold at least one"),
    "results are text": (_in("results", value="x"), "results must be a list, got 'x'"),
    "a result is null": (_in("results", 1, value=None), "results[1] must be an object, got None"),
    "machine": (_in("machine", value=3), "machine must be an object, got 3"),
    "cpu": (_in("machine", "cpu", value=None), "machine.cpu must be a string"),
    "flops": (
        _in("machine", "limits", 0, "flops", "float32", value="fast"),
        "machine.limits[0].flops.float32 must be a number above 0, got 'fast'",
    ),
    "bandwidth": (
        _in("machine", "limits", 1, "bandwidth", 0, "bytes_per_second", value=-1),
        "machine.limits[1].bandwidth[0].bytes_per_second must be a number above 0, got -1",
    ),
    "seconds of zero": (
        _in("results", 2, "engines", "torch", "seconds", value=0),
        "results[2].engines.torch.seconds must be a number above 0, got 0",
    ),
    "seconds that are true": (
        _in("results", 2, "engines", "jax", "seconds", value=True),
        "results[2].engines.jax.seconds must be a number above 0, got True",
    ),
    "NaN": (_in("results", 0, "limit", "seconds", value=float("nan")), "limit.seconds must be a"),
    "infinity": (_in("results", 0, "engines", "jax", "rounds", 1, value=1e999), "rounds[1] must"),
    "threads": (_in("results", 0, "threads", value=0), "results[0].threads must be a number above"),
    "a shape's sizes": (_in("results", 0, "shape", "H", value=-2), "shape: H must be a positive"),
    "a shape's cell": (_in("results", 0, "shape", "cell", value=[]), "results[0].shape: "),
    "a shape's options": (_in("results", 0, "shape", "options", value="x"), "results[0].shape: "),
    "a shape's name": (_in("results", 0, "shape", "name", value=5), "shape.name must be a string"),
    "a shape's flag": (_in("results", 0, "shape", "ragged", value=1), "ragged must be true or"),
    "a shape's new field": (_in("results", 0, "shape", "depth", value=1), "shape has depth, which"),
    "training in a stream": (_in("results", 0, "shape", "train", value=True), "results[0].shape: "),
    "no plan": (_in("plan", value=None), "plan must be an object"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_wrong_is_named(tmp_path: Path, what: str) -> None:
    change, message = CHANGES[what]
    values = copy.deepcopy(bench_records.both())
    change(values)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError) as caught:
        records.read(path)
    assert str(caught.value).startswith(f"{path} is no file of results, as bench --output writes")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"]
)
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no JSON"):
        records.read(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{}"])
def test_json_of_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no file of results"):
        records.read(path)
