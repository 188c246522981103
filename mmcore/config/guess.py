"""A first configuration from data, by looking at them: which source, which modalities, of what size, and a model of about the right size."""

import contextlib
import inspect
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.config import labels
from mmcore.config.evidence import Column, Question, pixels
from mmcore.config.files import value_of
from mmcore.data import Source, as_source
from mmcore.data.census import Pixels
from mmcore.data.decode import decode
from mmcore.data.sources.files import part_of
from mmcore.data.sources.survey import Survey, survey
from mmcore.errors import ConfigError, MmcoreError, Problem, RequestError, nearest
from mmcore.plugins import Registry
from mmcore.progress import Progress

SEEN = 4096
"""Rows whose pictures and vectors are read, drawn at random: all rows of most data."""
SECONDS = 60.0
"""After which reading stops; how many rows were read is said."""
FIRST = 64
"""Rows by which columns are told apart."""
SIDE = 32
"""Pixels that pictures are at most wide and high in a configuration to begin with; larger ones are made smaller."""
SMALL = 1024
"""Numbers of codes up to which a perceptron sees the whole space at once."""
_FLAG = re.compile(r"has_(?P<a>.+)|(?P<b>.+)_present|present_(?P<c>.+)")


@attrs.frozen
class Guess:
    """A configuration, and why it is this one.

    Attributes:
        text: of the TOML file.
        said: lines for the terminal: what each column was taken for, on what evidence, what to change, and what was left out.
    """

    text: str
    said: tuple[str, ...]


def look(source: Source, said: Mapping[str, Mapping[str, Any]], installed: Sequence[str]) -> "Looked":
    """What each column of a source is.

    Args:
        source: of the rows.
        said: what the user says of columns, by name: the modality as ``""``, and its options.
        installed: the modalities that there are.
    """
    return Looked(source, said, installed)


