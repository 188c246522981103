"""Tar files in WebDataset's layout: the members of one row share their name up to the first dot."""

import contextlib
import glob
import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmcore import files
from mmcore.data.decode import IMAGES, Encoded, decode
from mmcore.data.options import PARTS
from mmcore.data.source import LazyRow, Row, Source
from mmcore.data.sources.files import is_stray, normal, part_and_rest, part_of, shown
from mmcore.data.sources.layout import asked_parts
from mmcore.errors import OptionError, RequestError
from mmcore.files import expanded
from mmcore.limits import FILE
from mmcore.options import one_of, require

_COLUMNS = {**dict.fromkeys(IMAGES, "image"), ".cls": "label", ".txt": "text", ".npy": "array"}
_OPEN = 64
_MOST = 256
_DOTTED = 8
"""Variables, beyond two for each row, from which on dots are in the keys."""


class Shards(Source):
    """Rows of tar files, which must not be compressed: their headers are read once, then each member at its place.

    ``000012.mask.png`` is row ``000012``'s ``mask``. A name with one suffix tells by it: images are ``image``, ``.cls`` is ``label``, ``.txt``
    is ``text``, ``.npy`` is ``array``, and a ``.json`` object's names are variables of their own. The members of a row may lie anywhere, in other
    shards too; a second one for the same variable is refused. What systems leave (``._000012.png``, ``__MACOSX``) is passed over.
    Shards called ``train-000.tar`` and ``val-000.tar``, or in folders of such names, are parts.

    Args:
        path: a folder of ``.tar`` files, one file, or a pattern such as ``"data/train-*.tar"`` or ``"data/train-{000..012}.tar"``.
        part: ``"train"``, ``"validation"`` or ``"test"``, where the shards say which; ``"all"`` for one after the other.
        keys: ``"all"``, if a key is one row over all shards; ``"shard"``, if each shard numbers its rows anew.

    Raises:
        RequestError: no such file, a compressed or damaged one, no row, or a member for a variable that its row has already.
    """

    def __init__(self, path: str | Path, *, part: str = "train", keys: str = "all") -> None:
        require("shards", keys=(keys, one_of("all", "shard")))
        found = _find(expanded(path))
        if not found:
            raise OptionError(
                "shards", "path", str(path), f".tar files, a folder of them or a pattern, found no file at {path}"
            )
        parts = _parts(found)
        asked = asked_parts(Path(path), parts, part, "shards", "shards called train-… and val-…")
        self.shards = [shard for name in asked for shard in (parts[name] if name else found)]
        start = {shard: [name] for name, some in parts.items() for shard in some} if len(parts) > 1 else {}
        columns: dict[str, int] = {}
        suffixes: dict[str, int] = {}
        rows: dict[str, int] = {}
        # Packed, as of a million members Python's own numbers would be much of the memory.
        members = array("q")  # row, column, shard, offset, size, suffix of each
        for number, shard in enumerate(self.shards):
            for member in _members(shard):
                words = [word for word in normal(member.name).split("/") if word not in ("", ".")]
                stem, _, rest = words[-1].partition(".") if words else ("", "", "")
                if not rest or any(map(is_stray, words)):
                    continue
                before = [*start.get(shard, ()), *([shard.stem] if keys == "shard" else ())]
                key = "/".join([*before, *words[:-1], stem])
                name, suffix = _column(rest)
                row, column = rows.setdefault(key, len(rows)), columns.setdefault(name, len(columns))
                members.extend((row, column, number, member.offset_data, member.size))
                members.append(suffixes.setdefault(suffix, len(suffixes)))
        if not rows:
            raise RequestError(f"shards: found no member such as 000012.png in {path}, expected at least one row")
        self.columns, self.suffixes, self.keys = tuple(columns), tuple(suffixes), list(rows)
        if len(columns) > _MOST or len(columns) > 2 * len(rows) + _DOTTED:
            raise RequestError(
                f"shards: found {len(columns)} variables, such as {', '.join(map(shown, list(columns)[1:4]))}, of {len(rows)} {'row' if len(rows) == 1 else 'rows'} in {path}, "
                "expected names whose first dot ends the key, as in 000012.mask.png; write other dots as _"
            )
        self._places = np.full((len(rows), len(columns), 4), -1, dtype=np.int64)
        table = np.frombuffer(members, dtype=np.int64).reshape(-1, 6)
        self._check_once(table)
        self._places[table[:, 0], table[:, 1]] = table[:, 2:]
        self._json = columns.get("")
        # A .json member's names are known only when it is read.
        self.names = None if self._json is not None else self.columns
        self._files: dict[int, int] = {}

    @classmethod
    def parts(cls, path: str | Path, **_: Any) -> tuple[str, ...]:
        """The parts that the shards' names say."""
        return tuple(_parts(_find(expanded(path))))

    def _check_once(self, table: np.ndarray) -> None:
        """Refuse a second member for a variable of a row."""
        places = table[:, 0] * len(self.columns) + table[:, 1]
        first = np.unique(places, return_index=True)[1]
        if len(first) == len(places):
            return
        row, column, shard, _, _, suffix = table[np.setdiff1d(np.arange(len(places)), first)[0]].tolist()
        name, end = self.columns[column], self.suffixes[suffix]
        member = self.keys[row] + ("" if _COLUMNS.get(end, "") == name else f".{name}") + end
        raise RequestError(
            f"shards: found {shown(member)} for {name or 'JSON'} again in {self.shards[shard]}, expected one member for each variable of a row; "
            'keys = "shard" takes each shard\'s keys for its own, and another suffix, such as .mask.png, is another variable'
        )

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
        if too_long := FILE.excess(size):
            raise RequestError(f"found a member of {too_long}")
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
            self._files[shard] = files.descriptor(self.shards[shard])
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
        here = [at, *sorted(one for one in at.iterdir() if one.is_dir() and part_of(one.name))]
        return [one for folder in here for one in sorted(folder.glob("*.tar")) if not is_stray(one.name)]
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


