"""Values against annotations, and options against signatures: every problem found, each with its place and its mend.

A constructor's signature says what a section of a file may hold, whether it is an attrs class of the core or a
plugin's factory. Nothing is called or built here.
"""

import enum
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import attrs

from mmcore.errors import Problem, nearest

LARGEST = 2**63 - 1
# A key of TOML without quotes, and below it what has been put together already.
_BARE = re.compile(r"[A-Za-z0-9_-]+([.\[].*)?")
_PLAIN = {bool: "true or false", int: "an integer", float: "a finite number", str: "a string"}
_MANY = {bool: "booleans", int: "integers", float: "finite numbers", str: "strings"}


def fits(value: Any, annotation: Any) -> bool:
    """Whether what a TOML file held is a value of an annotation; unknown annotations take nothing but None."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, typing.TypeVar | str):
        return True
    if annotation in (None, type(None)):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin is typing.Annotated:
        return fits(value, args[0])
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in args)
    kind = origin or annotation
    if not isinstance(kind, type):
        return False
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if kind is float:
        if isinstance(value, int):
            return not isinstance(value, bool) and abs(value) <= LARGEST
        return isinstance(value, float) and math.isfinite(value)
    if issubclass(kind, enum.Enum):
        return value in [member.value for member in kind]
    if kind is str or issubclass(kind, PurePath):
        return isinstance(value, str)
    if attrs.has(kind):
        return isinstance(value, Mapping) or ((short := shorthand(kind)) is not None and fits(value, short[1]))
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(fits(one, args[1] if args else Any) for one in value.values())
    if _is_list(kind):
        if not isinstance(value, list | tuple):
            return False
        if issubclass(kind, tuple) and args and args[-1] is not Ellipsis:
            return len(value) == len(args) and all(map(fits, value, args))
        return all(fits(one, args[0] if args else Any) for one in value)
    return False


def shorthand(kind: type) -> tuple[str, Any] | None:
    """The one option that a class needs, and its annotation: a value in place of a table stands for it."""
    needed = [field for field in attrs.fields(attrs.resolve_types(kind)) if field.default is attrs.NOTHING]
    return (needed[0].name, needed[0].type) if len(needed) == 1 else None


def described(annotation: Any, *, many: bool = False) -> str:
    """An annotation in words: ``"an integer or a list of integers"``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(described(one, many=many) for one in args if one is not type(None) and _held(one))
        return " or ".join(words) or "nothing that a file can hold"
    if origin is typing.Annotated:
        return described(args[0], many=many)
    if origin is typing.Literal:
        return f"one of {', '.join(shown(one) for one in args)}"
    kind = origin or annotation
    if kind is Any or isinstance(kind, typing.TypeVar):
        return "values" if many else "a value"
    if kind in _PLAIN:
        return (_MANY if many else _PLAIN)[kind]
    if not isinstance(kind, type) or kind in (object, inspect.Parameter.empty):
        return "values" if many else "a value"
    if issubclass(kind, enum.Enum):
        return f"one of {', '.join(shown(one.value) for one in kind)}"
    if issubclass(kind, PurePath):
        return "paths" if many else "a path"
    if attrs.has(kind) or issubclass(kind, Mapping):
        return "tables" if many else "a table"
    if _is_list(kind):
        lists = "lists" if many else "a list"
        if issubclass(kind, tuple) and args and args[-1] is not Ellipsis:
            return f"{lists} of {len(args)} {described(args[0], many=True)}"
        return f"{lists} of {described(args[0], many=True)}" if args else lists
    return f"{kind.__name__} objects, which no file can hold" if many else f"a {kind.__name__}, which no file can hold"


def _is_list(kind: type) -> bool:
    # A tensor can be iterated over too, and is no list for that.
    return issubclass(kind, list | tuple | Set) or (kind.__module__ == "collections.abc" and issubclass(kind, Iterable))


def _held(annotation: Any) -> bool:
    return "no file can hold" not in described(annotation)


