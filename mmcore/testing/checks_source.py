"""Sources: raw rows. The plugin is what makes one."""

import contextlib
import copy
import gc
import hashlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mmcore.data.decode import content
from mmcore.data.source import Source, classes_of
from mmcore.errors import MmcoreError, RequestError
from mmcore.testing.check import Failure, NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.surroundings import alike, descriptors, factory_of, left_alone, pickled, reseed, takes
from mmcore.testing.surroundings import elsewhere as elsewhere_of

MOST = 200
"""Of how many rows most questions are asked."""
PARTS = ("train", "validation", "test", "all")


def _some(rows: Any, most: int = MOST) -> list[Any]:
    return list(itertools.islice(iter(rows), most))


def _plain(row: Any) -> Any:
    """A row with the values that it reads when asked."""
    return dict(row) if isinstance(row, Mapping) else row


def _same_rows(c: Context, found: Sequence[Any], want: Sequence[Any], what: str) -> None:
    if len(found) != len(want):
        c.fail(f"{len(found)} rows by {what}", f"{len(want)}")
    for k, (a, b) in enumerate(zip(found, want, strict=True)):
        if not alike(_plain(a), _plain(b)):
            c.fail(f"another row {k} by {what}", "the same")


@check("source.rows", kind="source", fault="tuples for rows, or no row at all")
def source_rows(c: Context) -> None:
    """It gives one row at least; each is a mapping from names to raw values, and holds a value."""
    rows = _some(c.thing())
    if not rows:
        c.fail("no row", "one at least")
    for k, row in enumerate(rows):
        if not isinstance(row, Mapping):
            c.fail(f"row {k} is a {type(row).__name__}", "a mapping from names to raw values")
        if not all(isinstance(name, str) and name and "." not in name for name in row):
            c.fail(f"row {k} has the names {list(row)}", "words without dots")
        if all(value is None for value in row.values()):
            c.fail(f"row {k} with no value", "one that is not None")
        plain = dict(row)
        if list(row) != list(plain) or len(row) != len(plain):
            c.fail(f"row {k} of length {len(row)} with the names {list(row)} and values for {list(plain)}", "a mapping whose names, length and values agree")  # fmt: skip
        if row.get("no such name") is not None:
            c.fail(f"row {k} with {row.get('no such name')!r} for a name that it has not", "None")
        for name, value in row.items():
            if callable(value) or isinstance(value, Iterator):
                c.fail(f"row {k}, {name} is a {type(value).__name__}", "a value that can be read again")
            if isinstance(value, Tensor) and value.requires_grad:
                c.fail(f"row {k}, {name} is a tensor with gradients", "a plain value")


@check(
    "source.kinds",
    kind="source",
    fault="a number in one row and a text in the next, an array in another dtype",
    core=False,
)
def kinds(c: Context) -> None:
    """A column's values are of one kind: arrays of one dtype and number of axes, else one type; whole and real numbers may mix."""
    found: dict[str, Counter[Any]] = {}
    for row in _some(c.thing()):
        for name, value in row.items():
            if value is None:
                continue
            kind: Any = (
                "number"
                if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
                else type(value)
            )
            if isinstance(value, np.ndarray | Tensor):
                kind = (type(value), str(value.dtype), value.ndim)
            elif isinstance(value, os.PathLike):
                kind = "path"
            elif hasattr(value, "getbands"):
                kind = "picture"
            found.setdefault(name, Counter())[kind] += 1
            if kind == "number" and value != value:
                c.fail(f"NaN for {name!r}", "None where a row lacks it")
    for name, kinds in found.items():
        if len(kinds) > 1:
            c.fail(f"values of {len(kinds)} kinds in {name!r}: {', '.join(map(str, kinds))}", "one kind")


