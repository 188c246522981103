"""What a column of numbers, words or lists is: a label, a scalar, a vector, or a question where the evidence does not decide."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from mmcore.config.column import Column, Question, typed
from mmcore.config.evidence import words
from mmcore.config.written import doubts, number, several
from mmcore.data.select import parted
from mmcore.data.sources.files import natural, part_of

CLASSES = 256
"""Most classes of a label by its values alone; a column whose name says so may have more."""
WHOLE = 2**24
"""The least whole numbers that a scalar would not tell apart."""
MANY = 100_000
"""Most classes of a label by its name."""
ASKED = 20
"""Different whole numbers up to which a column may as well be classes as numbers."""
LABEL = frozenset((
    "answer", "breed", "category", "categories", "cat", "class", "classes", "cls", "color", "colour", "diagnosis",
    "digit", "digits", "emotion", "fine", "gender", "group", "kind", "label", "labels", "make", "organ", "sex", "shape",
    "species", "style", "subtype", "target", "targets", "type", "y",
))  # fmt: skip
PREDICTED = frozenset(("answer", "target", "targets", "y"))
"""Of these, names that say what is to be predicted, which may as well be a number."""
REAL = frozenset((
    "age", "amount", "angle", "area", "bmi", "cost", "count", "counts", "date", "day", "days", "distance", "dose",
    "duration", "energy", "height", "hour", "hours", "humidity", "income", "latitude", "length", "longitude", "mass",
    "month", "number", "num", "percent", "power", "pressure", "price", "ratio", "salary", "score", "size", "speed",
    "temp", "temperature", "time", "value", "volume", "weight", "width", "year", "years",
))  # fmt: skip
COUNT = frozenset(["count", "counts", "num", "number", "n"])
INDEX = re.compile(r"unnamed: ?\d+(?:\.\d+)*|level_\d+|__index_level_\d+__", re.I)
"""How pandas calls an index that it has written as a column."""
FOLD = re.compile(r"(?:cv|k|val|test)?[_ -]?folds?(?:[_ -]?(?:id|idx|index|number|no|\d+))?", re.I)
"""How a column is called that says which fold of a cross-validation a row is in; a fold change is another thing."""
PARTED = re.compile(r"(?:data)?_?(?:split|subset|set|partition|phase|usage)s?", re.I)
"""How a column is called whose numbers may say which part a row is of."""
FLAGGED = re.compile(
    r"(?:is|in|for)_?(?P<part>train|training|val|valid|validation|dev|test|testing)(?:_?(?:set|image|split|data|row))?",
    re.I,
)
"""How a column is called that says of a row whether it is of a part."""
KEY = frozenset((
    "filename", "file", "id", "idx", "index", "key", "patient", "path", "row", "seq", "serial", "stem", "subject",
    "uid", "url", "uuid",
))  # fmt: skip
NINES = frozenset((9, 99, 100, 255, 999, 9999, 32768, 65535, 99999))
"""Numbers that, as they are or below 0, stand for a missing one in data of many programs; -1 is told apart otherwise."""
_OWNER = frozenset(("file", "path", "patient", "row", "subject"))
"""Words of keys that are of none where they stand before another: a patient's gender."""
ABSENT = frozenset(
    ("", "\\n", "<na>", "n.a.", "na", "n/a", "nan", "none", "null", "nil", "missing", "unknown", "?", "-")
)


def is_key(name: str) -> bool:
    """Whether a column is called as what tells rows apart."""
    mine = list(map(str.lower, re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)))
    last = mine[-1] if mine else name.lower()
    return (
        bool(words(name) & (KEY - _OWNER)) or last in KEY or (last in ("name", "code", "no") and bool({*mine} & _OWNER))
    )


