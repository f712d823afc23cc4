# SPDX-License-Identifier: BSD-3-Clause
"""The site's pages of results, and what the README says of them."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fastlstm.bench import chart, records, zoo
from support import ROOT

RESULTS = ROOT / "bench" / "results"
NAMES = sorted({path.stem for path in RESULTS.iterdir() if path.suffix in (".json", ".md")})


@pytest.fixture(scope="module")
def extension() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs" / "_ext" / "results.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "_ext"))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(extension: ModuleType) -> dict[str, str]:
    found: dict[str, str] = extension.pages(RESULTS)
    return found


def test_each_file_has_a_page(pages: dict[str, str]) -> None:
    assert sorted(pages) == sorted([*NAMES, "index"])
    assert len(NAMES) >= 5
    for name in NAMES:
        assert pages[name].startswith(f"# {name}\n")
        assert f"| [{name}]({name}.md) |" in pages["index"]
        assert f"\n{name}\n" in pages["index"]  # of the toctree
        assert "Sources\n" in pages[name]


def test_pages_have_every_row(pages: dict[str, str]) -> None:
    for path in RESULTS.glob("*.json"):
        text = pages[path.stem]
        for one in records.read(path):
            for row in one.rows:
                assert f"<td>{row.shape.name}</td><td>{row.shape.describe()}</td>" in text


def test_results_without_json_are_read(extension: ModuleType, pages: dict[str, str]) -> None:
    """Of what the page's own columns say, to the digits that they have."""
    text = (RESULTS / "epyc-zen3.md").read_text(encoding="utf-8")
    one = extension.results_markdown.chapter(text)
    assert (one.cpu, one.cpus, one.threads) == ("AMD EPYC", "2", [1, 2])
    assert one.versions["openvino"] == "2026.4.1"
    plain = [of for of in zoo.ZOO if of.cell == "lstm" and not of.proj and not of.options]
    rows = {row.shape.name: row for row in one.rows if row.threads == 1}
    for of in plain:
        assert rows[of.name].shape == of
        assert f"<td>{of.name}</td><td>{of.describe()}</td>" in pages["epyc-zen3"]
    silero = rows["silero-vad-minute"]
    assert silero.engines["fastlstm"].seconds == pytest.approx(11.82e-3)
    assert silero.ratio("torch") == pytest.approx(1.83, abs=0.005)
    assert silero.ratio_to_best == pytest.approx(1.46, abs=0.005)
    assert silero.share == pytest.approx(0.61)
    assert "From before commit 2380263" in pages["epyc-zen3"]
    with pytest.raises(ValueError, match="does not say on which machine"):
        extension.results_markdown.chapter(text.replace(" CPUs", ""))


def test_html_stands_apart_and_loads_nothing(pages: dict[str, str]) -> None:
    for text in pages.values():
        blocks = re.findall(r"^```\{raw\} html\n(.*?)^```$", text, re.M | re.S)
        rest = re.sub(r"^```\{raw\} html\n.*?^```$", "", text, flags=re.M | re.S)
        assert not re.search(r"<(div|svg|style)", rest)
        assert not any(re.search(r"https?:|url\(|<script|<img", block) for block in blocks)
        levels = [len(found) for found in re.findall(r"^(#+) ", rest, re.M)]
        assert levels[0] == 1
        assert all(1 < after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pages_are_written_once_and_old_ones_go(extension: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path
    app = SimpleNamespace(srcdir=str(folder))
    extension.write(app)
    written = {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()}
    assert sorted(path.stem for path in written) == sorted([*NAMES, "index"])
    (folder / "results" / "of-no-results.md").write_text("# old\n")
    extension.write(app)
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").iterdir()} == written


def test_readme_says_what_the_files_hold() -> None:
    """Lowest ratio and geometric mean, one thread, published LSTMs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| ([\d.]+, [\d.]+) \| ([\d.]+, [\d.]+) \| \[[^]]+\]\((.+?)\.md\) \|", text)
    checked = 0
    for torch, best, name in rows:
        path = ROOT / f"{name}.json"
        if path.is_file():
            one = records.read(path)[0]
            groups = {k: group for k, group in one.published(1).items() if k != "cells"}
            found = [row for group in groups.values() for row in group]
            ratios = ([row.ratio("torch") for row in found], [row.ratio_to_best for row in found])
            for said, values in zip((torch, best), ratios, strict=True):
                span = chart.span([value for value in values if value is not None])
                assert span
                assert said == ", ".join(map(chart.ratio_words, span[:2])), name
            checked += 1
    assert checked >= 3
