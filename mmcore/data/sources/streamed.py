"""Streams of Hugging Face's ``datasets`` library: local files read one after the other, and streams at hand."""

import copy
import hashlib
import importlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmcore.data.decode import IMAGES
from mmcore.data.source import LazyRow, Row
from mmcore.data.sources.files import files_below, part_and_rest, part_of, suffix_of
from mmcore.data.sources.layout import asked_parts
from mmcore.data.sources.saved import value_of
from mmcore.data.stream import Stream
from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.files import expanded
from mmcore.options import one_of, require, whole
from mmcore.plugins.loading import brief

_FORMATS = {
    "parquet": ("parquet.parquet:Parquet", (".parquet",)),
    "json": ("json.json:Json", (".jsonl", ".json", ".ndjson")),
    "csv": ("csv.csv:Csv", (".csv",)),
    "arrow": ("arrow.arrow:Arrow", (".arrow",)),
    "imagefolder": ("imagefolder.imagefolder:ImageFolder", IMAGES),
}
"""The library's own builder of each format, and the suffixes of its files. None fetches anything."""
_CHUNK = 256
_NEEDS = "datasets-stream: the library is not installed; pip install 'mmcore-diffusion[datasets]'"


class Streamed(Stream):
    """Rows of an ``IterableDataset`` of the library ``datasets``, with its own state.

    Each epoch has its files in another order, by seed and epoch, unless ``buffer`` is 1. A share of several is of files where their number is a multiple
    of the shares', and else every so many-th row (``datasets.distributed.split_dataset_by_node``).

    Args:
        rows: the stream, neither shuffled by ``shuffle`` nor split.
        buffer: how many rows are shuffled together.
        head: how many of the first rows are looked at by number.
        fingerprint: another one where the files are others.
        title: what messages call it.
        folder: the rows' files must lie in it; by default anywhere.

    Raises:
        RequestError: the library is not installed (extra ``mmcore-diffusion[datasets]``), the stream has no state, or loses rows of its own
            buffer in it.
    """

    def __init__(
        self,
        rows: Any,
        *,
        buffer: int = 4096,
        head: int = 1024,
        fingerprint: str = "",
        title: str = "stream",
        folder: Path | None = None,
    ) -> None:
        require("datasets-stream", buffer=(buffer, whole(1)), head=(head, whole(1)))
        library = _library()
        kind = type(rows).__name__
        if lacking := [n for n in ("state_dict", "load_state_dict", "set_epoch") if not hasattr(rows, n)]:
            raise RequestError(
                f"datasets-stream: found a {kind} without {', '.join(lacking)}: a stream without a state cannot be gone on with; expected an "
                "IterableDataset of the library datasets, or a mmcore.data.Stream of your own"
            )
        steps = _steps(rows)
        if "BufferShuffledExamplesIterable" in steps:
            raise RequestError(
                f"datasets-stream: found a {kind} that is shuffled already: its state forgets the rows in its buffer; expected one without "
                "shuffle(), as buffer = 4096 shuffles here, and keeps all rows"
            )
        self.buffer, self.head, self.fingerprint, self.title = buffer, head, fingerprint, title
        self._folder = folder
        self.features: dict[str, Any] = dict(rows.features or {})
        for name, feature in self.features.items():
            # As bytes, so that columns that are not asked for are not decoded, and errors name the row.
            if isinstance(feature, library.Image):
                rows = rows.cast_column(name, library.Image(decode=False))
        self.names = tuple(self.features) or None
        self.classes = {n: tuple(f.names) for n, f in self.features.items() if isinstance(f, library.ClassLabel)}
        # Rows that a function of the user's has made come one by one: by tables the library may leave some out when it goes on.
        self._tables = not any(step.startswith(("Mapped", "Filtered")) for step in steps)
        self._rows = rows.with_format("arrow" if self._tables else None)

    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[Sequence[Row], Any]]:
        from datasets.distributed import split_dataset_by_node

        # A copy, as the library keeps in a stream how far it has been read.
        rows: Any = copy.deepcopy(self._rows)
        if ranks > 1:
            rows = split_dataset_by_node(rows, rank=rank, world_size=ranks)
        if self.buffer > 1:
            rows.set_epoch(_number(seed, epoch))
        if state is not None:
            rows.load_state_dict(state)
        if self._tables:
            for table in rows.iter(_CHUNK):
                yield self._of_table(table), rows.state_dict()
            return
        some: list[Row] = []
        for row in rows:
            some.append(row)
            if len(some) == _CHUNK:
                yield some, rows.state_dict()
                some = []
        yield some, rows.state_dict()

    def _of_table(self, table: Any) -> list[Row]:
        """A table's rows, whose values are read as they are asked for."""
        columns: dict[str, Any] = {}

        def read(name: str, index: int) -> Any:
            if name not in columns:
                columns[name] = table.column(name).combine_chunks()
            value = value_of(columns[name][index], self.features.get(name))
            if isinstance(value, Path) and self._folder is not None and not _within(value, self._folder):
                raise RequestError(f"found a file outside {self._folder}, expected one in it, or its bytes")
            return value

        names = table.column_names
        return [LazyRow(names, partial(read, index=k)) for k in range(len(table))]


