"""Configuration of the documentation: ``sphinx-build -W -b html docs OUT``; snippets: ``-b doctest``."""

import mmcore

project = "mmcore"
author = "the mmcore authors"
project_copyright = author
version = release = mmcore.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown"}
# Files under results/ are included in results.md; they are no pages of their own.
exclude_patterns = ["_build", "results/**"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As fields, not as directives: an attribute that is a property too would be described twice.
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
nitpicky = False

# Napoleon reads "Known: its clean code" below an attribute or property as a type and its description.
# Those docstrings are plain text here, so they are put back as they were.
_plain: dict[str, list[str]] = {}


def _keep(app, what, name, obj, options, lines):
    if what in ("attribute", "data", "property"):
        _plain[name] = list(lines)


def _put_back(app, what, name, obj, options, lines):
    if name in _plain:
        lines[:] = _plain.pop(name)


def _aliases(app, what, name, obj, skip, options):
    """A named tuple's docstring describes its fields; Python's own words for them say nothing."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app):
    """Called by Sphinx; Napoleon runs at the default priority of 500, between the two."""
    app.connect("autodoc-process-docstring", _keep, priority=100)
    app.connect("autodoc-process-docstring", _put_back, priority=900)
    app.connect("autodoc-skip-member", _aliases)


html_theme = "furo"
html_title = f"mmcore {release}"
html_show_sphinx = False
html_show_copyright = False
