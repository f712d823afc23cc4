# SPDX-License-Identifier: BSD-3-Clause
"""The code of the README runs and keeps what its comments say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from support import ROOT, readme

README = ROOT / "README.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("torch")
    names, count = readme.run(README, [])
    assert count == len(readme.blocks(README.read_text(encoding="utf-8"))) >= 3
    assert any(isinstance(value, fastlstm.LSTM) for value in names.values())


def test_first_block() -> None:
    """It needs no other package, and its stream gives "the same bits as lstm(x)"."""
    block = readme.blocks(README.read_text(encoding="utf-8"))[0]
    assert readme.imported(block.code) == {"numpy", "fastlstm"}
    names: dict[str, object] = {}
    exec(block.code, names)
    lstm, x = names["lstm"], names["x"]
    assert isinstance(lstm, fastlstm.LSTM)
    assert np.array_equal(names["h_t"], lstm(x)[0][-1])  # type: ignore[arg-type]


def test_commands_exist() -> None:
    """`make` targets and `python -m fastlstm` commands that the README names."""
    text = README.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for line in text.splitlines() if line.startswith("make ")}
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    for command in ("info", "bench"):
        assert f"python -m fastlstm {command}" in text
        done = subprocess.run(
            [sys.executable, "-m", "fastlstm", command, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: python -m fastlstm {command}")


def test_blocks_are_found() -> None:
    text = (
        "a\n```python\nimport a.b\nfrom c import d\n```\n```\nno python\n```\n```python\nx\n```\n"
    )
    first, second = readme.blocks(text)
    assert first == (3, "import a.b\nfrom c import d\n")
    assert second.code == "x\n"
    assert readme.imported(first.code) == {"a", "c"}


def test_absent_packages_are_left_out(tmp_path: Path) -> None:
    """What is not named must be there."""
    path = tmp_path / "README.md"
    path.write_text("```python\nimport no_such_package\n```\n\n```python\nx = 1\n```\n")
    names, count = readme.run(path, ["no_such_package"])
    assert (names["x"], count) == (1, 1)
    with pytest.raises(ModuleNotFoundError):
        readme.run(path, ["another"])