class Looked:
    """The columns of a source, by all their values.

    Attributes:
        columns: what they are.
        questions: what the evidence does not decide.
        read: of how many rows pictures and vectors were read.
        bad: rows that cannot be read, each with its place.
        apart: rows whose pictures and maps are not of one size.
    """

    def __init__(self, source: Source, said: Mapping[str, Mapping[str, Any]], installed: Sequence[str]) -> None:
        self.source, self.said, self.installed = source, said, installed
        self.bad: list[str] = []
        self.columns: list[Column] = []
        self.questions: list[Question] = []
        order = _drawn(len(source))
        first: list[tuple[int, Mapping[str, Any]]] = []
        for index in order[:FIRST]:
            row = self._asked(index, "", lambda index=index: source[index])
            first += [] if row is None else [(index, row)]
        names = list(dict.fromkeys(name for _, row in first for name in row))
        if source.names is not None:
            names = list(dict.fromkeys([*source.names, *names]))
        unknown = [name for name in said if name not in names]
        if unknown:
            raise RequestError(
                f"init: --assume {unknown[0]}: expected a column among {', '.join(names)}{nearest(unknown[0], names)}"
            )
        self.flags = {next(filter(None, found.groups())): name for name in names if (found := _FLAG.fullmatch(name))}
        self.flags = {name: flag for name, flag in self.flags.items() if name in names}
        self.split = own_parts(source, names)[0]
        self.kinds = {name: self._kind(name, first, order[FIRST:]) for name in names}
        self._seen: dict[str, Any] = {}
        self.read = self._count(order)
        for name in names:
            found = self._column(name)
            if isinstance(found, Question):
                self.questions.append(found)
            else:
                self.columns.append(attrs.evolve(found, present=self.flags.get(name, "")))

    def _asked(self, index: int, name: str, read: Callable[[], Any]) -> Any:
        """A row or value, or None where it cannot be read, which is remembered."""
        try:
            return read()
        except Exception as error:  # files make their readers raise nearly anything
            words = str(error) if isinstance(error, MmcoreError) else f"{type(error).__name__}: {error}"
            self.bad.append(f"{self.source.where(index)}{f', {name}' if name else ''}: {words}")
            return None

    def _value(self, index: int, row: Mapping[str, Any], name: str) -> Any:
        flag = self.flags.get(name)

        def read() -> Any:
            return _plain(decode(row.get(name))) if flag is None or row.get(flag) else None

        return self._asked(index, name, read)

    def _kind(self, name: str, first: Sequence[tuple[int, Mapping[str, Any]]], others: Sequence[int]) -> str:
        """``"pixels"``, ``"vectors"``, ``"plain"``, or what it is that nothing reads."""
        bad = len(self.bad)
        looked, rare = (
            0,
            ((index, self._asked(index, "", lambda index=index: self.source[index]) or {}) for index in others),
        )
        for index, row in itertools.chain(first, rare):
            if looked >= len(first) and len(self.bad) > bad:
                break
            looked += 1
            value = self._value(index, row, name)
            if value is not None:
                del self.bad[bad:]  # told when all are read
                return _kind(value)
        if len(self.bad) > bad and self.said.get(name, {}).get("") != "none":
            raise RequestError(
                f"init: {name}: none of the {looked} values looked at can be read, expected at least one; {self.bad[bad]}; "
                f"--assume {name}=none leaves it out"
            )
        return "plain"

    def _count(self, order: Sequence[int]) -> int:
        """Read the pictures and vectors of rows, until the time is over."""
        wanted = {
            name: kind for name, kind in self.kinds.items() if kind in ("pixels", "vectors") and name != self.split
        }
        self.apart: list[str] = []
        self._seen = {name: Pixels() if kind == "pixels" else [] for name, kind in wanted.items()}
        if not wanted:
            return len(order)
        self.bad.clear()
        began, done = time.monotonic(), 0
        with Progress("reading", len(order), quiet=len(order) < 500) as bar:
            for index in order:
                row = self._asked(index, "", lambda index=index: self.source[index]) or {}
                sizes: dict[str, tuple[int, int]] = {}
                for name, kind in wanted.items():
                    value = self._value(index, row, name)
                    if value is None:
                        continue
                    if (other := _kind(value)) != kind:
                        self.bad.append(
                            f"{self.source.where(index)}, {name}: found {_called(value, other)} among {kind}"
                        )
                    elif kind == "pixels":
                        size = self._asked(index, name, lambda name=name, value=value: self._seen[name].add(value))
                        sizes |= {} if size is None else {name: size}
                    else:
                        self._seen[name].append(np.asarray(value).reshape(-1))
                if len(set(sizes.values())) > 1:
                    shown = ", ".join(f"{name} of {h} × {w}" for name, (h, w) in sizes.items())
                    self.apart.append(f"{self.source.where(index)}: {shown}")
                done += 1
                bar.update(done)
                if time.monotonic() - began > SECONDS:
                    break
        return done

    def shares(self) -> dict[str, float]:
        """The share of rows that have a value, by column, rounded down; of pictures and vectors among those read."""
        found = {}
        for name, kind in self.kinds.items():
            if kind == "plain":
                flags = self.source.column(self.flags[name]) if name in self.flags else None
                values = self.source.column(name)
                missing = next((column.missing for column in self.columns if column.name == name), None)
                here = sum(
                    v is not None and v != missing and (flags is None or bool(flags[i])) for i, v in enumerate(values)
                )
                found[name] = here / len(self.source)
            elif name in self._seen:
                seen = self._seen[name]
                found[name] = (seen.count if isinstance(seen, Pixels) else len(seen)) / max(self.read, 1)
        return {name: math.floor(100 * share) / 100 for name, share in found.items()}

    @property
    def seen(self) -> list[Pixels]:
        """The pictures and maps, counted."""
        return [seen for seen in self._seen.values() if isinstance(seen, Pixels)]

    def _column(self, name: str) -> Column | Question:
        if name == self.split:
            return Column(name, note="says which part a row is of")
        flagged = next((other for other, flag in self.flags.items() if flag == name), "")
        if flagged:
            return Column(name, note=f"says whether there is {flagged}")
        said, kind = self.said.get(name, {}), self.kinds[name]
        if said.get("") == "none":
            return Column(name, note="left out as you say")
        if kind == "pixels":
            seen = self._seen[name]
            return pixels(name, seen, said) if seen.count else Column(name, note="no value that can be read")
        if kind == "vectors":
            return self._vectors(name, self._seen[name], said)
        if kind != "plain":
            return Column(name, said.get("", ""), {k: v for k, v in said.items() if k}, kind)
        try:
            values = [_plain(value) for value in self.source.column(name)]
        except RequestError as error:
            return Question(name, f"{name} cannot be read: {error}", {f"{name}=none": "left out"})
        if name in self.flags:
            values = [
                value if flag else None
                for value, flag in zip(values, self.source.column(self.flags[name]), strict=True)
            ]
        found = labels.column(name, values, said, self.installed)
        if found is None:
            kinds = sorted({type(value).__name__ for value in values if value is not None})
            found = Column(name, note=f"{' and '.join(kinds)} values, which no first-party modality reads")
        return found

    def _vectors(self, name: str, seen: Sequence[np.ndarray], said: Mapping[str, Any]) -> Column | Question:
        lengths = {len(value) for value in seen}
        if len(lengths) == 1:
            return labels.vectors(name, np.stack(seen), said)
        if all(value.dtype.kind in "iu" for value in seen):
            found = labels.column(name, [value.tolist() for value in seen], said, self.installed)
            if found is not None:
                return found
        return Column(name, note=f"vectors of {len(lengths)} lengths, which no first-party modality reads")


