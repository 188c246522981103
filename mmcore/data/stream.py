"""Streams: rows that come in an order of their own, with a state to go on from. Importing this module imports no torch."""

import contextlib
import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmcore.data.source import InShort, Row, Rows, Source, classes_of
from mmcore.errors import RequestError

SPAN = 1 << 40
"""More rows than an epoch has."""


class Stream(InShort, ABC):
    """Rows that are read one after the other, as of files that are too many or too large for an index, by epochs and by shares.

    A subclass has :meth:`chunks`. It is given to :func:`mmcore.fit` or :class:`mmcore.data.Dataset` as an object; offered by the hook
    ``mmcore_sources``, it is the ``source`` of a configuration. The state of a training holds that of its stream, so that it goes on to
    the same rows. Rows are shuffled here, ``buffer`` at a time: a block of so many is put in an order that seed, epoch and place decide, so that a state
    needs no row, and going on reads one block again.

    Attributes:
        buffer: how many rows are shuffled together; 1 keeps the stream's order.
        head: how many of its first rows are looked at where rows are asked for by number: to measure, to compare, to show, and as held-out rows.
        title: what messages call it, such as the name of its folder.
        fingerprint: a text that is another one where the files are others, such as a digest of their names and sizes; empty where that is not known.
        names: its columns, where they are known.
        classes: the names of the classes that a column's whole numbers or texts are, by column, where the data hold them.
        notes: how the data were read where that is not plain, a line each.
    """

    buffer: int = 4096
    head: int = 1024
    title: str = "stream"
    fingerprint: str = ""
    names: Any = None
    classes: Any = {}
    notes: Any = ()

    @abstractmethod
    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[Sequence[Row], Any]]:
        """One epoch's rows, a few at a time, and with each few the state from which the next ones come.

        Args:
            epoch: from 0 on.
            seed: of the order of files, where they are shuffled: by seed and epoch alone.
            rank: whose share is read; every row of an epoch is in one share.
            ranks: how many shares there are.
            state: one that came with some rows of the same epoch, seed and share, through JSON: what is read comes after those rows.

        Raises:
            RequestError: a file that cannot be read; what was found and what was expected.
        """

    def _counted(self) -> str:
        return f"{self.title}, a stream"

    def __iter__(self) -> Iterator[Row]:
        with contextlib.closing(self.chunks(0)) as chunks:  # type: ignore[type-var]  # a generator
            for rows, _ in chunks:
                yield from rows


class Head(Source):
    """A stream's first rows, where rows are asked for by number, and the stream behind them.

    Args:
        stream: whose rows they are.
        limit: read so many at most, and let the stream go: they are all rows there are.

    Attributes:
        stream: what a training reads; None where it reads the rows here.
        whole: whether the stream has no more rows.

    Raises:
        RequestError: the stream has no row.
    """

    def __init__(self, stream: Stream, limit: int | None = None) -> None:
        self.stream = stream if limit is None else None
        self.names, self.classes, self.notes = stream.names, stream.classes, stream.notes
        most = stream.head if limit is None else limit
        rows = [dict(row) for row in itertools.islice(iter(stream), most + 1)]
        self.rows, self.whole = rows[:most], len(rows) <= most
        self.title = stream.title
        if not rows:
            raise RequestError("data: found a stream without a row, expected one at least")

    def kept(self) -> "Head":
        """The same rows as all that there are, without the stream."""
        made = copy.copy(self)
        made.stream = None
        return made

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def where(self, index: int) -> str:
        return f"{self.title} row {index}"


class Window(Source):
    """The rows of one batch of a stream, by their numbers in their epoch.

    Args:
        head: of the same stream.
    """

    def __init__(self, head: Head) -> None:
        self.names, self.classes, self.notes = head.names, classes_of(head), head.notes
        self.title, self.epoch, self.rows = head.title, 0, dict[int, Row]()

    def hold(self, epoch: int, rows: Mapping[int, Row]) -> None:
        """Hold these rows, and no others."""
        self.epoch, self.rows = epoch, dict(rows)

    def __len__(self) -> int:
        return SPAN

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def where(self, index: int) -> str:
        return f"{self.title} epoch {self.epoch} row {index}"


def head_of(source: Any) -> Head | None:
    """The head of the stream that a source's rows come from, through what renames columns; None where they come from no stream."""
    while source is not None and not isinstance(source, Head):
        # Some rows of a head, by number, are those rows and no stream.
        source = None if hasattr(source, "indices") else getattr(source, "source", None)
    return source if source is not None and source.stream is not None else None


def over(source: Source, bottom: Source) -> Source:
    """A source made anew over other rows: the same columns of them."""
    if isinstance(source, Head):
        return bottom
    made: Any = copy.copy(source)
    made.source = over(made.source, bottom)
    return made


def as_source(rows: Iterable[Row]) -> Source:
    """``rows`` if it is a source, else one of them; of a stream its first rows, with the stream behind them."""
    if isinstance(rows, Stream):
        return Head(rows)
    return rows if isinstance(rows, Source) else Rows(rows)
