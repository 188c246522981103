"""Names in the documentation and in docstrings are those of things that there are; no build is needed to find a stale one."""

import ast
import importlib.util
import inspect
import pkgutil
import re
import statistics
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import mmcore
from docs import names
from mmcore.plugins import GROUP

from .test_structure import FLOORS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/recipes/*.md")]
PAGES += ROOT.glob("benchmarks/**/*.md")
SOURCES = [*ROOT.glob("mmcore/**/*.py"), *ROOT.glob("plugins/*/mmcore_*/*.py"), *ROOT.glob("examples/*/mmcore_*/*.py")]
SPAN = re.compile(r"(`+)(?P<code>(?:(?!\1).)+?)\1")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
DOTTED = re.compile(r"(?<![\w./:-])mmcore(?:\.[A-Za-z_]\w*)+")
FOLDERS = ("mmcore", "docs", "benchmarks", "tests", "recipes", "plugins", "examples")
FILE = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*-]*")
GROUPS = re.compile(GROUP.rstrip("0123456789") + r"\d+")
"""The names of the entry points' groups look like those of modules."""
COMMAND = re.compile(r"python -m ((?:benchmarks|tests)[a-z_.]*[a-z_])\b")


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _stale(text: str, module: str = "", owner: str = "") -> Iterator[str]:
    """The references and the code in a piece of prose that stand for nothing."""
    for reference in names.REFERENCE.finditer(text):
        if not _is(names.target(reference["text"]), module, owner):
            yield reference[0]
    classes = {name: at for here in names.pages().values() for name, at in here.items() if name[0].isupper()}
    for span in SPAN.finditer(names.REFERENCE.sub("", FENCE.sub("", text))):
        code = span["code"]
        yield from (name for name in DOTTED.findall(code) if not GROUPS.match(name) and not _is(name))
        yield from (name for name in FILE.findall(code) if not any(ROOT.glob(name.rstrip("/"))))
        if member := re.fullmatch(r"([A-Z]\w+)\.([a-z_]\w*)(\(.*\))?", code):
            known = classes.get(member[1])
            if known and not _is(f"{known}.{member[2]}"):
                yield code
    for name in COMMAND.findall(text):
        try:
            there = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            there = False
        if not there:
            yield f"python -m {name}"


def _is(name: str, module: str = "", owner: str = "") -> bool:
    for full in names.candidates(name, module, owner):
        try:
            names.found(full)
        except LookupError:
            continue
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_every_name_on_a_page_is_one(page: Path) -> None:
    text = page.read_text()
    assert not [*_stale(text)]
    for block in FENCE.findall(text):
        for name in DOTTED.findall(block):
            assert GROUPS.match(name) or _is(name), name
        for module, imported in re.findall(r"^\s*(?:>>> )?from (mmcore[\w.]*) import ([\w, ]+)$", block, re.M):
            for name in imported.split(","):
                assert module.startswith("mmcore_") or _is(f"{module}.{name.strip()}"), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_every_reference_on_a_page_is_to_what_the_api_pages_describe(page: Path) -> None:
    for reference in names.REFERENCE.finditer(page.read_text()):
        name = names.target(reference["text"])
        assert name in names.MODULES or names.described(name), reference[0]


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_every_name_in_a_docstring_is_one(path: Path) -> None:
    parts = path.relative_to(ROOT / "mmcore").with_suffix("").parts if path.is_relative_to(ROOT / "mmcore") else ()
    module = ".".join(["mmcore", *(part for part in parts if part != "__init__")]) if parts else path.stem
    stale = [one for text, owner in _docstrings(ast.parse(path.read_text())) for one in _stale(text, module, owner)]
    assert not stale


def test_every_reference_that_the_api_pages_show_is_to_what_they_describe() -> None:
    wrong = []
    for page, here in names.pages().items():
        shown: list[tuple[str, object, str, str]] = [(page, import_module(page), page, "")]
        for at in here.values():
            value = names.found(at)
            members = vars(value) if inspect.isclass(value) else {}
            owner = value.__qualname__ if inspect.isclass(value) else ""
            shown += [(at, value, getattr(value, "__module__", ""), owner)]
            for name, member in members.items():
                scope = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if not name.startswith("_") and inspect.isroutine(scope):
                    shown.append((f"{at}.{name}", scope, value.__module__, owner))
        for at, thing, module, owner in shown:
            if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isroutine(thing):
                for reference in names.REFERENCE.finditer(thing.__doc__ or ""):
                    full = [*names.candidates(names.target(reference["text"]), module, owner)]
                    if not any(name in names.MODULES or names.described(name) for name in full):
                        wrong.append((at, reference[0]))
    assert not wrong


