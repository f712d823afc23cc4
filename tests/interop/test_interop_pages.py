# SPDX-License-Identifier: BSD-3-Clause
"""The code of the pages about formats runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ROOT, readme, tflite_build

PAGES = sorted(path.stem for path in (ROOT / "docs" / "interop").glob("*.md"))
NEEDS = {"keras": ["h5py"], "rtneural": [], "tflite": ["tflite", "ai_edge_litert"]}


@pytest.mark.parametrize("name", PAGES)
def test_every_block_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(name, [name]):
        pytest.importorskip(package)
    page = ROOT / "docs" / "interop" / f"{name}.md"
    monkeypatch.chdir(tmp_path)
    if name == "tflite":  # which reads a file and cannot write one
        plain = {"both": False, "peepholes": False, "coupled": False, "norm": False}
        none = {"projection": 0, "cell_clip": 0.0, "proj_clip": 0.0, "time_major": False}
        data, _ = tflite_build.lstm(0, {**plain, **none, "reduce": ""})
        (tmp_path / "model.tflite").write_bytes(data)
    _, count = readme.run(page, [])
    assert count == len(readme.blocks(page.read_text(encoding="utf-8"))) >= 1
