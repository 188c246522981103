"""IDX files, MNIST's format, gzipped or not."""

import functools
import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore import files
from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.arrays import Stored, rows_of, value_of
from mmcore.errors import MISSING, OptionError, RequestError
from mmcore.limits import UNPACKED

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_RATIO = 1032
"""Nothing that gzip packs becomes smaller than by this factor."""
_PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> Any:
    """The array of an IDX file; read row by row unless it is gzipped.

    Raises:
        RequestError: the file is no IDX file, or ends early.
    """
    packed = path.suffix == ".gz"
    try:
        with files.opened(path) as raw, gzip.open(raw) if packed else raw as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
                raise RequestError(
                    f"idx: found {path} to begin with {head.hex(' ') or 'nothing'}, expected an IDX file"
                )
            dims = file.read(4 * head[3])
            shape = tuple(int(n) for n in np.frombuffer(dims[: len(dims) // 4 * 4], ">u4"))
            dtype = np.dtype(_TYPES[head[2]])
            size = math.prod(shape) * dtype.itemsize
            length = files.size(raw)
            if packed:
                if too_long := UNPACKED.excess(size):
                    raise OSError(f"it unpacks to {too_long}")
                if size > _RATIO * length:
                    raise OSError(f"its {length} bytes cannot hold the {size} that its header tells of")
            data = file.read(size) if packed else b""
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"idx: found {path} unreadable ({error}), expected an IDX file") from error
    found = len(data) if packed else length - 4 - len(dims)
    if len(shape) != head[3] or found < size:
        raise RequestError(
            f"idx: found {found} bytes of data in {path}, expected {size} for {' × '.join(map(str, shape))}"
        )
    if packed:
        array = np.frombuffer(data, dtype).reshape(shape)
    else:
        array = Stored(path, dtype, 4 + len(dims), shape) if size and shape else np.empty(shape, dtype)
    return array


class Idx(Source):
    """Images and labels from a pair of IDX files.

    Args:
        path: a folder with files named as MNIST's are (``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` …, with ``.gz`` or not).
        part: ``"train"`` or ``"test"`` of that folder; ``"all"`` for one after the other, of those that are there. Files given by ``files`` are one whole.
        files: in place of ``path``, the IDX file of every column, such as ``{image = "a.idx", label = "b.idx"}``.

    Raises:
        RequestError: no such file, a damaged one, or files of different lengths.
    """

    def __init__(
        self, path: str | Path | None = None, *, part: str = "train", files: dict[str, str | Path] | None = None
    ) -> None:
        self._arguments = {"path": path, "part": part, "files": files}
        if (path is None) == (files is None):
            found = MISSING if path is None else path
            raise OptionError(
                "idx", "path", found, 'either path, a folder, or files, such as {image = "a.idx"}', beside=("files",)
            )
        if part not in (*_PREFIX, "all"):
            raise OptionError("idx", "part", part, choices=(*_PREFIX, "all"))
        if files is not None:
            if part not in ("train", "all"):
                mend = f"split.{part} holds rows out"
                raise OptionError(
                    "idx", "part", part, "train or all, as files are one whole", mend=mend, beside=("files",)
                )
            sets = [{name: existing(file, "idx", f"files.{name}") for name, file in files.items()}]
        else:
            folder = existing(path or "", "idx", folder=True)
            asked = (self.parts(folder) or _PREFIX) if part == "all" else (part,)
            sets = [_pair(folder, one) for one in asked]
        self._sets = [
            ({name: rows_of(read_idx(at)) for name, at in one.items()}, next(iter(one.values())).name) for one in sets
        ]
        for arrays, _ in self._sets:
            lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
            if len(set(lengths.values())) != 1 or 0 in lengths.values():
                what = ", ".join(f"{name} of {n}" for name, n in lengths.items())
                raise RequestError(f"idx: found {what} rows, expected files of one length, at least 1")
        self._starts = np.cumsum([0, *(len(next(iter(arrays.values()))) for arrays, _ in self._sets)])
        self.names = tuple(self._sets[0][0])

    @classmethod
    def parts(cls, path: str | Path | None = None, files: Any = None, **_: Any) -> tuple[str, ...]:
        """The parts whose files are there."""
        if path is None or files is not None:
            return ()
        folder = existing(path, "idx", folder=True)
        return tuple(part for part, prefix in _PREFIX.items() if any(folder.glob(f"{prefix}*idx*")))

    def _at(self, index: int) -> tuple[dict[str, Any], str, int]:
        which = int(np.searchsorted(self._starts, index, "right")) - 1
        return *self._sets[which], index - int(self._starts[which])

    def __reduce__(self) -> Any:
        # For a worker that is started anew: it opens the files itself.
        return functools.partial(type(self), **self._arguments), ()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Row:
        arrays, _, row = self._at(index)
        return {name: value_of(array[row]) for name, array in arrays.items()}

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            return [None] * len(self)
        return [value_of(value) for arrays, _ in self._sets for value in arrays[name]]

    def where(self, index: int) -> str:
        _, file, row = self._at(index)
        return f"{file} row {row}"


def _pair(folder: Path, part: str) -> dict[str, Path]:
    pair = {}
    for name in ("image", "label"):
        found = sorted(folder.glob(f"{_PREFIX[part]}*{name}s*idx*"))
        if not found:
            there = ", ".join(sorted(at.name for at in folder.iterdir())[:6]) or "nothing"
            raise RequestError(
                f"idx: found {there} in {folder}, expected {_PREFIX[part]}-{name}s-idx…-ubyte (with .gz or not), or give files"
            )
        pair[name] = found[0]
    return pair
