"""A table with a line for each row: CSV, JSON lines or Parquet."""

import contextlib
import csv
import json
import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore.data.decode import READERS
from mmcore.data.source import Row, Source, existing
from mmcore.errors import OptionError, RequestError

_FILES = {*READERS, ".safetensors", ".wav", ".flac", ".mp3", ".npz"}


class Manifest(Source):
    """Lines of a table: one column for each variable, holding values or paths of files; an empty cell is missing.

    CSV (``.csv``; ``.tsv`` with tabs) and JSON lines (``.jsonl``, ``.ndjson``) are indexed once, and lines are read when they are asked for. Parquet (``.parquet``,
    extra ``mmcore-diffusion[parquet]``) is held in memory, column by column. In CSV a cell that reads as a number is one, unless its column is in ``texts``.

    Args:
        path: of the table.
        paths: columns that hold paths of files; by default those whose first value ends like a file that can be read.
        root: the folder that paths are relative to; by default the table's own.
        texts: columns of a CSV table that stay text.

    Raises:
        RequestError: no such file, a format that is none of these, or a damaged one.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        paths: Sequence[str] | None = None,
        root: str | Path | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        self.path = existing(path, "table")
        self.root = self.path.parent if root is None else existing(root, "table", "root", folder=True)
        kinds: dict[str, Callable[..., _Lines | _Parquet]] = {
            ".csv": lambda at: Csv(at, ",", frozenset(texts)),
            ".tsv": lambda at: Csv(at, "\t", frozenset(texts)),
            ".jsonl": _Json,
            ".ndjson": _Json,
            ".parquet": _Parquet,
        }
        if self.path.suffix.lower() not in kinds:
            raise OptionError("table", "path", str(path), f"a file that ends in {', '.join(kinds)}")
        self.lines = kinds[self.path.suffix.lower()](self.path)
        if not len(self.lines):
            raise RequestError(f"table: found no row in {self.path}, expected at least one")
        self.names = self.lines.names
        for option, asked in (("paths", paths or ()), ("texts", texts)):
            for name in asked:
                if name not in self.names:
                    expected = f"columns of {self.path} among {', '.join(self.names)}, not {name!r}"
                    raise OptionError("table", option, list(asked), expected)
        self.paths = frozenset(self._guess() if paths is None else paths)

    def _guess(self) -> Iterator[str]:
        for name in self.names:
            some = (self.lines[i].get(name) for i in range(min(len(self), 100)))
            first = next((value for value in some if value is not None), None)
            if isinstance(first, str) and Path(first).suffix.lower() in _FILES:
                yield name

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Row:
        return {name: self._value(name, value) for name, value in self.lines[index].items()}

    def _value(self, name: str, value: Any) -> Any:
        if name in self.paths and value is not None:
            if not isinstance(value, str):
                raise RequestError(f"{name}: found {value!r}, expected the path of a file")
            return self.root / value
        return value

    def column(self, name: str) -> Sequence[Any]:
        return [self._value(name, value) for value in self.lines.column(name)]

    def where(self, index: int) -> str:
        return f"{self.path.name} {self.lines.where(index)}"


class _Lines(ABC):
    """A text file's records by their place in it."""

    names: tuple[str, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        try:
            with path.open("rb") as file:
                starts, numbers = self._index(file)
        except RequestError:
            raise
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise RequestError(f"table: found {path} unreadable ({error}), expected UTF-8 text") from error
        # One more place, where the last record ends.
        self._starts, self._numbers = np.asarray(starts, dtype=np.int64), np.asarray(numbers, dtype=np.int64)

    @abstractmethod
    def _index(self, file: Any) -> "tuple[array[int], array[int]]":
        """Where each record starts, and the last one ends; and the number of each one's first line."""

    @abstractmethod
    def _parse(self, text: str) -> Row:
        """One record."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Row:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        # Reading at a place moves no shared position, so that workers may share the file.
        return self._parse(os.pread(self._file, end - start, start).decode("utf-8"))

    def column(self, name: str) -> Sequence[Any]:
        return [self[i].get(name) for i in range(len(self))]

    def where(self, index: int) -> str:
        return f"line {self._numbers[index]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self.__dict__.get("_file") is not None and os is not None:  # None when the interpreter ends
            os.close(self._file)  # type: ignore[arg-type]


class Csv(_Lines):
    def __init__(self, path: Path, delimiter: str, texts: frozenset[str]) -> None:
        self.delimiter, self.texts = delimiter, texts
        super().__init__(path)

    def _index(self, file: Any) -> "tuple[array[int], array[int]]":
        place, number = 0, 0

        def lines() -> Iterator[str]:
            nonlocal place, number
            for line in file:
                place, number = place + len(line), number + 1
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")

        reader = csv.reader(lines(), delimiter=self.delimiter)
        head = next(reader, None)
        if not head or len(set(head)) != len(head) or not all(head):
            raise RequestError(
                f"table: found the first line {head} in {self.path}, expected a different name for each column"
            )
        self.names = tuple(head)
        starts, numbers = array("q", [place]), array("q")
        before = number
        for _ in reader:
            starts.append(place)
            numbers.append(before + 1)
            before = number
        return starts, numbers

    def _parse(self, text: str) -> Row:
        line = text.rstrip("\r\n")
        if '"' in line:
            cells = next(csv.reader([text], delimiter=self.delimiter))
        else:
            cells = line.split(self.delimiter) if line else []
        if len(cells) != len(self.names):
            raise RequestError(f"found {len(cells)} cells, expected {len(self.names)}: {', '.join(self.names)}")
        return {name: self._cell(name, cell) for name, cell in zip(self.names, cells, strict=True)}

    def _cell(self, name: str, cell: str) -> Any:
        if cell == "":
            return None
        # Python reads 16E5_00390 as a number; a table that says so means a name.
        if name in self.texts or "_" in cell:
            return cell
        for kind in (int, float):
            try:
                return kind(cell)
            except ValueError:
                pass
        if cell[0] == "[":
            try:
                return json.loads(cell)
            except ValueError:
                pass
        return cell


class _Json(_Lines):
    def _index(self, file: Any) -> "tuple[array[int], array[int]]":
        starts, numbers, place, names = array("q"), array("q"), 0, {}
        for number, line in enumerate(file, 1):
            if line.strip():
                starts.append(place)
                numbers.append(number)
                if len(numbers) <= 100:
                    with contextlib.suppress(RequestError):  # told with its line when the row is asked for
                        names |= dict.fromkeys(self._parse(line.decode("utf-8")))
            place += len(line)
        self.names = tuple(names)
        starts.append(place)
        return starts, numbers

    def _parse(self, text: str) -> Row:
        try:
            row = json.loads(text)
        except ValueError as error:
            raise RequestError(f"found a line that is no JSON ({error}), expected an object") from error
        if not isinstance(row, dict):
            raise RequestError(f"found {type(row).__name__}, expected an object with a name for each value")
        return row


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise RequestError("table: Parquet needs pyarrow; pip install 'mmcore-diffusion[parquet]'") from error
        try:
            self.table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise RequestError(f"table: found {path} unreadable ({error}), expected a Parquet file") from error
        self.names = tuple(self.table.column_names)

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> Row:
        return {name: self._plain(self.table.column(name)[index]) for name in self.names}

    def _plain(self, value: Any) -> Any:
        import pyarrow

        # A list of numbers keeps its type as an array; Python's own numbers would lose it.
        if value.is_valid and (pyarrow.types.is_list(value.type) or pyarrow.types.is_fixed_size_list(value.type)):
            inner = value.type.value_type
            if pyarrow.types.is_floating(inner) or pyarrow.types.is_integer(inner):
                return value.values.to_numpy(zero_copy_only=False)
        return value.as_py()

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            return [None] * len(self)
        return self.table.column(name).to_pylist()

    def where(self, index: int) -> str:
        return f"row {index}"
