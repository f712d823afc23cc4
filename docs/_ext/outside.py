# SPDX-License-Identifier: BSD-3-Clause
"""Links of pages to Markdown outside docs/, which read well in the repository, lead to the site's
own pages of the same content."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# A file below the repository's root, or a folder of them -> a page of docs, or a folder.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "start/contributor.md",
    "SECURITY.md": "security.md",
    "bench/results": "results",
}
LINK = re.compile(r"(?<=\]\()(?P<up>(?:\.\./)+)(?P<path>[^)#\s]+\.md)(?=[)#])")


def moved(text: str, page: PurePosixPath) -> str:
    """The text of a page, given relative to docs, with its links to files outside replaced."""

    def replaced(link: re.Match[str]) -> str:
        if len(link["up"]) // 3 != len(page.parts):  # within docs, or out of the repository
            return link[0]
        path = PurePosixPath(link["path"])
        target = PAGES.get(str(path)) or f"{PAGES.get(str(path.parent), '')}/{path.name}"
        return link[0] if target.startswith("/") else "../" * (len(page.parts) - 1) + target

    return LINK.sub(replaced, text)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = moved(source[0], PurePosixPath(path.relative_to(app.srcdir).as_posix()))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
