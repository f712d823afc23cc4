# SPDX-License-Identifier: BSD-3-Clause
"""The options of the ``bench`` command that draw results, from this run or from files of earlier
ones."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import page, picture, records

# Each option's attribute, and how the name of its file must end.
_OPTIONS = {
    "html": ("--html", ".html"),
    "png": ("--png", ".png"),
    "png_by_regime": ("--png-by-regime", ".png"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A group of options."""
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write one page with charts and tables: times, ratios to the peers, shares of "
        "the machine's limit",
    )
    group.add_argument(
        "--png",
        type=Path,
        metavar="FILE",
        help="also draw the same into one picture, a line a shape (needs matplotlib)",
    )
    group.add_argument(
        "--png-by-regime",
        type=Path,
        metavar="FILE",
        help="also draw a small picture: streams, batches, training and so on, a mark a model, at "
        "the smallest thread count (needs matplotlib)",
    )
    group.add_argument(
        "--from",
        dest="source",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing and draw what these files hold, .json as --output writes them",
    )


def _wanted(args: argparse.Namespace) -> dict[str, Path]:
    found = {name: getattr(args, name) for name in _OPTIONS}
    return {name: path for name, path in found.items() if path is not None}


def check(args: argparse.Namespace, error: Callable[[str], Any]) -> None:
    """End the program, by ``error``, where nothing could be drawn: before anything is measured."""
    wanted = _wanted(args)
    for name, path in wanted.items():
        option, ending = _OPTIONS[name]
        if path.suffix != ending:
            error(f"{option} {path}: the name must end in {ending}")
        if path.is_dir():
            error(f"{option} {path}: it is a folder")
        if ending == ".png" and importlib.util.find_spec("matplotlib") is None:
            error(
                f'{option} needs matplotlib, which is not installed: pip install "fastlstm[plots]"'
            )
    if args.planner and wanted:
        error(f"--planner draws nothing: it does not go with {_OPTIONS[next(iter(wanted))][0]}")
    if args.source and not wanted:
        error("--from draws: it needs --html, --png or --png-by-regime")


def from_files(args: argparse.Namespace, others: Sequence[str], error: Callable[[str], Any]) -> int:
    """Draw what files hold. ``others`` are options given that only a run has. The exit status."""
    if others:
        error(f"--from measures nothing, so it does not go with {', '.join(others)}")
    chapters = []
    for path in args.source:
        try:
            chapters += records.read(path)
        except (OSError, ValueError) as problem:
            error(f"--from: {problem}")
    write(args, chapters, error)
    return 0


def write_run(
    args: argparse.Namespace, values: dict[str, Any], task: str, error: Callable[[str], Any]
) -> None:
    """Draw a run from its document."""
    if _wanted(args) and values["results"]:
        write(args, [records.chapter(json.loads(json.dumps(values, default=str)), task)], error)


def write(
    args: argparse.Namespace, chapters: Sequence[records.Chapter], error: Callable[[str], Any]
) -> None:
    """All files that are asked for."""
    for name, path in _wanted(args).items():
        try:
            if name == "html":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(page.page(chapters), encoding="utf-8")
            else:
                picture.write(path, chapters, by_regime=name == "png_by_regime")
        except (OSError, ValueError) as problem:
            error(f"{_OPTIONS[name][0]} {path}: {problem}")
