"""Which rows are held out: the parts that data have themselves, and rows that belong together."""

import contextlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmcore.config import labels
from mmcore.config.evidence import Column
from mmcore.data import Source
from mmcore.data.sources.files import part_of
from mmcore.errors import RequestError
from mmcore.plugins import Registry


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


def own_parts(source: Source, names: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """The column called split, if each of its values is a part's name, and those of each held-out part; empty where there is none."""
    name = next((name for name in names if name.lower() == "split"), "")
    values = source.column(name) if name else []
    words = sorted({value for value in values if isinstance(value, str)})
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault(part_of(word), []).append(word)
    if not all(isinstance(value, str) for value in values) or "" in found or not {"train"} < found.keys():
        return "", {}
    return name, {part: found[part] for part in ("validation", "test") if part in found}


def groups(columns: Sequence[Column], source: Source) -> str:
    """The column whose values say which rows belong together, being many and repeated; empty where there is none."""
    best = ("", math.inf)
    for column in columns:
        if column.plugin or not column.key:
            continue
        values = [v for v in source.column(column.name) if v is not None]
        distinct = len(set(values))
        if labels.CLASSES < distinct <= 0.8 * len(source) and distinct < best[1]:
            best = (column.name, distinct)
    return best[0]
