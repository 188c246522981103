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
_DOTTED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")
"""A number whose dots may part thousands."""
_SPREAD = re.compile(r"[+-]?[0-9.,]+\s?(?:±|\+/-|\+-)\s?[0-9.,]+\s?\w{0,4}")
"""A number and how far it is off."""
_FEET = re.compile(r"\d+ ?(?:'|\u2032|ft\.?) ?\d+(?:\.\d+)? ?(?:\"|''|\u2033|in\.?)?")
"""Feet and inches."""
_ENCODED = re.compile(r"(?:data:image/[\w.+-]+;base64,|iVBORw0KGgo|/9j/|R0lGOD)[A-Za-z0-9+/=_-]*\s*")
"""A picture as text: an address that holds it, or the beginnings of PNG, JPEG and GIF in base64."""
_OBJECT = re.compile(r"\s*\{.*\}\s*", re.S)
_CUT = "..."
"""What numpy prints in place of numbers that are too many for it."""
_AMOUNT = re.compile(
    r"(?P<before>[^\w\s.,'\"#\[\](){}-]{0,2})\s?[+-]?[0-9]{1,3}(?:[0-9]*|(?:[ ,.'\u00a0\u202f][0-9]{3})+)(?:[.,][0-9]+)?\s?(?P<after>[%‰°a-zA-Zµ€$£¥]{0,4})"
)
"""A number with what stands before and after it: a currency, a unit, or marks between its thousands."""
_DAY = re.compile(
    r"\d{1,2}[. -]{1,2}[^\W\d]{3,9}[., -]{1,2}(?:\d{4}|\d{2})(?: \d{1,2}:\d{2}.*)?|[^\W\d]{3,9}\.? \d{1,2},? \d{4}|\d+ days?(?:,? \d{1,2}:\d{2}.*)?"
    r"|P(?:\d+D)?T?(?:\d+(?:\.\d+)?[HMS])+|(?:\d+ ?(?:d|h|hrs?|m|min|s|sec) ?){2,}"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ T]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})(?: \d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(?::\d{2})?"
)
_UNITS = 6
"""Different numbers for each of several units from which on they are amounts, and no names such as 1a, 1b, 2a."""
_YES, _NO = frozenset(("true", "yes", "y", "t", "1", "on")), frozenset(("false", "no", "n", "f", "0", "off"))
_LETTERS = 5
"""Letters from which on a column of single ones is of letters, large and small."""
_LETTER = re.compile(r"letter|char|symbol|glyph|alphabet", re.I)
_CLASSES = 256
"""Most classes of which several may hold."""
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
    # A comma alone may be a decimal one, but not between two numbers with fractions.
    parted = re.search(r"[\s\[(]", text.strip()) or re.fullmatch(r"[^,]*\.[^,]*(?:,[^,]*\.[^,]*)+", bare)
    tokens = (bare.replace(",", " ") if parted else bare).split()
    return len(tokens) > 1 and all(token == _CUT or _NUMBER.fullmatch(token) for token in tokens)


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
    if all(map(is_row, texts)) and any(len(re.findall(r"[0-9.]+", text)) > 2 or "." in text for text in texts):
        mend = "of vectors, lists such as [0.5, 1] and arrays are read"
        if any(_CUT in text for text in texts):
            mend = "numpy left out the numbers between, which are not in the file; save arrays"
        return Column(name, note=f"rows of numbers written as text, such as {_short(some)}; {mend}", closed=True)
    if all(map(_ENCODED.fullmatch, texts)):
        return Column(
            name, note="pictures written as text (base64); write them as files, and their paths here", closed=True
        )
    if all(map(_OBJECT.fullmatch, texts)):
        listed = not any(":" in text for text in texts) and any(text.strip(" {}") for text in texts)
        kind = "lists between braces" if listed else "objects"
        mend = 'write them as ["a", "b"]' if listed else "write each of their values as a column of its own"
        return Column(name, note=f"{kind} written as text, such as {_short(some)}; {mend}", closed=True)
    if all(map(_DAY.fullmatch, texts)):
        return Column(
            name,
            note=f"days or times such as {min(texts)!r}, {len(counts)} different ones; --assume {name}=label takes them for classes",
            key=True,
            closed=True,
        )
    plain = [value for text in texts if (value := number(text)) is not None]
    if len(plain) == len(texts):
        some = next(filter(_DOTTED.fullmatch, texts), some)
        doubtful = real or any(value != int(value) for value in plain)
        return _plain(name, some, dict([classes, left]), installed) if doubtful else None
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
    found = [match for text in texts if (match := _AMOUNT.fullmatch(_signed(text.strip())))]
    around = {(match["before"], match["after"]) for match in found}
    units = len(around) == 1 or len(texts) >= _UNITS * len(around)
    spread = all(map(_SPREAD.fullmatch, texts)) or all(map(_FEET.fullmatch, texts))
    if len(found) * units == len(texts) >= _DISTINCT or (spread and len(texts) >= _DISTINCT):
        return Question(
            name,
            f"{name} has numbers in another writing, such as {some!r}: written plainly, as 1234.5, they are read as numbers",
            dict([classes, left]),
        )
    return _mixed(name, here, counts, real, dict([classes, left]), installed) or alike(name, counts)


