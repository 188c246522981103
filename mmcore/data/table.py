"""All rows in memory as tensors, read once."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch.utils import data

from mmcore.data.batch import TensorBatch, tell
from mmcore.data.dataset import Dataset
from mmcore.data.source import InShort, Source
from mmcore.data.stream import Stream, head_of
from mmcore.errors import RequestError
from mmcore.modality.base import ModalityProtocol


@attrs.frozen(eq=False, repr=False)
class Table(InShort, data.Dataset[TensorBatch]):
    """All rows of a source as tensors in memory.

    Attributes:
        rows: all of them as one batch.
        unpaired: whether a training may take rows of which none has two variables.
    """

    rows: TensorBatch
    unpaired: bool = False

    @classmethod
    def read(cls, rows: Iterable[Mapping[str, Any]] | Dataset, variables: Sequence[ModalityProtocol] = ()) -> "Table":
        """Read raw rows, or all of a data set.

        Args:
            rows: mappings from name to raw value; None or a missing name means that the row lacks it.
            variables: what is read; a data set brings its own.

        Raises:
            RequestError: no row, a row with nothing that is asked for, a value that does not fit its modality, or more skipped rows
                than the data set's limit.
        """
        dataset = rows if isinstance(rows, Dataset) else Dataset(rows, variables)
        if (head := head_of(dataset.source)) is not None:
            raise RequestError(
                f"data: found {head.title}, a stream, which has no length and may have no end; expected rows by number: "
                "mmcore.data.Rows(stream, limit=1000) reads its first 1,000"
            )
        batch = dataset.take(range(len(dataset)))
        if len(batch.bad) > dataset.bad_row_limit:
            raise RequestError(
                f"data: {len(batch.bad)} bad rows, more than bad_row_limit = {dataset.bad_row_limit}; the first: {batch.bad[0].problem}"
            )
        for row in batch.bad:
            tell(row)
        _check_spelling(dataset, batch)
        return cls(batch, dataset.unpaired)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of :attr:`TensorBatch.present`."""
        return tuple(self.rows.values)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TensorBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TensorBatch:
        """Rows by index; one from ``len`` on is the same row in a later epoch."""
        at = torch.as_tensor(np.asarray(indices, dtype=np.int64) % len(self))
        # Whole rows are copied; an index in brackets would go element by element.
        values = {k: v.index_select(0, at) for k, v in self.rows.values.items()}
        present, complete = self.rows.present.index_select(0, at), self.rows.complete
        return TensorBatch(values, present, complete=True) if complete else TensorBatch(values, present)

    @classmethod
    def of(
        cls, rows: "Iterable[Mapping[str, Any]] | Dataset | Table", variables: Sequence[ModalityProtocol]
    ) -> "Table":
        """Rows of any kind that these variables read, in memory; a table as it is.

        Raises:
            RequestError: they were read for other variables, or for these in another order; as :meth:`read`.
        """
        readable = rows_for(rows, variables)
        return readable if isinstance(readable, Table) else cls.read(readable)

    def spread(self, count: int) -> "Table":
        """At most ``count`` of the rows, spread evenly over them."""
        if count >= len(self):
            return self
        return Table(self.__getitems__([k * len(self) // count for k in range(count)]), self.unpaired)


def _check_spelling(dataset: Dataset, batch: TensorBatch) -> None:
    """Refuse rows that lack a variable everywhere but have a column that is nearly called so: it would be left out without a word."""
    lacking = [name for name, has in zip(dataset.names, batch.present.any(0).tolist(), strict=True) if not has]
    if not lacking:
        return
    unread = [name for name in dataset.source[0] if name not in dataset.names]
    for name in lacking:
        if near := difflib.get_close_matches(name, unread, 1, 0.75):
            raise RequestError(
                f"data: no row has {name!r}, but rows have {near[0]!r}, which no variable reads; expected {name!r}: rename one or the other"
            )


def rows_for(
    rows: Iterable[Mapping[str, Any]] | Dataset | Table, variables: Sequence[ModalityProtocol]
) -> Dataset | Table:
    """Rows that batches for these variables come from; raw ones are read into memory, but for those of a stream.

    Raises:
        RequestError: they were read for other variables, or for these in another order; raw rows as :meth:`Table.read`.
    """
    if isinstance(rows, Stream) or (isinstance(rows, Source) and head_of(rows) is not None):
        return Dataset(rows, variables)
    if not isinstance(rows, Table | Dataset):
        return Table.read(rows, variables)
    names = tuple(m.name for m in variables)
    if rows.names != names:
        raise RequestError(
            f"data: the rows were read for {', '.join(rows.names)}, the model's variables are {', '.join(names)}; read them for "
            "these, in this order"
        )
    return rows
