"""Which rows are held out: the parts that data have themselves, and rows that belong together."""

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmcore.config import labels
from mmcore.config.column import Column, Question
from mmcore.data import Source, SplitOptions, as_source
from mmcore.data.select import split
from mmcore.data.sources.files import part_of
from mmcore.errors import RequestError
from mmcore.plugins import Registry

_LOOKED = 16
_SEEDS = 50
_GROUPS = 8
"""Values above which a column that is called as a key is says which rows belong together."""


def parts_of(registry: Registry, name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that the data have themselves; none where they are one whole."""
    factory, _ = registry.factory(registry.find("source", name))
    if "part" in options or "part" not in inspect.signature(factory).parameters:
        return ()
    tell = getattr(factory, "parts", None)
    if tell is not None:
        return tuple(tell(**options))
    found = []
    for part in ("train", "validation", "test"):
        with contextlib.suppress(RequestError):
            registry.source(name, part=part, **options)
            found.append(part)
    return tuple(found) if len(found) > 1 else ()


def own_parts(
    source: Source, names: Sequence[str], said: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, list[Any]]]:
    """The column each of whose values is a part's name, and those of each held-out part; empty where there is none, or of several none is called split.

    Args:
        source: of the rows.
        names: of its columns.
        said: what the user says of columns: one whose modality is ``"split"`` has names of parts, says of one part yes or no, or has 0 for training
            rows, 1 for validation and 2 for test.

    Raises:
        RequestError: a column that is said to be so has other values.
    """
    for name in names:
        if said.get(name, {}).get("") == "split":
            return name, _said(name, set(source.column(name)))
    likely = [name for name in names if not said.get(name, {}).get("") and part_of(str(_first(source, name)))]
    found = {name: parts for name in likely if (parts := _parts(source.column(name)))}
    name = next((name for name in found if name.lower() == "split"), next(iter(found)) if len(found) == 1 else "")
    if not name:
        return "", {}
    return name, {part: found[name][part] for part in ("validation", "test") if part in found[name]}


def _said(name: str, values: set[Any]) -> dict[str, list[Any]]:
    """The values of each held-out part in a column of which somebody says that it has parts."""
    if flag := labels.FLAGGED.fullmatch(name):
        no = [value for value in values if str(value).casefold() in ("0", "false", "no")]
        part = part_of(flag["part"])
        return {"test": no} if part == "train" else {part: sorted(values - {*no})}
    words: dict[str, list[Any]] = {}
    for word in sorted(value for value in values if isinstance(value, str)):
        words.setdefault(part_of(word), []).append(word)
    if {"train"} < words.keys() - {""}:
        return {part: words[part] for part in ("validation", "test") if part in words}
    if not {0} < values <= {0, 1, 2}:
        some = ", ".join(sorted(map(str, values))[:5])
        raise RequestError(
            f"init: --assume {name}=split: found {some}, expected 0 for training rows, and 1 or 2 beside it, or names of parts"
        )
    return {part: [k] for k, part in ((1, "validation"), (2, "test")) if k in values}


def disagreement(
    registry: Registry,
    name: str,
    options: Mapping[str, Any],
    own: Sequence[str],
    column: str,
    values: Mapping[str, Sequence[Any]],
) -> Question | None:
    """The question which parts count, where data have parts and a column of their rows says others; None where it says the same.

    Args:
        registry: where sources are found.
        name: of the source.
        options: its own.
        own: the parts that the data have.
        column: that says parts too.
        values: of each held-out part there.
    """
    held = {value: part for part, words in values.items() for value in words}
    rows, others, some = 0, 0, ""
    for part in own:
        source = as_source(registry.source(name, **options, part=part))
        rows += len(source)
        for index, value in enumerate(source.column(column)):
            said = part if value is None else held.get(value, "train")
            # A part that the data do not have is taken out of their training rows.
            if said != part and not (part == "train" and said not in own):
                others, some = others + 1, some or f"{source.where(index)} is of {part}, and {column} says {value!r}"
    if not others:
        return None
    return Question(
        column,
        f"{column} says another part than the data's own folders or files in {others} of {rows} rows, such as {some}",
        {"options.part=all": f"{column} counts", f"{column}=none": "the folders or files count"},
    )


def _first(source: Source, name: str) -> Any:
    """The first text of a column in its first rows, so that no column of pictures is read for it."""
    for index in range(min(len(source), _LOOKED)):
        with contextlib.suppress(Exception):  # a row that cannot be read is told when all are
            if isinstance(value := source[index].get(name), str):
                return value
    return ""


def _parts(values: Sequence[Any]) -> dict[str, list[str]]:
    """The names of each part among a column's values; none where they name anything else, or training alone."""
    words: set[str] = set()
    for value in values:
        if not isinstance(value, str) or (value not in words and not part_of(value)):
            return {}
        words.add(value)
    found: dict[str, list[str]] = {}
    for word in sorted(words):
        found.setdefault(part_of(word), []).append(word)
    return found if {"train"} < found.keys() else {}


def groups(columns: Sequence[Column], source: Source) -> str:
    """The column whose values say which rows belong together, being many and repeated, or files; empty where there is none."""
    best = ("", math.inf)
    for column in columns:
        if not column.key:
            continue
        values = [v for v in source.column(column.name) if v is not None]
        distinct = len(set(values))
        # Of files every one that comes again counts.
        most, least = (len(values) - 1, 1) if column.plugin else (0.8 * len(source), labels.CLASSES)
        if not column.plugin and labels.is_key(column.name):
            least = _GROUPS
        if least < distinct <= most and distinct < best[1]:
            best = (column.name, distinct)
    return best[0]


def seeded(source: Source, key: str, parts: Sequence[str], share: float) -> int:
    """The first seed of a split by which each of these parts has a row, and training too; 0 where none has.

    Args:
        source: of few rows.
        key: the column that says which rows stay together; empty for each row by itself.
        parts: that are held out.
        share: of the rows, of each.
    """
    for seed in range(_SEEDS):
        shares = {part: share if part in parts else 0.0 for part in ("validation", "test")}
        options = SplitOptions(key or None, shares["validation"], shares["test"], seed)
        with contextlib.suppress(RequestError):
            if all(len(split(source, options, part)) for part in (*parts, "train")):
                return seed
    return 0
