# SPDX-License-Identifier: BSD-3-Clause
"""The site's configuration: `make docs` builds it, with every warning an error."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]

import fastlstm  # noqa: E402

project = "fastlstm"
author = "the authors of fastlstm"
copyright = f"{author}, BSD-3-Clause"
version = release = fastlstm.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
exclude_patterns = ["_*", "**/README.txt"]
root_doc = "index"
nitpicky = False

# Headings are anchors as GitHub spells them, so that pages read the same in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = "fastlstm"
html_copy_source = False
