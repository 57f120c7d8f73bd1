"""Sphinx: the pages of this folder as HTML, `make docs`."""

from importlib.metadata import version as _version

project = "TokenLM"
author = "The TokenLM authors"
copyright = "The TokenLM authors, MIT licence"
release = version = _version("tokenlm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # links to headings, as on GitHub

default_role = "literal"  # single backquotes in docstrings are code
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"TokenLM {release}"
html_show_sphinx = False
html_copy_source = False


def _for_sphinx(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """The manual of the environment is Markdown and has a page of its own; a colon in a property's line is no type."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)
    first = next((i for i, line in enumerate(lines) if line.startswith("## ")), None)
    if first is not None:
        del lines[first:]


def setup(app):  # type: ignore[no-untyped-def]
    """Connect to Sphinx."""
    app.connect("autodoc-process-docstring", _for_sphinx, priority=100)
