"""Arrays of one ``.npz`` file, a row from each."""

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore.data.source import Row, Source, existing
from mmcore.errors import OptionError, RequestError


class Npz(Source):
    """Row ``i`` is element ``i`` of every array of a ``.npz`` file.

    What ``numpy.savez`` wrote is mapped into memory, so that only rows in use are read; what ``savez_compressed`` wrote is unpacked into
    memory when it is opened.

    Args:
        path: of the file.
        arrays: which of its arrays; by default those as long as the longest.

    Raises:
        RequestError: no such file, a damaged one, no such array, or arrays of different lengths.
    """

    def __init__(self, path: str | Path, *, arrays: Sequence[str] | None = None) -> None:
        self.path = existing(path, "npz")
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = {
                    i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")
                }
                for name in arrays or ():
                    if name not in members:
                        expected = f"arrays of {self.path} among {', '.join(members)}, not {name!r}"
                        raise OptionError("npz", "arrays", list(arrays or ()), expected)
                found = {name: self._open(archive, members[name]) for name in (members if arrays is None else arrays)}
        except RequestError:
            raise
        except Exception as error:  # zipfile and numpy raise many kinds
            raise RequestError(
                f"npz: found {self.path} unreadable ({error}), expected what numpy.savez writes"
            ) from error
        rows = max((len(array) for array in found.values() if array.ndim), default=0)
        if arrays is None:
            found = {name: array for name, array in found.items() if array.ndim and len(array) == rows}
        lengths = {name: len(array) if array.ndim else 0 for name, array in found.items()}
        if not rows or set(lengths.values()) != {rows}:
            what = ", ".join(f"{name} of {n}" for name, n in lengths.items()) or "no row"
            raise RequestError(f"npz: found {what} in {self.path}, expected arrays of one length, at least 1")
        self.arrays, self.names = found, tuple(found)

    def _open(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
                version
            )
            if member.compress_type != zipfile.ZIP_STORED or header is None:
                with archive.open(member) as whole:
                    return np.lib.format.read_array(whole, allow_pickle=False)
            shape, fortran, dtype = header(file)
            start = file.tell()
        if dtype.hasobject:
            raise RequestError(
                f"npz: {self.path} has objects in {member.filename}, expected numbers, booleans or texts"
            )
        with self.path.open("rb") as raw:
            raw.seek(member.header_offset)
            local = raw.read(30)
        # The local header's own name and extra field, which may differ in length from the directory's.
        skip = 30 + sum(struct.unpack("<HH", local[26:30])) + start
        if not np.prod(shape):
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        return np.memmap(self.path, dtype, "r", member.header_offset + skip, shape, order)

    def __reduce__(self) -> Any:
        return _again, (self.path, list(self.arrays))  # a mapped file pickles as all of its data

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Row:
        return {name: _value(array[index]) for name, array in self.arrays.items()}

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.arrays:
            return [None] * len(self)
        return [_value(value) for value in self.arrays[name]]

    def where(self, index: int) -> str:
        return f"{self.path.name} row {index}"


def _again(path: Path, arrays: list[str]) -> Npz:
    return Npz(path, arrays=arrays)


def _value(value: Any) -> Any:
    """Numbers and texts as Python's own; arrays as views."""
    return value.item() if isinstance(value, np.generic) else np.asarray(value)
