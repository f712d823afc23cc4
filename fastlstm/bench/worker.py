# SPDX-License-Identifier: BSD-3-Clause
"""A child process that holds one engine and obeys JSON lines from its standard input.

    python -P worker.py ENGINE THREADS PACKAGE_ROOT

    {"op": "prepare", "shape": {...}, "seed": 0}  builds the model and calls it once
    {"op": "output", "path": "y.npz"}             saves what a fresh model gives
    {"op": "compare", "path": "y.npz"}            max_abs_diff between that and the file, or null
    {"op": "measure", "seconds": s}               median and min (seconds a call), calls
    {"op": "memory", "shape": {...}, "seed": 0}   peak_bytes of a training step, or null; to be
                                                  asked of a fresh worker
    {"op": "release"}                             frees the model

Each answer is a JSON line, {"ok": true, ...} or {"ok": false, "reason": "..."}. Run by path, not
as a module: `import fastlstm` would bring this package's own OpenMP run-time into the peers'
processes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

STREAM_CHECK_CALLS = 4
SHORT_CALL = 50e-6  # calls shorter than this are timed several at a time
MAX_SAMPLES = 20_000


def load_bench() -> None:
    """Make this folder importable as the package ``fastlstm_bench``, without its parent."""
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "fastlstm_bench", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {here}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastlstm_bench"] = module
    spec.loader.exec_module(module)


def measure(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Time ``call`` for about ``seconds``: median and minimum per call in seconds, calls timed.

    Warms up for a tenth of that first: other engines ran since the last time, so caches are cold.
    At least three samples are taken, however long a call is.
    """
    now = time.perf_counter_ns
    call()
    start = now()
    call()
    once = max(now() - start, 1) * 1e-9
    stop = now() + int(0.1 * seconds * 1e9)
    while now() < stop:
        call()
    inner = max(1, math.ceil(SHORT_CALL / once))
    samples: list[float] = []
    stop = now() + int(seconds * 1e9)
    collecting = gc.isenabled()
    gc.disable()
    try:
        while len(samples) < 3 or (now() < stop and len(samples) < MAX_SAMPLES):
            start = now()
            for _ in range(inner):
                call()
            samples.append((now() - start) * 1e-9 / inner)
    finally:
        if collecting:
            gc.enable()
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "calls": inner * len(samples),
    }


class Worker:
    """One engine at one thread count, and the shape it is prepared for."""

    def __init__(self, engine_name: str, threads: int) -> None:
        from fastlstm_bench import (  # type: ignore[import-not-found, unused-ignore]
            agreement,
            peers,
            protocol,
            shapes,
            training,
        )

        self.agreement: Any = agreement
        self.protocol: Any = protocol
        self.shapes: Any = shapes
        self.training: Any = training
        self.engine: Any = peers.ENGINES[engine_name]
        self.call: Any = None
        self.shape: Any = None
        self.threads = threads
        self.engine.setup(threads)

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        self.release(request)
        self.shape = self.shapes.Shape(**request["shape"])
        reason = self.protocol.refusal(self.engine, self.shape)
        if reason is not None:
            return {"ok": False, "reason": reason}
        self.arrays = self.shapes.make_arrays(self.shape, request["seed"])
        self.call = self._fresh()
        start = time.perf_counter_ns()
        self.call()
        return {"ok": True, "first_seconds": (time.perf_counter_ns() - start) * 1e-9}

    def release(self, request: dict[str, Any]) -> dict[str, Any]:
        self.call = self.arrays = None
        gc.collect()
        return {"ok": True}

    def _fresh(self) -> Any:
        return self.engine.prepare(self.shape, self.arrays, self.threads)

    def _result(self) -> Any:
        call = self._fresh()  # a stream that was measured has moved on
        for _ in range(STREAM_CHECK_CALLS if self.shape.stream else 1):
            result = call()
        return self.engine.output(self.shape, result)

    def output(self, request: dict[str, Any]) -> dict[str, Any]:
        np.savez(request["path"], **self._result())
        return {"ok": True}

    def compare(self, request: dict[str, Any]) -> dict[str, Any]:
        with np.load(request["path"]) as other:
            expected = dict(other)
        difference = self.agreement.difference(
            self.shape, expected, self._result(), self.arrays.lengths, self.engine.padded
        )
        return {"ok": True, "max_abs_diff": difference}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        def prepare(shape: Any) -> Any:
            arrays = self.shapes.make_arrays(shape, request["seed"])
            return self.engine.prepare(shape, arrays, self.threads)

        peak = self.training.peak_bytes(prepare, self.shapes.Shape(**request["shape"]))
        return {"ok": True, "peak_bytes": peak}

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **measure(self.call, request["seconds"])}


def serve(worker: Worker, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until the input ends."""
    operations = {
        "prepare": worker.prepare,
        "output": worker.output,
        "compare": worker.compare,
        "measure": worker.measure,
        "memory": worker.memory,
        "release": worker.release,
    }
    for line in requests:
        request = json.loads(line)
        try:
            answer = operations[request["op"]](request)
        except Exception as error:  # a peer may fail in any way; the run goes on without it
            text = str(error).strip().splitlines() or [""]
            answer = {"ok": False, "reason": f"{type(error).__name__}: {text[0]}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def main(arguments: list[str]) -> None:
    # Libraries write to descriptor 1 as they like; answers travel on a private copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine_name, threads, root = arguments[0], int(arguments[1]), arguments[2]
    load_bench()
    try:
        if engine_name.startswith("fastlstm"):
            # The very package that the parent belongs to, whichever else is installed.
            sys.path.insert(0, root)
            importlib.import_module("fastlstm")
            sys.path.remove(root)
        worker = Worker(engine_name, threads)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps({"ok": False, "reason": reason}), file=answers, flush=True)
        return
    version = worker.protocol.version(worker.engine)
    print(json.dumps({"ok": True, "version": version}), file=answers, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        serve(worker, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
