# SPDX-License-Identifier: BSD-3-Clause
"""Results as one PNG, by matplotlib, which is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import chart
from .chart import COLOURS, Chart
from .records import REGIMES, Chapter, Row
from .runner import OURS

LINE, LANE, MOST_LINES = 0.22, 0.15, 1000  # inches of a line and a lane; lines in one picture
RESOLUTION = 120  # dots an inch
# matplotlib's name of each mark, and whether it is filled.
MARKERS = {
    "circle": ("o", True),
    "ring": ("o", False),
    "square": ("s", True),
    "box": ("s", False),
    "up": ("^", True),
    "hollow-up": ("^", False),
    "down": ("v", True),
    "hollow-down": ("v", False),
    "diamond": ("D", True),
    "cross": ("x", False),
    "plus": ("+", False),
    "bar": ("|", False),
}
GREY, PALE = "#5f6570", "#dfe2e6"


def write(path: Path, chapters: Sequence[Chapter], *, by_regime: bool) -> None:
    """Draw every row, or every regime, into a PNG.

    Raises ImportError without matplotlib, and ValueError for what one picture cannot hold.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = regimes(chapters) if by_regime else rows(chapters)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=RESOLUTION, format="png", facecolor="white", bbox_inches="tight")


def caption(chapters: Sequence[Chapter]) -> str:
    """Machine, versions and days of what is drawn."""
    machines = dict.fromkeys(" ".join([one.cpu, one.isa]).strip() for one in chapters)
    versions: dict[str, dict[str, None]] = {}
    for one in chapters:
        for name, version in one.versions.items():
            versions.setdefault(chart.name(name), {})[version] = None
    engines = [f"{name} {' and '.join(found)}" for name, found in versions.items()]
    days = sorted({one.date[:10] for one in chapters})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{', '.join(machines)}; {', '.join(engines)}; measured {when}"


def rows(chapters: Sequence[Chapter]) -> Any:
    """A figure with a line a row: times, ratios, shares side by side."""
    groups = [
        (f"{one.title}, {threads} thread{'s' if threads > 1 else ''}. {REGIMES[regime]}", group)
        for one in chapters
        for threads in one.threads
        for regime, group in one.regimes(threads).items()
    ]
    count = sum(len(group) + 2 for _, group in groups)
    if count > MOST_LINES:
        raise ValueError(
            f"{count} lines are too many for one picture, {MOST_LINES} at most: choose fewer "
            "shapes, a picture by regimes or a page"
        )
    every = [row for _, group in groups for row in group]
    figure, axes = _figure((12, LINE * count + 1.4), chart.rows_of(every), [6, 5, 3], 0.25)
    y = 0
    for title, group in groups:
        _text(axes[0], title, -0.38, y, weight="bold", transform=axes[0].get_yaxis_transform())
        for axis, one in zip(axes, _aligned(group, axes), strict=True):
            for number, line in enumerate(one.lines if one else (), 1):
                _line(axis, y + number, line)
        for number, row in enumerate(group, 1):
            label = row.shape.describe() if not row.real else row.shape.name
            _text(axes[0], label, -0.38, y + number, transform=axes[0].get_yaxis_transform())
        y += len(group) + 2
    _finish(figure, axes, y - 1.3, _engines(every), chapters)
    return figure


def _aligned(group: Sequence[Row], axes: Sequence[Any]) -> list[Chart | None]:
    """The group's charts in the order of the axes, None where it has none of a kind."""
    found = {one.kind: one for one in chart.rows_of(group)}
    return [found.get(axis.get_label()) for axis in axes]


def regimes(chapters: Sequence[Chapter]) -> Any:
    """A figure with a mark for each published model, in a lane for each peer and regime, at the
    smallest thread count."""
    machines = {(one.cpu, one.isa) for one in chapters}
    if len(machines) > 1:
        words = " and ".join(sorted(" ".join(machine).strip() for machine in machines))
        raise ValueError(f"one picture by regimes is of one machine, got results of {words}")
    threads = min(count for one in chapters for count in one.threads)
    groups: dict[str, list[Row]] = {name: [] for name in REGIMES}
    for one in chapters:
        for name, published in one.published(threads).items():
            groups[name] += published
    groups = {name: group for name, group in groups.items() if group}
    every = [row for group in groups.values() for row in group]
    peers = [name for name in _engines(every) if any(name in row.peers for row in every)]
    charts = chart.summary_of(groups)
    if not charts:
        raise ValueError("a picture by regimes needs figures of fastlstm and of a peer")
    # Two lanes at least for the label, and one between regimes.
    lanes = [
        [p for p in peers if any(p in row.peers for row in group)] for group in groups.values()
    ]
    tops = [sum(max(2, len(found)) + 1 for found in lanes[:i]) for i in range(len(lanes) + 1)]
    figure, axes = _figure((9, LANE * tops[-1] + 1.2), charts, [3, 1], 0.2)
    for axis, drawn in zip(axes, charts, strict=True):
        for top, line, group, found in zip(tops, drawn.lines, groups.values(), lanes, strict=False):
            middle = top + (max(2, len(found)) - 1) / 2
            first = middle - (len(found) - 1) / 2
            for mark in line.marks:
                y = first + found.index(mark.engine) if mark.engine in found else middle
                _mark(axis, mark.engine, mark.value, y, alpha=0.65)
            if drawn.kind == "share":
                _text(axis, line.note, 1.03, middle, transform=axis.get_yaxis_transform())
                continue
            for y, peer in enumerate(found):
                ratios = [ratio for row in group if (ratio := row.ratio(peer)) is not None]
                if (spread := chart.span(ratios)) is not None:
                    ends = [first + y - 0.5, first + y + 0.5]
                    axis.plot([spread[1]] * 2, ends, "k", linewidth=1.6)
            words = f"{line.label}\n({line.detail})"
            _text(axis, words, -0.21, middle, transform=axis.get_yaxis_transform())
    _finish(figure, axes, tops[-1] - 1.3, [OURS, *peers], chapters)
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    axes[0].set_title(
        f"How many times as long as fastlstm the others take, {words}\n"
        "(one mark a model; strokes are geometric means)",
        **_TITLE,
    )
    return figure