@check("source.repeatable", kind="source", fault="an iterator that is used up, rows shuffled by the global generator")
def source_repeatable(c: Context) -> None:
    """The same source gives the same rows in the same order each time, and another one made alike does too, whatever global generators hold."""
    source = c.thing()
    passes = []
    for k in range(4):
        reseed(c.seed + k)
        one = source if k != 2 else c.thing()
        passes.append([_plain(row) for row in _some(one)])
    for rows, what in zip(passes[1:], ("a second pass", "another source made alike", "a third pass"), strict=True):
        _same_rows(c, rows, passes[0], what)
    # Two passes side by side, as a training and its validation make them.
    side: list[list[Any]] = [[], []]
    iterators = [iter(source), iter(source)]
    for k in range(min(20, len(passes[0]))):
        for place, iterator in enumerate(iterators):
            if k % 2 == 0 or place == 0:
                side[place].append(_plain(next(iterator)))
    _same_rows(c, side[0], passes[0][: len(side[0])], "a pass beside another")
    _same_rows(c, side[1], passes[0][: len(side[1])], "a pass that is slower than another")


@check("source.alone", kind="source", fault="draws from global generators, a working directory that is changed")
def alone(c: Context) -> None:
    """Making and reading it leaves the process alone: global generators, settings, environment, working directory; and no file is left open."""
    with left_alone(c, "as rows were read"):
        source = c.thing()
        _some(source, 20)
    # What others have left is collected now, and not meanwhile.
    gc.collect()
    before = descriptors()
    for _ in range(4):
        for row in _some(source, 20):
            _plain(row)
    if descriptors() >= before + 4:
        c.fail(f"{descriptors() - before} files more open after four passes", "fewer than 4")


@check(
    "source.elsewhere",
    kind="source",
    fault="rows that depend on where the process is, or on the order in which sets come",
)
def elsewhere(c: Context) -> None:
    """From another working directory it reads the same rows, once it is made: it that has read before, one that has not, and a copy as a worker has."""
    source, found = c.thing(), {}
    readers = {"a pass": source, "a pass of one that had read nothing": c.thing()}
    want = [_plain(row) for row in _some(source, 20)]
    with contextlib.suppress(Failure):  # That it cannot be copied is another check's.
        readers["a pass of its copy by pickle"] = pickled(c, source, "a source")
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for what, one in readers.items():
                found[what] = [_plain(row) for row in _some(one, 20)]
        finally:
            os.chdir(here)
    for what, rows in found.items():
        _same_rows(c, rows, want, f"{what} from another folder")


@check("source.own_rows", kind="source", fault="one dictionary filled anew for every row")
def own_rows(c: Context) -> None:
    """A row is the caller's: each is a mapping of its own, and changing it changes no other and no later pass; values given out stay as they are."""
    source = c.thing()
    rows = _some(source, 20)
    if len({id(row) for row in rows}) != len(rows):
        c.fail("one mapping given out for several rows", "one for each")
    given = [dict(row) for row in rows]
    kept = [copy.deepcopy(row) for row in given]
    _some(source, 40)
    _same_rows(c, given, kept, "what was given out, after later ones were read")
    for row in rows:
        if isinstance(row, dict):
            row.clear()
    for k, (row, old) in enumerate(zip(source, kept, strict=False)):
        if not alike(_plain(row), old):
            c.fail(f"another row {k} after earlier ones were changed", "the same")


