# SPDX-License-Identifier: BSD-3-Clause
"""Does the planner choose well here? Every plan that it can choose is forced on random shapes.

A *regret* is how much slower than the best of all plans the chosen one is: 0 where it is the best.
Plans of a shape are measured in turns, in one process, and the least time of each counts. A
training step has two plans, one forward and one backward, which are forced and measured apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import runtime
from ..checks import Array
from ..lstm import LSTM
from ..spec import BACKWARD, FORWARD

Plan = tuple[int, int, int, bool]
"""Groups of directions, rows and units (threads are their product); whether inputs are projected
ahead of the recurrence, False backward."""

PURPOSES = {"infer": "inference", "train": "forward in training", "back": "backward"}
"""What a plan may be for, as the engine names it, and in words."""


@dataclass(frozen=True)
class Case:
    """One shape, the plan that was chosen for it, and the seconds of a call by each plan."""

    shape: str
    chosen: Plan
    seconds: dict[Plan, float]

    @property
    def regret(self) -> float:
        """Of the chosen plan, as a share of the best one's time."""
        return self.seconds[self.chosen] / min(self.seconds.values()) - 1


def candidates(
    lstm: LSTM, steps: int, batch: int, threads: int, purpose: str = "infer"
) -> Iterator[Plan]:
    """All plans of as many threads, and of one."""
    plan = _engine(lstm, purpose).plan(steps, batch, 1, purpose)
    most_dirs = 2 if lstm.bidirectional and purpose != "back" else 1
    most_units = plan["full"] + (plan["remainder"] > 0)
    if purpose == "back":  # threads share units by two vectors
        most_units = -(-lstm.hidden_size // (2 * plan["lanes"]))
    most_rows = batch
    if purpose != "infer":  # parts of the batch are given, and threads take them in turn
        most_rows = plan["row_groups"]
        if most_rows > 1:
            most_dirs = most_units = 1
    for dirs in range(1, most_dirs + 1):
        for rows in range(1, min(threads, most_rows) + 1):
            for units in range(1, min(threads, most_units) + 1):
                if dirs * rows * units in (1, min(threads, most_dirs * most_rows * most_units)):
                    for ahead in (False, True)[: 1 if purpose == "back" else 2]:
                        yield dirs, rows, units, ahead


def chosen(lstm: LSTM, steps: int, batch: int, threads: int, purpose: str = "infer") -> Plan:
    """What the planner takes for a call."""
    plan = _engine(lstm, purpose).plan(steps, batch, threads, purpose)
    ahead = purpose != "back" and plan["project_steps"] > 0
    if purpose != "infer" and plan["row_groups"] > 1:
        return 1, plan["threads"], 1, ahead
    return plan["dir_groups"], plan["row_groups"], plan["unit_groups"], ahead


def _engine(lstm: LSTM, purpose: str) -> Any:
    return lstm._engine() if purpose == "infer" else lstm._engine(FORWARD | BACKWARD)


def measure(
    seed: int,
    threads: int,
    purpose: str = "infer",
    rounds: int = 5,
    seconds: float = 0.02,
    most_flops: float = 2e9,
) -> Case:
    """The case of a seed: sizes are drawn on a logarithmic scale."""
    rng = np.random.default_rng(seed)

    def size(most: int) -> int:
        return int(np.exp(rng.uniform(0, np.log(most + 1))))

    while True:
        steps, batch, inputs, hidden = size(200), size(128), size(512), size(512)
        layers, both = int(rng.integers(1, 3)), bool(rng.integers(2))
        if 8 * steps * batch * hidden * (inputs + hidden) * layers * (1 + both) <= most_flops:
            break
    lstm = LSTM(inputs, hidden, layers, bidirectional=both, seed=0)
    x = rng.standard_normal((steps, batch, inputs)).astype(np.float32)
    picked = chosen(lstm, steps, batch, threads, purpose)
    engine, plans = _engine(lstm, purpose), list(candidates(lstm, steps, batch, threads, purpose))
    call = _call(lstm, x, purpose)
    best: dict[Plan, float] = {}
    for turn in range(rounds):
        for plan in plans:
            engine.force(*plan, purpose)
            best[plan] = min(best.get(plan, np.inf), _time(call, seconds, turn == 0))
    shape = f"T{steps} B{batch} I{inputs} H{hidden} L{layers}{' bi' if both else ''}"
    return Case(shape, picked, best)


def _call(lstm: LSTM, x: Array, purpose: str) -> Callable[[], Any]:
    """A call that runs by one plan of that purpose."""
    if purpose == "infer":
        return lambda: lstm(x)
    y, _, tape = lstm.forward(x)
    if purpose == "train":
        return lambda: lstm.forward(x, tape=tape)
    return lambda: lstm.backward(tape, y)


def _time(call: Callable[[], Any], seconds: float, cold: bool) -> float:
    """Seconds of the fastest of as many calls as fit."""
    if cold:
        call()
    best, end = np.inf, time.perf_counter() + seconds
    while True:
        begin = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now >= end:
            return float(best)


def words(plan: Plan) -> str:
    """A plan in a few letters."""
    dirs, rows, units, ahead = plan
    return f"{dirs}x{rows}x{units} {'ahead' if ahead else 'inside'}"


def run(threads: list[int], count: int, seed: int, train: bool = False) -> int:
    """Measure and print; the result is 0, since a regret is a finding and no failure."""
    for number in threads:
        for purpose in ("train", "back") if train else ("infer",):
            cases = [measure(seed + i, number, purpose) for i in range(count)]
            regrets = [case.regret for case in cases]
            print(
                f"{count} shapes on {runtime.active_isa()}, {PURPOSES[purpose]}, {number} threads: "
                f"the chosen plan is {100 * statistics.median(regrets):.1f} % slower than the best "
                f"in the median, {100 * max(regrets):.1f} % at worst; directions x rows x units, "
                "projection:"
            )
            for case in sorted(cases, key=lambda case: -case.regret)[:10]:
                best = min(case.seconds, key=lambda plan: case.seconds[plan])
                print(
                    f"  {100 * case.regret:5.1f} %  {case.shape:32}  chosen "
                    f"{words(case.chosen):16}  best {words(best)}"
                )
    return 0
