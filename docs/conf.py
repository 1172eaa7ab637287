"""The site: `sphinx-build -W docs build/docs`. Nothing is fetched: no inventories, no web fonts."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from rlwatch import __version__  # noqa: E402

project = "rlwatch"
author = "the rlwatch authors"
copyright = "the rlwatch authors, Apache-2.0"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "rlwatch_pages"]
exclude_patterns = ["_ext", "images"]
highlight_language = "text"
smartquotes = False  # --option is no dash
default_role = "code"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"rlwatch {__version__}"
html_static_path = ["_static"]
html_css_files = ["rlwatch.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
