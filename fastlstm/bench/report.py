# SPDX-License-Identifier: BSD-3-Clause
"""Results as a text table, Markdown and JSON."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastlstm.runtime import cpu_name

from .limits import Limit, Machine, flops, limit
from .runner import OURS, Plan, Result
from .zoo import ADAPTER_FACTOR, ADAPTER_SECONDS, Target

SCHEMA = 1
TITLES = {"inference": "# Benchmark", "training": "# Training"}
Machines = Mapping[int, Machine]  # by thread count; empty where the machine was not measured


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured for it; ``value`` is None if a figure is missing."""

    text: str
    required: float
    value: float | None

    @property
    def met(self) -> bool:
        return self.value is not None and self.value >= self.required


def _limit(result: Result, machines: Machines) -> Limit | None:
    machine = machines.get(result.threads)
    return None if machine is None else limit(result.shape, machine)


def _share(result: Result, machines: Machines) -> float | None:
    """Limit / time of ours: 1 is perfect."""
    bound = _limit(result, machines)
    if bound is None or OURS not in result.engines:
        return None
    return bound.seconds / result.engines[OURS].seconds


def _peak(result: Result, engine: str) -> int | None:
    return result.engines[engine].peak_bytes if engine in result.engines else None


def _columns(results: Sequence[Result], engines: Sequence[str]) -> list[str]:
    """Engines that have at least one figure, in the order given."""
    return [name for name in engines if any(name in result.engines for result in results)]


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.4f}" if seconds < 1e-3 else f"{seconds * 1e3:.4g}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def rows(
    results: Sequence[Result], engines: Sequence[str], machines: Machines
) -> tuple[list[str], list[list[str]]]:
    """Header and cells: ms of each engine, GFLOP/s of ours, ratios, share of the limit, memory."""
    columns = _columns(results, engines)
    others = [name for name in columns if not name.startswith(OURS)]
    header = ["name", "shape", "threads", *(f"{name} ms" for name in columns)]
    ours = OURS in columns
    if ours:
        header += ["GFLOP/s", *(f"vs {name}" for name in others), "vs best"]
        # The limit of a training step is its arithmetic alone, see `limits`.
        header.append("% of FMA" if any(r.shape.train for r in results) else "% of limit")
    weighed = [name for name in columns if any(_peak(r, name) is not None for r in results)]
    header += [f"{name} MB" for name in weighed]
    table = []
    for result in results:
        cells = [result.shape.name, result.shape.describe(), str(result.threads)]
        for name in columns:
            measured = result.engines.get(name)
            cells.append("-" if measured is None else _time(measured.seconds))
        if ours:
            mine = result.engines.get(OURS)
            rate = None if mine is None else flops(result.shape) / mine.seconds * 1e-9
            best = result.best_peer()
            share = _share(result, machines)
            cells.append(_number(rate, ".3g"))
            cells += [_number(result.ratio(name), ".2f") for name in others]
            cells.append(_number(None if best is None else result.ratio(best), ".2f"))
            cells.append(_number(None if share is None else 100 * share, ".0f"))
        for name in weighed:
            peak = _peak(result, name)
            cells.append(_number(None if peak is None else peak * 1e-6, ".3g"))
        table.append(cells)
    return header, table


def text_table(results: Sequence[Result], engines: Sequence[str], machines: Machines) -> str:
    """Aligned columns for a terminal."""
    header, table = rows(results, engines, machines)
    widths = [max(len(row[i]) for row in [header, *table]) for i in range(len(header))]
    left = 2  # name and shape read from the left, figures from the right

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *map(line, table)])


def _markdown_rows(header: Sequence[str], table: Sequence[Sequence[str]], left: int) -> list[str]:
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    return ["| " + " | ".join(row) + " |" for row in (header, marks, *table)]


def machine_line(machine: Machine) -> str:
    """Such as ``1 thread: FMA 262 GF/s; reads 517 / 220 / 100 / 45 GB/s; chain 26 ns``."""
    reads = " / ".join(f"{rate * 1e-9:.0f}" for _, rate in machine.bandwidth)
    plural = "" if machine.threads == 1 else "s, each"
    return (
        f"{machine.threads} thread{plural}: FMA {machine.flops['float32'] * 1e-9:.0f} GF/s; "
        f"reads by cache level, then memory {reads} GB/s; chain {machine.chain * 1e9:.0f} ns"
    )


