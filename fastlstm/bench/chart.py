# SPDX-License-Identifier: BSD-3-Clause
"""What pictures of results in any format share: what is shown of a row, scales, marks, colours."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .records import LABELS, Row
from .runner import OURS

# Colour and mark of each engine. Variants of an engine have its colour. Who cannot tell colours
# apart can tell marks.
COLOURS = {
    "fastlstm": ("#0068a8", "#5db7f0"),
    "torch": ("#c8500a", "#ff9a5a"),
    "onnxruntime": ("#00795a", "#3fc79e"),
    "openvino": ("#9c3f86", "#e79ad3"),
    "jax": ("#80650a", "#d9b944"),
    "other": ("#5f6570", "#a9b0bb"),
}
"""On a light and on a dark ground."""
GROUNDS = ("#ffffff", "#14171c")
MARKS = {
    "fastlstm": "circle",
    "fastlstm-padded": "ring",
    "fastlstm.torch": "down",
    "fastlstm.torch-frozen": "hollow-down",
    "fastlstm.torch-packed": "plus",
    "fastlstm.torch-least": "bar",
    "torch": "square",
    "torch-padded": "box",
    "onnxruntime": "up",
    "openvino": "diamond",
    "jax": "cross",
    "other": "hollow-up",
}
NAMES = {
    "fastlstm-padded": "fastlstm, padded",
    "torch": "PyTorch",
    "torch-padded": "PyTorch, padded",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX",
}
TITLES = {
    "time": "time of a call (fastlstm's in figures)",
    "ratio": "times as long as fastlstm takes (best peer's in figures)",
    "share": "fastlstm's share of the machine's limit",
}
SUMMARY_TITLES = {
    "ratio": "times as long as fastlstm takes (best peer's geometric mean in figures)",
    "share": "fastlstm's share of the machine's limit (median in figures)",
}
_MOST_TICKS = {"s": 4, "x": 7}  # more words of times would not stand side by side


def colour(engine: str) -> str:
    """A key of `COLOURS`."""
    family = engine.split("-")[0].split(".")[0]
    return family if family in COLOURS else "other"


def mark(engine: str) -> str:
    """What stands for an engine, a value of `MARKS`."""
    return MARKS.get(engine, MARKS["other"])


def name(engine: str) -> str:
    """What an engine is called in legends and tables."""
    return NAMES.get(engine, engine)


@dataclass(frozen=True)
class Mark:
    """A value of an engine, and what is said of it where it is pointed at."""

    engine: str
    value: float
    words: str


@dataclass(frozen=True)
class Line:
    """One line of a chart: a label, a detail below it, marks, and the value that is written out."""

    label: str
    detail: str
    marks: Sequence[Mark]
    note: str


@dataclass(frozen=True)
class Chart:
    """Lines on one scale.

    kind    "time", "ratio" or "share"
    title   what is shown, with its unit
    """

    kind: str
    title: str
    scale: Scale
    lines: Sequence[Line]


@dataclass(frozen=True)
class Scale:
    """From values to places between 0 and 1; ``ticks`` are values and their words."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = True

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return min(1.0, max(0.0, (value - low) / (high - low)))


def time_words(seconds: float) -> str:
    """Such as ``3.74 us``, ``12 ms``, ``1.2 s``."""
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.4g} s"


def ratio_words(ratio: float) -> str:
    """Such as ``1.37``, ``24``."""
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.1f}" if ratio < 99.95 else f"{ratio:.0f}"


def share_words(share: float) -> str:
    return f"{100 * share:.0f} %"


def log_scale(values: Iterable[float], unit: str) -> Scale:
    """A scale whose ends are ticks; ``unit`` "s" or "x", times or ratios."""
    found = list(values) or [1.0]
    steps = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)]
    low = max((step for step in steps if step <= min(found)), default=steps[0])
    high = min((step for step in steps if step >= max(found) and step > low), default=steps[-1])
    inside = [step for step in steps if low * 0.999 <= step <= high * 1.001]
    ticks = inside
    if len(inside) > (most := _MOST_TICKS[unit]):
        decades = [step for step in inside if f"{step:.0e}".startswith("1")]
        ticks = decades if len(decades) > 2 else inside
        ticks = ticks[:: math.ceil(len(ticks) / most)]
    words = time_words if unit == "s" else lambda value: f"{value:g}"
    return Scale(low, high, [(tick, words(tick)) for tick in ticks])