def sentinel(counts: Mapping[Any, int]) -> Any:
    """A number that may stand for a missing one, such as -999 or 99: it repeats, and stands apart from all others; None where there is none."""
    numbers = sorted(counts)
    for value, rest in ((numbers[0], numbers[1:]), (numbers[-1], numbers[:-1])):
        if abs(value) not in NINES or counts[value] < 2 or len(rest) < 2:
            continue
        gap = rest[0] - value if value < rest[0] else value - rest[-1]
        if (value < 0 <= rest[0]) or gap > max(rest[-1] - rest[0], 4):
            return value
    return None


def column(
    name: str, values: Sequence[Any], given: Mapping[str, Any], installed: Collection[str]
) -> Column | Question | None:
    """A column of numbers, booleans, words or lists.

    Args:
        name: of the column.
        values: of all rows, None where there is none; arrays of one number as that number.
        given: what the user says: the modality as ``""``, and options of it.
        installed: the modalities that there are.

    Returns:
        None for values of another kind.
    """
    here = [value for value in values if value is not None]
    options = {key: value for key, value in given.items() if key and key not in ("missing", "separator")}
    if not here:
        return Column(name, note="no value in any row")
    if given.get("") not in (None, "label", "scalar"):
        return Column(name, given[""], options, f"{len(here)} values, as you say")
    counts = name[0] in "uU_" or all(isinstance(value, int) and value >= 0 for value in here)
    if not given and INDEX.fullmatch(name) and counts:
        return Column(
            name,
            note=f"the index of a pandas table by its name; --assume {name}=label takes it for a label",
            closed=True,
        )
    if not given and FOLD.fullmatch(name):
        return Column(
            name,
            note=f"the fold of a cross-validation by its name; --assume {name}=label takes it for a label",
            closed=True,
        )
    if not given and (asked := _partly(name, values)) is not None:
        return asked
    plain = all(isinstance(value, str | int | float) for value in here)
    if not given and len(here) < len(values) and plain and len(set(here)) == 1:
        note = f"{here[0]!r} in {len(here)} of {len(values)} rows, and nothing in the others: if these say no, write a word for it there"
        return Column(name, note=note, closed=True)
    mark = given.get("separator", "")
    if mark and all(isinstance(value, str | int) for value in here):
        kept = [value for value in here if value != given.get("missing")]
        found = _lists(name, [parted(value, mark) for value in kept], options)
        return attrs.evolve(found, separator=mark, missing=given.get("missing")) if isinstance(found, Column) else found
    if any(isinstance(value, str) for value in here) and all(isinstance(value, str | int | float) for value in here):
        return _words(name, here, given, options, installed)
    if all(isinstance(value, bool) for value in here):
        found = {"classes": 2, "names": ["false", "true"], **options}
        return Column(name, "label", found, f"{sum(here)} of {len(here)} true: two classes", key=False)
    if all(isinstance(value, int | float) for value in here):
        return _numbers(name, here, given, options, installed)
    if all(isinstance(value, list | tuple) for value in here):
        return _lists(name, here, options)
    return None


def _partly(name: str, values: Sequence[Any]) -> Question | None:
    """The question whether a column says which part a row is of, where it is called so and some of its values say it."""
    choices = {f"{name}=label": f"{len(set(map(str, values)))} classes", f"{name}=none": "left out"}
    if (flag := FLAGGED.fullmatch(name)) and {str(value).casefold() for value in values} in (
        {"0", "1"},
        {"true", "false"},
        {"no", "yes"},
    ):
        held = (
            "the others are for testing"
            if part_of(flag["part"]) == "train"
            else f"these are for {part_of(flag['part'])}"
        )
        text = f"{name} has two values, and is called as what says which rows are of a part"
        return Question(name, text, {f"{name}=split": held, **choices})
    parts = {part_of(value) for value in values if isinstance(value, str)} - {""}
    others = Counter(
        str(value) if value is not None else "" for value in values if not (isinstance(value, str) and part_of(value))
    )
    if not PARTED.fullmatch(name) or not {"train"} < parts or not others:
        return None
    (other, count), *_ = others.most_common(1)
    text = f"{name} has names of parts, and {repr(other) if other else 'nothing'} in {count} rows, which names none"
    return Question(name, text, {f"{name}=split": "rows of no part are for training", **choices})


