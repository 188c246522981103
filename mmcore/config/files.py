"""Configuration files: TOML in, changes from the command line on top, TOML out. Nothing in a file is executed."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmcore.errors import ConfigError, Problem, RequestError
from mmcore.plugins.metadata import one_line

LARGEST_FILE = 4 << 20


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: a file that cannot be read, or is not TOML.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise OSError("it is a folder, expected a TOML file")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise OSError(f"it has more than {LARGEST_FILE >> 20} MB, expected a configuration")
        return tomllib.loads(data.decode())
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(str(path), [Problem("", f"cannot be read: {why}")]) from error
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text (byte {error.start}), expected a TOML file; save it as UTF-8"
        raise ConfigError(str(path), [Problem("", text)]) from error
    except (ValueError, RecursionError) as error:
        why = one_line(str(error)) if isinstance(error, ValueError) else "too many brackets inside one another"
        raise ConfigError(str(path), [Problem("", f"is not TOML: {why}; mend the file there")]) from error


def value_of(text: str) -> Any:
    """A value of the command line: TOML, or else a word."""
    try:
        found = tomllib.loads(f"value = {text}")
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

    return tomli_w.dumps(_without_none(tables))


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
