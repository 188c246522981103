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

from mmcore import files
from mmcore.data.npy import characters, npy_header
from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.arrays import Stored, by_part, rows_of, value_of
from mmcore.data.sources.layout import asked_parts
from mmcore.errors import OptionError, RequestError
from mmcore.limits import UNPACKED


class Npz(Source):
    """Row ``i`` is element ``i`` of every array of a ``.npz`` file.

    Of what ``numpy.savez`` wrote only rows in use are read; what ``savez_compressed`` wrote is unpacked into
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
        self._sets: list[tuple[str, dict[str, Any]]] = []
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
                turned = [name for name, n in lengths.items() if n != rows and headers[name].shape[-1:] == (rows,)]
                if turned:
                    self.notes.append(
                        f"{turned[0]}: its last axis is of {rows}: save np.moveaxis({turned[0]}, -1, 0), if that counts the rows"
                    )
            arrays = [name for name, n in lengths.items() if n == rows]
        if not rows or {lengths[name] for name in arrays} != {rows}:
            found = ", ".join(f"{name} of {lengths[name]}" for name in arrays) or "no row"
            raise RequestError(f"npz: found {found} in {self.path}, expected arrays of one length, at least 1")
        return {name: name for name in arrays}

    def _open(self, header: "_Header") -> Any:
        if header.dtype.hasobject:
            raise RequestError(
                f"npz: {self.path} has objects in {header.member.filename}, expected numbers, booleans or texts: save texts as x.astype(str), and leave "
                "out what is none"
            )
        if header.packed:
            return rows_of(_unpacked(self.path, header))
        if not math.prod(header.shape):
            return np.empty(header.shape, header.dtype)
        try:
            return rows_of(Stored(self.path, header.dtype, header.start, header.shape))
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def __reduce__(self) -> Any:
        return functools.partial(type(self), **self._arguments), ()  # a worker opens the file itself

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, index: int) -> tuple[str, dict[str, Any], int]:
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
        dtype: of its elements.
        start: where they begin, in the archive's file.
        packed: whether they must be read all at once: they are compressed, or their first axis is the inner one.
    """

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    packed: bool


def _headers(path: Path) -> dict[str, _Header]:
    try:
        with files.Bounded(path) as raw, zipfile.ZipFile(raw) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
            return {one.filename.removesuffix(".npy"): _header(archive, raw, one) for one in members}
    except Exception as error:  # zipfile and numpy raise many kinds
        raise _unreadable(path, error) from error


def _header(archive: zipfile.ZipFile, raw: Any, member: zipfile.ZipInfo) -> _Header:
    with archive.open(member) as file:
        header = npy_header(file)  # type: ignore[arg-type]
        if header is None:
            array = _read_member(archive, member)  # of names that are not Latin
            return _Header(member, array.shape, array.dtype, 0, True)
        shape, fortran, dtype = header
        start = file.tell()
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and (min(shape, default=0) < 0 or start + promised > member.file_size):
        raise ValueError(f"{member.filename} has {member.file_size} bytes, its header tells of {start + promised}")
    # The local header's own name and extra field may differ in length from the directory's.
    raw.seek(member.header_offset)
    skip = 30 + sum(struct.unpack("<HH", raw.read(30)[26:30]))
    packed = member.compress_type != zipfile.ZIP_STORED or fortran
    return _Header(member, shape, dtype, member.header_offset + skip + start, packed)


def words_of(path: str | Path, name: str) -> list[str]:
    """The texts of one array; none where it is no list of texts, or there is none."""
    header = _headers(Path(path)).get(name)
    if header is None or header.dtype.kind != "U" or len(header.shape) != 1:
        return []
    return [str(word) for word in _unpacked(Path(path), header)]


def _unpacked(path: Path, header: _Header) -> np.ndarray:
    try:
        with files.Bounded(path) as raw, zipfile.ZipFile(raw) as archive:
            return _read_member(archive, header.member)
    except Exception as error:  # zipfile and numpy raise many kinds
        raise _unreadable(path, error) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if too_long := UNPACKED.excess(member.file_size):
        raise ValueError(f"{member.filename} unpacks to {too_long}")
    with archive.open(member) as file:
        return characters(np.lib.format.read_array(file, allow_pickle=False))


def _lengths(headers: Mapping[str, _Header]) -> dict[str, int]:
    return {name: header.shape[0] if header.shape else 0 for name, header in headers.items()}


def _unreadable(path: Path, error: Exception) -> RequestError:
    return RequestError(f"npz: found {path} unreadable ({error}), expected what numpy.savez writes")
