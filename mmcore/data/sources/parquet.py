"""Parquet tables, column by column. Imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mmcore import files
from mmcore.data.decode import Encoded
from mmcore.data.source import LazyRow, Row
from mmcore.errors import RequestError
from mmcore.limits import UNPACKED

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"\x93NUMPY": ".npy",
}


class Parquet:
    """A Parquet file in memory.

    Attributes:
        names: of the columns.
        notes: how it was read.
        classes: names of the classes that a column's whole numbers stand for, as Hugging Face's ``datasets`` writes them.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise RequestError("table: Parquet needs pyarrow; pip install 'mmcore-diffusion[parquet]'") from error
        try:
            with files.opened(path) as file, pyarrow.parquet.ParquetFile(file) as table:
                groups = (table.metadata.row_group(k) for k in range(table.metadata.num_row_groups))
                if too_long := UNPACKED.excess(sum(group.total_byte_size for group in groups)):
                    raise OSError(f"it unpacks to {too_long}")
                self.table = table.read()
        except (OSError, MemoryError, pyarrow.ArrowException) as error:
            raise RequestError(f"table: found {path} unreadable ({error}), expected a Parquet file") from error
        self.notes: list[str] = []
        names: list[str] = []
        for k, name in enumerate(self.table.column_names):
            called = name
            while called in names:
                called = f"{called}_{k + 1}"
            if called != name:
                self.notes.append(f"column {k + 1} is called {name} again: read as {called}")
            names.append(called)
        self.classes = _classes(self.table.schema.metadata or {})  # which other names would lose
        if names != self.table.column_names:
            self.table = self.table.rename_columns(names)
        self.names = tuple(names)
        # What pandas keeps of an index that only counts.
        if index := [name for name in self.names if name.startswith("__index_level_")]:
            self.names = tuple(name for name in self.names if name not in index)
            self.notes.append(f"{', '.join(index)}: the index of a pandas table, left out")
        self._ragged = frozenset(name for name in self.names if _ragged(self.table.column(name)))

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> Row:
        return LazyRow(self.names, lambda name: self._plain(name, self.table.column(name)[index]))

    def _plain(self, name: str, value: Any) -> Any:
        return value.as_py() if name in self._ragged else plain(value, classes=name in self.classes)

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            return [None] * len(self)
        values = []
        for index, value in enumerate(self.table.column(name)):
            try:
                values.append(self._plain(name, value))
            except RequestError as error:
                raise RequestError(f"{self.where(index)}, {name}: {error}") from error
        return values

    def texts_of(self, name: str) -> Sequence[str | None]:
        return [None if value is None else str(value) for value in self.column(name)]

    def where(self, index: int) -> str:
        return f"row {index}"


def plain(value: Any, *, classes: bool = False) -> Any:
    """An Arrow value as a raw value: lists of numbers as arrays of their type, bytes of a file as what they are.

    Args:
        value: an Arrow scalar.
        classes: whether it is one of named classes, for which -1 stands for none.

    Raises:
        RequestError: a list of numbers that has a null, or lists of several lengths in one.
    """
    import pyarrow.types as types

    if not value.is_valid:
        return None
    kind = value.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _array(value)
    if types.is_struct(kind):
        return file_of(value.as_py()) if {"bytes", "path"} <= {field.name for field in kind} else value.as_py()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return file_of({"bytes": value.as_py(), "path": None})
    raw = float(value.as_py()) if types.is_decimal(kind) else value.as_py()
    if isinstance(raw, float) and raw != raw:
        return None
    return None if classes and raw == -1 else raw


def _ragged(column: Any) -> bool:
    """Whether a column holds lists of whole numbers of several lengths: indices, and no vectors."""
    import pyarrow.types as types

    kind = column.type
    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_integer(kind.value_type):
        return False
    lengths = {length for chunk in column.chunks for length in set(chunk.value_lengths().to_pylist())} - {None}
    return len(lengths) > 1


def _array(value: Any) -> Any:
    """Lists of numbers, each as long as the others, as one array; lists of other things as they are."""
    import pyarrow.types as types

    shape, flat = [len(value)], value.values
    while types.is_list(flat.type) or types.is_large_list(flat.type) or types.is_fixed_size_list(flat.type):
        lengths = set(flat.value_lengths().to_pylist())
        if len(lengths) > 1 or None in lengths:
            found = ", ".join(map(str, sorted(lengths, key=str)[:4]))
            raise RequestError(f"found lists of {found} values in one list, expected lists of one length")
        shape.append(lengths.pop() if lengths else 0)
        flat = flat.flatten()
    if not (types.is_floating(flat.type) or types.is_integer(flat.type) or types.is_boolean(flat.type)):
        return value.as_py()
    if flat.null_count:
        place = flat.is_null().to_pylist().index(True)
        raise RequestError(f"found no value at place {place} of {len(flat)}, expected a number in each")
    return flat.to_numpy(zero_copy_only=False).reshape(shape)


def file_of(image: Any) -> Encoded | Path | None:
    """What ``datasets`` keeps of a file, its bytes or its path, as one of them; the kind of bytes by how they begin.

    Args:
        image: a mapping with ``bytes`` and ``path``, each of which may be None.
    """
    data, path = image["bytes"], image["path"] or ""
    if data is None:
        return Path(path) if path else None
    if PurePosixPath(path).suffix:
        return Encoded(data, PurePosixPath(path).suffix)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Encoded(data, ".webp")
    return Encoded(data, next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), ""))


def _classes(metadata: Any) -> dict[str, list[str]]:
    """The names of classes in what ``datasets`` writes beside a table."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            name: list(feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
