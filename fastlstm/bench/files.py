# SPDX-License-Identifier: BSD-3-Clause
"""Result files that hold both tasks: a run replaces its own section and keeps the other's; and what
they are called."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .. import runtime
from .report import TITLES


def machine_name() -> str:
    """A file name for results of this machine: its CPU's name, family and model (a virtual machine
    often has no more of a name than the vendor's), and the instruction set if not the best."""
    parts = [runtime.cpu_name()]
    for field in ("cpu family", "model"):
        number = runtime.cpu_field(field)
        parts += [field.split()[-1], number] if number else []
    if runtime.active_isa() != runtime.available_isas()[0]:
        parts.append(runtime.active_isa())
    return re.sub("[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def write(path: Path, task: str, page: str, values: dict[str, Any]) -> None:
    """Write JSON for ``.json``, else the Markdown page.

    In JSON the values of inference are the top level, as those of a run without training are, and
    those of training stand under "training". In Markdown each task is a chapter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else ""
    if path.suffix == ".json":
        path.write_text(json.dumps(_joined(before, task, values), indent=1, default=str) + "\n")
        return
    chapters = {**_chapters(before), task: page}
    path.write_text("\n".join(chapters[name] for name in TITLES if name in chapters))


def _joined(before: str, task: str, values: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(before)
    except ValueError:
        found = {}
    if not isinstance(found, dict):
        found = {}
    if task == "training":
        return {**found, "training": values}
    return {**values, **({"training": found["training"]} if "training" in found else {})}


def _chapters(text: str) -> dict[str, str]:
    """Task -> its chapter, title included, ending in one line feed."""
    tasks = {title: task for task, title in TITLES.items()}
    chapters: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("# "):
            current = []  # a chapter of another title is nobody's, and goes
            if line in tasks:
                chapters[tasks[line]] = current
        current.append(line)
    return {task: "\n".join(lines).rstrip() + "\n" for task, lines in chapters.items()}