def share_scale(values: Iterable[float]) -> Scale:
    """From 0 to the whole limit; further where a value is above it."""
    high = max([1.0, *values])
    step = 0.5 if high < 1.5 else math.ceil(high / 3)
    ticks = [step * i for i in range(3) if step * i <= high]
    return Scale(0.0, high, [(tick, share_words(tick)) for tick in ticks], log=False)


def span(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Lowest, geometric mean and highest."""
    if not values:
        return None
    return min(values), statistics.geometric_mean(values), max(values)


def rows_of(rows: Sequence[Row]) -> list[Chart]:
    """Charts with a line a row: times of all engines; ratios of the peers; share of the limit.

    A chart that would be empty is left out.
    """
    return _charts([[row] for row in rows], lambda group: _label(group[0]), TITLES)


def summary_of(groups: Mapping[str, Sequence[Row]]) -> list[Chart]:
    """Ratios and shares with a line a regime, each row a mark."""

    def label(group: Sequence[Row]) -> tuple[str, str]:
        return LABELS[group[0].regime], f"{len(group)} shape{'s' if len(group) > 1 else ''}"

    return _charts(list(groups.values()), label, SUMMARY_TITLES)


def _charts(
    groups: Sequence[Sequence[Row]],
    label: Callable[[Sequence[Row]], tuple[str, str]],
    titles: Mapping[str, str],
) -> list[Chart]:
    marks_of = {"time": _times, "ratio": _ratios, "share": _shares}
    charts = []
    for kind, title in titles.items():
        marks = [[mark for row in group for mark in marks_of[kind](row)] for group in groups]
        values = [mark.value for group in marks for mark in group]
        if values:
            lines = [
                Line(*label(group), found, _note(kind, group))
                for group, found in zip(groups, marks, strict=True)
            ]
            charts.append(Chart(kind, title, _scale(kind, values), lines))
    return charts


def _scale(kind: str, values: Sequence[float]) -> Scale:
    if kind == "share":
        return share_scale(values)
    return log_scale(values, "s") if kind == "time" else log_scale([1.0, *values], "x")


def _note(kind: str, rows: Sequence[Row]) -> str:
    """The figure of one row, or what stands for several."""
    if kind == "time":
        found = [row.engines[OURS].seconds for row in rows if OURS in row.engines]
        return time_words(found[0]) if found else ""
    if kind == "ratio":
        ratios = span([row.ratio_to_best for row in rows if row.ratio_to_best is not None])
        return "" if ratios is None else ratio_words(ratios[1])
    shares = [row.share for row in rows if row.share is not None]
    return share_words(statistics.median(shares)) if shares else ""


def _label(row: Row) -> tuple[str, str]:
    """Name and sizes; of a shape that is named after its sizes, these alone."""
    sizes = row.shape.describe()
    named = row.shape.name.replace("-", " ") != sizes.replace("-", " ")
    return (row.shape.name, sizes) if named else (sizes, "")


def _times(row: Row) -> list[Mark]:
    marks = []
    for engine, figure in row.engines.items():
        words = f"{row.shape.name}: {name(engine)} {time_words(figure.seconds)}"
        if figure.most > figure.least:
            words += f", rounds {time_words(figure.least)} to {time_words(figure.most)}"
        marks.append(Mark(engine, figure.seconds, words))
    return marks


def _ratios(row: Row) -> list[Mark]:
    found = {engine: row.ratio(engine) for engine in row.peers}
    return [
        Mark(engine, ratio, f"{row.shape.name}: {name(engine)}, {ratio_words(ratio)} times as long")
        for engine, ratio in found.items()
        if ratio is not None
    ]


def _shares(row: Row) -> list[Mark]:
    if row.share is None:
        return []
    words = f"{row.shape.name}: {share_words(row.share)}, bound by {row.bound}"
    return [Mark(OURS, row.share, words)]
