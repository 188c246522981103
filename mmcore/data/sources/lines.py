"""Records of text files, indexed once and read when they are asked for: CSV and JSON lines. Imports no torch."""

import ast
import contextlib
import csv
import io
import itertools
import json
import os
import re
import warnings
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore import files
from mmcore.data.decode import VALUES
from mmcore.data.source import Row
from mmcore.data.sources.files import suffix_of, without_suffix
from mmcore.data.sources.unread import mend_by
from mmcore.errors import OptionError, RequestError
from mmcore.limits import LINE

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf(?:inity)?", re.I)
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?")
"""Thousands parted by dots, where a comma is before the fraction."""
_CODE = re.compile(r"[+-]?0[0-9]+")
"""Digits after a zero, such as 0007: what a table writes so is a name, as a number it would lose them."""
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_DOTTED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})*|0")
"""A number whose dots may part thousands: 1.234, and 5 beside it."""
_MINUS = "\u2212"
"""What typesetting programs write for a minus."""
_SEP = re.compile(r"sep=(.)", re.I)
"""Excel's own first line, which says what parts the cells."""
_NOTHING = frozenset((
    "nan", "na", "n/a", "#n/a", "n.a.", "n.a", "<na>", "nat", "null", "nil", "none", "missing", "unknown", "not available", "\\n", "-", "--", "?", ".",
    "#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!",
))  # fmt: skip
"""What stands for a missing value among numbers, in small letters; among words it may be a word."""
_SAMPLED = 200
_FEW = 8
"""Numbers from which on a word above them is no value beside them."""
_LONG = 100_000
"""Letters up to which a cell may be a list in Python's writing."""


class Lines(ABC):
    """A text file's records by their place in it.

    Attributes:
        names: of the columns.
        notes: how it was read, for a person.
    """

    names: tuple[str, ...]

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding, self.notes = path, encoding, []
        self._file: int | None = None
        try:
            with files.opened(path) as file:
                starts, numbers = self._index(_physical(file, path))
        except (OSError, csv.Error) as error:
            raise RequestError(f"table: found {path} unreadable ({error}), expected {encoding} text") from error
        # One more place, where the last record ends.
        self._starts, self._numbers = np.asarray(starts, dtype=np.int64), np.asarray(numbers, dtype=np.int64)

    @abstractmethod
    def _index(self, lines: "Iterator[tuple[int, int, bytes]]") -> "tuple[array[int], array[int]]":
        """Where each record starts, and the last one ends; and the number of each one's first line."""

    @abstractmethod
    def _parse(self, text: str) -> Row:
        """One record."""

    @abstractmethod
    def texts_of(self, name: str) -> Sequence[str | None]:
        """A column as it is written."""

    def _decode(self, line: bytes, number: int) -> str:
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise OptionError(
                "table",
                "encoding",
                self.encoding,
                f"that of {self.path}, whose line {number} has the byte {line[error.start]:#04x}",
                mend='save it as UTF-8, or encoding = "cp1252" reads what Excel writes (for init: --assume options.encoding=cp1252)',
            ) from error

    def __len__(self) -> int:
        return len(self._numbers)

    def _text(self, index: int) -> str:
        if self._file is None:
            self._file = files.descriptor(self.path)
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        # Reading at a place moves no shared position, so that workers may share the file.
        data = os.pread(self._file, end - start, start)
        if len(data) < end - start:
            raise RequestError(
                f"found {len(data)} of {end - start} bytes: {self.path} has been cut since it was opened"
            )
        return data.decode(self.encoding)

    def __getitem__(self, index: int) -> Row:
        return self._parse(self._text(index))

    def column(self, name: str) -> Sequence[Any]:
        return [self[i].get(name) for i in range(len(self))]

    def where(self, index: int) -> str:
        return f"line {self._numbers[index]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self.__dict__.get("_file") is not None and os is not None:  # None when the interpreter ends
            os.close(self._file)  # type: ignore[arg-type]


