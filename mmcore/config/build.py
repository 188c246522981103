"""From tables to objects: every constructor is called once, and what it refuses is told of at its place in the file.

An error says itself which option it is about (:class:`mmcore.OptionError`); no message is read. One that does not say it is told of
at the section, with the options that the section has.
"""

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import cattrs

from mmcore.config.check import Constructor, dotted, fits, shorthand
from mmcore.errors import MISSING, OptionError, PluginError, Problem
from mmcore.plugins.metadata import one_line

_LONGEST = 300
converter = cattrs.Converter(detailed_validation=False)
# Types have been checked: what a union holds stays as it is.
converter.register_structure_hook_func(
    lambda kind: typing.get_origin(kind) in (typing.Union, types.UnionType), lambda value, _: value
)


def build(kind: type, table: Mapping[str, Any], place: Sequence[str]) -> tuple[Any, list[Problem]]:
    """An attrs object of a table, and of the tables inside it.

    Where some options are wrong, the constructor is still asked about the others, so that all is told of at once.

    Args:
        kind: the class.
        table: its options.
        place: where the table is.

    Returns:
        the object, None where something is wrong, and the problems.
    """
    problems = Constructor.of(kind).check(table, place, f"[{dotted(*place)}]")
    return fill(kind, table, place, problems), problems


def fill(kind: type, table: Mapping[str, Any], place: Sequence[str], problems: list[Problem]) -> Any:
    """The same where keys and types have been checked.

    Args:
        kind: the class.
        table: its options.
        place: where the table is.
        problems: what is known to be wrong; what its constructors refuse is added.
    """
    signature = Constructor.of(kind)
    sound = {}
    for key, annotation in signature.options.items():
        here = dotted(*place, key)
        if key in table and not any(p.key == here for p in problems):
            value = _value(table[key], annotation, (*place, key), problems)
            if not below(problems, here):
                sound[key] = value
    if sound.keys() >= signature.options.keys() - signature.defaults.keys():
        try:
            made = kind(**sound)
        except (TypeError, ValueError) as error:
            problems += placed(error, place, table, signature.options, problems)
        else:
            return None if below(problems, dotted(*place)) else made
    return None


def placed(
    error: Exception,
    place: Sequence[str],
    given: Mapping[str, Any],
    options: Iterable[str] = (),
    told: Sequence[Problem] = (),
) -> list[Problem]:
    """What a constructor refused, at its place.

    Args:
        error: what it raised.
        place: where its options are in the file.
        given: those that the file has.
        options: the names of all that it takes.
        told: problems that are known. The constructor was asked without those options, so what may only follow from that is left out.
    """
    keys = {p.key for p in told}
    if isinstance(error, OptionError):
        return [
            _of_option(one, place, given)
            for one in (error, *error.also)
            if keys.isdisjoint(dotted(*place, option) for option in (one.option, *one.beside))
        ]
    if below(told, dotted(*place)):
        return []
    # A plugin's own words; what the registry puts before them says what the place says.
    words = one_line(str(error if isinstance(error, PluginError) else error.__cause__ or error))[:_LONGEST]
    known = ", ".join(options)
    return [Problem(dotted(*place), f"{words}; expected other values of its options{known and f' {known}'}")]


def _of_option(error: OptionError, place: Sequence[str], given: Mapping[str, Any]) -> Problem:
    # Of several that do not go together, the first that the file states is the one to mend.
    for option in (error.option, *error.beside):
        value = stated(given, option)
        if value is not MISSING:
            return Problem(dotted(*place, option), error.text, value)
    return Problem(dotted(*place, error.option), error.text, error.value)


def stated(tables: Any, path: str) -> Any:
    """What tables hold at a path such as ``"split.test"`` or ``"transforms[0].size"``; ``MISSING`` where there is nothing."""
    found = tables
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list | tuple) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return MISSING
    return found


def below(problems: Iterable[Problem], place: str) -> bool:
    """Whether one of the problems is at a place or inside it."""
    return any(not place or p.key == place or p.key.startswith((f"{place}.", f"{place}[")) for p in problems)


def _value(value: Any, annotation: Any, place: Sequence[str], problems: list[Problem]) -> Any:
    """An option's value, with objects in place of the tables that stand for them."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and attrs.has(annotation):
        if not isinstance(value, Mapping):
            short = shorthand(annotation)
            value = {short[0]: value} if short and fits(value, short[1]) else value
        return fill(annotation, value, place, problems) if isinstance(value, Mapping) else value
    if not _holds_objects(annotation):
        return converter.structure(value, annotation)
    if origin in (typing.Union, types.UnionType):
        kind = next((one for one in args if fits(value, one)), None)
        return value if kind is None else _value(value, kind, place, problems)
    if isinstance(value, Mapping):
        return {key: _value(one, args[1], (*place, key), problems) for key, one in value.items()}
    if isinstance(value, list | tuple):
        *above, last = place
        return tuple(_value(one, args[0], (*above, f"{last}[{k}]"), problems) for k, one in enumerate(value))
    return value


def _holds_objects(annotation: Any) -> bool:
    inside = isinstance(annotation, type) and attrs.has(annotation)
    return inside or any(map(_holds_objects, typing.get_args(annotation)))