def files(
    path: str | Path, *, kind: str | None = None, part: str = "train", buffer: int = 4096, head: int = 1024
) -> Streamed:
    """Rows of local files, read one after the other: Parquet, JSON lines, CSV, Arrow, or a folder of images for each class.

    Files called ``train-000.parquet`` and ``val-000.parquet``, or in folders of such names, are parts. The files of an image folder come in an order that
    is none of their classes'.

    Args:
        path: a folder, one file, or a pattern such as ``"data/train-*.parquet"``.
        kind: ``"parquet"``, ``"json"``, ``"csv"``, ``"arrow"`` or ``"imagefolder"``; by default that of most files, by their suffixes.
        part: ``"train"``, ``"validation"`` or ``"test"``, where the files say which; ``"all"`` for one after the other.
        buffer: how many rows are shuffled together; 1 keeps the order of files and rows.
        head: how many of the first rows are looked at where rows are asked for by number, as of a held-out part.

    Raises:
        RequestError: the library is not installed (extra ``mmcore-diffusion[datasets]``), there is no such file, or one that cannot be read.
    """
    require("datasets-stream", kind=(kind, one_of(*_FORMATS, None)))
    folder, found = _find(path)
    kind, found = _of_one_kind(found, kind, path)
    parts = _parts(found, folder)
    asked = asked_parts(Path(path), parts, part, "datasets-stream", "files called train-… and val-…")
    found = [file for name in asked for file in (parts[name] if name else found)]
    if kind == "imagefolder":
        found.sort(key=lambda file: hashlib.blake2b(str(file.relative_to(folder)).encode()).digest())
    _library()
    module, _, name = _FORMATS[kind][0].partition(":")
    try:
        builder = getattr(importlib.import_module(f"datasets.packaged_modules.{module}"), name)
        with tempfile.TemporaryDirectory() as cache:
            rows = builder(cache_dir=cache, data_files={"train": [str(file) for file in found]}).as_streaming_dataset(
                "train"
            )
        return Streamed(
            rows,
            buffer=buffer,
            head=head,
            fingerprint=_fingerprint(found, folder),
            title=Path(path).name,
            folder=folder,
        )
    except MmcoreError:
        raise
    except Exception as error:  # the library raises many kinds
        raise RequestError(
            f"datasets-stream: found {path} unreadable ({brief(error)}), expected {kind} files"
        ) from error


def _files_parts(path: str | Path, *, kind: str | None = None, **_: Any) -> tuple[str, ...]:
    """The parts that the files' names say."""
    folder, found = _find(path)
    return tuple(_parts(_of_one_kind(found, kind, path)[1], folder))


files.parts = _files_parts  # type: ignore[attr-defined]


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise RequestError(_NEEDS) from error


def _steps(rows: Any) -> list[str]:
    """The kinds of the steps that a stream is made of, the last one first."""
    found, waiting = [], [getattr(rows, "_ex_iterable", None)]
    while waiting:
        step = waiting.pop()
        if step is not None:
            found.append(type(step).__name__)
            waiting += [getattr(step, "ex_iterable", None), *getattr(step, "ex_iterables", ())]
    return found


def _number(seed: int, epoch: int) -> int:
    """What the library calls the epoch: it shuffles files by that alone, and not at 0."""
    digest = hashlib.blake2b(f"{seed}\0{epoch}".encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % (1 << 31)


def _find(path: str | Path) -> tuple[Path, list[Path]]:
    """The folder of a path, and the files that it names."""
    at = expanded(path)
    if at.is_dir():
        return at.resolve(), [at.resolve() / name for name in sorted(files_below(at))]
    folder = at.parent.resolve()
    if at.exists():
        return folder, [folder / at.name]
    found = sorted(folder / one.name for one in at.parent.glob(at.name) if one.is_file()) if at.parent.is_dir() else []
    if not found:
        near = next((above for above in at.absolute().parents if above.exists()), Path("/"))
        expected = f"a folder, a file or a pattern of file names, found nothing at {at} ({near} is there); nothing is fetched from elsewhere"
        raise OptionError("datasets-stream", "path", str(path), expected)
    return folder, found


def _of_one_kind(found: Sequence[Path], kind: str | None, path: str | Path) -> tuple[str, list[Path]]:
    suffixes = {suffix: name for name, (_, some) in _FORMATS.items() for suffix in some}
    formats = [suffixes.get(suffix_of(file.name), "") for file in found]
    counts = Counter(filter(None, formats))
    chosen = kind or (counts.most_common(1)[0][0] if counts else "")
    if not counts.get(chosen):
        raise OptionError("datasets-stream", "path", str(path), f"files of {chosen or ', '.join(_FORMATS)}, found none")
    return chosen, [file for file, its in zip(found, formats, strict=True) if its == chosen]


def _parts(found: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """The files of each part, if all say one, by their folder or their name, and some are of training."""
    parts: dict[str, list[Path]] = {}
    for file in found:
        above = file.relative_to(folder).parts[:-1] if file.is_relative_to(folder) else ()
        part = next(filter(None, map(part_of, above)), "") or part_and_rest(file.stem)[0]
        parts.setdefault(part, []).append(file)
    known = {part: parts[part] for part in ("train", "validation", "test") if part in parts}
    return known if "train" in known and "" not in parts else {}


def _fingerprint(found: Sequence[Path], folder: Path) -> str:
    """Of the files' names and sizes."""
    digest = hashlib.blake2b(digest_size=16)
    for file in found:
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()


def _within(file: Path, folder: Path) -> bool:
    return Path(os.path.normpath(file)).is_relative_to(folder)
