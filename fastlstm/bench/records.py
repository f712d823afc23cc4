# SPDX-License-Identifier: BSD-3-Clause
"""Results as they are drawn: from a run's document or from a file of results, checked.

A chapter is one run: a machine, a task, and a row for each shape and thread count. A file may come
from anybody, so whatever is wrong with it is a ValueError that says where.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .limits import Machine
from .report import SCHEMA
from .runner import OURS
from .shapes import Shape

REGIMES = {
    "stream": "Streams: a call is one step or a chunk, and carries the state on",
    "single": "One sequence a call",
    "batch": "Batches of sequences of one length",
    "ragged": "Ragged batches: sequences of different lengths",
    "cells": "Other cells: GRU, RNN, projections, options",
    "training": "Training steps: forward and backward",
}
"""What kinds of shapes there are, and what stands above each."""
LABELS = {
    "stream": "streams",
    "single": "one sequence",
    "batch": "batches",
    "ragged": "ragged batches",
    "cells": "other cells",
    "training": "training steps",
}
TITLES = {"inference": "Inference", "training": "Training"}
_SHAPE_FIELDS = {field.name: field for field in dataclasses.fields(Shape)}
_FLAGS = ("bidirectional", "ragged", "stream", "train")


@dataclass(frozen=True)
class Figure:
    """One engine on one shape: seconds a call, of the fastest and the slowest round as well, and
    bytes that a training step takes at its peak, if that was measured."""

    seconds: float
    least: float
    most: float
    peak_bytes: float | None = None


@dataclass(frozen=True)
class Row:
    """All engines on one shape at one thread count, and the machine's limit if it was measured."""

    shape: Shape
    threads: int
    engines: Mapping[str, Figure]
    limit: float | None
    bound: str

    @property
    def regime(self) -> str:
        """A key of `REGIMES`."""
        shape = self.shape
        if shape.train:
            return "training"
        if shape.cell != "lstm" or shape.proj or shape.options:
            return "cells"
        if shape.ragged:
            return "ragged"
        if shape.stream:
            return "stream"
        return "single" if shape.B == 1 else "batch"

    @property
    def real(self) -> bool:
        """Whether the sizes are those of a published model."""
        return not self.shape.source.startswith("none")

    @property
    def peers(self) -> list[str]:
        """Engines that are not this package, fastest first."""
        names = [name for name in self.engines if not name.startswith(OURS)]
        return sorted(names, key=lambda name: self.engines[name].seconds)

    def ratio(self, engine: str) -> float | None:
        """How many times as long as ours an engine takes; None if either has no figure."""
        if engine not in self.engines or OURS not in self.engines:
            return None
        return self.engines[engine].seconds / self.engines[OURS].seconds

    @property
    def ratio_to_best(self) -> float | None:
        """The same of the fastest peer."""
        return self.ratio(self.peers[0]) if self.peers else None

    @property
    def share(self) -> float | None:
        """Limit / time of ours: 1 is perfect."""
        if self.limit is None or OURS not in self.engines:
            return None
        return self.limit / self.engines[OURS].seconds


@dataclass(frozen=True)
class Chapter:
    """One run."""

    task: str
    date: str
    cpu: str
    cpus: str
    platform: str
    isa: str
    versions: Mapping[str, str]
    rounds: str
    machines: Sequence[Machine]
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        return TITLES[self.task]

    @property
    def threads(self) -> list[int]:
        """Thread counts that were measured."""
        return sorted({row.threads for row in self.rows})

    @property
    def engines(self) -> list[str]:
        """Engines with a figure, in the order in which they were measured."""
        return list(dict.fromkeys(name for row in self.rows for name in row.engines))

    def regimes(self, threads: int) -> dict[str, list[Row]]:
        """Rows of a thread count by regime, in the order of `REGIMES`."""
        rows = [row for row in self.rows if row.threads == threads]
        groups = {name: [row for row in rows if row.regime == name] for name in REGIMES}
        return {name: group for name, group in groups.items() if group}

    def published(self, threads: int) -> dict[str, list[Row]]:
        """The same without sizes of no real model, if there are others."""
        groups = self.regimes(threads)
        real = {name: [row for row in group if row.real] for name, group in groups.items()}
        return {name: group for name, group in real.items() if group} or groups


