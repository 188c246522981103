"""Options as fields of frozen classes: each field says what it takes, and a class tells of all that it refuses at once.

.. code-block:: python

    @attrs.frozen
    class Walk:
        steps: int = option(100, rule=whole(1))
        pace: str = option("slow", rule=one_of("slow", "fast"))

        def __attrs_post_init__(self) -> None:
            check(self, "walk")

``Walk(steps=0, pace="fats")`` raises one :class:`mmcore.OptionError` about ``steps``, whose ``also`` tells of ``pace``.
Importing this module imports no torch.
"""

import errno
import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import attrs

from mmcore.errors import OptionError, refuse


@attrs.frozen
class Rule:
    """What an option takes.

    Attributes:
        expected: in words.
        holds: whether a value is such a one.
        choices: the words that it may be, where it is one of few.
    """

    expected: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()

    def or_none(self) -> "Rule":
        """The same, or None."""
        return attrs.evolve(self, holds=lambda value: value is None or self.holds(value))


@attrs.frozen
class Together:
    """What some options take only together.

    Attributes:
        options: their names; the first is told of.
        holds: of their values, in this order.
        expected: in words.
        mend: what to do about it.
    """

    options: tuple[str, ...]
    holds: Callable[..., bool]
    expected: str
    mend: str = ""


