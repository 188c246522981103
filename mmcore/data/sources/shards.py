"""Tar files in WebDataset's layout: the members of one row follow one another and share their name up to the first dot."""

import glob
import os
import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmcore.data.decode import IMAGES, Encoded, decode
from mmcore.data.source import LazyRow, Row, Source
from mmcore.errors import OptionError, RequestError

_COLUMNS = {**dict.fromkeys(IMAGES, "image"), ".cls": "label", ".txt": "text", ".npy": "array"}
_OPEN = 64


class Shards(Source):
    """Rows of tar files, which must not be compressed: their headers are read once, then each member at its place.

    ``000012.mask.png`` is row ``000012``'s ``mask``. A name with one suffix tells by it: images are ``image``, ``.cls`` is ``label``, ``.txt``
    is ``text``, ``.npy`` is ``array``, and a ``.json`` object's names are variables of their own.

    Args:
        path: a folder of ``.tar`` files, one file, or a pattern such as ``"data/train-*.tar"``.

    Raises:
        RequestError: no such file, a compressed or damaged one, or no row.
    """

    def __init__(self, path: str | Path) -> None:
        at = Path(path).expanduser()
        self.shards = sorted(at.glob("*.tar")) if at.is_dir() else [Path(p) for p in sorted(glob.glob(str(at)))]
        if not self.shards:
            raise OptionError(
                "shards", "path", str(path), f".tar files, a folder of them or a pattern, found no file at {at}"
            )
        columns: dict[str, int] = {}
        suffixes: dict[str, int] = {}
        keys: list[str] = []
        # Packed, as of a million members Python's own numbers would be much of the memory.
        shard_of = array("i")
        members = array("q")  # row, column, offset, size, suffix of each
        for number, shard in enumerate(self.shards):
            last, taken = None, set[str]()
            for member in _members(shard):
                folder, name = os.path.split(member.name)
                stem, _, rest = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not rest:
                    continue
                if key != last:
                    last, taken = key, set()
                    keys.append(key)
                    shard_of.append(number)
                column, suffix = _column(rest)
                if column in taken:
                    raise RequestError(
                        f"shards: found {member.name} for {column or 'JSON'} again in {shard}, expected one member for each variable of a row"
                    )
                taken.add(column)
                place = columns.setdefault(column, len(columns)), member.offset_data, member.size
                members.extend((len(keys) - 1, *place, suffixes.setdefault(suffix, len(suffixes))))
        if not keys:
            raise RequestError(f"shards: found no member such as 000012.png in {at}, expected at least one row")
        self.columns, self.suffixes = tuple(columns), tuple(suffixes)
        self.keys, self._shard_of = keys, np.asarray(shard_of, dtype=np.int32)
        self._places = np.full((len(keys), len(columns), 3), -1, dtype=np.int64)
        table = np.frombuffer(members, dtype=np.int64).reshape(-1, 5)
        self._places[table[:, 0], table[:, 1]] = table[:, 2:]
        self._json = columns.get("")
        # A .json member's names are known only when it is read.
        self.names = None if self._json is not None else self.columns
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Row:
        places = self._places[index]
        here = {name: k for k, name in enumerate(self.columns) if name and places[k, 0] >= 0}
        values: dict[str, Any] = {}
        if self._json is not None and places[self._json, 0] >= 0:
            values = decode(self._read(index, self._json))
            if not isinstance(values, dict):
                raise RequestError(f"found {type(values).__name__} in a .json member, expected an object")
        return LazyRow({**values, **here}, lambda name: self._read(index, here[name]) if name in here else values[name])

    def _read(self, index: int, column: int) -> Any:
        shard, (offset, size, kind) = int(self._shard_of[index]), self._places[index, column].tolist()
        data = os.pread(self._open(shard), size, offset)
        if len(data) < size:
            raise RequestError(
                f"found {len(data)} of {size} bytes: {self.shards[shard]} has been cut since it was opened"
            )
        suffix = self.suffixes[kind]
        # Small kinds are needed as they are by filters and splits.
        return decode(Encoded(data, suffix)) if suffix in (".cls", ".txt") else Encoded(data, suffix)

    def _open(self, shard: int) -> int:
        if shard not in self._files:
            if len(self._files) >= _OPEN:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[shard] = os.open(self.shards[shard], os.O_RDONLY)
        return self._files[shard]

    def column(self, name: str) -> Sequence[Any]:
        if self._json is None and name not in self.columns:
            return [None] * len(self)
        return super().column(name)

    def where(self, index: int) -> str:
        return f"{self.shards[int(self._shard_of[index])].name} member {self.keys[index]}"

    def key(self, index: int) -> str:
        return self.keys[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        for file in (
            self.__dict__.get("_files", {}).values() if os is not None else ()
        ):  # None when the interpreter ends
            os.close(file)


def _members(shard: Path) -> Any:
    try:
        with tarfile.open(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header
                if member.isfile():
                    yield member
            end = os.path.getsize(shard)
            if archive.offset > end:
                raise RequestError(f"shards: found {shard} cut at {end} bytes, expected {archive.offset} at least")
    except (tarfile.TarError, OSError) as error:
        raise RequestError(
            f"shards: found {shard} unreadable ({error}), expected a .tar file that is not compressed"
        ) from error


def _column(rest: str) -> tuple[str, str]:
    """A member's variable and the suffix of its kind, from what follows the first dot of its name; no variable for JSON."""
    name, dot, suffix = rest.rpartition(".")
    suffix = f".{suffix.lower()}"
    if dot:
        return name, suffix
    if suffix == ".json":
        return "", suffix
    return _COLUMNS.get(suffix, PurePosixPath(rest).name), suffix
