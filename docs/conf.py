"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import gproxy_storage

project = "gproxy_storage"
author = "The gproxy_storage authors"
project_copyright = f"2026 {author}"
version = release = gproxy_storage.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # [text](page.md#heading) finds headings of up to this level

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"gproxy_storage {release}"
