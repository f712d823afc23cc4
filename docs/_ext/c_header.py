# SPDX-License-Identifier: BSD-3-Clause
"""Appends to reference/c.md what src_c/include/fastlstm.h says and declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HEADER = Path(__file__).parents[2] / "src_c" / "include" / "fastlstm.h"
FUNCTION = re.compile(r"(?!typedef)[\w *]+\bfastlstm_\w+\([^;{]*\);")
TYPES = {
    "enum": r"typedef enum .*\} (\w+);",
    "struct": r"typedef struct (\w+) (?:\{.*\} )?\1;",
    "type": r"typedef ([^{]*);",
}


def escaped(text: str) -> str:
    """Text of a comment as Markdown that shows it as it is, with what it names as links."""
    parts = re.split(r"(\bfastlstm_\w+|\bFASTLSTM_\w+|`[^`]+`)", text)
    parts[::2] = [re.sub(r"([\\*_\[\]<>#|])", r"\\\1", part) for part in parts[::2]]
    for k, name in enumerate(parts[1::2]):
        link = name.startswith("fastlstm_")
        parts[2 * k + 1] = f"{{c:expr}}`{name}`" if link else f"`{name.strip('`')}`"
    return "".join(parts)


def prose(comment: list[str]) -> str:
    """Lines of a comment as paragraphs; what is indented, as it stands."""
    text = "\n".join(re.sub(r"^// ?", "", line) for line in comment)
    return "\n\n".join(
        f"```text\n{paragraph}\n```"
        if paragraph.startswith("  ")
        else re.sub(r"^([A-Z]\w+)\. (?=\S)", r"**\1.** ", escaped(paragraph))
        for paragraph in re.split(r"\n *\n", text.strip("\n"))
    )


def entry(comment: list[str], code: list[str]) -> str:
    """One declaration as a directive of Sphinx's C domain."""
    text, said = "\n".join(code), prose(comment)
    bare = re.sub(r"\s*//[^\n]*", "", text)
    note = re.search(r";\s*// ?(.*)$", text)
    if FUNCTION.fullmatch(bare):
        what = said or escaped(note[1][:1].upper() + note[1][1:] if note else "")
        signature = " ".join(bare.rstrip(";").split())
        return f"````{{c:function}} {signature}\n\n{what}\n````\n"
    described = "\n\n".join([said, f"```c\n{text}\n```"]).lstrip("\n")
    for kind, pattern in TYPES.items():
        found = re.fullmatch(pattern, bare, re.S)
        if found:
            name = " ".join(found[1].split())
            return f"````{{c:{kind}}} {name}\n\n{described}\n````\n"
    return described + "\n"


def pieces(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """A section's title, "", or a declaration with the comment above it, in their order."""
    comment: list[str] = []
    code: list[str] = []
    depth, ended = 0, False  # braces and brackets that are open; the line ends a declaration
    for line in [*text.splitlines(), ""]:
        bare = line.split("//")[0].rstrip()
        section = re.fullmatch(r"// ---- (.+) ----", line)
        if code and depth == 0 and (not bare or ended):
            yield "", comment, code
            comment, code = [], []
        ended = bare.endswith(";")
        if section:
            yield section[1], [], []
        elif depth == 0 and line.startswith("//"):
            comment.append(line)
        elif depth == 0 and not line:
            comment = []
        else:
            code.append(line)
            depth += sum(map(bare.count, "{(")) - sum(map(bare.count, "})"))


def page(header: str) -> str:
    """The text of the header as Markdown."""
    lines = header.splitlines()
    end = next(k for k, line in enumerate(lines) if not line.startswith("//"))
    body = "\n".join(lines[end:])
    # What only compilers read.
    body = re.sub(
        r"^#ifdef __cplusplus\n(?:extern \"C\" \{|\})\n#endif$"
        r"|^#if defined\(__GNUC__\)\n#pragma.*\n#endif$"
        r"|^#(?:ifndef FASTLSTM_H|define FASTLSTM_H|include .*)$|^// What this header declares.*$"
        r"|\n#endif\s*\Z",
        "",
        body,
        flags=re.M,
    )
    parts = [prose(lines[1:end]), "## Constants and kinds"]
    for title, comment, code in pieces(body):
        parts.append(
            f"## {escaped(title[:1].upper() + title[1:])}" if title else entry(comment, code)
        )
    return "\n\n".join(parts)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "reference/c":
        app.env.note_dependency(str(HEADER))
        source[0] += "\n" + page(HEADER.read_text(encoding="utf-8"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
