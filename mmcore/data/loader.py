"""Endless batches in an order that only the seed decides, from this process or from workers.

Batch ``n`` holds the places ``n B … n B + B - 1`` of one endless row of epochs, each a permutation of all rows. So a loader's state
is one number, whatever the workers have fetched ahead, and resuming with other workers or ranks gives the same rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from mmcore.data.batches import Batches, Readable
from mmcore.data.table import Table
from mmcore.rng import Rng


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of epoch ``epoch``, ``(count,)`` int64, by these numbers alone."""
    return Rng.for_rows(seed, count).at(epoch).of("shuffle").bits(1)[:, 0].argsort().numpy()


class _Places(Sampler[np.ndarray]):
    """One rank's share of every batch from number ``start`` on, as ``index + epoch · count``."""

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, ranks: int, start: int) -> None:
        self.count, self.batch_size, self.seed, self.rank, self.ranks = count, batch_size, seed, rank, ranks
        self.start = start

    def __iter__(self) -> Iterator[np.ndarray]:
        share = self.batch_size // self.ranks
        epoch, order = -1, np.empty(0, dtype=np.int64)
        place = self.start * self.batch_size + self.rank * share
        while True:
            parts, left, at = [], share, place
            while left:
                if at // self.count != epoch:
                    epoch = at // self.count
                    order = permutation(self.seed, epoch, self.count) + epoch * self.count
                part = order[at % self.count :][:left]
                parts.append(part)
                left, at = left - len(part), at + len(part)
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)
            place += self.batch_size


class Loader(Batches):
    """Endless shuffled batches of a table or data set; iterating goes on from its state.

    Epoch ``e`` is a permutation of the rows by ``(seed, e)`` alone; its rest begins the next one's first batch. Ranks may differ from
    those of the loader whose state is gone on with.

    Args:
        dataset: the rows; a :class:`mmcore.data.Table` is read in this process, whatever ``workers`` says: its rows are at hand, and to send them
            between processes takes ten times as long as to take them.
        batch_size: of every batch over all ranks; this rank has rows ``rank · B / ranks …`` of it.
        seed: of the order.
        options: the others of :class:`mmcore.data.batches.Batches`.

    Raises:
        RequestError: a size, share or number that cannot be.
    """

    def __init__(self, dataset: Readable, batch_size: int, seed: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, seed, **options)
        if isinstance(dataset, Table):
            self.workers = 0

    def _reading(self) -> tuple[Readable, _Places]:
        places = _Places(len(self.dataset), self.batch_size, self.seed, self.rank, self.ranks, self.batches)
        return self.dataset, places

    def _handed_out(self) -> None:
        """The number of batches says all."""