def _words(
    name: str, here: list[Any], given: Mapping[str, Any], options: dict[str, Any], installed: Collection[str]
) -> Column | Question:
    counts = Counter(map(_text, here))
    names = sorted(
        counts, key=lambda word: (not word.lstrip("-").isdigit(), int(word) if word.lstrip("-").isdigit() else 0, word)
    )
    missing = given.get("missing", "" if "" in counts and "names" not in given else None)
    if missing is not None:
        names = [word for word in names if word != missing]
    mine, distinct = words(name), len(names)
    said = given.get("") == "label" or "names" in given
    if given.get("") == "scalar" and names and None not in (plain := [number(word) for word in names]):
        values = [value for value, word in zip(plain, names, strict=True) for _ in range(counts[word])]
        return _numbers(name, values, given, options, installed)
    if missing is not None and not said and names and None not in (others := [number(word) for word in names]):
        values = [value for value, word in zip(others, names, strict=True) for _ in range(counts[word])]
        return _numbers(name, values, given, options, installed)
    if not said:
        real, named = bool(mine & REAL), bool(mine & LABEL)
        kept = Counter({word: counts[word] for word in names})
        doubtful = doubts(name, here, kept, named=named, real=real, installed=installed) if kept else None
        if doubtful is not None:
            return doubtful
    if not said and (parting := several(name, names)) is not None:
        return parting
    several_ = [word for word in names if "|" in word]
    repeated = 2 <= distinct <= CLASSES and len(here) >= 2 * distinct
    if said or (
        not is_key(name)
        and distinct >= 2
        and (repeated or (mine & LABEL and distinct <= MANY and len(here) > distinct))
    ):
        doubtful = [word for word in names if word.strip().lower() in ABSENT]
        told = []
        if doubtful:
            told.append(
                f"{doubtful[0]!r} ({counts[doubtful[0]]} rows) is taken for a class; --assume {name}.missing={doubtful[0]} takes it for a missing value"
            )
        if several_:
            told.append(
                f"{several_[0]!r} is one class, not several; --assume {typed(f'{name}.separator=|')} parts its words, of which several may hold"
            )
        mixed = any(not isinstance(value, str) for value in here)
        note = f"{distinct} different words, {_some(names)}" + (", numbers among them as words" if mixed else "")
        found = {"classes": max(2, distinct), "names": names, **options}
        return Column(name, "label", found, note, "names", missing=missing, told=tuple(told))
    kind = ", a key by its name" if is_key(name) else ""
    note = f"texts, {distinct} different ones{kind}; [[data.embed]] can make vectors of them"
    return Column(name, note=note, key=True)


