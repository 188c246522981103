"""Arrays of one ``.npz`` file, a row from each."""

import functools
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.arrays import by_part, rows_of, value_of
from mmcore.data.sources.layout import asked_parts
from mmcore.errors import OptionError, RequestError


class Npz(Source):
    """Row ``i`` is element ``i`` of every array of a ``.npz`` file.

    What ``numpy.savez`` wrote is mapped into memory, so that only rows in use are read; what ``savez_compressed`` wrote is unpacked into
    memory when it is opened. Arrays named ``train_images``, ``test_labels`` or ``x_test`` are parts, whose variables are ``image``, ``label`` and ``x``.
    A row of one number, ``(N, 1)``, is that number, and one of a single vector, ``(N, 1, D)``, that vector; a number that is NaN is none.

    Args:
        path: of the file.
        arrays: which of its arrays, by their own names; by default those of the part, or those as long as the longest.
        part: ``"train"``, ``"validation"`` or ``"test"``, where the arrays' names say which; ``"all"`` for one after the other.

    Attributes:
        notes: which arrays were left out, for a person.

    Raises:
        RequestError: no such file, a damaged one, no such array or part, or arrays of different lengths.
    """

    def __init__(self, path: str | Path, *, arrays: Sequence[str] | None = None, part: str = "train") -> None:
        self.path = existing(path, "npz")
        self._arguments = {"path": self.path, "arrays": arrays, "part": part}
        self.notes: list[str] = []
        headers = _headers(self.path)
        for name in arrays or ():
            if name not in headers:
                expected = f"arrays of {self.path} among {', '.join(headers)}, not {name!r}"
                raise OptionError("npz", "arrays", list(arrays or ()), expected)
        parts = by_part(_lengths(headers)) if arrays is None else {}
        asked = asked_parts(self.path, parts, part, "npz", "arrays such as train_images and val_images")
        self._sets: list[tuple[str, dict[str, np.ndarray]]] = []
        for name in asked:
            chosen = parts[name] if name else self._chosen(headers, arrays)
            self._sets.append((name, {variable: self._open(headers[array]) for variable, array in chosen.items()}))
        self._starts = np.cumsum([0, *(len(next(iter(one.values()))) for _, one in self._sets)])
        if not len(self):
            raise RequestError(f"npz: found no row of {part} in {self.path}, expected at least one")
        self.names = tuple(dict.fromkeys(name for _, one in self._sets for name in one))

    @classmethod
    def parts(cls, path: str | Path, arrays: Any = None, **_: Any) -> tuple[str, ...]:
        """The parts that the arrays' names say."""
        return tuple(by_part(_lengths(_headers(existing(path, "npz"))))) if arrays is None else ()

    def _chosen(self, headers: Mapping[str, "_Header"], arrays: Sequence[str] | None) -> dict[str, str]:
        lengths = _lengths(headers)
        rows = max((lengths[name] for name in (headers if arrays is None else arrays)), default=0)
        if arrays is None:
            left = [f"{name} of {n}" for name, n in lengths.items() if n != rows]
            if left and rows:
                self.notes.append(f"arrays not of {rows} rows are left out: {', '.join(left)}")
            arrays = [name for name, n in lengths.items() if n == rows]
        if not rows or {lengths[name] for name in arrays} != {rows}:
            found = ", ".join(f"{name} of {lengths[name]}" for name in arrays) or "no row"
            raise RequestError(f"npz: found {found} in {self.path}, expected arrays of one length, at least 1")
        return {name: name for name in arrays}

    def _open(self, header: "_Header") -> np.ndarray:
        if header.dtype.hasobject:
            raise RequestError(
                f"npz: {self.path} has objects in {header.member.filename}, expected numbers, booleans or texts"
            )
        if header.packed:
            try:
                with zipfile.ZipFile(self.path) as archive, archive.open(header.member) as file:
                    return rows_of(np.lib.format.read_array(file, allow_pickle=False))
            except Exception as error:  # zipfile and numpy raise many kinds
                raise _unreadable(self.path, error) from error
        if not math.prod(header.shape):
            return np.empty(header.shape, header.dtype)
        order = "F" if header.fortran else "C"
        try:
            return rows_of(np.memmap(self.path, header.dtype, "r", header.start, header.shape, order))
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from error

    def __reduce__(self) -> Any:
        return functools.partial(type(self), **self._arguments), ()  # a mapped file pickles as all of its data

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, index: int) -> tuple[str, dict[str, np.ndarray], int]:
        which = int(np.searchsorted(self._starts, index, "right")) - 1
        return *self._sets[which], index - int(self._starts[which])

    def __getitem__(self, index: int) -> Row:
        _, arrays, row = self._at(index)
        return {name: value_of(array[row]) for name, array in arrays.items()}

    def column(self, name: str) -> Sequence[Any]:
        values: list[Any] = []
        for _, arrays in self._sets:
            if name in arrays:
                values += [value_of(value) for value in arrays[name]]
            else:
                values += [None] * len(next(iter(arrays.values())))
        return values

    def where(self, index: int) -> str:
        part, _, row = self._at(index)
        return f"{self.path.name} {part}{' ' if part else ''}row {row}"

    def key(self, index: int) -> str:
        part, _, row = self._at(index)
        return f"{part}/{row}" if part else str(row)


@attrs.frozen
class _Header:
    """What an array's file says of itself.

    Attributes:
        member: of the archive.
        shape: of the array.
        fortran: whether its first axis is the inner one.
        dtype: of its elements.
        start: where they begin, in the archive's file.
        packed: whether they must be unpacked.
    """

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int
    packed: bool


_READ = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _headers(path: Path) -> dict[str, _Header]:
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
            return {one.filename.removesuffix(".npy"): _header(archive, raw, one) for one in members}
    except Exception as error:  # zipfile and numpy raise many kinds
        raise _unreadable(path, error) from error


def _header(archive: zipfile.ZipFile, raw: Any, member: zipfile.ZipInfo) -> _Header:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ:
            with archive.open(member) as whole:  # of names that are not Latin
                array = np.lib.format.read_array(whole, allow_pickle=False)
            return _Header(member, array.shape, False, array.dtype, 0, True)
        shape, fortran, dtype = _READ[version](file)
        start = file.tell()
    # The local header's own name and extra field may differ in length from the directory's.
    raw.seek(member.header_offset)
    skip = 30 + sum(struct.unpack("<HH", raw.read(30)[26:30]))
    packed = member.compress_type != zipfile.ZIP_STORED
    return _Header(member, shape, fortran, dtype, member.header_offset + skip + start, packed)


def _lengths(headers: Mapping[str, _Header]) -> dict[str, int]:
    return {name: header.shape[0] if header.shape else 0 for name, header in headers.items()}


def _unreadable(path: Path, error: Exception) -> RequestError:
    return RequestError(f"npz: found {path} unreadable ({error}), expected what numpy.savez writes")