def _parts(shards: Sequence[Path]) -> dict[str, list[Path]]:
    """The shards of each part, if the names of all, or of their folders, say one and some are of training."""
    parts: dict[str, list[Path]] = {}
    for shard in shards:
        parts.setdefault(part_and_rest(shard.stem)[0] or part_of(shard.parent.name), []).append(shard)
    return {part: parts[part] for part in PARTS if part in parts} if "train" in parts and "" not in parts else {}


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
        with files.Bounded(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            place = -1
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header
                # A negative size would lead back to the same header for ever.
                if member.size < 0 or archive.offset <= place:
                    raise tarfile.ReadError(f"a member of {member.size} bytes")
                place = archive.offset
                if member.issparse():
                    raise RequestError(
                        f"shards: found {shown(member.name)} with holes in {shard}, expected members in one piece"
                    )
                if member.isfile():
                    yield member
            end = files.size(file)
            if archive.offset > end:
                raise RequestError(f"shards: found {shard} cut at {end} bytes, expected {archive.offset} at least")
    except RequestError:
        raise
    except Exception as error:  # damaged headers make tarfile raise many kinds
        packed = "; it is compressed: unpack it, as gunzip does" if _begins(shard, b"\x1f\x8b") else ""
        raise RequestError(
            f"shards: found {shard} unreadable ({error}), expected a .tar file that is not compressed{packed}"
        ) from error


def _begins(shard: Path, start: bytes) -> bool:
    with contextlib.suppress(OSError), files.opened(shard) as file:
        return file.read(len(start)) == start
    return False


def _column(rest: str) -> tuple[str, str]:
    """A member's variable and the suffix of its kind, from what follows the first dot of its name; no variable for JSON."""
    name, dot, suffix = rest.rpartition(".")
    suffix = f".{suffix.lower()}"
    if dot:
        return name, suffix
    if suffix == ".json":
        return "", suffix
    return _COLUMNS.get(suffix, PurePosixPath(rest).name), suffix
