# SPDX-License-Identifier: BSD-3-Clause
"""Runs the README's Python, in any interpreter and with nothing but the standard library:

    python readme.py README.md [package ...]

Blocks run from top to bottom in one namespace, in the current folder. Only a block that imports
one of the packages named is left out, and only where that package is not installed.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Block(NamedTuple):
    line: int  # of its first line in the file
    code: str


def blocks(text: str) -> list[Block]:
    """Every fenced block of Python."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(text[: m.start(1)].count("\n") + 1, m[1]) for m in found]


def imported(code: str) -> set[str]:
    """Top-level packages that the code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def run(path: Path, may_be_absent: list[str]) -> tuple[dict[str, Any], int]:
    """The namespace that the blocks leave, and how many of them ran."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        optional = imported(block.code) & set(may_be_absent)
        if all(importlib.util.find_spec(name) for name in optional):
            code = "\n" * (block.line - 1) + block.code  # errors name the README's line
            exec(compile(code, str(path), "exec"), namespace)
            count += 1
    return namespace, count


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), sys.argv[2:])[1], "blocks ran")
