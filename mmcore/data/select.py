"""Which rows and columns of a source are used: other names, filters, held-out parts and limits. Imports no torch."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore.data.options import ColumnOptions, FilterOptions, SplitOptions
from mmcore.data.source import LazyRow, Row, Source, classes_of
from mmcore.errors import MISSING, OptionError, RequestError


class Named(Source):
    """A source whose columns go by the variables' names.

    Args:
        source: of the raw rows.
        columns: where each variable's values are; names not among them stay as they are.
    """

    def __init__(self, source: Source, columns: Mapping[str, ColumnOptions]) -> None:
        self.source, self.columns, self.notes = source, dict(columns), source.notes
        named = {name: classes_of(source).get(column.column) for name, column in self.columns.items()}
        self.classes = {**classes_of(source), **{name: classes for name, classes in named.items() if classes}}
        # A column may lack values in the first row, so one miss is no proof; a source that knows its columns says so.
        known = getattr(source, "names", None)
        if known is not None:
            for name, column in self.columns.items():
                for what, asked in (("column", column.column), ("present", column.present)):
                    if asked is not None and asked not in known:
                        raise OptionError("data", f"columns.{name}.{what}", asked, choices=tuple(map(str, known)))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Row:
        row = self.source[index]

        def read(name: str) -> Any:
            return self._value(row, self.columns[name]) if name in self.columns else row[name]

        return LazyRow({**dict.fromkeys(row), **dict.fromkeys(self.columns)}, read)

    def _value(self, row: Row, column: ColumnOptions) -> Any:
        if column.present is not None and not row.get(column.present):
            return None
        return _meant(row.get(column.column), column)

    def where(self, index: int) -> str:
        return self.source.where(index)

    def key(self, index: int) -> str:
        return self.source.key(index)

    def has(self, name: str) -> Sequence[bool] | None:
        column = self.columns.get(name)
        if column is None:
            return self.source.has(name)
        return None if column.present is not None or column.missing else self.source.has(column.column)

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.columns:
            return self.source.column(name)
        column = self.columns[name]
        values = self.source.column(column.column)
        if column.present is not None:
            flags = self.source.column(column.present)
            values = [value if flag else None for value, flag in zip(values, flags, strict=True)]
        return [_meant(value, column) for value in values]


def _meant(value: Any, column: ColumnOptions) -> Any:
    """What a raw value says: nothing where it stands for a missing one, and a list where something parts its words."""
    if column.missing and _plain(value) in column.missing:
        return None
    return parted(value, column.separator) if column.separator and isinstance(value, str | int) else value


def parted(value: str | int, separator: str) -> list[str]:
    """The words of a text that something parts."""
    words = (word.strip() for word in str(value).split(separator))
    return [word for word in words if word]


class Together(Source):
    """A source in which some variables are read of several columns together, as mappings.

    Args:
        source: whose columns they are.
        columns: by variable.
    """

    def __init__(self, source: Source, columns: Mapping[str, Sequence[str]]) -> None:
        self.source, self.columns, self.notes, self.classes = source, dict(columns), source.notes, classes_of(source)
        if source.names is not None:
            # Those that the source lacks altogether are missing in every row.
            whole = [name for name, parts in self.columns.items() if set(parts) & set(source.names)]
            self.names = tuple(dict.fromkeys([*source.names, *whole]))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Row:
        row = self.source[index]

        def read(name: str) -> Any:
            if name in row or name not in self.columns:
                return row[name]
            values = {part: row.get(part) for part in self.columns[name]}
            return values if any(value is not None for value in values.values()) else None

        return LazyRow({**dict.fromkeys(row), **dict.fromkeys(self.columns)}, read)

    def where(self, index: int) -> str:
        return self.source.where(index)

    def key(self, index: int) -> str:
        return self.source.key(index)

    def has(self, name: str) -> Sequence[bool] | None:
        return None if name in self.columns else self.source.has(name)

    def column(self, name: str) -> Sequence[Any]:
        return super().column(name) if name in self.columns else self.source.column(name)


def together(source: Source, variables: Iterable[Any]) -> Source:
    """A source in which variables that say ``columns`` are read of these together, where there is no column of their own name."""
    columns = {m.name: m.columns for m in variables if getattr(m, "columns", ())}
    return Together(source, columns) if columns and not isinstance(source, Together) else source


def column_called(source: Source, name: str) -> str:
    """The column that a variable is read from, through whatever chooses rows of the source."""
    at: Any = source
    while at is not None and not (isinstance(at, Named) and name in at.columns):
        at = getattr(at, "source", None)
    return name if at is None else at.columns[name].column


class Subset(Source):
    """Some rows of a source.

    Args:
        source: of the raw rows.
        indices: of the rows, in order.
    """

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray) -> None:
        self.source, self.indices = source, np.asarray(indices, dtype=np.int64)
        self.classes, self.notes = source.classes, source.notes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Row:
        return self.source[int(self.indices[index])]

    def where(self, index: int) -> str:
        return self.source.where(int(self.indices[index]))

    def key(self, index: int) -> str:
        return self.source.key(int(self.indices[index]))

    def has(self, name: str) -> Sequence[bool] | None:
        known = self.source.has(name)
        return None if known is None else [known[i] for i in self.indices]

    def column(self, name: str) -> Sequence[Any]:
        values = self.source.column(name)
        return [values[i] for i in self.indices]


def _plain(value: Any, root: Path | None = None) -> Any:
    """A value as Python's own, to compare with what a configuration says; a file by its path from the folder of the data."""
    if isinstance(value, Path):
        return value.relative_to(root).as_posix() if root and value.is_relative_to(root) else value.as_posix()
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value if isinstance(value, str | int | float | bool) else None