def _physical(file: Any, path: Path) -> Iterator[tuple[int, int, bytes]]:
    """A file's lines by any of the three line ends: number, place and bytes. A byte order mark is none of them."""
    place = number = 0
    most = LINE.most
    for chunk in iter(lambda: file.readline(most + 1), b""):
        if len(chunk) > most:
            raise RequestError(f"table: found line {number + 1} of {path} with {LINE.excess(len(chunk))}")
        for line in chunk.splitlines(keepends=True):
            number += 1
            if number == 1:
                if strange := _strange(chunk):
                    raise RequestError(f"table: found {path}, which is no text in UTF-8: {strange}")
                if line.startswith(b"\xef\xbb\xbf"):
                    place, line = 3, line[3:]
            yield number, place, line
            place += len(line)


def _strange(begin: bytes) -> str:
    """What the first bytes of a file are, and the mend, where they are no text in UTF-8; else empty."""
    if mend := mend_by(begin):
        return mend
    zeros = [half.count(0) for half in (begin[::2], begin[1::2])]
    # Of two bytes a letter, one is zero in most alphabets' delimiters and in all of Latin's letters.
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")) or (0 in zeros and 4 * max(zeros) > len(begin)):
        return "it is UTF-16; save it as UTF-8"
    return (
        "its first line has zeros, as UTF-16 and files of other programs have; save it as UTF-8" if any(zeros) else ""
    )


@attrs.frozen
class _Style:
    """How cells are parted.

    Attributes:
        delimiter: between them.
        quotes: whether quotes at both ends are none of a cell.
        spaced: whether spaces follow the delimiter.
    """

    delimiter: str
    quotes: bool
    spaced: bool = False

    def reader(self, lines: Any, *, strict: bool = True) -> Any:
        quoting = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=strict, skipinitialspace=self.spaced)


class _Column:
    """What the cells of a column are, cell by cell."""

    def __init__(self, head: str) -> None:
        self.head = head
        self.filled = self.nothing = self.repeated = self.grouped = self.again = self.points = 0
        self.none = self.group = ""
        self.first: str | None = None
        self.whole = self.number = self.comma = self.dotted = True

    def see(self, cell: str, decimal: str) -> None:
        if self.first is None:
            self.first = cell  # told last, by what the others are
            return
        self.again += cell == self.first
        self._see(cell, decimal)

    def end(self, decimal: str) -> str:
        """Count the first cell too; the word that it is, where all others are numbers."""
        word = self.first or ""
        numbers = self.number and self.filled - self.nothing >= _FEW
        grouped, nothing = self.grouped, self.nothing
        self._see(word, decimal)
        self.group = word if self.grouped > grouped else self.group
        self.none = word if self.nothing > nothing else self.none
        return word if numbers and not self.number else ""

    def _see(self, cell: str, decimal: str) -> None:
        if not cell:
            return
        self.filled += 1
        self.repeated += cell == self.head
        if not self.number:
            self.comma = self.comma and bool(_DECIMAL_COMMA.fullmatch(cell))
            return
        plain = _plainly(cell, decimal)
        if cell.casefold() not in _NOTHING:
            self.dotted, self.points = self.dotted and bool(_DOTTED.fullmatch(cell)), self.points + ("." in cell)
        if decimal != "." and _GROUPED.fullmatch(cell):
            self.grouped, self.group = self.grouped + 1, self.group or cell
        if _WHOLE.fullmatch(plain):
            self.comma = False
        elif _NUMBER.fullmatch(plain) and not _CODE.fullmatch(plain):
            self.whole = self.comma = False
        elif cell.casefold() in _NOTHING:
            self.nothing, self.none = self.nothing + 1, self.none or cell
        else:
            self.number = False
            self.comma = self.comma and bool(_DECIMAL_COMMA.fullmatch(cell))

    @property
    def thousands(self) -> bool:
        """Whether all dots in it may part thousands, and there are some."""
        return self.dotted and self.number and self.points > 0

    @property
    def kind(self) -> str:
        if not self.number or self.filled == self.nothing:
            return "text"
        return "whole" if self.whole else "number"


