# SPDX-License-Identifier: BSD-3-Clause
"""How fast a shape could run on this machine at best, from limits measured in the same run.

A step can't be shorter than its arithmetic, than one read of its recurrent weights, or than the
chain of dependent operations from one h to the next:

    t_step >= max(2 G B H^2 / (threads * peak), read(s G H^2 / threads), chain)

with G gates (4 of an LSTM), s bytes a value, and the input part (I instead of H, no dependence
between steps) on top. ``read`` is the time of one thread for its share of the weights: what fits
the first cache at that cache's rate, what fits the next one at that one's, and so on. (One rate,
that of the smallest cache that holds the share, would not be a bound: weights slightly larger than
a cache are mostly read from it if every other step walks through them backwards.) Both directions
of a layer count as one step of twice the work. Only valid steps of a ragged batch count.

Of a training step only the arithmetic is a limit here, three times that of inference: the gradients
of inputs and of weights are two products as large as the one of the forward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Shape, make_lengths

# Latencies in cycles from one h to the next at the shortest: a store read back by a broadcast load
# 11, one FMA 4, sigmoid 38 (round, subtract, polynomial of depth 4, scale, add, divide), f*c + i*g
# 8, tanh 42 (one operation more than sigmoid), the product with o 4. A GRU: r hn + xn 4, the tanh,
# z (h - n) + n 8. One that resets before the product: r from h, r h 4, its store read back and its
# product as those of h, then the same. A maximum 4.
CHAINS = {
    "lstm": 11 + 4 + 38 + 8 + 42 + 4,
    "gru": 11 + 4 + 38 + 4 + 42 + 8,
    "gru_reset_before": 11 + 4 + 38 + 4 + 11 + 4 + 42 + 8,
    "rnn_tanh": 11 + 4 + 42,
    "rnn_relu": 11 + 4 + 4,
}

# Where the machine doesn't say: sizes in bytes of L1, L2, L3 that are common.
DEFAULT_CACHES = (32 << 10, 1 << 20, 16 << 20)

LARGEST_READ = 16 << 20  # bytes of a cache that are read at most to measure it


@dataclass(frozen=True)
class Machine:
    """Measured limits with ``threads`` threads busy at once.

    flops       per dtype, the FMA peak of one thread in flop/s
    bandwidth   (capacity in bytes, bytes/s of one thread), smallest cache first; the last entry is
                memory, of capacity infinity
    chain       seconds of the shortest dependent chain of an LSTM's step
    """

    threads: int
    flops: Mapping[str, float]
    bandwidth: tuple[tuple[float, float], ...]
    chain: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity: memory's capacity is null."""
        values = asdict(self)
        values["bandwidth"] = [
            {"capacity_bytes": None if np.isinf(size) else int(size), "bytes_per_second": rate}
            for size, rate in self.bandwidth
        ]
        return values


@dataclass(frozen=True)
class Limit:
    """A lower bound on a call's time in seconds, and what sets most of it."""

    seconds: float
    bound: str  # "arithmetic", "bandwidth" or "latency"


def row_steps(shape: Shape) -> int:
    """Valid (sequence, step) pairs: T * B, or the sum of the lengths."""
    lengths = make_lengths(shape)
    return shape.T * shape.B if lengths is None else int(lengths.sum())


def flops(shape: Shape) -> float:
    """Useful floating-point operations of a call: 2 G H (I + H) for each valid step and direction,
    or 2 H (G (I + P) + P) with a projection; three times that for a training step."""
    per_row = sum(2.0 * sum(shape.multiply_adds(layer)) for layer in range(shape.layers))
    return per_row * row_steps(shape) * (3 if shape.train else 1)


def active_rows(shape: Shape) -> NDArray[np.int64]:
    """Sequences still running at each step, int64 (T,)."""
    lengths = make_lengths(shape)
    if lengths is None:
        return np.full(shape.T, shape.B, np.int64)
    return np.array((np.arange(shape.T)[:, None] < lengths).sum(axis=1), np.int64)


def read_seconds(machine: Machine, share: float) -> float:
    """Seconds in which one thread reads ``share`` bytes that it has read many times before."""
    seconds, below = 0.0, 0.0
    for capacity, rate in machine.bandwidth:
        seconds += max(0.0, min(share, capacity) - below) / rate
        below = capacity
    return seconds