def read(path: Path) -> list[Chapter]:
    """The runs that a file of results holds: of inference, of training or of both.

    Raises OSError if it cannot be read, and ValueError, with the place, for whatever else it is.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{path} is no JSON: {problem}") from problem
    try:
        if not isinstance(values, dict):
            raise ValueError("it must be an object with results")
        both = {"inference": values, "training": values.get("training")}
        if "results" not in values:
            del both["inference"]
        found = [chapter(part, task) for task, part in both.items() if part is not None]
        if not found:
            raise ValueError("it has neither results nor training")
    except ValueError as problem:
        raise ValueError(
            f"{path} is no file of results, as bench --output writes it: {problem}"
        ) from problem
    return found


def chapter(values: Any, task: str) -> Chapter:
    """A run from what `report.document` makes of it. Raises ValueError."""
    where = "" if task == "inference" else "training."
    schema = _field(values, "schema", int, where)
    if schema != SCHEMA:
        raise ValueError(f"{where}schema must be {SCHEMA}, got {schema}")
    machine = _field(values, "machine", dict, where)
    there = f"{where}machine."
    records = _field(values, "results", list, where)
    if not records:
        raise ValueError(f"{where}results must hold at least one")
    versions = _field(values, "versions", dict, where)
    limits = _field(machine, "limits", list, there)
    rounds = _field(_field(values, "plan", dict, where), "rounds", int, f"{where}plan.")
    return Chapter(
        task,
        _field(values, "date", str, where),
        _field(machine, "cpu", str, there),
        str(_field(machine, "cpus", int, there)),
        _field(machine, "platform", str, there),
        str(_field(values, "config", dict, where).get("isa", "")),
        {str(name): str(version) for name, version in versions.items()},
        str(rounds),
        [_machine(one, f"{there}limits[{i}].") for i, one in enumerate(limits)],
        [_row(one, f"{where}results[{i}].") for i, one in enumerate(records)],
    )


def _field(values: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{where.rstrip('.') or 'it'} must be an object, got {values!r:.40}")
    found = values.get(name)
    if not isinstance(found, kind) or isinstance(found, bool):
        words = {int: "an integer", str: "a string", dict: "an object", list: "a list"}
        raise ValueError(f"{where}{name} must be {words[kind]}, got {found!r:.40}")
    return found


def _positive(value: Any, where: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value < 1e300:
        raise ValueError(f"{where} must be a number above 0, got {value!r:.40}")
    return float(value)


def _machine(values: Any, where: str) -> Machine:
    flops = _field(values, "flops", dict, where)
    levels = _field(values, "bandwidth", list, where)
    rates = []
    for i, level in enumerate(levels):
        there = f"{where}bandwidth[{i}]."
        _field({"level": level}, "level", dict, there)
        size, rate = level.get("capacity_bytes"), level.get("bytes_per_second")
        capacity = math.inf if size is None else _positive(size, f"{there}capacity_bytes")
        rates.append((capacity, _positive(rate, f"{there}bytes_per_second")))
    return Machine(
        int(_positive(_field(values, "threads", int, where), f"{where}threads")),
        {name: _positive(flops.get(name), f"{where}flops.{name}") for name in ("float32",)},
        tuple(rates),
        _positive(values.get("chain"), f"{where}chain"),
    )


def _row(values: Any, where: str) -> Row:
    engines = _field(values, "engines", dict, where)
    bound = values.get("limit")
    return Row(
        _shape(_field(values, "shape", dict, where), f"{where}shape"),
        int(_positive(_field(values, "threads", int, where), f"{where}threads")),
        {str(name): _figure(one, f"{where}engines.{name}.") for name, one in engines.items()},
        None if bound is None else _limit(bound, f"{where}limit."),
        "" if bound is None else _field(bound, "bound", str, f"{where}limit."),
    )


def _limit(values: Any, where: str) -> float:
    _field(values, "bound", str, where)
    return _positive(values.get("seconds"), f"{where}seconds")


def _figure(values: Any, where: str) -> Figure:
    rounds = [
        _positive(one, f"{where}rounds[{i}]")
        for i, one in enumerate(_field(values, "rounds", list, where))
    ]
    seconds, peak = _positive(values.get("seconds"), f"{where}seconds"), values.get("peak_bytes")
    # A step may take no more memory than there was.
    known = None if peak in (None, 0) else _positive(peak, f"{where}peak_bytes")
    return Figure(seconds, min([*rounds, seconds]), max([*rounds, seconds]), known)


def _shape(values: dict[str, Any], where: str) -> Shape:
    for name in ("name", "model", "source"):
        _field(values, name, str, f"{where}.")
    unknown = [name for name in values if name not in _SHAPE_FIELDS]
    if unknown:
        raise ValueError(f"{where} has {', '.join(unknown)}, which no shape has")
    for name in _FLAGS:
        if not isinstance(values.get(name, False), bool):
            raise ValueError(f"{where}.{name} must be true or false, got {values[name]!r:.40}")
    try:
        shape = Shape(**values)
        shape.describe()
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{where}: {problem}") from problem
    return shape