def listed(cell: str) -> Any:
    """The list that a cell holds in JSON's writing, or in Python's, as pandas writes it; what is none stays text."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(cell)
    if len(cell) > _LONG or not cell.endswith("]"):
        return cell
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd letters after a backslash
        found = ast.literal_eval(cell)  # literals alone: nothing is run, and its parser bounds the depth
        if isinstance(found, list) and all(isinstance(one, str | int | float) for one in found):
            return found
    return cell


def _plainly(cell: str, decimal: str) -> str:
    """A cell with a point before its fraction, and no marks between thousands; text that is no number where it could be read otherwise."""
    cell = cell.replace(_MINUS, "-") if cell[0] == _MINUS else cell
    if decimal == ".":
        return cell
    if "." in cell:
        if not _GROUPED.fullmatch(cell):
            return "no number"
        cell = cell.replace(".", "")
    return cell.replace(decimal, ".")


def _is_row(columns: "Sequence[_Column]") -> str:
    """Why the first line is a row and holds no names; empty where it may hold names."""
    for column in columns:
        if suffix_of(column.head.replace("\\", "/")) in VALUES:
            return f"{column.head} is a file"
        # A form's export has its answers as names, above columns of that answer alone.
        if 0 < column.repeated < column.filled and not _NUMBER.fullmatch(column.head):
            return f"{column.head} is a value in its column too"
    numbers = [column for column in columns if _NUMBER.fullmatch(column.head) and column.kind != "text"]
    if not numbers:
        return ""
    if any(not _WHOLE.fullmatch(column.head) for column in numbers):
        return "there are numbers with fractions"
    values = [float(column.head) for column in numbers]
    if len(values) == 1:
        # As pandas writes a column without a name, after its index.
        return (
            ""
            if values[0] == 0 and not columns[0].head
            else f"{numbers[0].head} is a number, as those in its column are"
        )
    steps = {two - one for one, two in itertools.pairwise(values)}
    return "" if len(steps) == 1 and min(steps) > 0 else "there are numbers, which count nothing"


def _are_names(columns: "Sequence[_Column]", above: "Sequence[_Column]") -> bool:
    """Whether the first row holds words above numbers, and no other value: names of a second level, units, or an index's name."""
    rest = [column for column in columns if column not in above]
    plain = all(not one.first or (one.kind == "text" and not one.again) for one in rest)
    return plain and (len(above) > 1 or not any(one.first for one in rest))


