# SPDX-License-Identifier: BSD-3-Clause
"""Writes reference/command-line.md: what each command says to --help."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

COMMANDS = ("info", "inspect", "convert", "verify", "bench")
INTRODUCTION = """# The command line

`python -m fastlstm` says what runs on this machine, takes models in and out of files of other formats, and
measures. [Models of other formats](../interop/onnx.md) has examples of `inspect`, `convert` and `verify`.

"""


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
    return INTRODUCTION + "\n".join(parts)


def write(app: Sphinx) -> None:
    path = Path(app.srcdir) / "reference" / "command-line.md"
    text = page()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
