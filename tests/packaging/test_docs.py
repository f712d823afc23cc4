# SPDX-License-Identifier: BSD-3-Clause
"""What the docs point to exists: links between pages, headings, and files named in back quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve()
ROOT = next(folder for folder in HERE.parents if (folder / "pyproject.toml").is_file())
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
ROOMS = r"src_c|fastlstm|tests|docs|examples|bench|\.ci|\.github"
# A path from the root of the repository, with * or <word> for any name; or a file there.
NAMED = re.compile(rf"(?:{ROOMS})/[\w./*<>-]*|\.?[\w-]+\.(?:md|toml|cff|yaml)")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page: its headings as GitHub spells them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"(?:\]\(|<img src=\")([^)\"\s]+)[)\"]", prose(page)):
        if re.match(r"\w+:", target):  # another site's
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


def missing_files(page: Path, root: Path = ROOT) -> Iterator[str]:
    for name in re.findall(r"`([^`\n]+)`", prose(page)):
        if NAMED.fullmatch(name):
            pattern = re.sub(r"<\w+>", "*", name).rstrip("/")
            if not any(root.glob(pattern)):
                yield name


def test_there_are_pages() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/design.md", "docs/design/layouts.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_exist(page: Path) -> None:
    assert list(missing_files(page)) == []


def test_what_is_dead_is_seen(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "here.md").write_text("# One heading, `so`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](docs/here.md) [b](docs/here.md#one-heading-so) [c](https://x.org/no.md) [d](#no)\n"
        "[e](docs/here.md#no) [f](docs/no.md)\n`docs/` `docs/here.md` `docs/<any>.md` `no/such`\n"
        '`docs/no.md` `no.toml` `docs/no*` `lstm.no`\n<img src="no.png">\n'
        "```\n[g](no.md) `docs/no`\n```\n"
    )
    assert list(dead_links(page)) == ["#no", "docs/here.md#no", "docs/no.md", "no.png"]
    assert list(missing_files(page, tmp_path)) == ["docs/no.md", "no.toml", "docs/no*"]


def test_indexes_are_complete() -> None:
    """The tour links every page, the list of decisions every decision, in the order of numbers."""
    docs = ROOT / "docs"
    tour = prose(docs / "design.md")
    assert all(f"](design/{page.name})" in tour for page in (docs / "design").glob("*.md"))
    decisions = sorted(path.name for path in (docs / "decisions").glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d[^)]+)\)", prose(docs / "decisions" / "README.md"))
    assert listed == decisions
    assert [int(name[:4]) for name in decisions] == [*range(1, len(decisions) + 1)]
    for name in decisions:
        text = (docs / "decisions" / name).read_text(encoding="utf-8")
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.M)
        assert parts == ["Context", "Decision", "Consequences", "Measured"], name


def test_rooms_hold_what_is_listed() -> None:
    rooms = re.split(r"^## `(.+)/`$", prose(ROOT / "docs" / "design" / "rooms.md"), flags=re.M)[1:]
    assert len(rooms) >= 20
    missing = [
        f"{room}/{name}"
        for room, table in zip(rooms[::2], rooms[1::2], strict=True)
        for row in re.findall(r"^\| (`[^|]+) \|", table, re.M)
        for name in re.findall(r"`([^`]+)`", row)
        if not (ROOT / room / name).is_file()
    ]
    assert missing == []


def test_every_source_stands_in_a_room() -> None:
    text = prose(ROOT / "docs" / "design" / "rooms.md")
    parts = re.split(r"^## `(.+)/`$", text, flags=re.M)[1:]
    rooms = dict(zip(parts[::2], parts[1::2], strict=True))
    for folder, pattern in (("fastlstm", "*.py*"), ("src_c", "*.[ch]")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            room = path.parent.relative_to(ROOT).as_posix()
            if path.suffix in (".py", ".pyi", ".pyx", ".c", ".h") and not path.name.startswith(
                ("__init__", "kernels_")
            ):
                assert f"`{path.name}`" in rooms[room], path


def test_readme_is_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_examples_are_listed() -> None:
    """Scripts that can be run stand in the guide's table, and what stands there exists."""
    texts = {
        path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")
    }
    scripts = {name for name, text in texts.items() if '__name__ == "__main__"' in text}
    table = prose(ROOT / "docs" / "guide" / "examples.md")
    listed = {
        name
        for row in re.findall(r"^\| *(`[^|]+)\|", table, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert scripts <= listed <= texts.keys()


def test_configurations_parse() -> None:
    """Those of services that are not asked here: a broken one would be silent."""
    yaml = pytest.importorskip("yaml")
    names = (".pre-commit-config.yaml", ".github/workflows/ci.yml", "CITATION.cff")
    hooks, workflow, citation = (
        yaml.safe_load((ROOT / name).read_text(encoding="utf-8")) for name in names
    )
    assert all(hook["language"] == "python" for hook in hooks["repos"][0]["hooks"])
    assert {"check", "test"} <= workflow["jobs"].keys()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    assert citation["version"] == version[1]
    cite = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    assert re.findall(r"version = \{(.+?)\}", cite) == [version[1]]


def test_workflow_calls_what_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = [(ROOT / ".github/workflows/ci.yml").read_text(), prose(ROOT / "CONTRIBUTING.md")]
    targets = {name for text in texts for name in re.findall(r"(?:run: |`)make ([\w-]+)", text)}
    assert {"check", "test"} <= targets
    assert [name for name in sorted(targets) if f"\n{name}:" not in makefile] == []