class Csv(Lines):
    """A table of cells. A column is of numbers if all its cells are, or are empty or say that there is none (``NaN``, ``NA``).

    Args:
        path: of the file.
        delimiter: between cells; None for what the first line has.
        texts: columns that stay text as it is written.
        quotes: whether a quote at a cell's start and end is none of it.
        decimal: what is before a number's fraction.
        encoding: of the text; one byte or UTF-8.
        header: the names of the columns, where no line has them; True for those of the first line, whatever they look like.
    """

    def __init__(
        self,
        path: Path,
        *,
        header: Sequence[str] | bool | None = None,
        delimiter: str | None = None,
        texts: frozenset[str] = frozenset(),
        quotes: bool = True,
        decimal: str = ".",
        encoding: str = "utf-8",
    ) -> None:
        self.delimiter, self.texts, self.quotes, self.decimal = delimiter or "", texts, quotes, decimal
        self.kinds: dict[str, str] = {}
        self.header = header
        self._style = _Style(self.delimiter, quotes)
        super().__init__(path, encoding)

    def _index(self, lines: "Iterator[tuple[int, int, bytes]]") -> "tuple[array[int], array[int]]":
        waiting = self._begin(lines)
        raw: list[tuple[int, int, str]] = []
        end = 0

        def texts() -> Iterator[str]:
            nonlocal end
            for number, place, line in itertools.chain(waiting, lines):
                text = self._decode(line, number)
                raw.append((number, place, text))
                end = place + len(line)
                yield text

        reader = self._style.reader(texts())
        starts, numbers = array("q"), array("q")
        head: list[str] | None = None
        names_line: list[str] | None = None
        again: list[int] = []
        counts = Counter[int]()
        columns: list[_Column] = []
        while True:
            raw.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                first = raw[0][0] if raw else 1
                raise _unclosed(self.path, first, raw[-1][0] if raw else first, str(error)) from error
            if cells is None:
                break
            if len(cells) < 2 and not "".join(cells).strip():
                continue  # a blank line
            if head is None:
                named = isinstance(self.header, Sequence)
                head = (
                    list(self.header)
                    if isinstance(self.header, Sequence)
                    else [" ".join(cell.split()) for cell in cells]
                )
                if len(head) != len(cells):
                    expected = f"{len(cells)} names, as the first line of {self.path} has so many cells"
                    raise OptionError("table", "header", head, expected)
                if self.header is None and len(head) > 1 and re.fullmatch(r"#\w+", head[0]):
                    head[0] = head[0][1:]  # as VGG's annotator writes its names
                columns = [_Column(name) for name in head]
                if self.header is None and re.match(r"#.*\w", head[0]):
                    raise RequestError(
                        f"table: found a first line of {self.path} that begins with # ({head[0]}), expected names of columns; take the comment out, or "
                        "the option header = true reads it as names"
                    )
                if not named:
                    names_line = cells
                    continue
            if cells == names_line:
                again.append(raw[0][0])
            if len(raw) > 1:
                _check_lines(self.path, self._style, raw, cells, len(head))
            starts.append(raw[0][1])
            numbers.append(raw[0][0])
            counts[len(cells)] += 1
            if len(cells) == len(head):
                for column, cell in zip(columns, cells, strict=True):
                    column.see(cell.strip(), self.decimal)
        if head is None:
            raise RequestError(f"table: found no line in {self.path}, expected names of columns in the first")
        starts.append(end)
        above = [column for column in columns if column.end(self.decimal)]
        if len(counts) == 1 and len(head) not in counts and self.header is None:
            raise RequestError(
                f"table: found {len(head)} {'cell' if len(head) == 1 else 'cells'} in the first line of {self.path} ({', '.join(head[:4])}), and "
                f"{min(counts)} in all others, expected names of columns in the first line; take out what stands above them"
            )
        if self.header is None and len(again) == 1 and any(0 < one.repeated < one.filled for one in columns):
            raise RequestError(
                f"table: found the names of the columns again in line {again[0]} of {self.path}, expected them in the first line only; take that "
                "line out, or the option header = true reads it as a row"
            )
        if self.header is None and above and len(columns) > 1 and _are_names(columns, above):
            raise RequestError(
                f"table: found words in line {numbers[0]} of {self.path} ({', '.join(str(one.first) for one in above[:4])}) above numbers, expected names of "
                "columns in the first line only; take that line out, or the option header = true reads it as a row"
            )
        if self.header is None and (why := _is_row(columns)):
            some = ", ".join(one.head for one in columns[:6]) + (", …" if len(columns) > 6 else "")
            names = ",".join(f"column_{k + 1}" for k in range(min(len(columns), 3))) + (
                ",…" if len(columns) > 3 else ""
            )
            raise RequestError(
                f"table: found a first line of {self.path} that looks like a row ({some}: {why}), expected names of columns; write a line of "
                f"names above it, or the option header names them (for init: --assume options.header={names}), and is true if they are names"
            )
        self._name(head, columns)
        return starts, numbers

    def _begin(self, lines: "Iterator[tuple[int, int, bytes]]") -> list[tuple[int, int, bytes]]:
        """The first lines, by which the delimiter is found."""
        first = list(itertools.islice(lines, 20))
        texts = [text for number, _, line in first if (text := self._decode(line, number)).strip()]
        head = texts[0] if texts else ""
        if len(texts) > 1 and (says := _SEP.fullmatch(head.strip("\r\n"))):
            self.delimiter = self.delimiter or says[1]
            place = next(k for k, (number, _, line) in enumerate(first) if self._decode(line, number) == head)
            first, texts = first[place + 1 :], texts[1:]
            head = texts[0]
        if not self.delimiter:
            usual = "\t" if suffix_of(self.path.name) == ".tsv" else ","
            self.delimiter = _find_delimiter(texts, usual, self.quotes, self.path)
            if self.delimiter != usual:
                self.notes.append(f"cells are parted by {DELIMITERS[self.delimiter]}s, as the first line has it")
        self._style = _Style(self.delimiter, self.quotes, f"{self.delimiter} " in head)
        return first

    def _name(self, head: list[str], columns: Sequence[_Column]) -> None:
        """Names for all columns: an index without a name is left out, as is a column of nothing; the other odd ones get a name."""
        names: list[str | None] = []
        # Where semicolons part the cells, dots may part thousands; another column's commas are asked about anyway.
        doubtful = (
            self.delimiter == ";" and self.decimal == "." and not any(one.comma and one.filled for one in columns)
        )
        for k, (name, column) in enumerate(zip(head, columns, strict=True)):
            if not name and (not column.filled or (k == 0 and len(head) > 1 and column.kind == "whole")):
                if column.filled:
                    self.notes.append("the first column has no name and counts the rows: left out")
                names.append(None)
                continue
            given = name or f"column_{k + 1}"
            while given in names:
                given = f"{given}_{k + 1}"
            if given != name:
                self.notes.append(
                    f"column {k + 1} {f'is called {name} again' if name else 'has no name'}: read as {given}"
                )
            names.append(given)
            # In one of a thousand, and without a word, 1.234 would be read.
            self.kinds[given] = "text" if doubtful and column.thousands else column.kind
            if column.nothing and column.kind != "text":
                self.notes.append(
                    f"{given}: {column.nothing} cells such as {column.none} among numbers are read as missing"
                )
            if column.grouped and column.kind != "text":
                self.notes.append(f"{given}: dots part thousands where commas are decimal, as in {column.group}")
            if column.comma and column.filled and column.kind == "text":
                self.notes.append(
                    f'{given}: numbers with a comma are read as text; decimal = "," reads them as numbers'
                )
        self._all, self.names = names, tuple(name for name in names if name is not None)
        if not self.names:
            raise RequestError(f"table: found the first line {head} in {self.path}, expected names of columns")

    def _cells(self, text: str) -> list[str]:
        if self.quotes and '"' in text:
            cells = next(self._style.reader(io.StringIO(text, newline="")))
        else:
            line = re.split(r"[\r\n]", text, maxsplit=1)[0]
            cells = line.split(self.delimiter)
        if len(cells) != len(self._all):
            names = ", ".join(self.names)
            raise RequestError(f"found {len(cells)} cells, expected {len(self._all)}: {names}")
        return cells

    def _parse(self, text: str) -> Row:
        pairs = zip(self._all, self._cells(text), strict=True)
        return {name: self._cell(name, cell) for name, cell in pairs if name is not None}

    def _cell(self, name: str, cell: str) -> Any:
        if name in self.texts:
            return cell or None
        cell = cell.strip()
        if not cell:
            return None
        if self.kinds[name] == "text":
            return listed(cell) if cell[0] == "[" else cell
        if cell.casefold() in _NOTHING:
            return None
        plain = _plainly(cell, self.decimal)
        if self.kinds[name] == "whole":
            return int(plain.partition(".")[0])
        return int(plain) if _WHOLE.fullmatch(plain) and "." not in plain else float(plain)

    def texts_of(self, name: str) -> Sequence[str | None]:
        place = self._all.index(name)
        return [self._cells(self._text(index))[place].strip() or None for index in range(len(self))]


