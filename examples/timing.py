# SPDX-License-Identifier: BSD-3-Clause
"""Timing two engines fairly: the same machine state for both, in turn, medians of warm runs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import median
from time import perf_counter

try:
    from tqdm import tqdm
except ImportError:  # no bar then

    def tqdm(steps, **options):  # type: ignore[no-untyped-def]
        """The steps alone."""
        return steps


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


@dataclass(frozen=True)
class Training:
    """Losses and seconds of every update, by the name of the run."""

    losses: dict[str, list[float]]
    seconds: dict[str, list[float]]

    def total(self, name: str) -> float:
        """Seconds that one run took."""
        return sum(self.seconds[name])

    def timing(self, task: str) -> Timing:
        """Median update of both engines."""
        return Timing(task, {engine: median(self.seconds[engine]) for engine in ENGINES})

    def difference(self, name: str, to: str, updates: int | None = None) -> float:
        """Largest relative difference of the losses of two runs, of the first updates or of all."""
        pairs = zip(self.losses[name], self.losses[to], strict=False)
        return max(abs(a - b) / abs(b) for a, b in islice(pairs, updates))


def train_in_turn(runs: Mapping[str, Iterator[float]], updates: int, what: str) -> Training:
    """Drives training loops that yield their losses: an update of each, and so on.

    So whatever else the machine does meanwhile strikes all alike.
    """
    losses: dict[str, list[float]] = {name: [] for name in runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(updates), desc=what, unit="update", mininterval=0.5):
        for name, run in runs.items():
            start = perf_counter()
            losses[name].append(next(run))
            seconds[name].append(perf_counter() - start)
    return Training(losses, seconds)
