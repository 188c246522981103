"""What each column of a source is, by all its values: the evidence for a first configuration."""

import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.config import labels
from mmcore.config.column import Column, Question, typed
from mmcore.config.evidence import pixels, size_of
from mmcore.config.holding import own_parts
from mmcore.config.offered import CORE, Propose, advised, offered
from mmcore.data import Source
from mmcore.data.census import Pixels
from mmcore.data.decode import decode
from mmcore.data.sources.files import is_image, suffix_of, without_suffix
from mmcore.data.sources.manifest import TABLES
from mmcore.data.sources.unread import here, mend_at
from mmcore.errors import MmcoreError, RequestError, nearest
from mmcore.progress import Progress

SEEN = 4096
"""Rows whose pictures and vectors are read, drawn at random: all rows of most data."""
SECONDS = 60.0
"""After which reading stops; how many rows were read is said."""
FIRST = 64
"""Rows by which columns are told apart."""
_FLAG = re.compile(r"has_(?P<a>.+)|(?P<b>.+)_present|present_(?P<c>.+)")


class Looked:
    """The columns of a source, by all their values.

    Args:
        source: of the rows.
        said: what the user says of columns, by name: the modality as ``""``, and its options.
        installed: the modalities that there are.
        propose: what those that the core does not know propose for a column.

    Attributes:
        columns: what they are.
        questions: what the evidence does not decide.
        read: of how many rows pictures and vectors were read.
        bad: rows that cannot be read, each with its place.
        apart: rows whose pictures and maps are not of one size.
        alike: whether these have one ratio of their sides, so that each can be resized by itself.
    """

    def __init__(
        self, source: Source, said: Mapping[str, Mapping[str, Any]], installed: Sequence[str], propose: Propose
    ) -> None:
        self.source, self.said, self.installed, self.propose = source, said, installed, propose
        self.bad: list[str] = []
        self.columns: list[Column] = []
        self.questions: list[Question] = []
        order = _drawn(len(source))
        first: list[tuple[int, Mapping[str, Any]]] = []
        for index in order[:FIRST]:
            row = self._asked(index, "", lambda index=index: source[index])
            first += [] if row is None else [(index, row)]
        self.first = first
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
        self.split, self.parts = own_parts(source, names, said)
        self.kinds = {name: self._kind(name, first, order[FIRST:]) for name in names}
        self._seen: dict[str, Any] = {}
        self.read = self._count(order)
        for name in names:
            found = self._column(name)
            if isinstance(found, Question):
                self.questions.append(found)
            else:
                self.columns.append(attrs.evolve(found, present=self.flags.get(name, "")))
        self.bad = list(dict.fromkeys(self.bad))  # a row may have been read twice

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
            values = (self._asked(0, name, lambda row=row: row.get(name)) for _, row in first)
            path = next((value for value in values if isinstance(value, Path)), None)
            raise RequestError(
                f"init: {name}: none of the {looked} values looked at can be read, expected at least one; {self.bad[bad]}; "
                f"{_elsewhere(self.source, name, path)}--assume {name}=none leaves it out"
            )
        return "plain"

    def _count(self, order: Sequence[int]) -> int:
        """Read the pictures and vectors of rows, until the time is over."""
        wanted = {
            name: kind for name, kind in self.kinds.items() if kind in ("pixels", "vectors") and name != self.split
        }
        self.apart: list[str] = []
        self.alike, together = True, 0
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
                    if kind == "vectors" and isinstance(value, list) and len(value) < 2:
                        value = np.asarray(value, dtype=np.int64)  # of lists of several lengths a short one
                    if (other := _kind(value)) != kind:
                        self.bad.append(
                            f"{self.source.where(index)}, {name}: found {_called(value, other)} among {kind}"
                        )
                    elif kind == "pixels":
                        seen, flat = self._seen[name], self._seen[name].flat
                        size = self._asked(index, name, lambda seen=seen, value=value: seen.add(value))
                        if seen.flat > flat == 0:
                            seen.flat_at = self.source.where(index)
                        left = self.said.get(name, {}).get("") == "none"
                        sizes |= {} if size is None or left else {name: size}
                    else:
                        self._seen[name].append(np.asarray(value).reshape(-1))
                together += len(sizes) > 1
                if len(set(sizes.values())) > 1:
                    shown = ", ".join(f"{name} of {h} × {w}" for name, (h, w) in sizes.items())
                    self.apart.append(f"{self.source.where(index)}: {shown}")
                    self.alike = self.alike and _one_ratio(list(sizes.values()))
                done += 1
                bar.update(done)
                if time.monotonic() - began > SECONDS:
                    break
        if self.apart and len(self.apart) == together and not self.alike:
            text = f"the sides of pictures and maps have other ratios in all of {together} rows that have both ({self.apart[0]})"
            seen = [name for name, kind in wanted.items() if kind == "pixels"]
            self.questions.append(Question(seen[0], text, {f"{name}=none": f"{name} left out" for name in seen}))
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
            return Column(name, note="says which part a row is of", parts=self.parts)
        flagged = next((other for other, flag in self.flags.items() if flag == name), "")
        if flagged:
            return Column(name, note=f"says whether there is {flagged}")
        said, kind = self.said.get(name, {}), self.kinds[name]
        if said.get("") == "none":
            return Column(name, note="left out as you say")
        if kind == "plain":
            return self._plain(name, said)
        if kind == "pixels":
            seen = self._seen[name]
            found = pixels(name, seen, said) if seen.count else Column(name, note="no value that can be read")
            found = _shared(found, self.source) if isinstance(found, Column) and found.plugin == "image" else found
        elif kind == "vectors":
            found = self._vectors(name, self._seen[name], said)
        else:
            found = Column(name, said.get("", ""), {k: v for k, v in said.items() if k}, kind)
        if said.get("", "") in CORE:
            return found
        first = [value for index, row in self.first if (value := self._value(index, row, name)) is not None]
        size = size_of(self._seen[name]) if kind == "pixels" else None
        found = offered(found, self.propose(name, first), said, size=size, pictures=kind == "pixels")
        return advised(found, first, self.installed)

    def _plain(self, name: str, said: Mapping[str, Any]) -> Column | Question:
        """A column of texts, numbers or lists."""
        try:
            values = [_plain(decode(value)) for value in self.source.column(name)]
        except RequestError as error:
            return Question(name, f"{name} cannot be read: {error}", {f"{name}=none": "left out"})
        if any(isinstance(value, list) for value in values):
            values = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
        if name in self.flags:
            values = [
                value if flag else None
                for value, flag in zip(values, self.source.column(self.flags[name]), strict=True)
            ]
        found = labels.column(name, values, said, self.installed)
        if found is None:
            kinds = sorted({type(value).__name__ for value in values if value is not None})
            found = Column(name, note=f"{' and '.join(kinds)} values, which no first-party modality reads")
        if isinstance(found, Column) and not found.plugin and (lost := self._unsuffixed(values)):
            found = attrs.evolve(found, note=f"{found.note}; {lost}")
        if said.get("", "") in CORE:
            return found
        here = [value for value in values if value is not None]
        return advised(offered(found, self.propose(name, here), said), here, self.installed)

    def _unsuffixed(self, values: Sequence[Any]) -> str:
        """What is to be said of texts that are pictures' paths but for their suffix; empty where they are none."""
        root: Path | None = getattr(self.source, "root", None)
        text = next((value for value in values if value is not None), None)
        if root is None or not isinstance(text, str) or suffix_of(text) or not (places := here(root, Path(text))):
            return ""
        found = places[0]
        same = without_suffix(found.rpartition("/")[2]) == text.replace("\\", "/").rpartition("/")[2]
        mend = "write the suffix into the table, or give the folder in place of the table"
        return f"{text} is here as {found}: {mend}" if same and is_image(found) else ""

    def _vectors(self, name: str, seen: Sequence[np.ndarray], said: Mapping[str, Any]) -> Column | Question:
        lengths = {len(value) for value in seen}
        if len(lengths) == 1:
            return labels.vectors(name, np.stack(seen), said)
        if all(value.dtype.kind in "iu" for value in seen):
            found = labels.column(name, [value.tolist() for value in seen], said, self.installed)
            if found is not None:
                return found
        return Column(name, note=f"vectors of {len(lengths)} lengths, which no first-party modality reads")