_TITLE: dict[str, Any] = {"fontsize": 9, "loc": "left", "fontweight": "bold"}


def _engines(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.engines))


def _figure(
    size: tuple[float, float], charts: Sequence[Chart], widths: Sequence[int], space: float
) -> tuple[Any, list[Any]]:
    """A figure, with an axis for each chart side by side, named after its kind; lines count from
    above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    inch = 1 / size[1]
    edges = {"top": 1 - 0.6 * inch, "bottom": 0.6 * inch}
    widths = widths[: len(charts)]
    grid = figure.add_gridspec(1, len(charts), width_ratios=widths, wspace=space, **edges)
    axes = [figure.add_subplot(grid[0, i], label=one.kind) for i, one in enumerate(charts)]
    for axis, one in zip(axes, charts, strict=True):
        scale = one.scale
        axis.set_xscale("log" if scale.log else "linear")
        margin = 1.12 if scale.log else 0.04
        low, high = scale.low, scale.high
        axis.set_xlim((low / margin, high * margin) if scale.log else (low, high + margin))
        ticks = [tick for tick, _ in scale.ticks]
        axis.set_xticks(ticks, [words for _, words in scale.ticks], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set_yticks([])
        axis.grid(axis="x", color=PALE, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.patch.set_visible(False)  # it would cover what its neighbour writes at its side
        axis.tick_params(length=0, labeltop=True, labelbottom=True)
        axis.set_title(one.title.replace(" (", "\n("), **_TITLE)
        for side in axis.spines.values():
            side.set_visible(False)
        if one.kind != "time":
            axis.axvline(1.0, color=GREY, linewidth=1)
    return figure, axes


def _text(axis: Any, words: str, x: float, y: float, **options: Any) -> None:
    """Words as they are: a dollar sign begins no formula."""
    options = {"fontsize": 8, "va": "center", "ha": "left", **options}
    axis.text(x, y, words, parse_math=False, clip_on=False, **options)


def _mark(axis: Any, engine: str, x: float, y: float, alpha: float = 1.0) -> None:
    marker, filled = MARKERS[chart.mark(engine)]
    colour = COLOURS[chart.colour(engine)][0]
    axis.plot(
        [x], [y], marker, color=colour, markerfacecolor=colour if filled else "none",
        markersize=5, markeredgewidth=1.0 if filled else 1.4, alpha=alpha, linestyle="none",
    )  # fmt: skip


def _line(axis: Any, y: float, line: chart.Line) -> None:
    if axis.get_label() == "share":
        for mark in line.marks:
            axis.barh([y], [mark.value], height=0.5, color=COLOURS["fastlstm"][0])
    else:
        for mark in reversed(line.marks):
            _mark(axis, mark.engine, mark.value, y)
    _text(axis, line.note, 1.03, y, transform=axis.get_yaxis_transform(), fontsize=7)


def _finish(
    figure: Any, axes: Sequence[Any], last: float, shown: Sequence[str], chapters: Sequence[Chapter]
) -> None:
    """Limits of y, a legend of these engines, and the caption."""
    from matplotlib.lines import Line2D

    for axis in axes:
        axis.set_ylim(last, -1)
    handles = []
    for engine in shown:
        marker, filled = MARKERS[chart.mark(engine)]
        colour = COLOURS[chart.colour(engine)][0]
        face = colour if filled else "none"
        handles.append(
            Line2D([], [], marker=marker, color=colour, markerfacecolor=face, linestyle="none")
        )
    inch = 1 / figure.get_figheight()
    legend = figure.legend(
        handles,
        [chart.name(engine) for engine in shown],
        loc="upper left",
        bbox_to_anchor=(0.0, axes[0].get_position().y0 - 0.25 * inch),
        ncols=min(6, len(shown)),
        fontsize=8,
        frameon=False,
        handletextpad=0.2,
    )
    for words in legend.get_texts():
        words.set_parse_math(False)
    lines = -(-len(shown) // min(6, len(shown)))
    figure.text(
        0.01,
        axes[0].get_position().y0 - (0.45 + 0.2 * lines) * inch,
        caption(chapters),
        fontsize=7,
        color=GREY,
        parse_math=False,
    )