def _signed(text: str) -> str:
    """A number in brackets, which an accountant writes for one below 0, with a minus."""
    return f"-{text[1:-1]}" if re.fullmatch(r"\(\S*[0-9]\S*\)", text) else text


def _plain(name: str, some: str, choices: Mapping[str, str], installed: Collection[str]) -> Question:
    """Numbers that are written as texts, in which dots may part thousands."""
    scalar = {f"{name}=scalar": f"{some} is {number(some)}"} if "scalar" in installed else {}
    if _DOTTED.fullmatch(some):
        text = f"{name} has numbers such as {some!r}, in which dots may part thousands, or fractions"
        return Question(name, text, {"options.decimal=,": f"{some} is {some.replace('.', '')}", **scalar, **choices})
    return Question(name, f"{name} has numbers written as texts, such as {some!r}", {**scalar, **choices})


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


def several(name: str, texts: Sequence[str]) -> Question | None:
    """The question whether texts are several classes each, which a mark parts; None where nothing speaks for it.

    Between classes stand bars and semicolons if any class comes again in another text, and spaces if all classes are numbers. Commas and slashes are
    also in names: there four of five classes must be a text of their own too.
    """
    for mark in ("|", ";", ",", "/", " "):
        lists = {text: [word.strip() for word in text.split(mark) if word.strip()] for text in texts}
        marked = [text for text in texts if len(lists[text]) > 1]
        counts = Counter(word for words in lists.values() for word in set(words))
        if not marked or not 2 <= len(counts) <= _CLASSES:
            continue
        again = sum(count > 1 for count in counts.values())
        alone = sum(word in counts and lists[text] == [word] for text in texts for word in [text.strip()])
        if mark == " ":
            sure = again and None not in map(number, counts)
        else:
            sure = again if mark in "|;" else 5 * alone >= 4 * len(counts)
        if sure:
            text = f"{name} has texts such as {marked[0]!r}, which may be {len(lists[marked[0]])} classes at once"
            parting = {f"{name}.separator={mark}": f"{len(counts)} classes, of which several may hold"}
            return Question(
                name, text, {**parting, f"{name}=label": f"{len(texts)} classes", f"{name}=none": "left out"}
            )
    return None


def alike(name: str, counts: Counter[str]) -> Question | None:
    """The question whether words that differ in their writing alone are several classes."""
    groups: dict[str, list[str]] = defaultdict(list)
    for text in counts:
        groups[" ".join(unicodedata.normalize("NFKC", text).casefold().split())].append(text)
    choices = {f"{name}=label": f"{len(counts)} classes", f"{name}=none": "left out"}
    for said, same in (("yes", _YES), ("no", _NO)):
        alike = [text for group in groups if group in same for text in groups[group]]
        if len(alike) > 1 and groups.keys() <= _YES | _NO:
            shown = ", ".join(f"{text!r} ({counts[text]} rows)" for text in alike)
            return Question(name, f"{name} has {shown}, all of which may say {said}; write them alike", choices)
    if all(len(text.strip()) == 1 for text in counts) and (len(groups) >= _LETTERS or _LETTER.search(name)):
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
        choices,
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
