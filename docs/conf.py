"""Configuration of the documentation: ``sphinx-build -W -b html docs OUT``; snippets: ``-b doctest``."""

import inspect
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx.domains.python import PyObject

import mmcore

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from docs import names  # noqa: E402

project = "mmcore"
author = "the mmcore authors"
project_copyright = author
version = release = mmcore.__version__

extensions = [
    "myst_parser",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

# What snippets write goes into a folder of their own, not into whoever's builds the documentation.
doctest_global_setup = """
_place = __import__("os").getcwd(), __import__("tempfile").TemporaryDirectory()
__import__("os").chdir(_place[1].name)
"""
doctest_global_cleanup = """
__import__("os").chdir(_place[0])
_place[1].cleanup()
"""

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# As fields, not as directives: an attribute that is a property too would be described twice.
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nitpicky = True
# Names of Python and of other libraries only, as no build needs the network. A name of mmcore must resolve.
nitpick_ignore_regex = [(r"py:.*", r"(abc|collections|enum|pathlib|torch|numpy|np|PIL|Image|pluggy)\..*")]


# The API pages are made from docstrings. api.md lists the modules; each has a page with a table of its public names
# and a description of each, but for those that are described on another page.


def _directive(value: object) -> str:
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if inspect.isroutine(value) else "data"


def _entry(page: str, name: str, at: str) -> dict[str, object]:
    value = getattr(import_module(page), name)
    entry = {"name": at, "directive": _directive(value), "here": at == f"{page}.{name}"}
    if inspect.isclass(value):
        own = [value, *names.inherited(value)]
        others = [base.__name__ for base in value.__mro__ if base not in own]
        entry |= {"bases": bool(names.shown(value)), "others": ", ".join(others) if own[1:] else ""}
    return entry


autosummary_context = {
    "pages": {page: [_entry(page, name, at) for name, at in here.items()] for page, here in names.pages().items()}
}


def _bases(app, name, obj, options, bases):
    """A base that is not public is not told of; its members are shown as the class's own."""
    bases[:] = names.shown(obj)


def _elsewhere(app, env, node, contnode):
    """A name of mmcore that is described under another: by its own module's name, or by the package that offers it."""
    if node.get("refdomain") != "py":
        return None
    domain, name = env.get_domain("py"), node["reftarget"]
    # A type that is imported for type checkers alone is written by its bare name.
    bare = {at for here in names.pages().values() for each, at in here.items() if each == name}
    for full in (*names.candidates(name, node.get("py:module") or ""), *(bare if len(bare) == 1 else ())):
        at = names.described(full) if full.startswith("mmcore.") else None
        if at and at != name:
            if contnode.astext() == name:
                contnode = type(contnode)("", at.rpartition(".")[2])
            return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], at, node, contnode)
    # A type in a signature, which is there but not public, is shown without a link. Prose must link.
    if not isinstance(contnode, nodes.literal) and name.startswith("mmcore."):
        names.found(name)
        return contnode
    return None


def _qualify(app, what, name, obj, options, lines):
    """Short names in docstrings are those of their own module, which is not the one whose page shows them."""
    scope = inspect.unwrap(obj.fget if isinstance(obj, property) else obj)
    qualified = getattr(scope, "__qualname__", "")
    owner = qualified if inspect.isclass(scope) else qualified.rpartition(".")[0]
    module = scope.__name__ if what == "module" else getattr(scope, "__module__", None) or ""

    def full(match: re.Match[str]) -> str:
        short = names.target(match["text"])
        for one in names.candidates(short, module, owner):
            if at := names.described(one):
                if "<" in match["text"]:
                    title = match["text"].partition("<")[0].strip()
                else:
                    title = at if short.startswith("mmcore.") else short
                    title = title.rpartition(".")[2] if match["text"].startswith("~") else title
                    title += "()" if match["role"] in ("func", "meth") else ""
                role = "class" if inspect.isclass(names.found(at)) else match["role"]
                return f":{role}:`{title} <{at}>`"
        return match[0]

    lines[:] = names.REFERENCE.sub(full, "\n".join(lines)).split("\n")


def _documented(app, what, name, obj, options, lines):
    """A constant's docstring stands below it, in the module that has it, and not in the one that offers it."""
    if what != "data":
        return
    short = name.rpartition(".")[2]
    for module in [module for key, module in sys.modules.items() if key.startswith("mmcore.")]:
        if vars(module).get(short) is obj and (own := names.constants(module).get(short)):
            lines[:] = own.split("\n")
            return
    if "\n".join(lines).strip() == inspect.getdoc(type(obj)):
        lines[:] = []


def _outside(app, docname, source):
    """A link to Markdown that is no page here is one to a file."""
    source[0] = re.sub(r"\]\(((?:\.\./)+(?:benchmarks|examples)/[^)#]*\.md)\)", r"](<path:\1>)", source[0])


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
    """Called by Sphinx; Napoleon runs at the default priority of 500, between these."""
    for field in PyObject.doc_field_types:
        field.label = "Attributes" if field.name == "variable" else field.label
    # The page of a module that is there no more would stay.
    shutil.rmtree(HERE / "api", ignore_errors=True)
    app.connect("autodoc-process-docstring", _documented, priority=80)
    app.connect("autodoc-process-docstring", _qualify, priority=90)
    app.connect("autodoc-process-docstring", _keep, priority=100)
    app.connect("autodoc-process-docstring", _put_back, priority=900)
    app.connect("autodoc-process-bases", _bases)
    app.connect("missing-reference", _elsewhere)
    app.connect("source-read", _outside)
    app.connect("autodoc-skip-member", _aliases)


html_theme = "furo"
html_title = f"mmcore {release}"
html_static_path = ["_static"]
html_css_files = ["mmcore.css"]
html_show_sphinx = False
html_show_copyright = False
