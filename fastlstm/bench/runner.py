# SPDX-License-Identifier: BSD-3-Clause
"""Measure engines in turn, each in its own process.

Every (engine, thread count) has one worker that lives for the whole run, so OpenMP run-times and
thread pools never share a process. The engines take turns within each round (ours, peer, ours,
peer, ...), so that a slow minute of the machine meets all of them; one worker computes at a time
and the others wait for their input. The figure of an engine is the median over rounds of each
round's median.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import peers, protocol
from .shapes import Shape

OURS = "fastlstm"
MAX_ABS_DIFF = 2e-5  # more than this between two engines is reported as a disagreement
MEMORY_ENGINES = (OURS, "torch")  # whose training steps' memory is measured
SETTLE_SECONDS = 0.02  # until the threads of the worker that was busy have stopped spinning

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class WorkerError(RuntimeError):
    """A worker process ended or said that it can't do what was asked."""


@dataclass
class Measurement:
    """One engine on one shape: seconds per call."""

    rounds: list[float] = field(default_factory=list)  # the median of each round
    calls: int = 0
    max_abs_diff: float | None = None  # against the first engine, see `agreement`; None where none
    peak_bytes: int | None = None  # of a training step, see `training`; None if not measured

    @property
    def seconds(self) -> float:
        return statistics.median(self.rounds)


@dataclass
class Result:
    """All engines on one shape at one thread count; ``missing`` says why one has no figure."""

    shape: Shape
    threads: int
    engines: dict[str, Measurement] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """Time of ``peer`` / time of ours; None if either has no figure."""
        if peer not in self.engines or OURS not in self.engines:
            return None
        return self.engines[peer].seconds / self.engines[OURS].seconds

    def best_peer(self) -> str | None:
        """The fastest engine that is not ours."""
        others = [name for name in self.engines if not name.startswith(OURS)]
        return min(others, key=lambda name: self.engines[name].seconds, default=None)


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``rounds`` of about ``seconds`` for each engine and shape; ``memory``
    also measures that of training steps."""

    rounds: int = 5
    seconds: float = 0.2
    seed: int = 0
    memory: bool = True


class WorkerProcess:
    """The parent's end of a worker. Start-up problems are kept in ``broken``, not raised."""

    def __init__(self, engine: str, threads: int) -> None:
        package = Path(__file__).absolute().parents[1]
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", str(package / "bench" / "worker.py")),
                *(engine, str(threads), str(package.parent)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("FASTLSTM_BENCH_VERBOSE") else subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.version = ""
        self.broken: str | None = None
        try:
            self.version = str(self._answer()["version"])
        except WorkerError as error:
            self.broken = str(error)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.broken = f"its process ended with status {self._process.wait()}"
            raise WorkerError(self.broken)
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise WorkerError(answer["reason"])
        return answer

    def ask(self, op: str, **values: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises WorkerError."""
        if self.broken is not None:
            raise WorkerError(self.broken)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **values}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.broken = f"its process ended with status {self._process.wait()}"
            raise WorkerError(self.broken) from None
        return self._answer()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Runner:
    """Workers for the chosen engines and thread counts, started when first needed.

    Use as a context manager; leaving it ends the workers.
    """

    def __init__(self, engines: Sequence[str], threads: Sequence[int], plan: Plan) -> None:
        self.engines = tuple(engines)
        self.threads = tuple(threads)
        self.plan = plan
        self._workers: dict[tuple[str, int], WorkerProcess] = {}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the engines that have been started."""
        return {
            engine: worker.version
            for (engine, _), worker in self._workers.items()
            if worker.version and engine == peers.ENGINES[engine].package  # not for each variant
        }

    def _worker(self, engine: str, threads: int) -> WorkerProcess:
        key = (engine, threads)
        if key not in self._workers:
            self._workers[key] = WorkerProcess(engine, threads)
        return self._workers[key]

    def run(self, shape: Shape) -> list[Result]:
        """Measure a shape at every thread count; all engines and counts take turns."""
        results = {threads: Result(shape, threads) for threads in self.threads}
        with tempfile.TemporaryDirectory() as folder:
            for threads, result in results.items():
                self._prepare(result, Path(folder) / f"y{threads}.npz")
        for _ in range(self.plan.rounds):
            for result in results.values():
                for engine in list(result.engines):
                    self._measure(result, engine)
        for result in results.values():
            for engine in result.engines:
                with contextlib.suppress(WorkerError):
                    self._worker(engine, result.threads).ask("release")
        if shape.train and self.plan.memory:
            for result in results.values():
                self._measure_memory(result)
        return list(results.values())

    def _prepare(self, result: Result, reference: Path) -> None:
        """Build the model in each engine and compare its output with the first engine's."""
        for engine in self.engines:
            reason = protocol.refusal(peers.ENGINES[engine], result.shape)
            if reason is not None:
                result.missing[engine] = reason
                continue
            measurement = Measurement()
            try:
                worker = self._worker(engine, result.threads)
                worker.ask("prepare", shape=asdict(result.shape), seed=self.plan.seed)
                if reference.exists():
                    answer = worker.ask("compare", path=str(reference))
                    measurement.max_abs_diff = answer["max_abs_diff"]
                elif not peers.ENGINES[engine].padded:
                    worker.ask("output", path=str(reference))
            except WorkerError as error:
                result.missing[engine] = str(error)
                continue
            result.engines[engine] = measurement

    def _measure(self, result: Result, engine: str) -> None:
        time.sleep(SETTLE_SECONDS)
        try:
            answer = self._worker(engine, result.threads).ask("measure", seconds=self.plan.seconds)
        except WorkerError as error:
            result.missing[engine] = str(error)
            del result.engines[engine]
            return
        result.engines[engine].rounds.append(answer["median"])
        result.engines[engine].calls += answer["calls"]

    def _measure_memory(self, result: Result) -> None:
        for engine in MEMORY_ENGINES:
            if engine not in result.engines:
                continue
            process = WorkerProcess(engine, result.threads)
            with contextlib.suppress(WorkerError):
                answer = process.ask("memory", shape=asdict(result.shape), seed=self.plan.seed)
                result.engines[engine].peak_bytes = answer["peak_bytes"]
            process.close()


def disagreements(results: Sequence[Result]) -> list[str]:
    """A line for each engine whose output differs from ours by more than `MAX_ABS_DIFF`."""
    return [
        f"{result.shape.name or result.shape.describe()}, {result.threads} threads: "
        f"{engine} differs by {measurement.max_abs_diff:.1e}"
        for result in results
        for engine, measurement in result.engines.items()
        if measurement.max_abs_diff is not None and not measurement.max_abs_diff <= MAX_ABS_DIFF
    ]
