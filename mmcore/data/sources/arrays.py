"""Arrays with a row in each element: their parts, and single rows as plain values. Imports no torch."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore import files
from mmcore.data.npy import characters
from mmcore.data.options import PARTS
from mmcore.data.sources.files import part_and_rest, singular
from mmcore.errors import RequestError

_AT_ONCE = 2**20


class Stored:
    """An array in a file, whose rows are read when they are asked for.

    A file that is cut meanwhile is an error here; of one that is mapped into memory it would be the end of the process.

    Args:
        path: of the file.
        dtype: of the elements.
        start: where they begin.
        shape: of the array.

    Raises:
        OSError: the file is shorter, or none that can be read.
    """

    def __init__(self, path: Path, dtype: np.dtype, start: int, shape: Sequence[int]) -> None:
        self.path, self.dtype, self.start, self.shape = path, dtype, start, tuple(shape)
        self._file: int | None = files.descriptor(path)
        self._row = math.prod(self.shape[1:]) * dtype.itemsize
        end, found = start + self.shape[0] * self._row, os.fstat(self._file).st_size
        if end > found:
            raise OSError(f"it has {found} bytes, its header tells of {end}")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows ``first … last - 1``."""
        if self._file is None:
            self._file = files.descriptor(self.path)
        length, start = (last - first) * self._row, self.start + first * self._row
        data = os.pread(self._file, length, start)
        while 0 < len(data) < length and (more := os.pread(self._file, length - len(data), start + len(data))):
            data += more
        if len(data) < length:
            raise RequestError(f"found {len(data)} of {length} bytes: {self.path} has been cut since it was opened")
        try:
            return characters(np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:]))
        except ValueError as error:
            raise RequestError(f"found {self.path} damaged: {error}") from error

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Any:
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.rows(index, index + 1)[0]

    def __iter__(self) -> Iterator[Any]:
        some = max(1, _AT_ONCE // max(self._row, 1))
        for first in range(0, len(self), some):
            yield from self.rows(first, min(first + some, len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self.__dict__.get("_file") is not None and os is not None:  # None when the interpreter ends
            os.close(self._file)  # type: ignore[arg-type]


def rows_of(array: Any) -> Any:
    """An array whose rows are numbers where they are arrays of one (``(N, 1)``), and vectors where they are a single one (``(N, 1, D)``)."""
    if array.ndim not in (2, 3) or array.shape[1] != 1:
        return array
    if isinstance(array, Stored):
        return Stored(array.path, array.dtype, array.start, (array.shape[0], *array.shape[2:]))
    return array[:, 0]


def value_of(value: Any) -> Any:
    """A row of an array: numbers and texts as Python's own, of which NaN is none; arrays as views, in the machine's byte order."""
    if isinstance(value, np.generic):
        value = value.item()
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return None if isinstance(value, float) and value != value else value
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def by_part(lengths: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """The arrays of each part by variable, where their names say parts: ``train_images`` or ``x_test``; else none.

    Args:
        lengths: of all arrays.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in lengths:
        part, rest = part_and_rest(name)
        if part and rest:
            parts.setdefault(part, {})[singular(rest)] = name
    named = {name for names in parts.values() for name in names.values()}
    even = all(len({lengths[name] for name in names.values()}) == 1 for names in parts.values())
    if "train" not in parts or not even:
        return {}
    most = max(lengths[name] for name in parts["train"].values())
    # Longer ones beside them are the rows themselves, of which train_ids or the like only tell.
    if any(length >= most for name, length in lengths.items() if name not in named):
        return {}
    return {part: parts[part] for part in PARTS if part in parts}