def option(
    default: Any = attrs.NOTHING,
    *,
    rule: Rule | None = None,
    factory: Callable[[], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    decides: bool = True,
) -> Any:
    """A field of an attrs class.

    Args:
        default: left out where the option must be given.
        rule: what it takes; anything by default.
        factory: makes a default.
        converter: of what is given; it raises nothing, what it cannot convert it leaves for the rule. By default numbers of other libraries become
            Python's, which every file can hold.
        decides: whether a run's result depends on it.
    """
    metadata = {"rule": rule, "decides": decides}
    converter = converter or plain
    if factory is not None:
        return attrs.field(factory=factory, converter=converter, metadata=metadata)
    return attrs.field(default=default, converter=converter, metadata=metadata)


def check(thing: Any, subject: str, *together: Together) -> None:
    """Refuse every option of an attrs object that breaks its rule, and those that break one together.

    Args:
        thing: the object.
        subject: what to call it.
        together: rules of several options; one is asked where each of them is right by itself.

    Raises:
        OptionError: with all of them.
    """
    refused = []
    for field in attrs.fields(type(thing)):
        rule, value = field.metadata.get("rule"), getattr(thing, field.name)
        if rule is not None and not rule.holds(value):
            refused.append(_broken(subject, field.name, value, rule))
    wrong = {error.option for error in refused}
    for one in together:
        values = {name: getattr(thing, name) for name in one.options}
        if wrong.isdisjoint(values) and not one.holds(*values.values()):
            found = ", ".join(f"{name} = {value!r}" for name, value in values.items())
            name, *others = one.options
            refused.append(
                OptionError(
                    subject, name, values[name], f"{one.expected} (here {found})", mend=one.mend, beside=tuple(others)
                )
            )
    refuse(refused)


def require(subject: str, **options: tuple[Any, Rule]) -> None:
    """Refuse every option of a constructor's that breaks its rule.

    Args:
        subject: what to call the thing.
        options: by name the value and its rule.

    Raises:
        OptionError: with all of them.
    """
    refuse(_broken(subject, name, value, rule) for name, (value, rule) in options.items() if not rule.holds(value))


def check_call(function: Callable[..., Any], given: Mapping[str, Any], apart: Collection[str] = ()) -> None:
    """Refuse arguments of another kind than a function's signature says, before it does anything.

    Called first of all, ``check_call(evaluate, locals())``. What an argument may be beyond its kind is the function's to say.

    Args:
        function: that was called.
        given: its arguments by name.
        apart: names of those of which the function itself says more.

    Raises:
        OptionError: with all of them.
    """
    refuse(
        _broken(function.__name__, name, given[name], rule)
        for name, rule in _signature(function).items()
        if name not in apart and not rule.holds(given[name])
    )


@functools.cache
def _signature(function: Callable[..., Any]) -> dict[str, Rule]:
    """What each named argument of a function takes."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {p.name: by_annotation(p.annotation) for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def by_annotation(annotation: Any) -> Rule:
    """What an annotation admits. Numbers of other libraries are numbers, and arrays of one axis lists of them."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        # A path may be given as a text.
        args = [one for one in args if not (one is str and Path in args)]
        rules = [by_annotation(one) for one in args]
        words = [rule.expected for one, rule in zip(args, rules, strict=True) if one is not type(None)]
        return Rule(_either(words), lambda value: any(rule.holds(value) for rule in rules))
    kind = origin or annotation
    if kind in _KINDS:
        return _KINDS[kind]
    if not isinstance(kind, type):
        return _ANYTHING
    if issubclass(kind, Mapping):
        return _mapping(*map(by_annotation, args or (Any, Any)))
    if kind in (Sequence, Collection, Iterable):
        return _listed(kind, by_annotation(args[0]))
    if kind is Callable or origin is Callable:
        return Rule("a function", callable)
    return instance(kind, f"a {kind.__name__}")


def _either(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _many(expected: str) -> str:
    """Several of what a rule expects, in words."""
    words = {
        "a whole number": "whole numbers",
        "a path": "paths",
        "a number": "numbers",
        "a text": "texts",
        "anything": "values",
    }
    if expected in words:
        return words[expected]
    if expected.startswith("a list of "):
        return f"lists of {expected.removeprefix('a list of ')}"
    return "mappings" if expected.startswith("a mapping") else f"{expected.removeprefix('a ')} objects"


def _listed(kind: Any, one: Rule) -> Rule:
    """A list of what a rule takes; of sequences no set, as they have an order, and of iterables what is used up too."""

    def holds(values: Any) -> bool:
        if isinstance(values, str | bytes | bytearray | Mapping) or (kind is Sequence and isinstance(values, Set)):
            return False
        if not isinstance(values, Collection):
            # What has its elements by index alone is iterated over too, as torch's data sets are.
            return kind is Iterable and (isinstance(values, Iterable) or hasattr(type(values), "__getitem__"))
        if getattr(values, "shape", None) == ():
            return False  # an array that has nothing to iterate over
        if one.expected not in _CHECKED:
            return True
        # As Python's own numbers, where they are in an array.
        return all(map(one.holds, getattr(values, "tolist", lambda: values)()))

    return Rule(f"a list of {_many(one.expected)}", holds)


def _mapping(key: Rule, value: Rule) -> Rule:
    def holds(values: Any) -> bool:
        if not isinstance(values, Mapping) or not all(map(key.holds, values)):
            return False
        return value.expected not in _CHECKED or all(map(value.holds, values.values()))

    named = f" from {_many(key.expected)} to {_many(value.expected)}"
    return Rule(f"a mapping{named if value.expected in _CHECKED else ''}", holds)


def _broken(subject: str, name: str, value: Any, rule: Rule) -> OptionError:
    return OptionError(subject, name, value, rule.expected, rule.choices)


def whole(least: int | None = None) -> Rule:
    """A whole number, of at least ``least``."""
    expected = "a whole number" if least is None else f"a whole number of at least {least}"

    def holds(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and (least is None or int(value) >= least)

    return Rule(expected, holds)


def counted(least: int = 1) -> Rule:
    """How many of something that is done one after the other, or lies in memory."""
    return Rule(
        f"a whole number of at least {least} and below 2³¹",
        lambda value: whole(least).holds(value) and int(value) < 2**31,
    )


def within(low: float, high: float = math.inf) -> Rule:
    """A number from ``low`` to ``high``."""
    if high < math.inf:
        expected = f"a number in {low:g} … {high:g}"
    else:
        expected = "a number" if low == -math.inf else f"a number of at least {low:g}"
    return Rule(expected, lambda value: _is_number(value) and low <= float(value) <= high)


def above(low: float) -> Rule:
    """A number above ``low``."""
    return Rule(f"a number above {low:g}", lambda value: _is_number(value) and float(value) > low)


def one_of(*choices: Any) -> Rule:
    """One of a few values."""
    shown = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in choices)
    return Rule(
        f"one of {', '.join(shown)}",
        lambda value: any(type(value) is type(one) and value == one for one in choices),
        tuple(one for one in choices if isinstance(one, str)),
    )


def plain(value: Any) -> Any:
    """A number as Python's own, in a list or tuple too; anything else as it is."""
    if isinstance(value, bool) or type(value) in (int, float, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def several(values: Any) -> Any:
    """Values as a tuple; what is no list stays as it is, for :data:`SEVERAL` or :func:`all_of`."""
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else values


def instance(kind: type, what: str) -> Rule:
    """An object of a class."""
    return Rule(what, lambda value: isinstance(value, kind))


def all_of(kind: type, what: str) -> Rule:
    """A list of objects of a class."""
    return Rule(what, lambda value: isinstance(value, tuple) and all(isinstance(one, kind) for one in value))


def sides(size: Any) -> Any:
    """Height and width as a pair, where one number may stand for both; what is neither stays as it is, for :data:`SIDES`."""
    if isinstance(size, Integral) and not isinstance(size, bool):
        return int(size), int(size)
    return tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else size


def by_kind(parts: Any) -> Any:
    """Parts that a registry makes, as tables with ``kind``, for which a name stands too; what is neither stays as it is, for :func:`named`."""
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return parts
    tables = ({"kind": part} if isinstance(part, str) else part for part in parts)
    return tuple(dict(table) if isinstance(table, Mapping) else table for table in tables)


def named(what: str) -> Rule:
    """Parts that a registry makes, each a table with its name as ``kind`` and its own options."""

    def holds(value: Any) -> bool:
        return isinstance(value, tuple) and all(
            isinstance(part, dict) and isinstance(part.get("kind"), str) for part in value
        )

    return Rule(f"a list of names of installed {what}, or of tables with such a name as kind and its options", holds)


FLAG = one_of(True, False)
SEED = Rule(
    "a whole number from -2⁶³ to 2⁶⁴ - 1", lambda value: whole().holds(value) and -(2**63) <= int(value) < 2**64
)
"""What torch's own generators take."""
SEVERAL = all_of(object, "a list of values")
TABLE = Rule(
    "a table of options by name",
    lambda value: isinstance(value, Mapping) and all(isinstance(name, str) for name in value),
)
TEXT = Rule("a name", lambda value: isinstance(value, str) and value != "")
SIDES = Rule(
    "a number of pixels, or [height, width]",
    lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(whole(1).holds, value)),
)


def _is_number(value: Any) -> bool:
    # A whole number may be too large to be a float.
    return (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and not (isinstance(value, Integral) and abs(int(value)) > 10**300)
    )


def _is_path(value: Any) -> bool:
    """Whether a file could be called so."""
    if not isinstance(value, str | Path):
        return False
    try:
        os.lstat(value)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    except ValueError:  # a zero, or half a character
        return False
    return True


PATH = Rule("a path", _is_path)
_ANYTHING = Rule("anything", lambda value: True)
_KINDS: dict[Any, Rule] = {
    bool: Rule("True or False", lambda value: isinstance(value, bool)),
    int: whole(),
    float: within(-math.inf),
    str: Rule("a text", lambda value: isinstance(value, str)),
    Path: PATH,
    type(None): Rule("None", lambda value: value is None),
    Any: _ANYTHING,
    inspect.Parameter.empty: _ANYTHING,
}
_CHECKED = ("a whole number", "a number", "a text", "a path", "a list of texts")
"""What is asked of the elements of a list too; of others the function says more."""
