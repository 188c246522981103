"""Rows read once into tensors, and batches from them in an order that only the seed decides."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from mmcore.errors import RequestError
from mmcore.modality import Modality
from mmcore.rng import Rng


@attrs.frozen(eq=False)
class TensorBatch:
    """Some rows.

    Attributes:
        values: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
        present: ``(B, V)`` bool, in the variables' order.
    """

    values: dict[str, Tensor]
    present: Tensor

    def __len__(self) -> int:
        return len(self.present)

    def to(self, device: torch.device) -> "TensorBatch":
        """The same on a device."""
        return TensorBatch({k: v.to(device) for k, v in self.values.items()}, self.present.to(device))


@attrs.frozen(eq=False)
class Table(Dataset[TensorBatch]):
    """All rows of a source as tensors in memory.

    Attributes:
        rows: all of them as one batch.
    """

    rows: TensorBatch

    @classmethod
    def read(cls, rows: Iterable[Mapping[str, Any]], variables: Sequence[Modality]) -> "Table":
        """Read raw rows; None or a missing name means that the row lacks the variable.

        Raises:
            RequestError: no row, a row with nothing that is asked for, or a value that does not fit its modality.
        """
        read: dict[str, list[Tensor]] = {m.name: [] for m in variables}
        present = []
        fill = {m.name: m.spec.placeholder(1)[0] for m in variables}
        for number, row in enumerate(rows):
            here = []
            for m in variables:
                raw = row.get(m.name)
                here.append(raw is not None)
                if raw is None:
                    read[m.name].append(fill[m.name])
                    continue
                try:
                    read[m.name].append(m.read(raw))
                except RequestError as error:
                    raise RequestError(f"row {number}, {m.name}: {error}") from error
            if not any(here):
                names = ", ".join(m.name for m in variables)
                raise RequestError(
                    f"row {number}: found {', '.join(row) or 'nothing'}, expected one of {names} at least"
                )
            present.append(here)
        if not present:
            raise RequestError("data: found no row, expected at least one")
        values = {m.name: torch.stack(read[m.name]) for m in variables}
        for m in variables:
            m.spec.check(values[m.name], f"data, {m.name}")
        return cls(TensorBatch(values, torch.tensor(present)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TensorBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TensorBatch:
        at = torch.as_tensor(indices)
        return TensorBatch({k: v[at] for k, v in self.rows.values.items()}, self.rows.present[at])


class _Shuffle(Sampler[list[int]]):
    """Endless batches of indices; epoch ``e`` is a permutation by ``(seed, e)`` alone."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def __iter__(self) -> Iterator[list[int]]:
        left: list[int] = []
        epoch = 0
        while True:
            while len(left) < self.batch_size:
                left += Rng.for_rows(self.seed, self.count).at(epoch).of("shuffle").bits(1)[:, 0].argsort().tolist()
                epoch += 1
            yield left[: self.batch_size]
            left = left[self.batch_size :]


class Loader:
    """Endless shuffled batches of a table.

    Args:
        table: the rows.
        batch_size: of every batch; an epoch's rest begins the next one's first batch.
        seed: of the order.
    """

    def __init__(self, table: Table, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise RequestError(f"data: batch size {batch_size}, expected at least 1")
        with warnings.catch_warnings():
            # torchdata 0.11, its newest release, calls this under torch 2.13; a user could mend nothing.
            warnings.filterwarnings("ignore", message=".*set_vital.*")
            self._loader = StatefulDataLoader(
                table,
                batch_sampler=_Shuffle(len(table), batch_size, seed),
                collate_fn=_same,  # type: ignore[arg-type]
                # Its own generator: the loader's start would otherwise draw from the global one.
                generator=torch.Generator(),
            )

    def __iter__(self) -> Iterator[TensorBatch]:
        return iter(self._loader)


def _same(batch: TensorBatch) -> TensorBatch:
    return batch
