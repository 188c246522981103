"""Names of mmcore in prose: what each stands for, and where the API pages describe it.

``conf.py`` makes the pages by it, and ``tests/test_docs.py`` holds every name in prose to it.
"""

import ast
import inspect
import re
from abc import ABC
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol

MODULES = re.findall(r"^   (mmcore[\w.]*)$", (Path(__file__).parent / "api.md").read_text(), re.M)
"""Those that have a page, in the order of ``api.md``."""
ROLES = ("func", "class", "meth", "mod", "attr", "data", "exc", "obj")
REFERENCE = re.compile(rf"(?::(?:py:)?|\{{(?:py:)?)(?P<role>{'|'.join(ROLES)})(?:\}}|:)`(?P<text>[^`]+)`")
"""A reference to code, in a docstring or in Markdown."""


def target(text: str) -> str:
    """Of a reference, by what stands between its backticks: ``name``, ``~name`` or ``title <name>``."""
    inside = re.fullmatch(r".*<(.*)>", text, re.S)
    return (inside[1] if inside else text).lstrip("~!").removesuffix("()")


def public(module: ModuleType) -> list[str]:
    """The names that a module offers: ``__all__``, or else what is defined or documented there without an underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    own |= constants(module).keys()
    return [name for name in vars(module) if name in own and not name.startswith("_")]


def constants(module: ModuleType) -> dict[str, str]:
    """The constants of a module that have a docstring below them."""
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for node, below in pairwise(body):
        assigned = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        text = below.value if isinstance(below, ast.Expr) else None
        if isinstance(assigned, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[assigned.id] = inspect.cleandoc(text.value)
    return found


@cache
def pages() -> dict[str, dict[str, str]]:
    """By module, its public names and where each is described.

    What several modules offer is described once: in the first of them, or in ``mmcore`` if no other has it.
    """
    found: dict[str, dict[str, str]] = {}
    first: dict[int, str] = {}
    for name in sorted(MODULES, key=lambda name: name == "mmcore"):
        module = import_module(name)
        values = {each: getattr(module, each) for each in public(module)}
        found[name] = {
            each: first.setdefault(id(value), f"{name}.{each}")
            for each, value in values.items()
            if not inspect.ismodule(value)
        }
    return found


def inherited(value: type) -> list[type]:
    """The bases of a public class that are not, whose members are described as its own."""
    return [base for base in value.__mro__[1:] if base.__module__.startswith("mmcore.") and not described(_full(base))]


def shown(value: type) -> list[type]:
    """The bases that are told of: neither those of :func:`inherited`, nor what says nothing of a class."""
    return [base for base in value.__bases__ if base not in (object, ABC, Generic, Protocol, *inherited(value))]


def _full(value: type) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def found(name: str) -> Any:
    """What a dotted name stands for.

    Raises:
        LookupError: nothing; it says how far the name goes.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for done, part in enumerate(parts[cut:], cut):
            if not hasattr(value, part):
                # Of a class whose ``__init__`` sets it.
                if part in _annotated(value) and done == len(parts) - 1:
                    return _annotated(value)[part]
                raise LookupError(f"{name}: {'.'.join(parts[:done])} has no {part}")
            value = getattr(value, part)
        return value
    raise LookupError(f"{name}: no such module")


def _annotated(value: Any) -> dict[str, Any]:
    return {k: v for base in getattr(value, "__mro__", ()) for k, v in vars(base).get("__annotations__", {}).items()}


def candidates(name: str, module: str = "", owner: str = "") -> Iterator[str]:
    """The full names that a name in a docstring may be short for, the likeliest first.

    Args:
        name: as it is written.
        module: whose docstring it is, or in which the docstring's class or function is.
        owner: the class whose docstring it is, or in which the docstring's method is.
    """
    if not name.startswith("mmcore."):
        if owner:
            yield f"{module}.{owner}.{name}"
        if module:
            yield f"{module}.{name}"
            # What the package offers.
            yield f"{module.rpartition('.')[0] or module}.{name}"
    yield name


def described(name: str) -> str | None:
    """Where the API pages describe the object of a full name, whichever way the name goes; None if nowhere.

    A class's data and special methods have no description of their own: theirs is the class's.
    """
    try:
        found(name)
    except LookupError:
        return None
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            module = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        value, rest = getattr(module, parts[cut], None), parts[cut + 1 :]
        if rest and inspect.isclass(value):
            owner = next((base for base in value.__mro__ if rest[0] in vars(base)), value)
            if owner is not value and (at := described(".".join([owner.__module__, owner.__qualname__, *rest]))):
                return at
            if rest[0].startswith("_") or not inspect.isroutine(getattr(value, rest[0], None)):
                rest = []
        for page, names in pages().items():
            for each, full in names.items():
                if value is not None and getattr(import_module(page), each) is value:
                    return ".".join([full, *rest])
        return None
    return None
