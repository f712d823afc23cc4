# SPDX-License-Identifier: BSD-3-Clause
"""Shapes, workers and a command line that tests of both tasks of the benchmark use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlstm import reference
from fastlstm.bench import agreement, limits, peers, runner, shapes
from fastlstm.bench.shapes import Shape

# Made up: one thread, two caches.
MACHINE = limits.Machine(
    threads=1,
    flops={"float32": 100e9, "float64": 50e9},
    bandwidth=((32e3, 400e9), (1e6, 200e9), (math.inf, 50e9)),
    chain=20e-9,
)
# A shape of one's own: options of `python -m fastlstm bench`.
SIZES = ["--input-size", "3", "--hidden-size", "5", "--batch", "2", "--steps", "4"]


def shape(T: int, B: int, I: int, H: int, **options: Any) -> Shape:  # noqa: E741
    return Shape("test", "none", "none", T, B, I, H, **options)


def engine_worker(task: str) -> Any:
    """A fixture: by turns the name of each engine of the task, and a worker that runs it."""

    @pytest.fixture(
        scope="module", params=[name for name, e in peers.ENGINES.items() if task in e.tasks]
    )
    def engine_worker(request: pytest.FixtureRequest) -> Iterator[tuple[str, runner.WorkerProcess]]:
        name = request.param
        if not peers.ENGINES[name].available():
            pytest.skip(f"{name} is not installed")
        process = runner.WorkerProcess(name, 1)
        yield name, process
        process.close()

    return engine_worker


def difference(
    process: runner.WorkerProcess, expected: agreement.Outputs, folder: Path
) -> float | None:
    """By how much what the worker has computed differs from what is expected."""
    path = folder / "expected.npz"
    np.savez(path, **expected)
    found: float | None = process.ask("compare", path=str(path))["max_abs_diff"]
    return found


def assert_agreement(of: Shape, difference: float | None, *, mixed: bool) -> None:
    """`mixed`: the engine pads, and past the ends both directions mix; nothing to compare."""
    if mixed:
        assert difference is None
    else:
        assert difference is not None
        assert difference <= (1e-12 if of.dtype == "float64" else runner.MAX_ABS_DIFF)


training_shape = partial(shape, train=True)

TRAINING_SHAPES = {
    "plain": training_shape(7, 3, 5, 6),
    "stacked both ways": training_shape(9, 4, 5, 20, layers=2, bidirectional=True),
    "ragged": training_shape(16, 5, 4, 33, ragged=True),
    "ragged stack": training_shape(16, 5, 4, 7, layers=2, ragged=True),
    "ragged both ways": training_shape(16, 5, 4, 7, bidirectional=True, ragged=True),
    "ragged stack both ways": training_shape(
        12, 3, 4, 7, layers=2, bidirectional=True, ragged=True
    ),
    "float64": training_shape(7, 3, 5, 6, layers=2, dtype="float64"),
    "GRU": training_shape(9, 4, 5, 20, layers=2, bidirectional=True, cell="gru"),
    "ragged GRU": training_shape(16, 5, 4, 33, ragged=True, cell="gru"),
    "GRU that resets before": training_shape(
        9, 4, 5, 20, layers=2, bidirectional=True, cell="gru_reset_before"
    ),
    "RNN": training_shape(9, 4, 5, 20, bidirectional=True, cell="rnn_tanh"),
    "projected": training_shape(9, 4, 5, 20, layers=2, bidirectional=True, proj=7),
    "options": training_shape(
        9, 4, 5, 20, layers=2, options={"peepholes": True, "layer_norm": "sums"}
    ),
}


def passes(of: Shape) -> tuple[Any, Any]:
    """The reference's forward and backward pass of a shape's cell."""
    name = of.cell.split("_")[0]
    options: dict[str, Any] = {}
    if name == "rnn":
        options["nonlinearity"] = of.cell.split("_")[1]
    if name == "gru":
        options["reset_after"] = of.cell == "gru"
    if of.options:
        options["options"] = dict(of.options)
    found = (getattr(reference, f"{name}_{which}") for which in ("forward", "backward"))
    forward, backward = (partial(function, **options) for function in found)
    return forward, backward


def specification(of: Shape) -> agreement.Outputs:
    """What the reference gives, computed in float64."""
    arrays, (forward, backward) = shapes.make_arrays(of), passes(of)
    params = {name: values.astype(np.float64) for name, values in arrays.params.items()}
    x, lengths = arrays.x.astype(np.float64), arrays.lengths
    assert arrays.dy is not None
    y = forward(x, params, lengths=lengths).y
    grads = backward(x, params, lengths=lengths, dy=arrays.dy.astype(np.float64))
    states = {f"{letter}_0": getattr(grads, f"{letter}_0") for letter in of.states}
    return {"y": y, "x": grads.x, **states, **grads.params}
