"""Endless batches of a stream, shuffled by blocks, with a state that needs no row.

A block is the stream's next ``buffer`` rows, in an order that seed, epoch, share and place decide. The state of a loader is the stream's
own before the block, and how many of its rows were handed out: going on reads the block again, and puts it in the same order.
"""

import contextlib
import copy
import hashlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch.utils.data import Sampler

from mmcore.data.batch import BadRow, TensorBatch
from mmcore.data.batches import Batches
from mmcore.data.dataset import Dataset
from mmcore.data.decode import content
from mmcore.data.source import Row
from mmcore.data.stream import Head, Stream, Window, head_of, over
from mmcore.errors import MmcoreError, RequestError
from mmcore.plugins.loading import brief
from mmcore.rng import Rng

_IN_ORDER = 256
"""Rows of a block that keeps its order."""


@attrs.frozen
class Drawn:
    """A row of a stream, on its way to the one who reads it.

    Attributes:
        epoch: that it is of.
        number: in the epoch, in the stream's own order and over all shares.
        row: its raw values.
    """

    epoch: int
    number: int
    row: Row


@attrs.frozen
class Place:
    """Where a share of a stream is, in JSON's types.

    Attributes:
        epoch: that is read.
        before: rows of it before the block.
        taken: rows of the block that were handed out.
        state: the stream's own, at the block or some rows before it; None at an epoch's beginning.
        skip: how many rows before it.
    """

    epoch: int = 0
    before: int = 0
    taken: int = 0
    state: Any = None
    skip: int = 0


class _Draws(Sampler[list[Drawn]]):
    """One rank's rows of every batch from a place on; the place after each batch joins ``places``."""

    def __init__(self, stream: Stream, loader: "StreamLoader", places: deque[Place]) -> None:
        self.stream, self.places = stream, places
        self.seed, self.rank, self.ranks = loader.seed, loader.rank, loader.ranks
        self.share, self.start = loader.batch_size // loader.ranks, loader.place
        # A row that a worker reads must be at hand.
        self.whole = loader.workers > 0

    def __iter__(self) -> Iterator[list[Drawn]]:
        drawn: list[Drawn] = []
        for at, rows, order in self._blocks():
            for taken in range(at.taken, len(rows)):
                k = order[taken]
                row = dict(rows[k]) if self.whole else rows[k]
                drawn.append(Drawn(at.epoch, (at.before + k) * self.ranks + self.rank, row))
                if len(drawn) == self.share:
                    self.places.append(attrs.evolve(at, taken=taken + 1))
                    yield drawn
                    drawn = []

    def _blocks(self) -> Iterator[tuple[Place, list[Row], list[int]]]:
        """Blocks of rows without end, each with the place before it and its order."""
        at = self.start
        size = self.stream.buffer if self.stream.buffer > 1 else _IN_ORDER
        while True:
            empty = at == Place(at.epoch)
            read, skip, rows = at.before - at.skip, at.skip, list[Row]()
            marks = [(read, at.state)]
            with contextlib.closing(self._chunks(at)) as chunks:  # type: ignore[type-var]  # a generator
                for some, state in chunks:
                    read, empty = read + len(some), False
                    marks.append((read, state))
                    rows += some if not skip else [some[k] for k in range(min(skip, len(some)), len(some))]
                    skip = max(skip - len(some), 0)
                    while len(rows) >= size:
                        block, rows = rows[:size], rows[size:]
                        yield at, block, self._order(at, size)
                        before = at.before + size
                        while len(marks) > 1 and marks[1][0] <= before:
                            marks.pop(0)
                        at = Place(at.epoch, before, 0, marks[0][1], before - marks[0][0])
            if rows or at.taken:
                yield at, rows, self._order(at, len(rows))
            if empty:
                raise RequestError(
                    f"data: {self.stream.title}: found no row in rank {self.rank}'s share of epoch {at.epoch}, of {self.ranks}; expected one at "
                    "least: fewer ranks, or more files"
                )
            at = Place(at.epoch + 1)

    def _chunks(self, at: Place) -> Iterator[tuple[Sequence[Row], Any]]:
        try:
            yield from self.stream.chunks(at.epoch, seed=self.seed, rank=self.rank, ranks=self.ranks, state=at.state)
        except MmcoreError:
            raise
        except Exception as error:  # whatever a library raises
            raise RequestError(
                f"data: {self.stream.title}: reading on gave {brief(error)}, in epoch {at.epoch} after row {at.before}; expected files "
                "that can be read, and none changed since the run began"
            ) from error

    def _order(self, at: Place, count: int) -> list[int]:
        if at.taken > count:
            raise RequestError(
                f"data: {self.stream.title}: found {count} rows in epoch {at.epoch} after row {at.before}, expected {at.taken} at least, as in the "
                "run that is resumed: its files have changed"
            )
        if self.stream.buffer == 1:
            return list(range(count))
        rng = Rng.for_rows(self.seed, count).at(at.epoch).of(f"block/{self.rank}/{at.before}")
        return rng.bits(1)[:, 0].argsort().tolist()