def _numbers(
    name: str, here: list[Any], given: Mapping[str, Any], options: dict[str, Any], installed: Collection[str]
) -> Column | Question:
    finite = [value for value in here if math.isfinite(value)]
    if not finite:
        return Column(name, note="numbers that are NaN or infinite, all of them")
    lost = len(here) - len(finite)
    told = (
        [f'{lost} of {len(here)} rows are NaN or infinite; training stops there, unless on_bad_row = "skip"']
        if lost
        else []
    )
    if given.get("") == "scalar":
        # With the modality as the user says, -1 is a number unless the user says otherwise.
        said = {"missing": given.get("missing", math.nan)}
        return _scalar(name, finite, {**options, **said}, installed, "as you say", told)
    if any(value != int(value) for value in finite):
        return _scalar(name, finite, {**options, **_missing(given)}, installed, "numbers with fractions", told)
    counts = Counter(map(int, finite))
    missing = given.get("missing")
    if missing is not None:
        counts.pop(missing, None)
    low, high, distinct = min(counts, default=0), max(counts, default=0), len(counts)
    mine, shown = words(name), _shown(counts)
    named, real, key = bool(mine & LABEL), bool(mine & REAL), is_key(name)
    predicted = not mine & (LABEL - PREDICTED)
    if low == -1 and missing is None and given.get("") != "scalar":
        rest = sorted(counts)[1:]
        if "classes" not in given and "names" not in given:
            if len(rest) >= 2 and rest[0] in (0, 1) and rest[-1] + 1 <= 2 * len(rest) and rest != [0, 1]:
                missing = -1
                told.append(f"-1 ({counts[-1]} rows) is taken for missing, being below the classes")
                counts.pop(-1)
                low, distinct = rest[0], distinct - 1
            elif rest == [1] and not real:
                told.append("two numbers, -1 and 1, so two classes: were -1 missing, one class would be left")
                return _label(name, counts, {"names": [-1, 1], **options}, None, told, "as they are two")
            elif len(rest) <= ASKED and not real:
                return Question(
                    name,
                    f"{name} has the numbers {shown}, of which -1 may be missing or a class",
                    {f"{name}.missing=-1": "missing", f"{name}.names={','.join(map(str, sorted(counts)))}": "a class"},
                )
    nines = sentinel(counts) if missing is None and not given and counts else None
    amounts = real or (distinct - 1 > ASKED and (predicted or not named))
    if nines is not None and not amounts:
        classes = ",".join(str(value) for value in sorted(counts))
        return Question(
            name,
            f"{name} has the numbers {shown}, of which {nines} may be missing or a class",
            {f"{name}.missing={nines}": "missing", f"{name}.names={classes}": "a class", f"{name}=none": "left out"},
        )
    if not given and PARTED.fullmatch(name) and {0} < counts.keys() <= {0, 1, 2}:
        return Question(
            name,
            f"{name} has the numbers {shown}, which may say the part of a row, by its name",
            {
                f"{name}=split": "0 train, 1 validation, 2 test",
                f"{name}=label": f"{distinct} classes",
                f"{name}=none": "left out",
            },
        )
    said = given.get("") == "label"
    contiguous = low == 0 and high + 1 == distinct
    dense = low == 0 and high + 1 <= 2 * distinct
    repeated = len(finite) >= 2 * distinct
    if distinct < 2 and not said:
        return Column(name, note=f"the one number {low} in all rows" if counts else "no value", told=tuple(told))
    if (
        said
        or "names" in given
        or "classes" in given
        or (
            named
            and not real
            and (contiguous if predicted and distinct > ASKED else distinct <= MANY and len(finite) > distinct)
        )
    ):
        return _label(name, counts, options, missing, told, "by its name" if named else "as you say")
    if key and not real:
        return Column(
            name,
            note=f"whole numbers {low} … {high}, {distinct} different ones, a key by its name",
            told=tuple(told),
            key=True,
        )
    if real and not named:
        return _scalar(name, finite, {**options, **_missing(given)}, installed, f"by the name {name}", told)
    if contiguous and repeated and distinct <= CLASSES:
        return _label(name, counts, options, missing, told, "as all of them occur, and begin at 0")
    if (distinct > CLASSES or (not repeated and not dense)) and not (named and predicted):
        return Column(name, note=f"whole numbers {low} … {high}, {distinct} different ones", told=tuple(told), key=True)
    choices = {f"{name}=label": f"{distinct} classes", f"{name}=none": "left out"}
    if "scalar" in installed:
        choices = {f"{name}=label": f"{distinct} classes", f"{name}=scalar": "numbers", f"{name}=none": "left out"}
    if nines is not None:
        choices = {f"{name}.missing={nines}": f"{nines} is missing, and what the others are is asked next", **choices}
    return Question(name, f"{name} has the whole numbers {shown}, which may be classes or numbers", choices)


