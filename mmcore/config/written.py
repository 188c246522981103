"""Words that are hardly classes: numbers in another writing, days, rows of numbers, and one word written in two ways."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmcore.config.column import Column, Question

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+|[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+")
"""A number with a decimal comma, of which dots may part the thousands."""
_PARTED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_AMOUNT = re.compile(
    r"(?P<before>[^\w\s.,'\"#\[\](){}-]{0,2})\s?[+-]?[0-9]{1,3}(?:[0-9]*|(?:[ ,.'\u00a0\u202f][0-9]{3})+)(?:[.,][0-9]+)?\s?(?P<after>[%‰°a-zA-Zµ€$£¥]{0,4})"
)
"""A number with what stands before and after it: a currency, a unit, or marks between its thousands."""
_DAY = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ T]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})(?: \d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2})?"
)
_DISTINCT = 3
"""Numbers from which on a column with one word is no list of sizes such as 38, 40, M."""


def number(text: str) -> float | int | None:
    """The number that a text is; None where it is none."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if math.isinf(value):
        return None
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else value


def is_row(text: str) -> bool:
    """Whether a text is numbers in a row, as YOLO's boxes and numpy's own print of a vector are."""
    bare = text.strip().strip("[]()")
    tokens = (bare.replace(",", " ") if re.search(r"[\s\[(]", text.strip()) else bare).split()
    return len(tokens) > 1 and all(map(_NUMBER.fullmatch, tokens))


def doubts(
    name: str, here: Sequence[Any], counts: Counter[str], *, named: bool, real: bool, installed: Collection[str]
) -> Column | Question | None:
    """What words are instead of classes, or the question whether they are.

    Args:
        name: of the column.
        here: its values, of which some are texts.
        counts: how often each text occurs, numbers as texts.
        named: whether its name says that it is a label.
        real: whether its name says that it is an amount.
        installed: the modalities that there are.

    Returns:
        None where nothing speaks against classes.
    """
    texts = list(counts)
    some = min(texts, key=lambda text: (number(text) is not None, len(text), text))
    classes, left = (f"{name}=label", f"{len(counts)} classes"), (f"{name}=none", "left out")
    if all(map(is_row, texts)) and any(len(re.findall(r"[0-9.]+", text)) > 2 for text in texts):
        return Column(
            name,
            note=f"rows of numbers written as text, such as {_short(some)}; of vectors, lists such as [0.5, 1] and arrays are read",
            closed=True,
        )
    if all(map(_DAY.fullmatch, texts)):
        return Column(
            name,
            note=f"days or times such as {min(texts)!r}, {len(counts)} different ones; --assume {name}=label takes them for classes",
            key=True,
            closed=True,
        )
    if named and not real:
        return alike(name, counts)
    if all(map(_COMMA.fullmatch, texts)) and len(counts) > 1:
        value = some.replace(".", "").replace(",", ".")
        parted = all(map(_PARTED.fullmatch, texts))
        return Question(
            name,
            f"{name} has numbers in another writing, such as {some!r}"
            + (f": if the comma parts thousands, write {some.replace(',', '')}" if parted else ""),
            {"options.decimal=,": f"{some} is {value}", **dict([classes, left])},
        )
    found = [match for text in texts if (match := _AMOUNT.fullmatch(text.strip()))]
    around = {(match["before"], match["after"]) for match in found}
    if len(found) == len(texts) >= _DISTINCT and len(around) == 1 and None in map(number, texts):
        return Question(
            name,
            f"{name} has numbers in another writing, such as {some!r}: written plainly, as 1234.5, they are read as numbers",
            dict([classes, left]),
        )
    return _mixed(name, here, counts, real, dict([classes, left]), installed) or alike(name, counts)


def _mixed(
    name: str,
    here: Sequence[Any],
    counts: Counter[str],
    real: bool,
    choices: Mapping[str, str],
    installed: Collection[str],
) -> Question | None:
    """A column of numbers and a few words."""
    numbers = {text: value for text in counts if (value := number(text)) is not None}
    words = [text for text in counts if text not in numbers]
    rows = sum(counts[text] for text in numbers)
    fractions = any(value != int(value) for value in numbers.values())
    if not words or len(words) > _DISTINCT or len(numbers) < 2 * len(words) or 2 * rows < len(here):
        return None
    if len(numbers) < _DISTINCT or not (real or fractions):
        return None
    shown = ", ".join(f"{word!r} ({counts[word]} rows)" for word in words)
    missing = {f"{name}.missing={words[0]}": "missing, and the others are numbers"} if len(words) == 1 else {}
    if "scalar" not in installed:
        missing = {}
    return Question(name, f"{name} has numbers in {rows} of {len(here)} rows, and {shown}", {**missing, **choices})


def alike(name: str, counts: Counter[str]) -> Question | None:
    """The question whether words that differ in their writing alone are several classes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for text in counts:
        groups[" ".join(unicodedata.normalize("NFKC", text).casefold().split())].append(text)
    if all(len(text.strip()) == 1 for text in counts):
        return None  # letters, which are what they are
    twice = [sorted(texts, key=lambda text: -counts[text]) for texts in groups.values() if len(texts) > 1]
    if not twice:
        return None
    one, two = twice[0][:2]
    more = f", as {len(twice) - 1} more do" if len(twice) > 1 else ""
    return Question(
        name,
        f"{name} has {one!r} ({counts[one]} rows) and {two!r} ({counts[two]} rows), which differ in case, spaces or the form of letters alone{more}; "
        "write them alike",
        {f"{name}=label": f"{len(counts)} classes", f"{name}=none": "left out"},
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