def _docstrings(node: ast.AST, owner: str = "") -> Iterator[tuple[str, str]]:
    """Every string that stands by itself, and the class that it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
            yield child.value.value, owner
        yield from _docstrings(child, child.name if isinstance(child, ast.ClassDef) else owner)


def test_stale_names_are_found() -> None:
    wrong = [
        "{func}`mmcore.fitt`",
        "{meth}`JointModel.drive <mmcore.JointModel.drives>`",
        ":class:`~mmcore.roles.Role`",
        "`mmcore.sampling.samples()`",
        "`mmcore/model.py`",
        "`Process.posteriors`",
        "``Modality.read_more(x)``",
        "`python -m benchmarks.stepp`",
    ]
    right = [
        "{func}`mmcore.fit`",
        "{class}`~mmcore.process.Process`",
        "`mmcore.v1`",
        "`mmcore/process/process.py`",
        "`Process.posterior`",
        "`mmcore sample`",
        "`python -m benchmarks.step`",
    ]
    assert all([*_stale(text)] for text in wrong)
    assert not [one for text in right for one in _stale(text)]
    # Short names in a docstring are those of its class or module.
    assert not [*_stale(":meth:`posterior` and :class:`Schedule`", "mmcore.process.process", "Process")]
    assert [*_stale(":meth:`posteriors`", "mmcore.process.process", "Process")]


def test_a_name_leads_to_what_it_stands_for() -> None:
    where = {
        "mmcore.compose": "mmcore.compose",
        "mmcore.fit": "mmcore.training.fit",
        "mmcore.process.schedule.Schedule.from_steps": "mmcore.process.Schedule.from_steps",
        # Inherited, and data of a class.
        "mmcore.training.weighting.ClippedSnr.draw": "mmcore.training.weighting.Simple.draw",
        "mmcore.training.options.TrainOptions.steps": "mmcore.training.TrainOptions",
        "mmcore.model.joint.JointModel.mmcore.compose": None,
        "mmcore.model.devices.pick_device": None,
    }
    assert {name: names.described(name) for name in where} == where
    assert [*names.candidates("mmcore.fit", "mmcore.process.process", "Process")] == ["mmcore.fit"]


def test_every_package_that_offers_names_has_a_page() -> None:
    packages = [
        mmcore,
        *(import_module(each.name) for each in pkgutil.walk_packages(mmcore.__path__, "mmcore.") if each.ispkg),
    ]
    assert {package.__name__ for package in packages if hasattr(package, "__all__")} <= {*names.MODULES}


def test_every_public_name_is_described_once_and_says_what_it_is() -> None:
    for page, here in names.pages().items():
        assert import_module(page).__doc__
        for name, at in here.items():
            assert names.described(f"{page}.{name}") == at
            value = names.found(at)
            if inspect.isclass(value) or inspect.isroutine(value):
                own = value.__doc__
            else:
                owners = [module for key, module in sorted(_loaded()) if vars(module).get(name) is value]
                own = next(
                    (names.constants(module)[name] for module in owners if name in names.constants(module)), None
                )
            assert own, f"{at} has no docstring"


def _loaded() -> Iterator[tuple[str, object]]:
    yield from ((key, module) for key, module in sys.modules.items() if key.startswith("mmcore."))


def test_the_map_of_the_house_is_whole() -> None:
    """Every room with its floor, and every module of every room, as they are on the disk."""
    page = (ROOT / "docs" / "structure.md").read_text()
    rooms, modules = (page.split(f"\n## {title}\n")[1].split("\n## ")[0] for title in ("Rooms", "Modules"))
    floors: list[list[str]] = []
    for floor, room in re.findall(r"^\| (\d*) *\| `mmcore/(\w+)(?:\.py|/)` \|", rooms, re.M):
        if floor:
            assert int(floor) == len(floors)
            floors.append([])
        floors[-1].append(room)
    assert floors == [list(floor) for floor in FLOORS]
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", modules, re.M))
    inside = {path.name: path for path in (ROOT / "mmcore").iterdir() if (path / "__init__.py").exists()}
    assert told.keys() == inside.keys()
    for room, cell in told.items():
        named = {*re.findall(r"`([a-z_]+)`", names.REFERENCE.sub("", cell))}
        assert named == {each.name for each in pkgutil.iter_modules([str(inside[room])])}, room


LINK = re.compile(r"\]\((?!https?:|#|mailto:)<?([^)#>]*)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = LINK.findall(SPAN.sub("", FENCE.sub("", page.read_text())))
    assert not [link for link in links if not (page.parent / link).exists()]


LISTED = "".join(re.findall(r":caption: (?:Start|Guides)\n\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.S))
GUIDES = {ROOT / f"docs/{name}.md" for name in re.findall(r"([\w/-]+)>?$", LISTED, re.M)} | {
    *ROOT.glob("docs/recipes/*.md")
}
GUIDES |= {ROOT / name for name in ("README.md", "AGENTS.md", "docs/index.md")}


def _sentences(text: str) -> Iterator[str]:
    """Those of a page's paragraphs and lists: no tables, headings, programs, or what a directive is told."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?:[|#<(].*|!\[.*)$", "", text, flags=re.M)
    # An item of a list is a paragraph of its own; code and formulas are a word, links the words that are seen.
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        plain = names.REFERENCE.sub("Name", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph))
        plain = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", re.sub(r"`[^`]+`|\$[^$]+\$", "Name", plain)).replace("*", "")
        yield from (one for one in re.split(r"(?<=[.!?])[\")]*\s+(?=[A-Z0-9\"(])", plain) if len(one.split()) > 1)


@pytest.mark.parametrize("page", sorted(GUIDES), ids=_relative)
def test_half_of_a_guides_sentences_have_fifteen_words_or_fewer(page: Path) -> None:
    words = [len(one.split()) for one in _sentences(page.read_text())]
    assert statistics.median(words) <= 15


def test_sentences_are_counted_as_a_reader_sees_them() -> None:
    page = "# A title\n\nOne `two words` three. `Four four` [five six](x.md) seven!\n\n| a | table |\n\n- An item, of\n  five words.\n- Two words\n\n```python\nno.sentence()\n```\n"
    assert [len(one.split()) for one in _sentences(page)] == [3, 4, 5, 2]
