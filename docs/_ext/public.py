# SPDX-License-Identifier: BSD-3-Clause
"""What the reference shows of a class, and links from names in the text to their pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms import SphinxTransform

NAME = re.compile(r"(fastlstm(?:\.\w+)+)(?:\(\))?")


def skip(app: Sphinx, what: str, name: str, member: object, skipped: bool, options: Any) -> bool:
    """Whether a member of a class is left out: what other packages wrote is, and so are the fields
    of records, which the class itself describes."""
    if what != "class":
        return skipped
    function = getattr(member, "__func__", getattr(member, "fget", member))
    ours = str(getattr(function, "__module__", "")).startswith("fastlstm")
    return skipped or not (ours and getattr(function, "__doc__", None))


class Links(SphinxTransform):
    """`fastlstm.LSTM` in back quotes leads to the page of that name, if there is one."""

    default_priority = 5  # before references are looked for

    def apply(self, **kwargs: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            found = NAME.fullmatch(literal.astext())
            inside = isinstance(literal.parent, (nodes.reference, pending_xref, nodes.title))
            if found and not inside:
                link = pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=found[1],
                    refdoc=self.env.docname,
                    refexplicit=True,
                    refwarn=False,
                )
                literal.replace_self(link)
                link += literal


def remove_stubs(app: Sphinx, config: Config) -> None:
    """Pages of names that are no more would be warned of for ever."""
    shutil.rmtree(Path(app.srcdir) / "reference" / "generated", ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-skip-member", skip)
    app.connect("config-inited", remove_stubs)
    app.add_transform(Links)
    return {"parallel_read_safe": True}
