# SPDX-License-Identifier: BSD-3-Clause
"""Every public name has its place in docs/reference, and what generates the site's pages is right.
Nothing here needs Sphinx; test_site.py builds the site."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from support import ROOT, site

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports one of docs/_ext."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return importlib.import_module


def public() -> dict[str, list[str]]:
    """What `__all__` holds, by module."""
    found = {}
    for path in sorted((ROOT / "fastlstm").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(part for part in parts if part != "__init__")
                found[name] = sorted(ast.literal_eval(node.value))
    return found


def documented(text: str) -> dict[str, list[str]]:
    """Names in lists of autosummary, and data that are described in place, by module."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"^```\{eval-rst\}\n(.*?)^```$", text, re.M | re.S):
        module = re.search(r"^\.\. (?:current)?module:: (\S+)$", block, re.M)
        assert module, block
        names = found.setdefault(module[1], [])
        for part in re.split(r"^(?=\.\. )", block, flags=re.M):
            if part.startswith(".. autosummary::"):
                names += re.findall(r"^   (\w+)$", part, re.M)
            elif part.startswith(".. py:data::"):
                names.append(part.split()[2])
    return found


def test_every_public_name_has_a_page() -> None:
    pages = [documented(path.read_text(encoding="utf-8")) for path in REFERENCE.glob("*.md")]
    found = {name: sorted(names) for page in pages for name, names in page.items()}
    assert sum(map(len, pages)) == len(found), "a module stands on two pages"
    expected = public()
    assert {"fastlstm", "fastlstm.nn", "fastlstm.torch", "fastlstm.optim"} <= expected.keys()
    assert found == expected  # each once


def test_modules_are_those_that_users_import() -> None:
    import fastlstm

    lazy = {name for name in dir(fastlstm) if name not in fastlstm.__all__}
    assert {f"fastlstm.{name}" for name in lazy} <= public().keys()


def test_names_are_found() -> None:
    text = (
        "# a\n```{eval-rst}\n.. module:: a.b\n\n.. autosummary::\n   :toctree: generated\n\n   C\n"
        "   d\n\n.. py:data:: E\n\n   Said here.\n```\n\n```{eval-rst}\n.. currentmodule:: a.b\n\n"
        ".. autosummary::\n\n   f\n```\n"
    )
    assert documented(text) == {"a.b": ["C", "d", "E", "f"]}


def test_page_of_the_header_has_all_of_it(extension: Any) -> None:
    c_header = extension("c_header")
    header = c_header.HEADER.read_text(encoding="utf-8")
    page = c_header.page(header)
    bare = re.sub(r"//[^\n]*", "", header)
    functions = set(re.findall(r"^(?!typedef).*?\b(fastlstm_\w+)\(", bare, re.M))
    types = set(re.findall(r"^\} (fastlstm_\w+);", bare, re.M))
    types |= set(re.findall(r"\} (fastlstm_\w+);$", bare, re.M))
    assert {"fastlstm_forward", "fastlstm_free"} <= functions
    assert {"fastlstm_io", "fastlstm_dtype", "fastlstm_norms"} <= types
    described = re.findall(r"^`{4}\{c:(\w+)\} .*?\b(fastlstm_\w+)(?:\(.*)?$", page, re.M)
    assert {name for kind, name in described if kind == "function"} == functions
    opaque = {"fastlstm_model", "fastlstm_plan", "fastlstm_poll", "fastlstm_gemm"}
    assert {name for kind, name in described if kind != "function"} == types | opaque
    for constant in set(re.findall(r"\bFASTLSTM_\w+", bare)) - {"FASTLSTM_H"}:
        assert constant in page
    assert "__GNUC__" not in page
    assert "\n**Threads.** " in page


def test_declarations_become_directives(extension: Any) -> None:
    page = extension("c_header").page(
        "// licence\n// What it is.\n//\n//   a drawing\n\n// ---- part_a ----\n"
        "// Of fastlstm_x, an *array*.\nint fastlstm_f(int a,\n               int b);\n"
        "void fastlstm_g(void);  // as `f`\n\ntypedef struct fastlstm_x {\n  int a;  // one\n"
        "} fastlstm_x;\n"
    )
    assert page.replace("\n\n\n", "\n\n").split("\n\n") == [
        "What it is.",
        "```text\n  a drawing\n```",
        "## Constants and kinds",
        "## Part\\_a",
        "````{c:function} int fastlstm_f(int a, int b)",
        "Of {c:expr}`fastlstm_x`, an \\*array\\*.\n````",
        "````{c:function} void fastlstm_g(void)",
        "As `f`\n````",
        "````{c:struct} fastlstm_x",
        "```c\ntypedef struct fastlstm_x {\n  int a;  // one\n} fastlstm_x;\n```\n````\n",
    ]


def test_every_command_is_on_its_page(extension: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    add = argparse._SubParsersAction.add_parser
    monkeypatch.setattr(
        argparse._SubParsersAction,
        "add_parser",
        lambda self, name, **rest: found.append(name) or add(self, name, **rest),
    )
    command_line = extension("command_line")
    assert command_line.said().startswith("usage: python -m fastlstm")
    assert set(found) == set(command_line.COMMANDS)
    page = command_line.page()
    for name in found:
        assert f"\n## {name}\n\n```text\nusage: python -m fastlstm {name} " in page


def test_links_out_of_docs_lead_to_pages(extension: Any) -> None:
    outside = extension("outside")
    text = "[a](../README.md) [b](../bench/results/x.md#y) [c](../fastlstm/lstm.py) [d](../no.md)"
    assert outside.moved(text, PurePosixPath("page.md")) == (
        "[a](index.md) [b](results/x.md#y) [c](../fastlstm/lstm.py) [d](../no.md)"
    )
    text = "[a](../decisions/x.md) [b](../../README.md) [c](../index.md)"
    assert outside.moved(text, PurePosixPath("design/page.md")) == (
        "[a](../decisions/x.md) [b](../index.md) [c](../index.md)"
    )
    assert all((ROOT / name).exists() for name in outside.PAGES)


def test_faults_of_a_site_are_seen(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<p id="here"><a href="../a.html#x%20y">up</a>')
    (tmp_path / "s.css").write_text("a{background:url(s.png)} @import 'https://c.org/f.css';")
    (tmp_path / "s.js").write_text('fetch("/a.html"); fetch("//d.org/x"); // see https://e.org')
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="s.css"><link rel="next" href="sub/b.html">'
        '<link rel="icon" href="https://f.org/i.png"><script src="s.js"></script>'
        '<h1 id="x y">T</h1><img src="data:image/png;base64,AA"><img src="no.png">'
        '<img srcset="s.css 1x, https://g.org/2.png 2x"><p style="background:url(//h.org/p)">'
        "<style>@font-face{src:url('https://i.org/f')}</style>"
        "<script>x.src = 'https://j.org/s.js';</script>"
        '<a href="sub/b.html#here">1</a><a href="sub/b.html#no">2</a><a href="no.html">3</a>'
        '<a href="#no">4</a><a href="https://k.org">5</a><a href="mailto:a@l.org">6</a>'
    )
    assert [*site.faults(tmp_path)] == [
        "a.html loads //h.org/p",
        "a.html loads https://f.org/i.png",
        "a.html loads https://g.org/2.png",
        "a.html loads https://i.org/f",
        "a.html loads https://j.org/s.js",
        "a.html loads no.png, which is not there",
        "a.html links #no, an anchor that is not there",
        "a.html links no.html, which is not there",
        "a.html links sub/b.html#no, an anchor that is not there",
        "s.css loads https://c.org/f.css",
        "s.js loads //d.org/x",
    ]
