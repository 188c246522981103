"""What is called how: a column's variable, and a label's classes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mmcore.config.column import Column
from mmcore.data import Source
from mmcore.data.sources.npz import words_of


def variables(used: Sequence[Column]) -> dict[str, str]:
    """Each column's variable: its own name, where that is a name."""
    found: dict[str, str] = {}
    # A name that is one is its column's: of another it would be read where these names are looked for, as in rows to predict.
    own = {column.name for column in used if _name(column.name) == column.name}
    for column in used:
        name = _name(column.name)
        while name in found.values() or (name in own and name != column.name):
            name += "_"
        found[column.name] = name
    return found


def _name(column: str) -> str:
    """A variable's name that is a column's, or much like it."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,59}", column) and not reserved(column):
        return column
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", column).strip("_-")
    return name[:60] if name[:1].isalpha() and not reserved(name) else f"x_{name}"[:60]


def reserved(name: str) -> bool:
    """Whether a variable cannot be called so: torch has the name already, or the training its sum of losses."""
    from torch import nn

    return hasattr(nn.ModuleDict, name) or name in ("training", "total")


def class_names(
    name: str, options: Mapping[str, Any], source: Source, columns: Sequence[Column]
) -> dict[str, list[str]]:
    """The classes' names that data hold beside their rows: an .npz file as ``group_names`` for ``group``, Hugging Face's features, folders of classes."""
    labelled = [column.name for column in columns if column.plugin == "label"]
    told = source.classes if isinstance(source.classes, Mapping) else {}
    found = {one: list(told[one]) for one in labelled if one in told}
    if name == "npz":
        for one in labelled:
            for key in (f"{one}_names", "class_names"):
                if one not in found and (words := words_of(options["path"], key)):
                    found[one] = words
    return found


def with_names(column: Column, names: Mapping[str, list[str]]) -> Column:
    """A label with the names that the data have for its classes, where these fit."""
    here = names.get(column.name, [])
    classes, called = column.options.get("classes", 0), column.options.get("names", ())
    # Of some rows the last classes may lack, though they have names; numbers that are names already count otherwise than from 0.
    if not here or len(here) < classes or len(set(here)) != len(here) or not set(called) <= set(here):
        return column
    some = ", ".join(here[:5]) + (" …" if len(here) > 5 else "")
    options = {**column.options, "classes": len(here), "names": here}
    return attrs.evolve(column, options=options, note=f"{column.note}; the data call them {some}")