def _elsewhere(source: Source, name: str, path: Path | None) -> str:
    """Where the files of a table's column lie, if they are below its folder though not where it says.

    Args:
        source: a table, or another.
        name: of the column.
        path: that it says in a row.
    """
    root: Path | None = getattr(source, "root", None)
    if root is None or path is None or not (places := here(root, path)):
        return ""
    inner = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    some = " and as ".join(places[:3]) + (" …" if len(places) > 3 else "")
    alike = "of that name" if Path(places[0]).name == path.name else "whose name is much like it"
    starts = [place.removesuffix(inner).rstrip("/") for place in places if inner and place.endswith(inner)]
    mend = "write the paths relative to the table, or to options.root"
    if inner and inner.partition("/")[0] == root.name and (root.parent / inner).is_file():
        mend = f"--assume {typed(f'options.root={root.parent}')} begins there"
    elif len(places) > 1 and len(set(named := source.column(name))) < len(named):
        # Begun at one of them, all rows of that name would be read there.
        mend = "several rows name one: write the paths relative to the table"
    elif starts:
        mend = (
            " or ".join(f"--assume {typed(f'options.root={root / start}')}" for start in starts[:3]) + " begins there"
        )
    return f"a file {alike} is here as {some}: {mend}; "


def _shared(found: Column, source: Source) -> Column:
    """A column of files with a word of those that several rows name."""
    if found.name not in getattr(source, "paths", ()):
        return found
    counts = Counter(value for value in source.column(found.name) if value is not None)
    shared = sum(count for count in counts.values() if count > 1)
    if not shared:
        return found
    told = f"{shared} of {len(source)} rows name a file of {found.name} that another row names too: these are held out together"
    return attrs.evolve(found, key=True, told=(*found.told, told))


def _one_ratio(sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether heights and widths have one ratio, but for what rounding to a pixel makes of it."""
    return all(
        abs(h * width - w * height) <= max(h, w, height, width) for (h, w), (height, width) in itertools.pairwise(sizes)
    )


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
        if suffix_of(value.name) in TABLES:
            return f"files of {value.suffix}, each a table of its own: give the path of one"
        mend = f": {found}" if (found := mend_at(value)) else ""
        return f"files of {value.suffix or 'no suffix'}, which no first-party modality reads{mend}"
    if isinstance(value, dict):
        return "objects; write each of their values as a column of its own"
    if isinstance(value, bytes):
        return "bytes that begin as no image or array does"
    return "plain"


def _called(value: Any, kind: str) -> str:
    return f"a {type(value).__name__}" if kind == "plain" else kind