def column_of(source: Source, name: str, option: str) -> list[Any]:
    """A column's plain values.

    Raises:
        OptionError: it is nowhere; ``option``, of the data, names it.
    """
    inner: Any = source
    while not hasattr(inner, "root") and hasattr(inner, "source"):
        inner = inner.source
    root = getattr(inner, "root", None)
    values = [_plain(value, root) for value in source.column(name)]
    if all(value is None for value in values):
        names = getattr(source, "names", None) or list(source[0])
        expected = f"a column that has texts or numbers, such as {', '.join(map(str, names))}"
        raise OptionError("data", option, name, expected)
    return values


def share(key: str, seed: int) -> float:
    """A number in 0 … 1 by key and seed alone."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53  # all digits of a float, so below 1


def split(source: Source, options: SplitOptions, part: str) -> Source:
    """The rows of a part; the parts share no row, nor a value of the column ``by``.

    Raises:
        OptionError: the part is not held out, or has no row.
    """
    if part == "all":
        return source
    asked = options.values if options.values else {"test": options.test, "validation": options.validation}
    if part != "train" and not asked.get(part):
        raise part_missing(options, part)
    if options.values:
        values = column_of(source, options.by or "", "split.by")
        if part in options.values:
            chosen = [value in options.values[part] for value in values]
        else:  # what no part claims is for training
            claimed = [value for some in options.values.values() for value in some]
            chosen = [value not in claimed for value in values]
    else:
        if options.by is None:
            keys: list[Any] = [source.key(i) for i in range(len(source))]
        else:
            # A row without a group is a group of its own.
            keys = [
                f"row {source.key(i)}" if value is None else value
                for i, value in enumerate(column_of(source, options.by, "split.by"))
            ]
        shares = np.asarray([share(str(key), options.seed) for key in keys])
        edges = {"test": (0, options.test), "validation": (options.test, options.test + options.validation)}
        low, high = edges.get(part, (options.test + options.validation, 1.0))
        chosen = (shares >= low) & (shares < high)
    held_out = f"split.{part}" if part != "train" and not options.values else "split"
    return _some(source, np.flatnonzero(chosen), held_out, getattr(options, part, MISSING))


def part_missing(options: SplitOptions, part: str) -> OptionError:
    """The refusal of a part that is asked for and not held out."""
    value = options.values if options.values else getattr(options, part)
    name = "split.values" if options.values else f"split.{part}"
    return OptionError("data", name, value, f"what says which rows the part {part!r} has: a share above 0, or values")


def keep(source: Source, options: FilterOptions) -> Source:
    """The rows that a filter keeps.

    Raises:
        OptionError: it keeps none, or its column is nowhere.
        RequestError: a text is to be compared with a number.
    """
    raw = source.column(options.column)
    chosen = np.ones(len(source), dtype=bool)
    if options.present is not None:
        chosen &= np.asarray([value is not None for value in raw]) == options.present
    if options.keep or options.drop or options.least is not None or options.most is not None:
        values = column_of(source, options.column, "filters")
        if options.keep:
            chosen &= np.asarray([value in options.keep for value in values])
        if options.drop:
            chosen &= np.asarray([value not in options.drop for value in values])
        for bound, inside in ((options.least, lambda v, b: v >= b), (options.most, lambda v, b: v <= b)):
            if bound is not None:
                for index, value in enumerate(values):
                    if isinstance(value, str):
                        raise RequestError(
                            f"data: filters: {options.column!r}: found {value!r} at {source.where(index)}, expected a number to compare with {bound}"
                        )
                chosen &= np.asarray([value is not None and inside(value, bound) for value in values])
    return _some(source, np.flatnonzero(chosen), "filters", options.column)


def limit(source: Source, count: int | None) -> Source:
    """At most the first ``count`` rows."""
    return source if count is None or count >= len(source) else Subset(source, np.arange(count))


def _some(source: Source, chosen: np.ndarray, option: str, value: Any) -> Source:
    if not len(chosen):
        expected = f"at least one row, it keeps none of {len(source)}"
        raise OptionError("data", option, value, expected, mend="give it a larger share, or more rows")
    return source if len(chosen) == len(source) else Subset(source, chosen)
