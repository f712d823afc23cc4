# SPDX-License-Identifier: BSD-3-Clause
"""The site's pages: their Python runs, and the commands that they name exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastlstm import __main__, runtime
from support import ROOT, readme

DOCS = ROOT / "docs"
FOLDERS = ("start", "guide", "migration")
PAGES = sorted([*DOCS.glob("*.md"), *(p for f in FOLDERS for p in (DOCS / f).glob("*.md"))])
NAMES = {page: page.relative_to(DOCS).as_posix() for page in PAGES}
WITH_CODE = [page for page in PAGES if readme.blocks(page.read_text(encoding="utf-8"))]
# A word of a page's code, and the package without which it cannot run.
NEEDS = {
    "import torch": "torch",
    "fastlstm.torch": "torch",
    "import onnxruntime": "onnxruntime",
    "onnx(": "onnx",
    "dynamo=True": "onnxscript",
    "keras(": "h5py",
    "sklearn": "sklearn",
}


def commands(text: str) -> Iterator[str]:
    """The lines of blocks that are no Python, Markdown or C: what is typed into a shell."""
    for block in re.findall(r"^```\n(.*?)^```$", text, re.M | re.S):
        yield from block.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", WITH_CODE, ids=NAMES.__getitem__)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "".join(block.code for block in readme.blocks(page.read_text(encoding="utf-8")))
    for package in sorted({NEEDS[word] for word in NEEDS if word in code}):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    threads = runtime.get_num_threads()
    names, count = readme.run(page, [])
    assert count == len(readme.blocks(page.read_text(encoding="utf-8")))
    assert runtime.get_num_threads() == threads  # no page may change what others see
    if "accuracy" in names:  # of the front page, and of the one for scikit-learn
        said = re.search(r"accuracy = .*# about ([\d.]+)", code)
        assert said
        assert np.isclose(float(names["accuracy"]), float(said[1]), atol=0.06)


def in_contents(page: Path) -> Iterator[Path]:
    """The pages that the tables of contents of a page name, and theirs."""
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                entry = re.sub(r"^.* <(.+)>$", r"\1", line)
                for found in page.parent.glob(f"{entry}.md"):
                    yield found
                    yield from in_contents(found)


def test_every_page_is_in_the_contents() -> None:
    """And once only, which Sphinx does not ask for."""
    written = [
        *PAGES,
        *(p for f in ("interop", "design", "decisions") for p in (DOCS / f).glob("*")),
    ]
    listed = sorted([DOCS / "index.md", *in_contents(DOCS / "index.md")])
    assert [page for page in listed if page in written] == sorted(written)


def test_every_reader_has_code() -> None:
    told = {NAMES[page] for page in WITH_CODE}
    assert {"index.md", "security.md", "promises.md", "guide/streaming.md"} <= told
    for folder in ("start", "migration"):
        assert {f"{folder}/{page.name}" for page in (DOCS / folder).glob("*.md")} <= told


def test_commands_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of make, and `python -m fastlstm` with the arguments that stand there."""
    from fastlstm.bench import cli as bench
    from fastlstm.interop import cli as interop

    for module in (bench, interop):
        monkeypatch.setattr(module, "run", lambda *_: 0)
    monkeypatch.setattr(__main__.fastlstm, "show_config", lambda: None)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    ours = [line for line in lines if line.startswith("python -m fastlstm ")]
    assert len(ours) >= 10
    for line in ours:
        assert __main__.main(shlex.split(line, comments=True)[3:]) == 0, line
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert {"demo", "test", "wheel"} <= targets
    assert [target for target in sorted(targets) if f"\n{target}:" not in makefile] == []
