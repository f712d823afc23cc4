# SPDX-License-Identifier: BSD-3-Clause
"""Results made up here, as a run would have them and as files hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastlstm.bench import peers, records, report, runner
from fastlstm.bench.shapes import Shape
from support.bench_runs import MACHINE, shape

HOSTILE = "<script src=\"https://x.org/a.js\">alert('1')</script> & $\\frac{$ _"


def named(of: Shape, name: str) -> Shape:
    return replace(of, name=name, model=f"model of {name}", source=f"paper of {name}")


SHAPES = [
    named(shape(1, 1, 8, 16, stream=True), "a-stream"),
    named(shape(50, 1, 8, 16), "one-sequence"),
    named(shape(50, 8, 8, 16), HOSTILE),
    named(shape(40, 4, 8, 16), "another-batch"),
    named(shape(50, 8, 8, 16, ragged=True), "a-ragged-batch"),
    named(shape(50, 8, 8, 16, cell="gru_reset_before"), "a-gru"),
    named(shape(50, 8, 8, 16, options={"peepholes": True}), "with-options"),
    named(shape(50, 8, 8, 16, proj=4), "projected"),
]
REGIMES = ["stream", "single", "batch", "batch", "ragged", "cells", "cells", "cells"]
TRAINED = [named(shape(50, 8, 8, 16, train=True), "a-training-step")]


def results(shapes: Sequence[Shape], threads: Sequence[int] = (1, 2)) -> list[runner.Result]:
    """Each engine has a time of its own: 10 us for ours, a tenth more for each that follows."""
    made = []
    for count in threads:
        for of in shapes:
            result = runner.Result(of, count)
            for number, engine in enumerate(peers.ENGINES):
                seconds = 1e-5 * 1.1**number
                result.engines[engine] = runner.Measurement([seconds, 0.9 * seconds, 2 * seconds])
            made.append(result)
    return made


def document(
    shapes: Sequence[Shape] = SHAPES, task: str = "inference", threads: Sequence[int] = (1, 2)
) -> dict[str, Any]:
    """As a file of results has it."""
    machines = {count: replace(MACHINE, threads=count) for count in threads}
    plan, versions = runner.Plan(rounds=3), {"fastlstm": "0.1", "torch": "2.13<b>"}
    values = report.document(results(shapes, threads), machines, versions, plan, (), task)
    loaded: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return loaded


def both() -> dict[str, Any]:
    return {**document(), "training": document(TRAINED, "training", (1,))}


def chapters(folder: Path) -> list[records.Chapter]:
    path = folder / "results.json"
    path.write_text(json.dumps(both()))
    return records.read(path)
