"""Tar files in WebDataset's layout: the members of one row share their name up to the first dot."""

import glob
import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmcore.data.decode import IMAGES, Encoded, decode
from mmcore.data.source import LazyRow, Row, Source
from mmcore.data.sources.files import is_stray, normal, shown
from mmcore.errors import OptionError, RequestError
from mmcore.options import one_of, require

_COLUMNS = {**dict.fromkeys(IMAGES, "image"), ".cls": "label", ".txt": "text", ".npy": "array"}
_OPEN = 64


class Shards(Source):
    """Rows of tar files, which must not be compressed: their headers are read once, then each member at its place.

    ``000012.mask.png`` is row ``000012``'s ``mask``. A name with one suffix tells by it: images are ``image``, ``.cls`` is ``label``, ``.txt``
    is ``text``, ``.npy`` is ``array``, and a ``.json`` object's names are variables of their own. The members of a row may lie anywhere, in other
    shards too; a second one for the same variable is refused. What systems leave (``._000012.png``, ``__MACOSX``) is passed over.

    Args:
        path: a folder of ``.tar`` files, one file, or a pattern such as ``"data/train-*.tar"`` or ``"data/train-{000..012}.tar"``.
        keys: ``"all"``, if a key is one row over all shards; ``"shard"``, if each shard numbers its rows anew.

    Raises:
        RequestError: no such file, a compressed or damaged one, no row, or a member for a variable that its row has already.
    """

    def __init__(self, path: str | Path, *, keys: str = "all") -> None:
        require("shards", keys=(keys, one_of("all", "shard")))
        self.shards = _find(Path(path).expanduser())
        if not self.shards:
            raise OptionError(
                "shards", "path", str(path), f".tar files, a folder of them or a pattern, found no file at {path}"
            )
        columns: dict[str, int] = {}
        suffixes: dict[str, int] = {}
        rows: dict[str, int] = {}
        taken = set[int]()
        # Packed, as of a million members Python's own numbers would be much of the memory.
        members = array("q")  # row, column, shard, offset, size, suffix of each
        for number, shard in enumerate(self.shards):
            for member in _members(shard):
                words = [word for word in normal(member.name).split("/") if word not in ("", ".")]
                stem, _, rest = words[-1].partition(".") if words else ("", "", "")
                if not rest or any(map(is_stray, words)):
                    continue
                key = "/".join([*([shard.stem] if keys == "shard" else []), *words[:-1], stem])
                name, suffix = _column(rest)
                row, column = rows.setdefault(key, len(rows)), columns.setdefault(name, len(columns))
                if (place := row << 16 | column) in taken:
                    raise RequestError(
                        f"shards: found {shown(member.name)} for {name or 'JSON'} again in {shard}, expected one member for each variable of a row; "
                        'keys = "shard" takes each shard\'s keys for its own, and another suffix, such as .mask.png, is another variable'
                    )
                taken.add(place)
                members.extend((row, column, number, member.offset_data, member.size))
                members.append(suffixes.setdefault(suffix, len(suffixes)))
        if not rows:
            raise RequestError(f"shards: found no member such as 000012.png in {path}, expected at least one row")
        self.columns, self.suffixes, self.keys = tuple(columns), tuple(suffixes), list(rows)
        self._places = np.full((len(rows), len(columns), 4), -1, dtype=np.int64)
        table = np.frombuffer(members, dtype=np.int64).reshape(-1, 6)
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
        shard, offset, size, kind = self._places[index, column].tolist()
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

    def has(self, name: str) -> Sequence[bool] | None:
        if self._json is not None:
            return None
        if name not in self.columns:
            return [False] * len(self)
        return (self._places[:, self.columns.index(name), 0] >= 0).tolist()

    def where(self, index: int) -> str:
        return f"{self.shards[self._places[index, :, 0].max()].name} member {shown(self.keys[index])}"

    def key(self, index: int) -> str:
        return self.keys[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        for file in (
            self.__dict__.get("_files", {}).values() if os is not None else ()
        ):  # None when the interpreter ends
            os.close(file)


def _find(at: Path) -> list[Path]:
    """The shards at a path; a pattern's signs count only where no file or folder is called so."""
    if at.is_dir():
        return sorted(one for one in at.glob("*.tar") if not is_stray(one.name))
    if at.exists():
        return [at]
    there = at
    while there != there.parent and not there.is_dir():
        there = there.parent
    found: dict[Path, None] = {}
    for rest in _braces(os.path.relpath(at, there)):
        matching = glob.glob(os.path.join(glob.escape(str(there)), rest))
        found |= dict.fromkeys(Path(one) for one in sorted(matching) if os.path.isfile(one))
    return list(found)


def _braces(pattern: str) -> Iterator[str]:
    """A pattern with every number of its ``{000..012}`` and every word of its ``{a,b}`` in their place, as shells and WebDataset read it."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        yield pattern
        return
    first, last, words = match.groups()
    if words is None:
        words = ",".join(str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    for word in words.split(","):
        yield from _braces(pattern[: match.start()] + word + pattern[match.end() :])


def _members(shard: Path) -> Any:
    try:
        with tarfile.open(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header
                if member.issparse():
                    raise RequestError(
                        f"shards: found {member.name} with holes in {shard}, expected members in one piece"
                    )
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
