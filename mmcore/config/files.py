"""Configuration files: TOML in, changes from the command line on top, TOML out. Nothing in a file is executed."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.errors import ConfigError, Problem, RequestError
from mmcore.limits import CONFIGURATION, NESTING
from mmcore.plugins.metadata import one_line

_NO_KEYS = re.compile(
    r"#[^\n]*"  # a comment
    r'|"{3}(?:[^\\]|\\.)*?"{3}'
    r"|'{3}.*?'{3}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.S,
)
"""Comments and texts."""


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: a file that cannot be read, or is not TOML.
    """
    path = files.expanded(path)
    try:
        text = files.read(path, CONFIGURATION).decode()
        # Before it is parsed: the standard library's parser takes the square of a key's length.
        if too_deep := NESTING.excess(_longest_key(text)):
            raise ValueError(f"a key of {too_deep}")
        tables = tomllib.loads(text)
        if too_deep := NESTING.excess(depth(tables)):
            raise ValueError(too_deep)
        return tables
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(str(path), [Problem("", f"cannot be read: {why}")]) from error
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text (byte {error.start}), expected a TOML file; save it as UTF-8"
        raise ConfigError(str(path), [Problem("", text)]) from error
    except (ValueError, RecursionError) as error:
        why = one_line(str(error)) if isinstance(error, ValueError) else "too many brackets inside one another"
        raise ConfigError(str(path), [Problem("", f"is not TOML: {why}; mend the file there")]) from error


def _longest_key(text: str) -> int:
    """The parts of the dotted key that has most, at least."""
    return max(part.count(".") + 1 for part in re.split(r"[=,{}\[\]\n]", _NO_KEYS.sub("_", text)))


def depth(value: Any) -> int:
    """How many tables and lists are inside one another."""
    level, here = 0, [value]
    while here:
        here = [one for outer in here for one in (outer.values() if isinstance(outer, Mapping) else outer)]
        here = [one for one in here if isinstance(one, Mapping | list)]
        level += 1
    return level - 1


def value_of(text: str) -> Any:
    """A value of the command line: TOML, or else a word."""
    if NESTING.excess(_longest_key(text)):
        return text
    try:
        found = tomllib.loads(f"value = {text}")
        if NESTING.excess(depth(found)):
            return text
    except (ValueError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text


def change(tables: Mapping[str, Any], pairs: Iterable[str]) -> dict[str, Any]:
    """The tables with ``a.b=value`` pairs put in, in their order.

    Raises:
        ConfigError: pairs of another form, or one below a key that is no table.
    """
    changed = json_copy(tables)
    problems = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            problems.append(Problem("", f"--set {pair!r} has not the form a.b=value, as in --set training.steps=500"))
            continue
        if too_deep := NESTING.excess(len(parts)):
            problems.append(Problem("", f"--set {pair[:40]!r} … has a key of {too_deep}"))
            continue
        table = changed
        for depth, part in enumerate(parts[:-1], start=1):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                problems.append(
                    Problem("", f"--set {pair!r}: {'.'.join(parts[:depth])} is a value, expected a table; set it whole")
                )
                break
        else:
            table[parts[-1]] = value_of(text.strip())
    if problems:
        raise ConfigError("command line", problems)
    return changed


def json_copy(value: Any) -> Any:
    """A copy of nested tables and lists."""
    if isinstance(value, Mapping):
        return {key: json_copy(one) for key, one in value.items()}
    return [json_copy(one) for one in value] if isinstance(value, list | tuple) else value


def text(tables: Mapping[str, Any]) -> str:
    """As TOML; what is None is left out, being a default."""
    import tomli_w

    return "\n".join(map(escaped, tomli_w.dumps(_without_none(tables)).split("\n")))


def escaped(line: str) -> str:
    """A line of TOML with escapes in place of what is not seen, such as what would move a terminal's cursor; it can only be in a string.

    Raises:
        RequestError: it has half of a character, which no file can hold.
    """
    if line.isprintable():
        return line
    if any("\ud800" <= c <= "\udfff" for c in line):
        raise RequestError(
            f"found {line.encode('utf-8', 'backslashreplace').decode()[:200]}, which is no Unicode text; give it another name"
        )
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in line)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list | tuple) else value


def plain(value: Any, what: str) -> Any:
    """The same as values that JSON and TOML can hold.

    Raises:
        RequestError: it is none.
    """
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise RequestError(f"{what}: {error}, expected what JSON can hold") from error
