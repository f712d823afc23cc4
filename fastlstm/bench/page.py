# SPDX-License-Identifier: BSD-3-Clause
"""Results as one HTML page, which needs nothing but itself, and as parts of other pages.

Charts are lines of text with a track of marks each. A track is SVG whose places are percentages, so
that it takes any width while text keeps its size: on a phone labels move above their tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from . import chart
from .chart import Chart, Line, Scale
from .records import LABELS, REGIMES, Chapter, Row
from .report import machine_line
from .runner import OURS
from .style import MARKS, PAGE_STYLE, STYLE

INTRODUCTION = (
    "Times are medians over rounds in which the engines take turns, each in a process of its own. "
    "Right of the line at 1 fastlstm is the faster one. A share of 100 % is a call as fast as this "
    "machine could be, by multiply-adds, reads of the weights and latency measured in the same run."
)


def page(chapters: Sequence[Chapter]) -> str:
    """The whole page."""
    title = "fastlstm bench, " + ", ".join(dict.fromkeys(one.cpu for one in chapters))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}{STYLE}</style></head>",
        f'<body class="fb">{MARKS}<header><h1>{escape(title)}</h1>',
        f"<p>{INTRODUCTION}</p></header>",
        "<nav>" + "".join(_entries(chapters)) + "</nav><main>",
    ]
    for number, one in enumerate(chapters):
        parts.append(f'<section><h2 id="c{number}">{escape(heading(one))}</h2>{machine(one)}')
        for threads in one.threads:
            words = thread_words(threads)
            parts.append(f'<h3 id="c{number}-t{threads}">{one.title}, {words}</h3>')
            parts.append(summary(one, threads))
            for regime, rows in one.regimes(threads).items():
                parts.append(f'<h4 id="c{number}-t{threads}-{regime}">{REGIMES[regime]}</h4>')
                parts += [charts(rows), table(rows)]
        parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>", ""])


def _entries(chapters: Sequence[Chapter]) -> Iterable[str]:
    for number, one in enumerate(chapters):
        for threads in one.threads:
            place = f"#c{number}-t{threads}"
            links = [f'<a href="{place}"><b>{one.title}, {thread_words(threads)}</b></a>']
            for regime in one.regimes(threads):
                links.append(f'<a href="{place}-{regime}">{LABELS[regime]}</a>')
            yield f"<p>{' '.join(links)}</p>"


def thread_words(threads: int) -> str:
    """Such as ``2 threads``."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def heading(chapter: Chapter) -> str:
    """What a chapter is called: its task and its machine."""
    return f"{chapter.title} on {chapter.cpu}" + (f", {chapter.isa}" if chapter.isa else "")


def facts(chapter: Chapter) -> list[str]:
    """Machine, versions, day and limits, a sentence each."""
    versions = ", ".join(f"{name} {version}" for name, version in chapter.versions.items())
    return [
        f"{chapter.cpu}, {chapter.cpus} CPUs, {chapter.platform}",
        f"measured {chapter.date[:10]}, {chapter.rounds} rounds",
        versions,
        *(machine_line(one) for one in chapter.machines),
    ]


def machine(chapter: Chapter) -> str:
    """These as a list."""
    return "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts(chapter)) + "</ul>"


def summary(chapter: Chapter, threads: int) -> str:
    """Published models of all regimes on a few lines, and their spread as a table."""
    groups = chapter.published(threads)
    rows = [row for group in groups.values() for row in group]
    if len(rows) < 2:
        return ""
    return _figure(chart.summary_of(groups), rows, dots=True) + _details(
        "The same as a table", *spreads(groups)
    )


def charts(rows: Sequence[Row]) -> str:
    """Time, ratio and share of each row, with a legend."""
    return _figure(chart.rows_of(rows), rows, dots=False)


def table(rows: Sequence[Row]) -> str:
    """The same figures, folded away."""
    return _details("The same as a table", *cells(rows))


