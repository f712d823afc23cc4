# SPDX-License-Identifier: BSD-3-Clause
"""Results of which only the Markdown page is kept, read back from its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastlstm.bench.records import Chapter, Figure, Row
from fastlstm.bench.shapes import Shape

SIZES = {"T": "T", "B": "B", "I": "I", "H": "H", "L": "layers"}
WORDS = {"bi": "bidirectional", "ragged": "ragged", "stream": "stream"}


def table(section: str) -> Iterator[dict[str, str]]:
    """The rows of the first table, by the names of its columns."""
    lines = re.findall(r"^\| (.+) \|$", section, re.M)
    names, _, *body = [line.split(" | ") for line in lines]
    for cells in body:
        yield dict(zip(names, cells, strict=True))


def shape(name: str, words: str, model: str, source: str) -> Shape:
    """What `Shape.describe` says of a plain LSTM, read back."""
    found: dict[str, object] = {}
    for word in words.split():
        if word in WORDS:
            found[WORDS[word]] = True
        elif word == "float64":
            found["dtype"] = word
        else:
            found[SIZES[word[0]]] = int(word[1:])
    return Shape(name, model, source, **found)  # type: ignore[arg-type]


def row(cells: dict[str, str], sources: dict[str, dict[str, str]]) -> Row:
    """A row of the table of a thread count."""
    engines = {}
    for column, cell in cells.items():
        if column.endswith(" ms") and cell != "-":
            seconds = float(cell) * 1e-3
            engines[column.removesuffix(" ms")] = Figure(seconds, seconds, seconds)
    source = sources.get(cells["name"], {"model": "none", "sizes documented in": "none"})
    share = cells.get("% of limit", "-")
    limit = None if share == "-" else float(share) / 100 * engines["fastlstm"].seconds
    of = shape(cells["name"], cells["shape"], source["model"], source["sizes documented in"])
    return Row(of, int(cells["threads"]), engines, limit, "")


def chapter(text: str) -> Chapter:
    """Inference, the page's only task."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    sources = {cells["name"]: cells for cells in table(sections["Sources"])}
    machine = re.search(r"^(.+), (\d+) CPUs, (.+)\.$", parts[0], re.M)
    versions = re.search(r"^Versions: (.+)\.$", parts[0], re.M)
    if machine is None or versions is None:
        raise ValueError("the page does not say on which machine it was measured, or with what")
    rows = [
        row(cells, sources)
        for title, section in sections.items()
        if re.fullmatch(r"\d+ threads?", title)
        for cells in table(section)
    ]
    known = dict(version.split(" ") for version in versions[1].split(", "))
    return Chapter("inference", "", *machine.groups(), "", known, "", [], rows)


def introduction(text: str) -> str:
    """What stands between the title and the first table: remarks, machine, versions, limits."""
    return re.split(r"^## ", text, flags=re.M)[0].split("\n", 1)[1].strip() + "\n"
