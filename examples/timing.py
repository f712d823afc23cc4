# SPDX-License-Identifier: BSD-3-Clause
"""Timing two engines fairly: the same machine state for both, in turn, medians of warm runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

ENGINES = ("PyTorch", "fastlstm")


@dataclass(frozen=True)
class Timing:
    """Median seconds of one call of a task, by engine."""

    task: str
    seconds: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """How many fastlstm calls fit in one PyTorch call."""
        return self.seconds["PyTorch"] / self.seconds["fastlstm"]


def compare(task: str, calls: Mapping[str, Callable[[], object]], budget: float) -> Timing:
    """Times each engine's call alternately for about `budget` seconds in all.

    A sample is a group of back-to-back calls that lasts about half a millisecond, so that the
    clock's own cost does not weigh on calls of a few microseconds. Engines alternate sample by
    sample: whatever else the machine does meanwhile strikes both alike.
    """
    group = {}
    for engine, call in calls.items():
        call()  # warm: packs weights, sizes buffers, fills caches
        start = perf_counter()
        call()
        group[engine] = max(1, round(0.5e-3 / (perf_counter() - start)))
    samples: dict[str, list[float]] = {engine: [] for engine in calls}
    deadline = perf_counter() + budget
    while perf_counter() < deadline or len(samples["fastlstm"]) < 5:
        for engine, call in calls.items():
            start = perf_counter()
            for _ in range(group[engine]):
                call()
            samples[engine].append((perf_counter() - start) / group[engine])
    return Timing(task, {engine: median(values) for engine, values in samples.items()})


def readable(seconds: float) -> str:
    """A duration with three significant digits and the unit that suits it."""
    value, unit = (seconds * 1e6, "us") if seconds < 1e-3 else (seconds * 1e3, "ms")
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
