# SPDX-License-Identifier: BSD-3-Clause
"""Appends to reference/command-line.md what each command says to --help."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

COMMANDS = ("info", "inspect", "convert", "verify", "bench")


def said(*arguments: str) -> str:
    """What the program prints to --help, 88 columns wide."""
    from fastlstm.__main__ import main

    text = io.StringIO()
    settings = mock.patch.dict(os.environ, COLUMNS="88", NO_COLOR="1")
    with settings, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return text.getvalue()


def page() -> str:
    parts = [f"```text\n{said()}```\n"]
    parts += [f"## {command}\n\n```text\n{said(command)}```\n" for command in COMMANDS]
    return "\n".join(parts)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "reference/command-line":
        app.env.note_reread()  # whatever has changed: it may be any of the commands' modules
        source[0] += "\n" + page()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
