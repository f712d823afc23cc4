# SPDX-License-Identifier: BSD-3-Clause
"""The code of the pages about formats runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ROOT, readme


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_every_block_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    page = ROOT / "docs" / "interop" / f"{name}.md"
    monkeypatch.chdir(tmp_path)
    _, count = readme.run(page, [])
    assert count == len(readme.blocks(page.read_text(encoding="utf-8"))) >= 1
