# SPDX-License-Identifier: BSD-3-Clause
"""`make docs` in a copy of the tree, and what it made: no warning, no broken link, nothing loaded
from another host, and a search that finds."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT, checkout, site

pytestmark = [pytest.mark.deep, pytest.mark.xdist_group("site")]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made from the files that git would hand to somebody else, and what is compiled."""
    for package in ("sphinx", "furo", "myst_parser", "numpydoc", "sphinx_gallery", "torch"):
        pytest.importorskip(package)
    folder = checkout.copy(tmp_path_factory.mktemp("tree"))
    for path in (ROOT / "fastlstm").glob("*.so"):
        shutil.copy2(path, folder / "fastlstm")
    command = re.search(r"-m (sphinx .*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert command
    assert {"-W", "--keep-going"} <= set(command[1].split())
    done = subprocess.run(
        [sys.executable, "-m", *command[1].split()],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in ("GALLERY", "PYTHONPATH")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "build" / "site"


def test_pages_are_sound(built: Path) -> None:
    pages = {path.relative_to(built).as_posix() for path in built.rglob("*.html")}
    assert {
        "index.html", "search.html", "reference/c.html", "reference/command-line.html",
        "reference/generated/fastlstm.LSTM.html", "gallery/plot_adding.html", "design/layouts.html",
        "results/index.html", "start/embedded.html", "guide/streaming.html", "migration/torch.html",
    } <= pages  # fmt: skip
    assert [*site.faults(built)] == []


def test_gallery_shows_every_page(built: Path) -> None:
    scripts = {path.stem for path in (ROOT / "examples" / "gallery").glob("plot_*.py")}
    assert len(scripts) > 10
    assert {path.stem for path in (built / "gallery").glob("plot_*.html")} == scripts
    assert not [*(built / "gallery").glob("_*.html")]


def test_methods_are_ours(built: Path) -> None:
    """A class of PyTorch's ancestry shows what we wrote of it, and nothing else."""
    page = site.Page((built / "reference/generated/fastlstm.LSTM.html").read_text(encoding="utf-8"))
    assert {"fastlstm.LSTM.__call__", "fastlstm.LSTM.stream", "fastlstm.LSTM.save"} <= page.ids
    name = "reference/generated/fastlstm.torch.LSTM.html"
    page = site.Page((built / name).read_text(encoding="utf-8"))
    assert "fastlstm.torch.LSTM" in page.ids
    assert "fastlstm.torch.LSTM.register_buffer" not in page.ids


@pytest.fixture
def served(built: Path) -> Iterator[str]:
    """Its address on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("word,page", [("peepholes", "fastlstm.LSTMOptions"), ("panel", "layouts")])
def test_search_finds_and_asks_nobody_else(
    served: str, tmp_path: Path, word: str, page: str
) -> None:
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
            "--virtual-time-budget=20000", f"{served}/search.html?q={word}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    found = int(re.findall(r"found (\d+) page", done.stdout)[0])
    assert found >= 1
    assert page in done.stdout.split("Search finished")[1]
    asked = [
        event["params"]
        for event in json.loads(log.read_text(encoding="utf-8"))["events"]
        if str(event.get("params", {}).get("initiator", "")).startswith("http")
    ]  # what the browser asks for itself has no initiator
    addresses = {params["url"] for params in asked}
    assert f"{served}/searchindex.js" in {address.split("?")[0] for address in addresses}
    assert {address for address in addresses if not address.startswith(served)} == set()
