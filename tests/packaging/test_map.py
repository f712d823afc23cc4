# SPDX-License-Identifier: BSD-3-Clause
"""Who needs whom: the map drawn from imports, and from calls between C files, has no circle. And
no file outgrows what one reads at a sitting."""

from __future__ import annotations

import ast
import re

from support import ROOT

Map = dict[str, set[str]]


def python_map() -> Map:
    """Modules of the package and those that they import, anywhere in their code. The package itself
    is left out: it gathers what users call."""
    package = ROOT / "fastlstm"
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in [*package.rglob("*.py"), *package.glob("_*.pyi")]
    }
    needs: Map = {}
    for name, path in files.items():
        inside = name if path.stem == "__init__" else name.rpartition(".")[0]
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                above = inside.split(".")[: len(inside.split(".")) + 1 - node.level]
                base = ".".join([*(above if node.level else []), *(node.module or "").split(".")])
                base = base.rstrip(".")
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    found.add(whole if whole in files else base)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        needs[name] = (found & files.keys()) - {name, "fastlstm"}
    return needs


def c_map() -> Map:
    """C files, and those whose functions they name. Files of the same name would be one. The serial
    team is left out: it stands where the one of OpenMP does, and needs nobody."""
    paths = [path for path in (ROOT / "src_c").rglob("*.c") if path.name != "team_serial.c"]
    texts = {path.name: re.sub(r"//[^\n]*", "", path.read_text()) for path in paths}
    assert len(texts) == len(paths)
    defined = re.compile(r"^(?!static)[\w *]+?\b(f(?:l|astlstm)_\w+)\([^;{]*\)\s*\{", re.M)
    home = {name: file for file, text in texts.items() for name in defined.findall(text)}
    return {
        file: {home[name] for name in re.findall(r"\bf(?:l|astlstm)_\w+", text) if name in home}
        - {file}
        for file, text in texts.items()
    }


def circle(needs: Map) -> list[str]:
    """Names each of which needs the next one, and the last the first; [] if there are none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name not in done:
            for other in sorted(needs[name]):
                if found := walk(other, [*way, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(needs) if (found := walk(name, []))), [])


def test_python_has_no_circle() -> None:
    needs = python_map()
    assert {"fastlstm.checks", "fastlstm._core"} <= needs["fastlstm.layer"]  # it sees imports
    assert circle(needs) == []


def test_c_has_no_circle() -> None:
    needs = c_map()
    assert {"run.c", "segment.c"} <= needs["forward.c"]
    assert circle(needs) == []


def test_rooms_of_c_point_one_way() -> None:
    """Folders of src_c, drawn from the same calls: run -> plan -> model -> platform."""
    room = {path.name: path.parent.name for path in (ROOT / "src_c").rglob("*.c")}
    needs: Map = {name: set() for name in room.values()}
    for file, others in c_map().items():
        needs[room[file]] |= {room[other] for other in others} - {room[file]}
    assert {"plan", "model", "platform"} <= needs["run"]
    assert circle(needs) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


MOST_LINES = 400
SOURCES = {"fastlstm": "*.p[yx]*", "src_c": "*.[ch]", "tests": "*.py", "tests/c": "*.[ch]"}


def test_no_source_is_longer_than_promised() -> None:
    paths = [path for room, names in SOURCES.items() for path in (ROOT / room).rglob(names)]
    assert {".py", ".pyx", ".pxd", ".pxi", ".c", ".h"} <= {path.suffix for path in paths}
    texts = {path: path.read_text(encoding="utf-8") for path in paths if path.suffix != ".pyc"}
    lines = {path.relative_to(ROOT).as_posix(): text.count("\n") for path, text in texts.items()}
    assert len(lines) > 200
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
