"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

import gproxy_storage

sys.path.insert(0, str(Path(__file__).parent))  # where `generated` and `complete` are

project = "gproxy_storage"
author = "The gproxy_storage authors"
project_copyright = f"2026 {author}"
version = release = gproxy_storage.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "generated",
    "complete",
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # [text](page.md#heading) finds headings of up to this level

default_role = "code"  # docstrings write `name`, as Markdown does
add_module_names = False
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # KEEP, not Kept.KEEP
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as one list

html_theme = "furo"
html_title = f"gproxy_storage {release}"

nitpicky = True  # a reference to nothing is a warning
nitpick_ignore_regex = [
    # other projects' objects
    (r"py:.*", r"(collections|contextlib|datetime|decimal|pathlib|peewee)\b.*"),
    # what its users never name
    (r"py:.*", r"gproxy_storage\.(backends|repositories\.(arguments\.Kept|reading\.Absent))\b.*"),
    (r"py:.*", r"gproxy_storage\.schema\.(checks|renames)\b.*"),
    (r"py:.*", r"gproxy_storage\..*\.[A-Z]"),  # type variables
]