_WORDS = {
    "time": "vs ",
    "memory": "memory vs ",
    "adapter": f"{100 * ADAPTER_FACTOR - 100:.0f} % or {ADAPTER_SECONDS * 1e6:.0f} us for ",
}


def _measured(result: Result, target: Target) -> float | None:
    peer = result.best_peer() if target.against == "best" else target.against
    if peer is None or result.ratio(peer) is None:
        return None
    if target.measure == "memory":
        mine, theirs = _peak(result, OURS), _peak(result, peer)
        return theirs / mine if mine and theirs else None
    if target.measure == "adapter":
        ours = result.engines[OURS].seconds
        allowed = max(ADAPTER_FACTOR * ours, ours + ADAPTER_SECONDS)
        return allowed / result.engines[peer].seconds
    return result.ratio(peer)


def _case(result: Result) -> str:
    return f"{result.shape.describe()}, {result.threads} thread{'s' if result.threads > 1 else ''}"


# Inference: what several threads must gain where neither bandwidth nor the size of a step stands
# against it (else they must not lose), and the share of the limit where arithmetic is the limit.
LEAST_GAIN, LEAST_SHARE = 1.7, 0.9


def judge(
    results: Sequence[Result], targets: Sequence[Target], machines: Machines | None = None
) -> list[Verdict]:
    """Each target whose shape was measured, against the measured ratio; and, with `machines`, what
    those shapes must gain by threads and reach of the limit."""
    by_key = {(result.shape.name, result.threads): result for result in results}
    verdicts = []
    for target in targets:
        result = by_key.get((target.shape.name, target.threads))
        if result is None:
            continue
        text = f"{_case(result)}, {_WORDS[target.measure]}{target.against}"
        verdicts.append(Verdict(text, target.ratio, _measured(result, target)))
    if machines:
        names = {target.shape.name for target in targets}
        chosen = [r for r in results if r.shape.name in names and not r.shape.train]
        verdicts += _judge_threads(chosen, machines) + _judge_shares(chosen, machines)
    return verdicts


def _judge_threads(results: Sequence[Result], machines: Machines) -> list[Verdict]:
    verdicts = []
    for result, gain, bound in scaling(results, machines):
        shape = result.shape
        large = shape.B == 1 and 256 <= shape.H <= 1024 and not shape.stream
        many = shape.B >= 8 and bound != "bandwidth"
        text = f"{_case(result)}, vs 1 thread"
        verdicts.append(Verdict(text, LEAST_GAIN if large or many else 1.0, gain))
    return verdicts


def _judge_shares(results: Sequence[Result], machines: Machines) -> list[Verdict]:
    verdicts = []
    for result in results:
        bound, share = _limit(result, machines), _share(result, machines)
        if result.threads == 1 and bound is not None and bound.bound == "arithmetic":
            verdicts.append(Verdict(f"{_case(result)}, share of the limit", LEAST_SHARE, share))
    return verdicts


def scaling(results: Sequence[Result], machines: Machines) -> list[tuple[Result, float, str]]:
    """For each shape measured with more than one thread: ours with one thread / ours with several,
    and what bounds it then ("arithmetic", "bandwidth", "latency", or "" if not measured)."""
    single = {
        result.shape.name: result.engines[OURS].seconds
        for result in results
        if result.threads == 1 and OURS in result.engines
    }
    gains = []
    for result in results:
        if result.threads > 1 and OURS in result.engines and result.shape.name in single:
            bound = _limit(result, machines)
            gain = single[result.shape.name] / result.engines[OURS].seconds
            gains.append((result, gain, "" if bound is None else bound.bound))
    return gains


def best_of_threads(results: Sequence[Result]) -> list[list[str]]:
    """Cells for each shape with several thread counts: every engine at the count that suits it."""
    names = list(dict.fromkeys(result.shape.name for result in results))
    table = []
    for name in names:
        group = [result for result in results if result.shape.name == name]
        if len(group) < 2 or not any(OURS in result.engines for result in group):
            continue
        figures = sorted(
            (measured.seconds, engine, result.threads)
            for result in group
            for engine, measured in result.engines.items()
        )
        ours = next(figure for figure in figures if figure[1] == OURS)
        peer = next((figure for figure in figures if not figure[1].startswith(OURS)), None)
        cells = [name, group[0].shape.describe(), _time(ours[0]), str(ours[2])]
        if peer is not None:
            cells += [peer[1], _time(peer[0]), str(peer[2]), f"{peer[0] / ours[0]:.2f}"]
            table.append(cells)
    return table