def _drawn(count: int) -> list[int]:
    """Rows in an order without any rhythm, at most :data:`SEEN`: every second row may lack a variable."""
    return np.random.Generator(np.random.Philox(0)).permutation(count)[:SEEN].tolist()


def _plain(value: Any) -> Any:
    """A value as those that are told apart: numbers of numpy and arrays of one number as Python's, lists of numbers as arrays."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple) and value:
        try:
            array = np.asarray(value)
        except ValueError:
            return list(value)
        if array.dtype.kind not in "biuf":
            return list(value)
        value = array if array.size > 1 or array.ndim > 1 else list(value)
    if hasattr(value, "__array__") and not hasattr(value, "mode"):
        array = np.asarray(value)
        return array.item() if array.size == 1 and array.dtype.kind in "biufU" and array.ndim < 2 else array
    return value


def _kind(value: Any) -> str:
    if hasattr(value, "mode"):
        return "pixels"
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            return f"arrays of {value.dtype}, which no first-party modality reads"
        if value.ndim == 1 or (value.ndim == 2 and value.shape[0] == 1):
            return "vectors"
        return (
            "pixels" if value.ndim in (2, 3) else f"arrays of shape {value.shape}, which no first-party modality reads"
        )
    if isinstance(value, Path):
        return f"files of {value.suffix or 'no suffix'}, which no first-party modality reads"
    if isinstance(value, bytes):
        return "bytes that begin as no image or array does"
    return "plain"


def _called(value: Any, kind: str) -> str:
    return f"a {type(value).__name__}" if kind == "plain" else kind


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


def configuration(path: Path, registry: Registry, *, out: str = "", assume: Sequence[str] = ()) -> Guess:
    """A commented configuration for the data at a path.

    Args:
        path: a file or folder.
        registry: where sources are found.
        out: of the run; by default named after the data.
        assume: ``KEY=VALUE`` pairs where the evidence does not decide: ``COLUMN=MODALITY`` (``none`` leaves it out), ``COLUMN.OPTION=VALUE`` for an
            option of its modality, ``options.OPTION=VALUE`` for one of the source, or ``layout=classes`` or ``layout=modalities`` for what the
            folders in a folder are.

    Raises:
        RequestError: no data there, or nothing in them that a modality reads.
        ConfigError: the evidence does not decide; each question with what to assume.
    """
    said = _assumed(assume)
    surveyed = survey(path, said.pop("layout", {}).get("", ""))
    if surveyed.question:
        raise ConfigError("init", [Problem("", surveyed.question)])
    name, options = surveyed.source, surveyed.options | said.pop("options", {})
    parts = _own(registry, name, options)
    source = as_source(registry.source(name, **options, **({"part": "all"} if parts else {})))
    looked = look(source, said, _installed(registry))
    if looked.questions:
        raise ConfigError("init", [Problem("", str(question)) for question in looked.questions])
    columns = looked.columns
    names = _names(name, options, source, columns)
    shares = looked.shares()
    columns = [_with_names(column, names) for column in columns]
    used = [column for column in columns if column.plugin]
    if not used:
        raise RequestError(
            f"init: found {', '.join(f'{c.name} ({c.note})' for c in columns) or 'no column'} in {path}, expected pictures, "
            "class maps, labels or vectors; write the configuration by hand, or a plugin that reads them"
        )
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.absolute().name.split(".")[0]).strip("-") or "data"
    lines = _lines(stem, out or f"runs/{stem}", name, options, columns, used, source, parts, shares)
    return Guess("\n".join(lines) + "\n", tuple(_said(path, surveyed, looked, columns, shares)))


def _assumed(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the user says, by column: the modality as ``""``, and options.

    Raises:
        RequestError: a pair of another form.
    """
    said: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        column, _, option = key.rpartition(".") if "." in key else (key, "", "")
        if not equals or not column or not text:
            raise RequestError(f"init: --assume {pair!r}, expected COLUMN=MODALITY or COLUMN.OPTION=VALUE")
        value: Any = text if not option else value_of(text)
        if isinstance(value, str) and "," in value and option not in ("missing",):
            value = listed if isinstance(listed := value_of(f"[{text}]"), list) else text.split(",")
        if option in ("ignore", "values", "colours", "names") and not isinstance(value, list):
            value = [value]
        said.setdefault(column, {})[option] = value
    return said


