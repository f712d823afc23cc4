# SPDX-License-Identifier: BSD-3-Clause
"""Results as a page and as pictures: all rows and engines are there, and nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fastlstm.__main__ import main
from fastlstm.bench import chart, page, peers, picture, records, style
from support import bench_records
from support.bench_records import HOSTILE, SHAPES
from support.bench_runs import SIZES

EMPTY = {"meta", "circle", "rect", "path", "line", "use", "br"}  # elements without an end here


class Parsed(HTMLParser):
    """Elements and their attributes; texts by the class of the element around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag not in EMPTY or (tag == "use" and not self.get_starttag_text().endswith("/>")):  # type: ignore[union-attr]
            self._open.append((tag, found.get("class", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.append((" ".join(self._open[-1]), data))


@pytest.fixture(scope="module")
def chapters(tmp_path_factory: pytest.TempPathFactory) -> list[records.Chapter]:
    return bench_records.chapters(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def parsed(chapters: list[records.Chapter]) -> Parsed:
    return Parsed(page.page(chapters))


def test_page_has_every_row_and_every_engine(parsed: Parsed) -> None:
    cells = Counter(text for around, text in parsed.texts if around.startswith("td"))
    labels = Counter(text for around, text in parsed.texts if around == "span fb-label")
    for of in SHAPES:
        assert cells[of.name] == 2  # at each thread count
        assert labels[of.name] == 2 * 3  # in each of three charts
    heads = {text for around, text in parsed.texts if around.startswith("th")}
    legends = {text for around, text in parsed.texts if around.startswith("span")}
    for engine in peers.ENGINES:
        assert f"{chart.name(engine)}, ms" in heads
        assert chart.name(engine) in legends
    marks = Counter(found["href"] for tag, found in parsed.tags if tag == "use")
    drawn = {found["id"] for tag, found in parsed.tags if tag == "g"}
    for engine in peers.ENGINES:
        # times of 8 rows at 2 counts and of 1, one more a legend at least
        assert marks[f"#fb-{chart.mark(engine)}"] > 17
    assert {name[1:] for name in marks} <= drawn


def test_page_escapes_names_and_loads_nothing(
    parsed: Parsed, chapters: list[records.Chapter]
) -> None:
    assert not {"script", "link", "img", "iframe", "object", "b", "image"} & {
        tag for tag, found in parsed.tags if not (tag == "b" and not found)
    }
    for _, found in parsed.tags:
        assert not any(name.startswith("on") for name in found)
        for name in ("href", "src", "xlink:href"):
            assert found.get(name, "#").startswith("#")
    ids = {found["id"] for _, found in parsed.tags if "id" in found}
    assert {found["href"][1:] for tag, found in parsed.tags if tag == "a"} <= ids
    text = page.page(chapters)
    assert "url(" not in text
    assert "@import" not in text
    assert "https:" not in re.sub(re.escape("https://x.org/a.js"), "", text)  # of the hostile name
    assert any("2.13<b>" in text for _, text in parsed.texts)


def test_marks_stand_where_their_values_are() -> None:
    scale = chart.log_scale([1e-5, 1e-3], "s")
    assert (scale.low, scale.high) == pytest.approx((1e-5, 1e-3))
    assert scale.place(1e-4) == pytest.approx(0.5)
    text = page._chart(
        chart.Chart("time", "t", scale, [chart.Line("a", "", [chart.Mark("jax", 1e-4, "w")], "n")]),
        [],
    )
    assert '<use class="fb-jax" href="#fb-cross" x="50.0%" y="11"><title>w</title></use>' in text


@pytest.mark.parametrize("unit", ["s", "x"])
@pytest.mark.parametrize("low", [3.7e-7, 0.9, 1.0])
@pytest.mark.parametrize("span", [1.0, 1.3, 7.0, 90.0, 1e6])
def test_scales_hold_their_values_and_have_a_few_ticks(unit: str, low: float, span: float) -> None:
    scale = chart.log_scale([low, low * span], unit)
    assert scale.low <= low <= low * span <= scale.high
    assert 2 <= len(scale.ticks) <= (4 if unit == "s" else 7)
    places = [scale.place(value) for value, _ in scale.ticks]
    assert places == sorted(places)
    assert len({words for _, words in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (0.3, ["0 %", "50 %", "100 %"]),
        (1.2, ["0 %", "50 %", "100 %"]),
        (2.3, ["0 %", "100 %", "200 %"]),
    ],
)
def test_scales_of_shares_begin_at_nothing(high: float, ticks: list[str]) -> None:
    scale = chart.share_scale([0.1, high])
    assert [words for _, words in scale.ticks] == ticks
    assert (scale.place(0.0), scale.high) == (0.0, max(1.0, high))


def test_words_of_figures() -> None:
    found = [chart.time_words(seconds) for seconds in (3.74e-6, 9.996e-4, 0.0123, 1.5)]
    assert found == ["3.74 us", "1 ms", "12.3 ms", "1.5 s"]
    assert [chart.ratio_words(r) for r in (0.983, 9.99, 10.01, 123.4)] == [
        "0.98", "9.99", "10.0", "123",
    ]  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return math.fsum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_engines_can_be_told_apart_with_and_without_colours() -> None:
    """WCAG asks for a contrast of 3 between what has to be seen and its ground."""
    for shades in chart.COLOURS.values():
        for shade, ground in zip(shades, chart.GROUNDS, strict=True):
            low, high = sorted([luminance(shade), luminance(ground)])
            assert (high + 0.05) / (low + 0.05) >= 3
    marks = [chart.mark(engine) for engine in peers.ENGINES]
    assert len(set(marks)) == len(marks)
    assert set(chart.MARKS.values()) == set(picture.MARKERS)
    assert all(f'id="fb-{mark}"' in style.MARKS for mark in picture.MARKERS)
    assert len(set(picture.MARKERS.values())) == len(picture.MARKERS)
    assert chart.colour("tomorrow's engine") == "other"


def points(figure: Any) -> list[tuple[float, str]]:
    """x and marker of all marks of a figure."""
    return [
        (float(line.get_xdata()[0]), str(line.get_marker()))
        for axis in figure.axes
        for line in axis.lines
        if len(line.get_xdata()) == 1
    ]


def test_picture_has_every_row_and_every_engine(chapters: list[records.Chapter]) -> None:
    pytest.importorskip("matplotlib")
    figure = picture.rows(chapters)
    words = Counter(text.get_text() for text in figure.axes[0].texts)
    for of in SHAPES:
        assert words[of.name] == 2
    rows = [row for one in chapters for row in one.rows]
    times = Counter(f"{x:.6g}" for x, _ in points(figure))
    for seconds in {figure.seconds for row in rows for figure in row.engines.values()}:
        assert times[f"{seconds:.6g}"] == len(rows)
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {chart.name(engine) for engine in peers.ENGINES}


def test_picture_by_regime_has_every_model(chapters: list[records.Chapter]) -> None:
    pytest.importorskip("matplotlib")
    figure = picture.regimes(chapters)
    marks = Counter(marker for _, marker in points(figure))
    for engine in ("torch", "onnxruntime", "openvino", "jax"):
        assert marks[picture.MARKERS[chart.mark(engine)][0]] >= len(SHAPES) + 1  # of one count
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    for label in records.LABELS.values():
        assert label in words
    assert "PyTorch 2.13<b>" in " ".join(text.get_text() for text in figure.texts)


def test_what_one_picture_cannot_hold(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = records.chapter(bench_records.document(threads=(1,)), "inference")
    other = records.chapter(bench_records.document(threads=(1,)), "inference")
    object.__setattr__(other, "cpu", "another CPU")
    with pytest.raises(ValueError, match=r"is of one machine, got .* and another CPU"):
        picture.regimes([one, other])
    with pytest.raises(ValueError, match="1080 lines are too many for one picture, 1000 at most"):
        picture.rows([one] * 60)  # of 8 rows below 5 titles, each with a gap
    values = bench_records.document(threads=(1,))
    for record in values["results"]:
        record["engines"], record["limit"] = {"fastlstm": record["engines"]["fastlstm"]}, None
    alone = records.chapter(values, "inference")
    with pytest.raises(ValueError, match="needs figures of fastlstm and of a peer"):
        picture.regimes([alone])
    picture.write(tmp_path / "alone.png", [alone], by_regime=False)  # times are left
    Parsed(page.page([alone]))


# ---- command line ----


def test_files_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    source = tmp_path / "results.json"
    source.write_text(json.dumps(bench_records.document(SHAPES[:4], threads=(1,))))
    drawn = [tmp_path / "new" / name for name in ("a.html", "b.png", "c.png")]
    options = zip(("--html", "--png", "--png-by-regime"), map(str, drawn), strict=True)
    assert main(["bench", "--from", str(source), *(w for pair in options for w in pair)]) == 0
    assert drawn[0].read_text().count("<h2") == 1
    for path in drawn[1:]:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_run_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    how = ["--engines", "fastlstm", "--rounds", "1", "--seconds", "0.001", "--no-limits"]
    assert main(["bench", *SIZES, *how, "--html", str(path)]) == 0
    texts = [text for _, text in Parsed(path.read_text()).texts]
    assert "own" in texts
    assert "T4 B2 I3 H5" in texts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--html x.htm", "--html x.htm: the name must end in .html"),
        ("--png x.jpg", "--png x.jpg: the name must end in .png"),
        ("--planner --html x.html", "--planner draws nothing: it does not go with --html"),
        ("--from HERE", "--from draws: it needs --html, --png or --png-by-regime"),
        ("--from HERE --threads 1 2 --html x.html", "so it does not go with --threads"),
        ("--from HERE --train --json --html x.html", "does not go with --train, --json"),
        ("--from nowhere.json --html x.html", "No such file or directory: 'nowhere.json'"),
        ("--from BAD --html x.html", "is no JSON"),
        ("--from HERE --html FOLDER.html", "it is a folder"),
        ("--from HERE --html HERE/x.html", "File exists"),
    ],
)
def test_bad_options_of_drawing(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, bad, folder = tmp_path / "r.json", tmp_path / "bad.json", tmp_path / "f.html"
    here.write_text(json.dumps(bench_records.both()))
    bad.write_text("{")
    folder.mkdir()
    for word, path in (("HERE", here), ("BAD", bad), ("FOLDER.html", folder)):
        arguments = arguments.replace(word, str(path))
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is measured; pages need none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(SystemExit):
        main(["bench", "--png", "x.png"])
    error = capsys.readouterr().err
    assert '--png needs matplotlib, which is not installed: pip install "fastlstm[plots]"' in error


def test_hostile_names_are_hostile() -> None:
    assert all(text in HOSTILE for text in ("<script", "'", '"', "&", "$", "https://x.org/a.js"))