class StreamRows:
    """Rows of a stream as tensors: what a data set makes of rows that are given to it.

    Args:
        dataset: of the stream's head: its columns, variables and transforms.
        head: its bottom.
    """

    def __init__(self, dataset: Dataset, head: Head) -> None:
        self.window = Window(head)
        self.dataset = copy.copy(dataset)
        self.dataset.source = over(dataset.source, self.window)

    def __len__(self) -> int:
        return len(self.window)

    def __getitems__(self, drawn: Sequence[Drawn]) -> TensorBatch:
        """The rows as one batch; what a transform draws is a function of seed, number and epoch.

        Raises:
            RequestError: as :meth:`Dataset.__getitems__`.
        """
        parts = [self._read(epoch, list(rows)) for epoch, rows in itertools.groupby(drawn, lambda one: one.epoch)]
        if len(parts) == 1:
            return parts[0]
        values = {name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values}
        bad = tuple(row for part in parts for row in part.bad)
        return TensorBatch(values, torch.cat([part.present for part in parts]), bad)

    def _read(self, epoch: int, drawn: Sequence[Drawn]) -> TensorBatch:
        rows = {one.number: one.row for one in drawn}
        self.window.hold(epoch, rows)
        batch = self.dataset.__getitems__([epoch * len(self) + number for number in rows])
        if not batch.bad:
            return batch
        # Numbers change with the order of files, so that a row is known again by what it holds.
        return attrs.evolve(batch, bad=tuple(BadRow(_known_by(rows[bad.index]), bad.problem) for bad in batch.bad))


def _known_by(row: Row) -> int:
    """A number by a row's content, of at most 18 digits."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in sorted(row.items()):
        try:
            data = content(value)
        except RequestError:
            data = repr(value).encode()
        found.update(name.encode() + b"\0" + data)
    return int.from_bytes(found.digest(), "little") >> 5


class StreamLoader(Batches):
    """Endless batches of a stream; iterating goes on from its state.

    Each rank reads its own share of the stream, in epochs of its own length. A block of ``buffer`` rows is shuffled by ``(seed, epoch, rank,
    place)`` alone. Rows are drawn in this process, in order; ``workers`` decode them and change nothing.

    Args:
        dataset: of a stream (:class:`mmcore.data.Stream`).
        batch_size: of every batch over all ranks; of it this rank reads as many rows of its own share as any other.
        seed: of the order.
        options: the others of :class:`mmcore.data.batches.Batches`.

    Attributes:
        place: in this rank's share, after the last batch handed out.

    Raises:
        RequestError: a size, share or number that cannot be, or rows of no stream.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, seed, **options)
        head = head_of(dataset.source)
        if head is None or head.stream is None:
            raise RequestError(
                "data: found rows of no stream, expected a data set of one; mmcore.data.Loader reads others"
            )
        self._head, self._stream = head, head.stream
        if self._stream.buffer < 1:
            raise RequestError(f"data: {head.title}: buffer = {self._stream.buffer}, expected at least 1")
        self.place = Place()
        self._places: deque[Place] = deque()

    def _reading(self) -> tuple[StreamRows, _Draws]:
        self._places = deque()
        return StreamRows(self.dataset, self._head), _Draws(self._stream, self, self._places)  # type: ignore[arg-type]

    def _handed_out(self) -> None:
        self.place = self._places.popleft()

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, fit for JSON: after the last batch handed out, whatever was read ahead; of each share that it reads a place."""
        places = {str(self.rank): attrs.asdict(self.place, recurse=False)}
        return {**super().state_dict(), "ranks": self.ranks, "buffer": self._stream.buffer, "places": places}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state, which has the place of this rank's share; workers may differ from the loader's that it is of.

        Raises:
            RequestError: it is of another batch size, seed, buffer or number of ranks, or of rows that were no stream.
        """
        if "places" not in state:
            raise RequestError(
                f"data: found the stream {self._head.title}, expected rows by number as in the run that is resumed"
            )
        super().load_state_dict(state)
        for name, here in (("ranks", self.ranks), ("buffer", self._stream.buffer)):
            if state[name] != here:
                mend = (
                    f"; start {state[name]} processes again" if name == "ranks" else f"; set it to {state[name]} again"
                )
                raise RequestError(
                    f"data: {name} = {here}, expected {state[name]} as in the run that is resumed: a stream's state is of its shares and blocks{mend}"
                )
        self.place = Place(**state["places"][str(self.rank)])
