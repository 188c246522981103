"""A table with a line for each row: CSV, JSON lines or Parquet."""

import contextlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcore.data.decode import VALUES
from mmcore.data.source import LazyRow, Row, Source, existing
from mmcore.data.sources.files import suffix_of
from mmcore.data.sources.lines import DELIMITERS, Csv, JsonLines
from mmcore.errors import OptionError, RequestError

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
CELLS = ("delimiter", "decimal", "encoding")
"""Options of how a table is read that every source with tables takes."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
_FILES = {*VALUES, ".safetensors", ".npz"}


class Manifest(Source):
    """Lines of a table: one column for each variable, holding values or paths of files; an empty cell is missing.

    CSV (``.csv``; ``.tsv`` with tabs) and JSON lines (``.jsonl``, ``.ndjson``) are indexed once, and lines are read when they are asked for. Parquet (``.parquet``,
    extra ``mmcore-diffusion[parquet]``) is held in memory, column by column. A CSV column whose cells are all numbers is one of numbers, of whole
    ones if all are whole (``3.0`` too), and there ``NaN``, ``NA`` and the like are missing; digits after a zero (``0007``) are text, and one word makes
    a column one of text. Spaces around a cell are none of it. Blank lines are passed over, and so is a first column of row numbers that has no name.

    Args:
        path: of the table.
        paths: columns that hold paths of files; by default those whose first value ends like a file that can be read.
        root: the folder that paths are relative to; by default the table's own.
        texts: columns of a CSV table that stay the text that is written.
        delimiter: between the cells of a CSV table; by default what its first line has: a comma, semicolon, tab or bar.
        decimal: what is before a number's fraction in a CSV table.
        quotes: whether quotes at both ends of a CSV cell are none of it.
        encoding: of a CSV table, such as ``"cp1252"``.
        header: the names of a CSV table's columns, where its first line is a row already; true where it is not, though it looks so.

    Attributes:
        notes: how the table was read where that is not plain, for a person.
        classes: names of the classes that a Parquet file's whole numbers stand for, where it has them.

    Raises:
        RequestError: no such file, a format that is none of these, or a damaged one; a quote that does not end its cell.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        paths: Sequence[str] | None = None,
        root: str | Path | None = None,
        texts: Sequence[str] = (),
        delimiter: str | None = None,
        decimal: str = ".",
        quotes: bool = True,
        encoding: str = "utf-8",
        header: Sequence[str] | bool | None = None,
    ) -> None:
        self.path = existing(path, "table")
        self.root = self.path.parent if root is None else existing(root, "table", "root", folder=True)
        if delimiter is not None and len(delimiter) != 1:
            raise OptionError(
                "table", "delimiter", delimiter, f"one character, such as a {', '.join(DELIMITERS.values())}"
            )
        if decimal not in (".", ","):
            raise OptionError("table", "decimal", decimal, choices=(".", ","))
        _check_encoding(encoding)
        if header is False or (
            header is not None and header is not True and (isinstance(header, str) or not all(header))
        ):
            raise OptionError(
                "table", "header", header, "the names of the columns, or true where the first line has them"
            )

        def cells(at: Path) -> Csv:
            kept = frozenset(texts)
            return Csv(
                at, header=header, delimiter=delimiter, texts=kept, quotes=quotes, decimal=decimal, encoding=encoding
            )

        def parquet(at: Path) -> Any:
            from mmcore.data.sources.parquet import Parquet

            return Parquet(at)

        def objects(at: Path) -> JsonLines:
            return JsonLines(at, encoding)

        kinds: dict[str, Callable[[Path], Any]] = {
            ".csv": cells, ".tsv": cells, ".jsonl": objects, ".ndjson": objects, ".parquet": parquet
        }  # fmt: skip
        if self.path.suffix.lower() not in kinds:
            raise OptionError("table", "path", str(path), f"a file that ends in {', '.join(kinds)}")
        self.lines = kinds[self.path.suffix.lower()](self.path)
        if not len(self.lines):
            raise RequestError(f"table: found no row in {self.path}, expected at least one")
        self.names: tuple[str, ...] = self.lines.names
        self.notes: list[str] = [f"{self.path.name}: {note}" for note in self.lines.notes]
        self.classes: Mapping[str, Sequence[str]] = getattr(self.lines, "classes", {})
        for option, asked in (("paths", paths or ()), ("texts", texts)):
            for name in asked:
                if name not in self.names:
                    expected = f"columns of {self.path} among {', '.join(self.names)}, not {name!r}"
                    raise OptionError("table", option, list(asked), expected)
        self.paths = frozenset(self._guess() if paths is None else paths)

    def _guess(self) -> Iterator[str]:
        rows = []
        for index in range(min(len(self), 100)):
            with contextlib.suppress(RequestError):  # told with its line when the row is asked for
                rows.append(self.lines[index])
        for name in self.names:
            first = next((value for row in rows if (value := row.get(name)) is not None), None)
            if isinstance(first, str) and suffix_of(first.replace("\\", "/")) in _FILES:
                yield name

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Row:
        row = self.lines[index]
        if isinstance(row, dict):
            return {name: self._value(name, value) for name, value in row.items()}
        return LazyRow(self.names, lambda name: self._value(name, row[name]))

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Path):
            return self.root / value
        if name in self.paths and value is not None:
            if not isinstance(value, str):
                raise RequestError(f"{name}: found {value!r}, expected the path of a file")
            if value.startswith("file:"):
                raise RequestError(f"found the address {value!r}, expected a file's path: leave out file://")
            if _ADDRESS.match(value):
                raise RequestError(
                    f"found the address {value!r}, expected a file's path: nothing is fetched from the web"
                )
            return written_path(self.root, value)
        return value

    def column(self, name: str) -> Sequence[Any]:
        return [self._value(name, value) for value in self.lines.column(name)]

    def where(self, index: int) -> str:
        return f"{self.path.name} {self.lines.where(index)}"


def written_path(root: Path, value: str) -> Path:
    """A path as a table writes it; if nothing is there, with Windows' backslashes as ``/``, or composed or decomposed as the disk has it."""
    at = root / value
    if "\\" not in value and value.isascii():
        return at
    forms = [value, value.replace("\\", "/")]
    for text in (*forms, *(unicodedata.normalize(form, text) for text in forms for form in ("NFC", "NFD"))):
        if (root / text).exists():
            return root / text
    return at


def _check_encoding(encoding: str) -> None:
    try:
        plain = "\n,;".encode(encoding) == b"\n,;"
    except LookupError:
        plain = False
    if not plain:
        raise OptionError(
            "table", "encoding", encoding, 'a text encoding that ASCII is part of, such as "utf-8" or "cp1252"'
        )