def markdown(
    results: Sequence[Result],
    engines: Sequence[str],
    machines: Machines,
    versions: Mapping[str, str],
    targets: Sequence[Target] = (),
    task: str = "inference",
) -> str:
    """A page: machine, one table per thread count, targets, gain by threads, sources."""
    lines = [TITLES[task], "", f"{cpu_name()}, {os.cpu_count()} CPUs, {platform.platform()}."]
    known = [f"{name} {version}" for name, version in versions.items()]
    lines += ["", "Versions: " + ", ".join(known) + ".", ""]
    lines += [f"- {machine_line(machine)}" for machine in machines.values()]
    lines += [
        "",
        "Times are milliseconds a call, medians over rounds in which the engines take turns; a "
        "ratio above 1 means that fastlstm is the faster one.",
    ]
    if task == "training":
        lines[-1] += (
            " A call is a training step: forward, then backward from a given gradient of y to those"
            " of x, h_0, c_0 and every parameter, with parameters packed anew."
        )
    if any(_peak(result, name) is not None for result in results for name in engines):
        lines[-1] += (
            " MB are what a step adds to the resident memory of a fresh process at its peak."
        )
    for threads in sorted({result.threads for result in results}):
        chosen = [result for result in results if result.threads == threads]
        header, table = rows(chosen, engines, machines)
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += _markdown_rows(header, table, 2)
    verdicts = judge(results, targets, machines)
    if verdicts:
        met = sum(verdict.met for verdict in verdicts)
        lines += ["", f"## Targets: {met} of {len(verdicts)} met", ""]
        body = [
            [v.text, f"{v.required:.2f}", _number(v.value, ".2f"), "yes" if v.met else "**no**"]
            for v in verdicts
        ]
        lines += _markdown_rows(["shape", "required", "measured", "met"], body, 1)
    gains = scaling(results, machines)
    if gains:
        lines += ["", "## fastlstm by threads", ""]
        body = [
            [r.shape.name, r.shape.describe(), str(r.threads), f"{gain:.2f}", bound or "-"]
            for r, gain, bound in gains
        ]
        heads = ["name", "shape", "threads", "times one thread", "bound by"]
        lines += _markdown_rows(heads, body, 2)
    body = best_of_threads(results)
    if body:
        lines += ["", "## Each engine at its better thread count", ""]
        heads = ["name", "shape", "fastlstm ms", "threads", "best peer", "ms", "threads", "ratio"]
        lines += _markdown_rows(heads, body, 2)
    sources = {r.shape.name: r.shape for r in results if r.shape.source != "none"}
    if sources:
        lines += ["", "## Sources", ""]
        body = [[s.name, s.model, s.source] for s in sources.values()]
        lines += _markdown_rows(["name", "model", "sizes documented in"], body, 3)
    return "\n".join(lines) + "\n"


def _library_config() -> dict[str, Any]:
    import fastlstm

    config: dict[str, Any] = fastlstm.config()
    return config


def document(
    results: Sequence[Result],
    machines: Machines,
    versions: Mapping[str, str],
    plan: Plan,
    targets: Sequence[Target] = (),
    task: str = "inference",
) -> dict[str, Any]:
    """Everything measured, for JSON (values that JSON lacks are written as text by the caller)."""
    records = []
    for result in results:
        bound = _limit(result, machines)
        best = result.best_peer()
        records.append(
            {
                "shape": asdict(result.shape),
                "threads": result.threads,
                "flops": flops(result.shape),
                "limit": None if bound is None else asdict(bound),
                "share_of_limit": _share(result, machines),
                "engines": {
                    name: {"seconds": measured.seconds, **asdict(measured)}
                    for name, measured in result.engines.items()
                },
                "missing": result.missing,
                "ratios": {name: result.ratio(name) for name in result.engines},
                "best_peer": best,
                "ratio_to_best": None if best is None else result.ratio(best),
            }
        )
    return {
        "schema": SCHEMA,
        "task": task,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
            "limits": [machine.as_dict() for machine in machines.values()],
        },
        "config": _library_config(),
        "versions": dict(versions),
        "plan": asdict(plan),
        "results": records,
        "targets": [{**asdict(v), "met": v.met} for v in judge(results, targets, machines)],
    }
