# SPDX-License-Identifier: BSD-3-Clause
"""The site's configuration: `make docs` builds it, with every warning an error."""

import os
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

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    # of docs/_ext
    "outside",
    "public",
    "c_header",
    "command_line",
    "results",
]
exclude_patterns = ["_*", "gallery/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]

# Headings are anchors as GitHub spells them, so that pages read the same in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]  # pictures whose width is given, as GitHub shows them

# Types stand in the docstrings, with shapes and defaults in words.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
maximum_signature_line_length = 72
numpydoc_show_class_members = False  # autodoc documents them, with all they say
default_role = "py:obj"
add_module_names = False
toc_object_entries_show_parents = "hide"
autosummary_filename_map = {  # which would be one file where case does not count
    "fastlstm.nn.windows": "fastlstm.nn.windows_",
    "fastlstm.torch.report": "fastlstm.torch.report_",
}

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(^|/)_",
    "plot_gallery": os.environ.get("GALLERY") == "1",
    "abort_on_example_error": True,
    "default_thumb_file": str(DOCS / "_static" / "thumbnail.svg"),
    "within_subsection_order": "ExampleTitleSortKey",
    "notebook_extensions": set(),  # pages share modules, which a notebook lacks
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = "fastlstm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
