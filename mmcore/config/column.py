"""What a column was found to be, and what is asked where the evidence does not decide."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen
class Column:
    """What a column was found to be.

    Attributes:
        name: of the column.
        plugin: the modality's; empty for a column that is left out.
        options: the modality's.
        note: what was found, for a comment and the terminal.
        change: what to change where another reading is meant.
        size: height and width of its pictures; None where there are none or they differ.
        pictures: whether it holds pictures.
        missing: a value that stands for a missing one.
        separator: what parts the words of its texts.
        parts: the values of each part, where it says which part a row is of.
        present: a column that says whether there is a value.
        transforms: that its values need.
        told: what else there is to say.
        numbers: how many elements one value and its code have, where a modality says it; None where the options do.
        key: whether its values may say which rows belong together.
        closed: whether it is offered to no modality that is not called as it is, such as days to one of texts.
    """

    name: str
    plugin: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    note: str = ""
    change: str = ""
    size: tuple[int, int] | None = None
    pictures: bool = False
    missing: Any = None
    separator: str = ""
    parts: Mapping[str, list[Any]] = attrs.field(factory=dict)
    present: str = ""
    transforms: tuple[Mapping[str, Any], ...] = ()
    told: tuple[str, ...] = ()
    numbers: tuple[int, int] | None = None
    key: bool = False
    closed: bool = False


@attrs.frozen
class Question:
    """What the evidence does not decide.

    Attributes:
        name: of the column.
        text: what was found, and the readings that are possible.
        choices: what to assume, with what it means.
    """

    name: str
    text: str
    choices: Mapping[str, str]

    def __str__(self) -> str:
        choices = "; ".join(f"--assume {typed(key)} ({meaning})" for key, meaning in self.choices.items())
        return f"{self.text}; say which: {choices}"


def typed(key: str) -> str:
    """An assumption as it is typed in a shell."""
    return shlex.quote(key) if re.search(r"[\s'\"$&|;<>*?()#`\\]", key) else key