def spreads(groups: dict[str, list[Row]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: lowest, geometric mean and highest ratios by regime."""
    peers = dict.fromkeys(name for group in groups.values() for row in group for name in row.peers)
    header = ["", "shapes", *(f"x {chart.name(peer)}" for peer in peers), "x best peer"]
    body = []
    for regime, rows in groups.items():
        body.append([LABELS[regime], str(len(rows))])
        ratios = [[row.ratio(peer) for row in rows] for peer in peers]
        for found in (*ratios, [row.ratio_to_best for row in rows]):
            body[-1].append(_span([ratio for ratio in found if ratio is not None]))
    return header, body


def _span(values: Sequence[float]) -> str:
    found = chart.span(values)
    return "-" if found is None else ", ".join(chart.ratio_words(value) for value in found)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells: milliseconds, ratios, share and what bounds it, memory."""
    engines = list(dict.fromkeys(name for row in rows for name in row.engines))
    peers = [name for name in engines if any(name in row.peers for row in rows)]
    weighed = [n for n in engines if any(n in r.engines and r.engines[n].peak_bytes for r in rows)]
    header = ["name", "shape", *(f"{chart.name(name)}, ms" for name in engines)]
    header += [
        *(f"x {chart.name(name)}" for name in peers),
        "x best peer",
        "% of limit",
        "bound by",
    ]
    header += [f"{chart.name(name)}, MB" for name in weighed]
    body = []
    for row in rows:
        ratios = [*(row.ratio(name) for name in peers), row.ratio_to_best]
        found = (row.engines.get(name) for name in engines)
        peaks = [row.engines[n].peak_bytes if n in row.engines else None for n in weighed]
        body.append(
            [row.shape.name, row.shape.describe()]
            + ["-" if one is None else f"{one.seconds * 1e3:.4g}" for one in found]
            + ["-" if ratio is None else chart.ratio_words(ratio) for ratio in ratios]
            + ["-" if row.share is None else f"{100 * row.share:.0f}", row.bound or "-"]
            + ["-" if peak is None else f"{peak * 1e-6:.3g}" for peak in peaks]
        )
    return header, body


def _details(summary: str, header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    return (
        f"<details><summary>{summary}</summary>"
        f'<div class="fb-wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _figure(found: Sequence[Chart], rows: Sequence[Row], *, dots: bool) -> str:
    """Charts side by side below a legend."""
    engines = dict.fromkeys(
        mark.engine for one in found for line in one.lines for mark in line.marks
    )
    order = dict.fromkeys(name for row in rows for name in row.engines if name in engines)
    legend = "".join(
        f'<span><svg width="16" height="16" aria-hidden="true">{_use(name, "50%", 8)}</svg>'
        f"{escape(chart.name(name))}</span>"
        for name in order
    )
    # Where a line has a mark for each row of a regime, each engine has a lane of its own.
    lanes = [name for name in order if not name.startswith(OURS)] if dots else []
    kind = f' fb-dots" style="--fb-lanes:{_lane(len(lanes))}px' if dots else ""
    return (
        f'<div class="fb-legend">{legend}</div><div class="fb-charts{kind}">'
        + "".join(_chart(one, lanes) for one in found)
        + "</div>"
    )


def _percent(scale: Scale, value: float) -> str:
    """A place on a track, which ends short of its borders, so that marks there are whole."""
    return f"{3 + 94 * scale.place(value):.1f}%"


def _use(engine: str, x: str, y: int, title: str = "") -> str:
    kind = f'class="fb-{chart.colour(engine)}" href="#fb-{chart.mark(engine)}" x="{x}" y="{y}"'
    return f"<use {kind}><title>{escape(title)}</title></use>" if title else f"<use {kind}/>"


def _lane(number: int) -> int:
    """The middle of a lane, in pixels below the track's upper border."""
    return 8 + 10 * number


def _chart(one: Chart, lanes: Sequence[str]) -> str:
    scale = one.scale
    words = "".join(
        f'<text x="{_percent(scale, value)}" y="12">{escape(word)}</text>'
        for value, word in scale.ticks
    )
    grid = "".join(
        f'<line class="{"fb-one" if _special(one.kind, value) else "fb-grid"}" '
        f'x1="{(x := _percent(scale, value))}" x2="{x}" y1="0" y2="100%"/>'
        for value in dict.fromkeys([*(tick for tick, _ in scale.ticks), *_ONES[one.kind]])
    )
    lines = "".join(_line(one, line, grid, lanes) for line in one.lines)
    return (
        f'<div class="fb-chart fb-{one.kind}"><div class="fb-title">{escape(one.title)}</div>'
        f'<div class="fb-line fb-axis"><span class="fb-label"></span><svg class="fb-track">{words}'
        f"</svg><span></span></div>{lines}</div>"
    )


_ONES: dict[str, tuple[float, ...]] = {"time": (), "ratio": (1.0,), "share": (1.0,)}


def _special(kind: str, value: float) -> bool:
    """Whether a line of the grid is the one to compare with."""
    return value in _ONES[kind]


def _line(one: Chart, line: Line, grid: str, lanes: Sequence[str]) -> str:
    """Marks from the last to ours, which so lies on top."""
    middle = _lane((len(lanes) - 1) // 2) if lanes else 11
    marks = [
        _use(
            mark.engine,
            _percent(one.scale, mark.value),
            _lane(lanes.index(mark.engine)) if mark.engine in lanes else middle,
            mark.words,
        )
        for mark in reversed(line.marks)
    ]
    bar = ""
    if one.kind == "share" and len(line.marks) == 1:
        width = 94 * one.scale.place(line.marks[0].value)
        bar = f'<rect class="fb-fastlstm" x="3%" y="7" width="{width:.1f}%" height="8"/>'
        marks = [f"<title>{escape(line.marks[0].words)}</title>"]
    spoken = escape(f"{line.label} {line.detail}: {line.note}".strip())
    return (
        f'<div class="fb-line"><span class="fb-label" title="{spoken}">{escape(line.label)}'
        f"<small>{escape(line.detail)}</small></span>"
        f'<svg class="fb-track" role="img" aria-label="{spoken}">{grid}{bar}{"".join(marks)}</svg>'
        f'<span class="fb-note">{escape(line.note)}</span></div>'
    )