def limit(shape: Shape, machine: Machine) -> Limit:
    """The bound of the module's formula, summed over layers."""
    peak = machine.threads * machine.flops[shape.dtype]
    if shape.train:
        return Limit(flops(shape) / peak, "arithmetic")
    size = np.dtype(shape.dtype).itemsize
    rows = active_rows(shape)
    parts = {"arithmetic": 0.0, "bandwidth": 0.0, "latency": 0.0}

    # Threads beyond one a direction split its weights; fewer take the directions in turn.
    turns = max(1.0, shape.directions / machine.threads)

    def read(values: float) -> float:
        return turns * read_seconds(machine, size * values / machine.threads / turns)

    for layer in range(shape.layers):
        projection, recurrent = map(float, shape.multiply_adds(layer))  # as many weights
        # A call reads the input weights once; where it has one step, that is each step.
        compute, load = 2.0 * projection * rows.sum() / peak, read(projection)
        parts["arithmetic" if compute >= load else "bandwidth"] += max(compute, load)

        load = read(recurrent)
        for active, steps in zip(*np.unique(rows, return_counts=True), strict=True):
            candidates = {
                "arithmetic": 2.0 * recurrent * active / peak,
                "bandwidth": load,
                "latency": machine.chain * CHAINS[shape.cell] / CHAINS["lstm"],
            }
            bound = max(candidates, key=lambda name: candidates[name])
            parts[bound] += float(steps) * candidates[bound]
    return Limit(float(sum(parts.values())), max(parts, key=lambda name: parts[name]))


def limit_seconds(shape: Shape, machine: Machine) -> float:
    """The shortest possible time of a call, in seconds."""
    return limit(shape, machine).seconds


def cache_sizes() -> tuple[int, ...]:
    """Bytes of the first core's data caches, smallest level first; a guess where unknown."""
    sizes: dict[int, int] = {}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (entry / "type").read_text().strip() == "Instruction":
                continue
            text = (entry / "size").read_text().strip()
            level = int((entry / "level").read_text())
            sizes[level] = int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)
        except (OSError, ValueError, IndexError):
            continue
    found = tuple(sizes[level] for level in sorted(sizes))
    return found if len(found) >= 2 else DEFAULT_CACHES


def _together(threads: int, task: Callable[[], float]) -> float:
    """The mean of what ``task`` returns in each of ``threads`` threads that run it at once."""
    if threads == 1:
        return task()
    results: list[float] = []
    barrier = threading.Barrier(threads)

    def body() -> None:
        barrier.wait()
        results.append(task())

    workers = [threading.Thread(target=body) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if len(results) != threads:
        raise RuntimeError("a thread that measured the machine failed")
    return sum(results) / threads


def measure_machine(threads: int, seconds: float = 0.1) -> Machine:
    """Measure peak and bandwidths with ``threads`` threads at once, ``seconds`` for each figure.

    Caches are read at half their size, since the share of the weights has to fit beside the
    activations. The third level counts as shared, so each thread has its part of it; a large one
    is read at less than half, since other machines' work slows down the rest of it.
    """
    from fastlstm import _core, runtime

    core: Any = _core  # the measuring calls are outside the library's public interface
    isa = runtime.active_isa()

    def peak(dtype: str) -> float:
        return max(
            _together(threads, lambda: float(core.measure_fma(seconds, dtype, isa)))
            for _ in range(2)  # the first may meet a clock that is still rising
        )

    def bandwidth(size: int) -> float:
        return _together(threads, lambda: float(core.measure_read_bandwidth(size, seconds, isa)))

    peaks = {dtype: peak(dtype) for dtype in ("float32", "float64")}
    sizes = cache_sizes()
    parts = [size // threads if level >= 2 else size for level, size in enumerate(sizes)]
    levels = [(float(part), min(part // 2, LARGEST_READ)) for part in parts]
    levels.append((float("inf"), max(128 << 20, 4 * sizes[-1])))
    rates = tuple((capacity, bandwidth(size)) for capacity, size in levels)
    # Two FMA units of 2 * lanes flop a cycle, at the number of lanes that makes the clock fall into
    # 3 to 6 GHz. A slower machine's chain comes out too short, so the limit stays a lower bound.
    lanes = 4
    while peaks["float32"] / (4 * lanes) > 6.0e9:
        lanes *= 2
    clock = peaks["float32"] / (4 * lanes)
    return Machine(threads, peaks, rates, CHAINS["lstm"] / clock)