def _find_delimiter(texts: Sequence[str], usual: str, quotes: bool, path: Path) -> str:
    """What parts the cells of the first lines: what the first has, and if it has several the one that parts all lines alike."""
    head = re.sub(r'"[^"]*"', "", texts[0]) if texts else ""
    there = [mark for mark in DELIMITERS if mark in head]
    if not there or (usual == "\t" and usual in there):
        return usual
    even = []
    for mark in there if len(there) > 1 else ():
        with contextlib.suppress(csv.Error):
            counts = {len(cells) for cells in _Style(mark, quotes).reader(texts, strict=False) if cells}
            even += [mark] * (len(counts) == 1)
    if len(there) > 1 and len(even) != 1:
        found = " and ".join(DELIMITERS[mark] for mark in there)
        raise OptionError("table", "delimiter", None, f"what parts the cells of {path}, whose first line has {found}")
    return (even or there)[0]


def _unclosed(path: Path, first: int, last: int, why: str) -> RequestError:
    lines = f"line {first}" if first == last else f"lines {first} … {last}"
    return RequestError(
        f"table: found {lines} of {path} with a quote that does not end its cell ({why}), expected a cell in two quotes, and quotes "
        "in it doubled; quotes = false reads quotes as letters"
    )


def _check_lines(
    path: Path, style: "_Style", raw: Sequence[tuple[int, int, str]], cells: Sequence[str], count: int
) -> None:
    """Refuse a record over several lines that are records themselves: a quote that somebody left open took them into a cell."""
    first, last = raw[0][0], raw[-1][0]
    if len(cells) != count:
        raise _unclosed(path, first, last, f"{len(cells)} cells, the first line has {count}")
    for number, _, text in raw[1:]:
        with contextlib.suppress(csv.Error):
            inner = next(style.reader([text], strict=False), [])
            # What stands behind the cell's end in the last line is the record's own, whatever it is like.
            shared = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(reversed(inner), reversed(cells), strict=False)
            )
            own = inner[: len(inner) - sum(1 for _ in shared)] if number == last else inner
            if len(inner) == count > 1 and any(map(_alike, own, cells)):
                raise _unclosed(path, first, last, f"line {number} is a row of its own")