def _own(registry: Registry, name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
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


def _installed(registry: Registry) -> list[str]:
    return [entry.name for entry in registry.entries if entry.kind == "modality"]


def _said(
    path: Path, surveyed: Survey, looked: Looked, columns: Sequence[Column], shares: Mapping[str, float]
) -> Iterator[str]:
    """Lines for the terminal."""
    variables = _variables([column for column in columns if column.plugin])
    rows = f"{len(looked.source):,} rows"
    if looked.read < len(looked.source):
        rows += f", pictures and vectors of {looked.read:,} of them, drawn at random"
    yield f"{path}: read by the source {surveyed.source}, {rows}"
    yield from (f"  {one}" for one in surveyed.evidence)
    for column in columns:
        if column.plugin:
            change = f"; to change: {column.change}" if column.change else ""
            share = shares.get(column.name, 1.0)
            where = f"in {share:.0%} of the rows; " if share < 1 else ""
            yield f"  {column.name}: {column.plugin}, {where}{column.note}{change}"
            if column.missing is not None:
                yield f"    missing: {column.missing!r}; to change: data.columns"
            if variables[column.name] != column.name:
                yield f"    called {variables[column.name]}, as a variable cannot be called {column.name!r}"
            if column.present:
                yield f"    {column.present} says which rows have it"
        yield from (f"    {one}" for one in column.told)
    left = [column for column in columns if not column.plugin]
    if left:
        yield "left out:"
        yield from (f"  {column.name}: {column.note}" for column in left)
    yield from (f"note: {one}" for one in looked.source.notes)
    if looked.apart:
        turned = any(seen.turned for seen in looked.seen)
        why = (
            " (files that say how to turn a picture are turned upright: were the masks drawn on the stored one?)"
            if turned
            else ""
        )
        yield f"sizes differ inside {len(looked.apart)} rows, which resize refuses; {looked.apart[0]}{why}"
    if looked.bad:
        more = f", and {len(looked.bad) - 3} more" if len(looked.bad) > 3 else ""
        yield f'cannot be read: {"; ".join(looked.bad[:3])}{more}. Training stops at such a row; data.on_bad_row = "skip" passes over it'


def _names(name: str, options: Mapping[str, Any], source: Source, columns: Sequence[Column]) -> dict[str, list[str]]:
    """The classes' names that data hold beside their rows: an .npz file as ``group_names`` for ``group``, Hugging Face's features, folders of classes."""
    labelled = [column.name for column in columns if column.plugin == "label"]
    told = source.classes if isinstance(source.classes, Mapping) else {}
    found = {one: list(told[one]) for one in labelled if one in told}
    if name == "npz":
        with np.load(options["path"], allow_pickle=False) as file:
            for one in labelled:
                for key in (f"{one}_names", "class_names"):
                    if key in file.files and file[key].dtype.kind == "U" and file[key].ndim == 1:
                        found.setdefault(one, [str(word) for word in file[key]])
    return found


def _with_names(column: Column, names: Mapping[str, list[str]]) -> Column:
    here = names.get(column.name, [])
    classes, called = column.options.get("classes", 0), column.options.get("names", ())
    # Of some rows the last classes may lack, though they have names; numbers that are names already count otherwise than from 0.
    if not here or len(here) < classes or len(set(here)) != len(here) or not set(called) <= set(here):
        return column
    some = ", ".join(here[:5]) + (" …" if len(here) > 5 else "")
    options = {**column.options, "classes": len(here), "names": here}
    return attrs.evolve(column, options=options, note=f"{column.note}; the data call them {some}")


def _lines(
    stem: str,
    out: str,
    name: str,
    options: Mapping[str, Any],
    columns: Sequence[Column],
    used: Sequence[Column],
    source: Source,
    own: Sequence[str],
    shares: Mapping[str, float],
) -> Iterator[str]:
    variables = _variables(used)
    size, resized = _size(used)
    yield f"# Written by mmcore init from {len(source):,} rows; every line may be changed. mmcore config prints all there is to say."
    yield f"out = {_toml(out)}"
    yield "seed = 0"
    yield ""
    yield "[data]"
    yield f"source = {_toml(name)}"
    yield f"options = {_toml(options)}"
    expect = {variables[column.name]: shares[column.name] for column in used if column.name in shares}
    yield f"expect = {_toml(expect)}  # the share of rows that have it; training stops where fewer than half as many do"
    renamed = [
        (variables[c.name], c) for c in used if variables[c.name] != c.name or c.present or c.missing is not None
    ]
    if renamed:
        yield ""
        yield "[data.columns]  # where a variable's values are, and which rows have one"
        for variable, column in renamed:
            if column.present or column.missing is not None:
                table = {"column": column.name}
                table |= {"present": column.present} if column.present else {}
                table |= {"missing": [column.missing]} if column.missing is not None else {}
                yield f"{variable} = {_toml(table)}"
            else:
                yield f"{variable} = {_toml(column.name)}"
    split, parts = own_parts(source, [column.name for column in columns])
    validated = not split or "validation" in parts
    yield ""
    kept = [part for part in ("validation", "test") if part not in own]
    if split:
        yield "[data.split]  # the data's own parts; rows of no part named here are for training"
        yield f"by = {_toml(split)}"
        yield f"values = {_toml(parts)}"
    elif kept:
        key = groups(columns, source)
        yield "[data.split]  # rows kept aside, by a hash: for validation while training, and for mmcore evaluate"
        if key:
            yield f"by = {_toml(key)}  # rows of one {key} stay together"
        # Of few rows a hash could leave a small share without any.
        share = 0.05 if len(source) >= 400 else 0.2
        yield from (f"{part} = {share}" for part in kept)
    else:
        yield f"# The data's own parts are used: {', '.join(own)}."
    if resized and size:
        yield ""
        yield f"[[data.transforms]]  # {SIDE} pixels at most are for a CPU: more on a GPU; masks are resized to the nearest pixel"
        yield 'kind = "resize"'
        yield f"size = {_toml(list(size))}"
        yield 'fit = "cover"  # or "stretch"'
    for column in used:
        for transform in column.transforms:
            yield ""
            yield f"[[data.transforms]]  # {column.note}"
            yield from (f"{key_} = {_toml(value)}" for key_, value in transform.items())
            yield f"variables = {_toml([variables[column.name]])}"
    for column in columns:
        if column.plugin:
            yield ""
            yield f"[modalities.{variables[column.name]}]  # {column.note}"
            yield f"plugin = {_toml(column.plugin)}"
            if column.pictures and size:
                yield f"size = {_toml(list(size) if size[0] != size[1] else size[0])}"
            for key_, value in column.options.items():
                yield f"{key_} = {_toml(value)}"
    left = [column for column in columns if not column.plugin]
    if left:
        yield ""
        yield "# Left out:"
        yield from (f"#   {column.name}: {column.note}" for column in left)
    yield ""
    yield "[tasks]  # a weight below 1 for pictures, so that their many pixels do not drown what is told in few numbers"
    for column in used:
        elements = _elements(column, size)
        if elements > 13:
            yield f"{variables[column.name]} = {{ weight = {_rounded(12.8 / elements)} }}"
    yield ""
    small = sum(_codes(column, size) for column in used) <= SMALL
    yield "[model]"
    yield from _backbone(used, size, small=small)
    yield ""
    yield "[training]  # under an hour on two cores; mmcore train --dry-run says what it takes here"
    yield "steps = 3000" if small else "steps = 2000"
    yield "batch_size = 64" if small else "batch_size = 32"
    yield "lr = 1e-3"
    yield "validate_every = 500" if validated else "validate_every = 0  # the data have no validation rows"
    yield "pictures_every = 500"
    yield ""
    yield "[training.roles]  # how often a row asks for everything, or gives one modality and asks for the rest"
    yield "joint = 0.35"
    yield "single = 0.35"
    yield ""
    yield "[sampling]"
    yield "n = 64"


def _variables(used: Sequence[Column]) -> dict[str, str]:
    """Each column's variable: its own name, where that is a name."""
    found: dict[str, str] = {}
    for column in used:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", column.name).strip("_-")
        name = name[:60] if name[:1].isalpha() and not reserved(name) else f"x_{name}"[:60]
        while name in found.values():
            name += "_"
        found[column.name] = name
    return found


def reserved(name: str) -> bool:
    """Whether a variable cannot be called so: torch has the name already, or the training its sum of losses."""
    from torch import nn

    return hasattr(nn.ModuleDict, name) or name in ("training", "total")


def _size(used: Sequence[Column]) -> tuple[tuple[int, int] | None, bool]:
    """The size of all pictures in the model, and whether that is another than in the data."""
    pictures = [column for column in used if column.pictures]
    if not pictures:
        return None, False
    sizes = {column.size for column in pictures}
    if len(sizes) == 1 and (size := next(iter(sizes))) is not None and max(size) <= SIDE:
        return size, False
    known = [size for size in sizes if size is not None]
    height, width = known[0] if known else (SIDE, SIDE)
    scale = min(1.0, SIDE / max(height, width))
    return (_multiple(height * scale), _multiple(width * scale)), True


def _multiple(side: float) -> int:
    return max(8, round(side / 8) * 8)


def _elements(column: Column, size: tuple[int, int] | None) -> int:
    if column.pictures and size:
        return math.prod(size) * (column.options["channels"] if column.plugin == "image" else 1)
    return column.options.get("width", column.options.get("size", 1))


def _codes(column: Column, size: tuple[int, int] | None) -> int:
    if column.plugin == "mask" and size:
        classes = _classes(column)
        return math.prod(size) * (1 if classes == 2 else classes)
    return column.options.get("classes", 2) if column.plugin == "label" else _elements(column, size)


def _classes(column: Column) -> int:
    """Of a mask."""
    options = column.options
    return options.get("classes") or len(options.get("values") or options.get("colours") or (0, 1))


def _backbone(used: Sequence[Column], size: tuple[int, int] | None, *, small: bool) -> Iterator[str]:
    if small:
        yield 'backbone = "mlp"  # of a small space it sees every place at once'
        yield "backbone_options = { width = 256, depth = 4 }"
        return
    yield 'backbone = "transformer"'
    grid = size or (8,)
    patch = next(
        (p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid) and math.prod(grid) // p ** len(grid) <= 100), 0
    )
    patch = patch or max(p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid))
    tokens = math.prod(side // patch for side in grid)
    yield f"backbone_options = {{ width = 128, depth = 4, heads = 4, patch = {patch} }}  # {tokens} tokens"


def _rounded(x: float) -> float:
    return float(f"{x:.2g}")


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(k)} = {_toml(v)}' if not k.isidentifier() else f'{k} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # TOML's strings are JSON's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