def shown(value: Any) -> str:
    """A value as the file has it, about, on one line of bounded length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


def dotted(*parts: str) -> str:
    """A key's place in the file, with quotes where TOML needs them."""
    return ".".join(p if _BARE.fullmatch(p) else shown(p) for p in parts)


@attrs.frozen(eq=False)
class Constructor:
    """What a section may hold, read off the signature of what it becomes.

    Attributes:
        options: the annotation of each option.
        defaults: of those that need not be given.
        open: whether any further option is taken.
    """

    options: Mapping[str, Any]
    defaults: Mapping[str, Any]
    open: bool

    @classmethod
    def of(cls, factory: Callable[..., Any], *, without: Collection[str] = ()) -> "Constructor":
        """Read a class or function; options in ``without`` are not the file's to give."""
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):
            return cls({}, {}, open=True)
        try:
            hints = typing.get_type_hints(factory.__init__ if isinstance(factory, type) else factory)
            if isinstance(factory, type) and attrs.has(factory):
                # A converter's argument says less than the field that it fills.
                hints |= {field.name: field.type for field in attrs.fields(attrs.resolve_types(factory))}
        except Exception:  # annotations that only a type checker can resolve
            hints = {}
        named = {
            name: p
            for name, p in parameters.items()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in without
        }
        return cls(
            {name: hints.get(name, Any) for name in named},
            {name: p.default for name, p in named.items() if p.default is not p.empty},
            any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
        )

    def check(
        self, given: Mapping[str, Any], place: Sequence[str], what: str, *, set_by_mmcore: Collection[str] = ()
    ) -> list[Problem]:
        """Unknown keys, keys that are missing, and values of a wrong type.

        Args:
            given: the section.
            place: where it is.
            what: the thing that it describes, for messages.
            set_by_mmcore: names that a file may not give.
        """
        problems = []
        for key, value in given.items():
            where = dotted(*place, key)
            if key in set_by_mmcore:
                problems.append(Problem(where, f"is set by mmcore itself, remove it from {what}", value))
            elif key not in self.options:
                if not self.open:
                    known = f"expected one of {', '.join(self.options)}" if self.options else "it has no options"
                    problems.append(
                        Problem(where, f"{what} has no {key!r}, {known}{nearest(key, self.options)}", value)
                    )
            elif not fits(value, self.options[key]):
                problems += _misfits(value, self.options[key], where)
            else:
                for inner, kind, table in _nested(value, self.options[key]):
                    problems += Constructor.of(kind).check(table, (*place, f"{key}{inner}"), f"[{where}{inner}]")
        for key, annotation in self.options.items():
            if key not in given and key not in self.defaults:
                problems.append(Problem(dotted(*place, key), f"is missing, {what} needs {described(annotation)}"))
        return problems

    def plain_defaults(self) -> dict[str, Any]:
        """The defaults that a file can hold."""
        return {name: value for name, value in self.defaults.items() if value is not None and _plain(value)}


def _nested(value: Any, annotation: Any) -> Iterator[tuple[str, type, Mapping[str, Any]]]:
    """The tables inside a value that stand for attrs classes: where, of which class, and what they hold."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and attrs.has(annotation) and isinstance(value, Mapping):
        yield "", annotation, value
    elif origin in (typing.Union, types.UnionType):
        for one in args:
            if fits(value, one):
                yield from _nested(value, one)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping) and args:
        for key, one in value.items():
            yield from ((f".{dotted(key)}{inner}", kind, table) for inner, kind, table in _nested(one, args[1]))
    elif isinstance(value, list | tuple) and args:
        for place, one in enumerate(value):
            yield from ((f"[{place}]{inner}", kind, table) for inner, kind, table in _nested(one, args[0]))


def _misfits(value: Any, annotation: Any, where: str) -> list[Problem]:
    """What in a value does not fit, as near as its keys can tell."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping) and args:
        wrong = {key: one for key, one in value.items() if not fits(one, args[1])}
        return [Problem(dotted(where, key), f"expected {described(args[1])}", one) for key, one in wrong.items()]
    return [Problem(where, f"expected {described(annotation)}", value)]


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