def _alike(one: str, two: str) -> bool:
    """Whether two cells are of one kind that says something: numbers, or files of one suffix."""
    one, two = one.strip(), two.strip()
    if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(two):
        return True
    return suffix_of(one) == suffix_of(two) != "" and without_suffix(one) != one


class JsonLines(Lines):
    """An object in each line."""

    def _index(self, lines: "Iterator[tuple[int, int, bytes]]") -> "tuple[array[int], array[int]]":
        starts, numbers, end, names = array("q"), array("q"), 0, {}
        for number, place, line in lines:
            end = place + len(line)
            text = self._decode(line, number)
            if text.strip():
                starts.append(place)
                numbers.append(number)
                if len(numbers) <= _SAMPLED or len(numbers) % _SAMPLED == 0:
                    with contextlib.suppress(RequestError):  # told with its line when the row is asked for
                        names |= dict.fromkeys(self._parse(text))
        self.names = tuple(names)
        starts.append(end)
        return starts, numbers

    def _parse(self, text: str) -> Row:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"found a line that is no JSON ({error}), expected an object") from error
        return as_row(row)

    def texts_of(self, name: str) -> Sequence[str | None]:
        return [None if value is None else str(value) for value in self.column(name)]


def as_row(row: Any) -> Row:
    """What JSON gives for a row: an object, whose ``NaN`` is no value.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(row, dict):
        raise RequestError(f"found {type(row).__name__}, expected an object with a name for each value")
    return {name: None if value != value else value for name, value in row.items()}