@check("source.length", kind="source", fault="a length that counts what the split leaves out", core=False)
def length(c: Context) -> None:
    """Where it has a length, that is the number of its rows, and indexing gives the rows in their order, in whatever order they are asked for."""
    source = c.thing()
    if not hasattr(source, "__len__"):
        raise NotRun("the source has no length")
    n = len(source)
    rows = [_plain(row) for row in source]
    if len(rows) != n or len(source) != n:
        c.fail(f"a length of {n} with {len(rows)} rows", "the number of rows")
    if hasattr(source, "__getitem__"):
        fresh = c.thing()
        order = [n - 1, 0, n // 2, n - 1, *range(min(n, 30) - 1, -1, -1), *range(0, n, max(1, n // 50))]
        for one, what in ((source, ""), (fresh, ", of a source that was not iterated")):
            for k in order:
                if not alike(_plain(one[k]), rows[k]):
                    c.fail(f"another row by index {k} than in order{what}", "the same")
            one[n // 2]
            _same_rows(c, [_plain(row) for row in _some(one, 30)], rows[:30], f"a pass after rows by index{what}")
            if len(one) != n:
                c.fail(f"a length of {len(one)} after rows were read", f"{n}")


@check(
    "source.processes",
    kind="source",
    fault="rows in the order of a set, a fold drawn as a module is imported",
    core=False,
)
def processes(c: Context) -> None:
    """In another process, with other hashes, it has the same rows in the same order. Asked in the profiles above quick."""
    code = "from mmcore.testing.checks_source import digest\nprint(digest(make()))"
    told = elsewhere_of(c, "source", code)
    if told is None:
        raise NotRun("asked in the profiles above quick, of what another process can make")
    if told != digest(c.thing()):
        c.fail("other rows in another process", "the same")


def digest(source: Any) -> str:
    """Of the content of a source's first rows, in their order."""
    return hashlib.blake2b(b"\1".join(content_of(row) for row in _some(source))).hexdigest()


@check(
    "source.workers",
    kind="source",
    fault="an open file that does not survive pickling, a copy that begins elsewhere",
    core=False,
)
def workers(c: Context) -> None:
    """A copy by pickle, as worker processes read one, has the same length and rows, made before or after rows were read; so has a deep copy."""
    source = c.thing()
    if not isinstance(source, Source):
        raise NotRun("it is no mmcore.data.Source; the engine reads its rows into a list")
    early = pickled(c, source, "a source")
    want = [_plain(row) for row in _some(source, 30)]
    for what, one in (("a copy by pickle", early), ("a copy by pickle, made later", pickled(c, source, "a source of which rows were read"))):  # fmt: skip
        if len(one) != len(source):
            c.fail(f"a length of {len(one)} of {what}", f"{len(source)}")
        _same_rows(c, _some(one, 30), want, what)


@check("source.columns", kind="source", fault="names, classes or columns that are not those of its rows", core=False)
def columns(c: Context) -> None:
    """What it says of its columns holds: `names`, `classes`, `column` and `has` agree with the rows; `where` and `key` are texts, and no key is another row's."""
    source = c.thing()
    if not isinstance(source, Source):
        raise NotRun("it is no mmcore.data.Source")
    n = len(source)
    some = sorted({*range(min(n, 60)), *range(0, n, max(1, n // 60)), n - 1})
    rows = {k: _plain(source[k]) for k in some}
    present = {name for row in rows.values() for name in row}
    if source.names is not None:
        if not all(isinstance(name, str) for name in source.names) or not present <= set(source.names):
            c.fail(f"names = {list(source.names)} of rows with {sorted(present)}", "the names of its rows")
        if n <= len(some) and (extra := set(source.names) - present):
            c.fail(f"the names {sorted(extra)} that no row has", "the names of its rows")
    for name in sorted(present):
        column = source.column(name)
        if len(column) != n:
            c.fail(f"a column {name!r} of {len(column)} values", f"{n}")
        wrong = [k for k in some if not alike(_plain(column[k]), rows[k].get(name))]
        if wrong:
            c.fail(f"another {name!r} in its column than in row {wrong[0]}", "the same")
        has = source.has(name)
        if has is not None and (len(has) != n or any(bool(has[k]) != (rows[k].get(name) is not None) for k in some)):
            c.fail(f"has({name!r}) that is not whether rows have a value", "one answer for each row, or None")
    for name, classes in classes_of(source).items():
        known = [rows[k].get(name) for k in some if rows[k].get(name) is not None]
        listed = list(classes)
        bad = [
            v
            for v in known
            if not (
                v in listed if isinstance(v, str) else not isinstance(v, int | np.integer) or 0 <= int(v) < len(listed)
            )
        ]
        if bad or len(set(listed)) != len(listed):
            c.fail(f"classes {listed[:6]} of {name!r}, which has {bad[:1]}", "a name for each class")
    for what in ("where", "key"):
        found = [getattr(source, what)(k) for k in some]
        if not all(isinstance(x, str) and x for x in found):
            c.fail(f"{what} gives {found[0]!r}", "a text")
    keys = [source.key(k) for k in range(min(n, 5000))]
    if len(set(keys)) < len(keys):
        c.fail(f"the key {Counter(keys).most_common(1)[0][0]!r} of several rows", "a key for each")
    again = c.thing()
    if [again.key(k) for k in some] != [source.key(k) for k in some]:
        c.fail("other keys of another source made alike", "the same")
    if isinstance(source.notes, str) or not all(isinstance(note, str) for note in source.notes):
        c.fail(f"notes = {source.notes!r}", "a list of lines")


@check(
    "source.parts",
    kind="source",
    fault="test rows in the training part, a part that is the whole, rows that are in none",
)
def parts(c: Context) -> None:
    """Of one with parts of its own, `all` has every part's rows, each as often; with what it declares by `disjoint` no row is in two parts.

    Rows are told apart by their content.
    """
    if not takes(c.thing, "part"):
        raise NotRun("it has no parts of its own: the engine splits its rows")
    disjoint = getattr(factory_of(c.thing), "disjoint", {})
    if not isinstance(disjoint, Mapping):
        c.fail(f"disjoint = {disjoint!r}", "options by name")
    found: dict[str, Counter[bytes]] = {}
    for part in PARTS:
        with contextlib.suppress(TypeError, ValueError, MmcoreError, FileNotFoundError):
            rows = _some(c.thing(**{**disjoint, "part": part}), 20_000)
            found[part] = Counter(content_of(row) for row in rows)
    if not found or "train" not in found:
        c.fail("no part 'train'", "one at least: it is what a training reads")
    for part, rows in found.items():
        if not rows:
            c.fail(f"the part {part!r} without a row", "a refusal of a part that there is not")
    named = [part for part in PARTS[:3] if part in found]
    for a, b in itertools.combinations(named, 2):
        if found[a] == found[b]:
            c.fail(f"the same rows in the parts {a!r} and {b!r}", "other rows in each")
        shared = found[a] & found[b]
        # A row that occurs twice in the data may be in both.
        whole = found.get("all", Counter())
        if disjoint and any(found[a][row] + found[b][row] > max(whole[row], 1) for row in shared):
            c.fail(f"{sum(shared.values())} rows in both {a!r} and {b!r}, with disjoint = {dict(disjoint)}", "none")
    if "all" in found:
        for part in named:
            if missing := found[part] - found["all"]:
                c.fail(f"{sum(missing.values())} rows of {part!r} that 'all' lacks", "none")
        if disjoint and len(named) == 3:
            total = sum((found[part] for part in named), Counter())
            if left := found["all"] - total:
                c.fail(f"{sum(left.values())} rows in no part", "every row in one")
    with contextlib.suppress(TypeError, ValueError, MmcoreError, LookupError, OSError):
        made = _some(c.thing(part="no such part"))
        c.fail(f"a part 'no such part' of {len(made)} rows", "a refusal")


def content_of(row: Any) -> bytes:
    """Bytes that two rows share just if they are equal."""
    if not isinstance(row, Mapping):
        return repr(row).encode()
    return b"\0".join(name.encode() + b"=" + _bytes(row[name]) for name in sorted(row))


def _bytes(value: Any) -> bytes:
    if isinstance(value, int | float | bool | None):
        return repr(value).encode()
    try:
        return content(value)
    except RequestError:
        return repr(value).encode()
