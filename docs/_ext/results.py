# SPDX-License-Identifier: BSD-3-Clause
"""Writes results/: a page for each CPU in bench/results, with charts, and one that lists them.

A page has the charts and tables that ``python -m fastlstm bench --html`` makes, and what else the
Markdown file of the same name says, such as targets. Results of which there is no JSON are read
from that file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results_markdown

from fastlstm.bench import chart, page, records, style

if TYPE_CHECKING:
    from sphinx.application import Sphinx

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
INTRODUCTION = """# Results by CPU

What fastlstm and its peers take on the models of the benchmark, as charts and tables: how long a
call takes, how many times as long the peers take, and how near fastlstm comes to what the machine
could do at best. The words to these figures, losses included, are in
[benchmarks](../benchmarks.md); how to get them from your machine is in
[measuring](../measuring.md).

| results | CPU | measured | models | x PyTorch | x best peer |
|---|---|---|---:|---:|---:|
"""
AFTER = """
At one thread, inference, published models only; ratios are the lowest, the geometric mean and the
highest, and above 1 fastlstm is the faster one. Results without a day are read from a table, whose
figures are rounded.
"""


def raw(*parts: str) -> str:
    """HTML within Markdown."""
    return "```{raw} html\n" + "\n".join(['<div class="fb">', *parts, "</div>"]) + "\n```\n"


def looks() -> str:
    """What a page with charts needs once."""
    return raw(f"<style>{style.STYLE}</style>{style.MARKS}")


def charts(name: str, chapters: Sequence[records.Chapter], text: str) -> str:
    """The page of results that were read; ``text`` is what Markdown says of them."""
    parts = [f"# {name}\n", looks()]
    for one in chapters:
        parts.append(f"## {page.heading(one)}\n")
        facts = "".join(f"- {fact}\n" for fact in page.facts(one))
        parts.append(facts if one.date else results_markdown.introduction(text))
        for threads in one.threads:
            parts.append(f"### {one.title}, {page.thread_words(threads)}\n")
            parts.append(raw(page.summary(one, threads)))
            for regime, rows in one.regimes(threads).items():
                parts.append(f"#### {records.REGIMES[regime]}\n")
                parts.append(raw(page.charts(rows), page.table(rows)))
    return "\n".join([*parts, sections(text)])


def sections(text: str) -> str:
    """Of a file of results in Markdown, what charts and their tables do not show."""
    found = []
    for part in re.split(r"^(?=# )", text, flags=re.M):
        title, *others = re.split(r"^(?=## )", part, flags=re.M)
        kept = [other for other in others if not re.match(r"## \d+ threads?$", other, re.M)]
        task = "Training" if title.startswith("# Training") else "Inference"
        found += [other.replace("## ", f"## {task}: ", 1) for other in kept]
    return "".join(found)


def line(name: str, chapters: Sequence[records.Chapter]) -> str:
    """A row of the table on the first page."""
    one = chapters[0]
    rows = [row for group in one.published(one.threads[0]).values() for row in group]
    ratios = [[row.ratio("torch") for row in rows], [row.ratio_to_best for row in rows]]
    spans = [chart.span([ratio for ratio in found if ratio is not None]) for found in ratios]
    words = [", ".join(map(chart.ratio_words, found)) if found else "-" for found in spans]
    cpu = ", ".join(word for word in (one.cpu, one.isa) if word)
    cells = [cpu, one.date[:10] or "-", str(len(rows)), *words]
    return f"| [{name}]({name}.md) | {' | '.join(cells)} |\n"


def pages(folder: Path) -> dict[str, str]:
    """Name of each page -> its Markdown."""
    names = sorted({path.stem for path in folder.iterdir() if path.suffix in (".json", ".md")})
    found, lines, shown = {}, [], []
    for name in names:
        path, markdown = (folder / f"{name}.{kind}" for kind in ("json", "md"))
        text = markdown.read_text(encoding="utf-8") if markdown.is_file() else ""
        chapters = records.read(path) if path.is_file() else [results_markdown.chapter(text)]
        found[name] = charts(name, chapters, text)
        lines.append(line(name, chapters))
        for one in chapters:
            if summary := page.summary(one, one.threads[0]):
                words = page.thread_words(one.threads[0])
                shown += [f"## {name}: {page.heading(one)}, {words}\n", raw(summary)]
    listed = "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])
    found["index"] = "\n".join([INTRODUCTION + "".join(lines) + AFTER, listed, looks(), *shown])
    return found


def write(app: Sphinx) -> None:
    """Write pages that differ from what is there, and remove those of no results."""
    folder = Path(app.srcdir) / "results"
    folder.mkdir(exist_ok=True)
    made = pages(RESULTS)
    for path in folder.glob("*.md"):
        if path.stem not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