def _label(name: str, counts: Counter[int], options: dict[str, Any], missing: Any, told: list[str], why: str) -> Column:
    numbers = sorted(counts)
    low, high = numbers[0], numbers[-1]
    if low == 0 and high + 1 <= 2 * len(numbers):
        found: dict[str, Any] = {"classes": max(2, high + 1)}
        absent = high + 1 - len(numbers)
        note = f"classes 0 … {high}, {why}" + (f"; {absent} of them do not occur" if absent else "")
    else:
        found = {"classes": max(2, len(numbers)), "names": [str(number) for number in numbers]}
        note = f"{len(numbers)} classes called {low} … {high}, {why}"
    if "names" in options:
        found = {"classes": len(options["names"]), "names": [str(one) for one in options["names"]]}
        options = {key: value for key, value in options.items() if key != "names"}
    return Column(name, "label", {**found, **options}, note, "names or classes", missing=missing, told=tuple(told))


def _scalar(
    name: str, finite: list[Any], options: dict[str, Any], installed: Collection[str], why: str, told: list[str]
) -> Column | Question:
    missing = options.pop("missing", None)
    finite = [value for value in finite if value != missing] or finite
    low, high = min(finite), max(finite)
    shown = f"numbers {low:.6g} … {high:.6g}, {why}"
    if low == -1 and missing is None and finite.count(-1) > 1 and all(value >= 0 or value == -1 for value in finite):
        return Question(
            name,
            f"{name} has {shown}; {finite.count(-1)} of them are -1, which may be missing or a number",
            {
                f"{name}.missing=-1": "missing",
                f"{name}=none": "left out",
                **({f"{name}=scalar": "a number"} if "scalar" in installed else {}),
            },
        )
    nines = sentinel(Counter(finite)) if missing is None else None
    if nines is not None and nines != -1:
        return Question(
            name,
            f"{name} has {shown}; {finite.count(nines)} of them are {nines:g}, which may be missing or a number",
            {
                f"{name}.missing={nines:g}": "missing",
                f"{name}=none": "left out",
                **({f"{name}=scalar": "a number"} if "scalar" in installed else {}),
            },
        )
    if "scalar" not in installed:
        return Column(
            name, note=f"{shown}; the modality scalar reads them: pip install mmcore-scalar", told=tuple(told)
        )
    if not low < high:
        return Column(name, note=f"the one number {low:.6g} in all rows", told=tuple(told))
    if all(value == int(value) for value in finite) and max(-low, high) >= WHOLE:
        return Column(
            name,
            note=f"{shown}; whole numbers too large to be told apart as amounts, such as keys",
            told=tuple(told),
            key=True,
        )
    counted = bool(words(name) & COUNT) and low >= 0 and all(value == int(value) for value in finite)
    found, reason = ({"kind": "count"}, f"whole, and a count by the name {name}") if counted else _spread(finite)
    shown += f"; {reason}" if reason else ""
    options = {**found, **options}
    change = "kind, tail, log or units"
    return Column(
        name, "scalar", options, shown, change, missing=None if missing != missing else missing, told=tuple(told)
    )


def _lists(name: str, here: list[Any], options: dict[str, Any]) -> Column | Question | None:
    """Lists of different lengths: of words or indices, several labels at once."""
    items = [one for value in here for one in value]
    if not items:
        return Column(name, note="empty lists")
    counts = (
        Counter(items) if all(isinstance(one, str | int) and not isinstance(one, bool) for one in items) else Counter()
    )
    if all(isinstance(one, str) for one in items) and len(counts) <= CLASSES:
        found = {"classes": len(counts), "multi": True, "names": sorted(counts, key=natural), **options}
        return Column(name, "label", found, f"lists of {len(counts)} different words, several at once", "names")
    if (
        counts
        and len({len(value) for value in here}) > 1
        and all(isinstance(one, int) and 0 <= one < CLASSES for one in items)
    ):
        found = {"classes": max(counts) + 1, "multi": True, **options}
        return Column(name, "label", found, f"lists of class indices 0 … {max(counts)}, several at once", "classes")
    return None


def vectors(name: str, values: np.ndarray, given: Mapping[str, Any]) -> Column | Question:
    """A column of vectors ``(N, D)``.

    Args:
        name: of the column.
        values: of the rows looked at.
        given: what the user says: the modality as ``""``, and options of it.
    """
    options = {key: value for key, value in given.items() if key}
    rows, width = values.shape
    if width < 2:
        return Column(name, note=f"vectors of {width}, expected 2 numbers at least")
    if given.get("") not in (None, "clip", "label"):
        found = {"size": width, **options} if given[""] == "scalar" else options
        return Column(name, given[""], found, f"vectors of {width}, as you say")
    binary = values.dtype.kind in "biu" or bool(words(name) & LABEL) or bool((np.count_nonzero(values, 1) == 1).all())
    binary = binary and set(np.unique(values).tolist()) <= {0, 1}
    if given.get("") == "label" or (binary and given.get("") is None):
        ones = values.astype(np.int64).sum(1)
        if (ones == 1).all() and width > 1:
            found = {"classes": width, **options}
            return Column(
                name,
                "label",
                found,
                f"one class of {width}, one-hot: just one 1 in each of {rows} rows",
                "multi = true",
            )
        found = {"classes": width, "multi": True, **options}
        return Column(
            name, "label", found, f"{width} yes-or-no labels, {ones.mean():.1f} of them on in the mean", "multi"
        )
    if values.dtype.kind != "f" and given.get("") is None:
        pixels = width > CLASSES // 4 and values.min() >= 0 and values.max() <= 255
        mend = "; if they are pixels, save pictures, as arrays (rows, height, width)" if pixels else ""
        return Column(
            name, note=f"vectors of {width} whole numbers ({values.dtype}), which no first-party modality reads{mend}"
        )
    wide = values.astype(np.float64)
    if not (good := np.isfinite(wide).all(1)).any():
        return Column(name, note=f"vectors of {width} with NaN in every row")
    told = ()
    if not good.all():
        told = (f'{int((~good).sum())} of {rows} rows have NaN; training stops there, unless on_bad_row = "skip"',)
    norms = np.linalg.norm(wide[good], axis=1)
    # Half precision keeps a norm to about a thousandth.
    unit = bool((np.abs(norms - 1) < 5e-3).all())
    where = "norm 1" if unit else f"norms {norms.min():.3g} … {norms.max():.3g}"
    found = {"width": width, "unit_norm": unit, **options}
    return Column(name, "clip", found, f"vectors of {width} numbers, {where}", told=told)


def _spread(finite: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Options for numbers of which a few lie far from the others, with the evidence."""
    x = np.asarray(finite, dtype=np.float64)
    far = _far(x)
    if not far:
        return {}, ""
    told = f"{far} of {len(x)} lie more than 6 deviations out"
    if x.min() > 0 and not _far(np.log(x)):
        return {"log": True}, f"{told}, but not their logarithms"
    return {"tail": "student"}, told


def _far(x: np.ndarray) -> int:
    """How many numbers are more than 6 deviations, by the middle half of them, from the middle."""
    low, middle, high = np.quantile(x, (0.25, 0.5, 0.75))
    return int((np.abs(x - middle) > 6 * (high - low) / 1.35).sum()) if high > low else 0


def _missing(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"missing": given["missing"]} if "missing" in given else {}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _text(value: Any) -> str:
    return (
        value
        if isinstance(value, str)
        else str(int(value))
        if isinstance(value, float) and value == int(value)
        else str(value)
    )


def _shown(counts: Counter[int]) -> str:
    numbers = sorted(counts)
    if len(numbers) <= 6:
        return ", ".join(f"{number} ({counts[number]} rows)" for number in numbers)
    return f"{numbers[0]} … {numbers[-1]}, {len(numbers)} of them"
