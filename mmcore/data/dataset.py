"""From raw rows to tensors: each row read by its modalities, and an error that names the place where one cannot be."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcore.data.batch import BadRow, TensorBatch
from mmcore.data.decode import decode
from mmcore.data.source import Row, as_source
from mmcore.errors import PluginError, RequestError
from mmcore.modality import ModalityProtocol
from mmcore.plugins.loading import brief

Transform = Callable[[dict[str, Any], int, int], dict[str, Any]]
"""``(raw values, index, epoch) -> raw values``; equal arguments give equal values. One that does not depend on the epoch may say
so by an attribute ``varies = False``."""


class Dataset:
    """Rows of a source as tensors, read when they are asked for.

    An index from ``len`` on is the same row in a later epoch, so that what transforms draw is a function of row and epoch.

    Args:
        source: raw rows.
        variables: what is read of a row, in the order of :attr:`TensorBatch.present`.
        transforms: applied in order to the raw values that are not missing.
        on_bad_row: ``"stop"`` raises at a row that cannot be read; ``"skip"`` takes it for a row that has nothing,
            which counts in no loss, and tells of it in :attr:`TensorBatch.bad`.
        bad_row_limit: how many different bad rows a :class:`Loader` skips before it raises.

    Raises:
        RequestError: no row, or an ``on_bad_row`` that is neither.
    """

    def __init__(
        self,
        source: Iterable[Row],
        variables: Sequence[ModalityProtocol],
        *,
        transforms: Sequence[Transform] = (),
        on_bad_row: str = "stop",
        bad_row_limit: int = 100,
    ) -> None:
        if on_bad_row not in ("stop", "skip"):
            raise RequestError(f"data: on_bad_row = {on_bad_row!r}, expected stop or skip")
        self.source = as_source(source)
        if not len(self.source):
            raise RequestError("data: found no row, expected at least one")
        self.variables = tuple(variables)
        self.transforms = tuple(transforms)
        self.on_bad_row, self.bad_row_limit = on_bad_row, bad_row_limit
        self._fill = [m.spec.placeholder(1)[0] for m in self.variables]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of :attr:`TensorBatch.present`."""
        return tuple(m.name for m in self.variables)

    @property
    def varies(self) -> bool:
        """Whether a row can differ from epoch to epoch."""
        return any(getattr(transform, "varies", True) for transform in self.transforms)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> TensorBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TensorBatch:
        """Rows by index, as one batch.

        Raises:
            RequestError: a bad row, unless they are skipped: source, place, modality, found and expected.
        """
        rows: list[list[Tensor | None]] = []
        bad = []
        for place in map(int, indices):
            epoch, index = divmod(place, len(self))
            try:
                rows.append(self._read(index, epoch))
            except RequestError as error:
                if self.on_bad_row == "stop":
                    raise
                bad.append(BadRow(index, str(error)))
                rows.append([None] * len(self.variables))
        return self._batch(rows, indices, bad)

    def _batch(self, rows: list[list[Tensor | None]], indices: Sequence[int], bad: list[BadRow]) -> TensorBatch:
        """The rows stacked, and checked as a whole; only where that fails, row by row."""
        fits = True
        for k, m in enumerate(self.variables):
            here = [row[k] for row in rows if row[k] is not None]
            try:
                if here:
                    m.spec.check(torch.stack(here), m.name)  # type: ignore[arg-type]
            except (RequestError, RuntimeError):  # torch's own, of shapes that differ
                fits = False
        for place, row in zip(indices, rows, strict=True) if not fits else ():
            index = int(place) % len(self)
            try:
                for m, x in zip(self.variables, row, strict=True):
                    if x is not None:
                        m.spec.check(x[None], f"{self.source.where(index)}, {m.name}")
            except RequestError as error:
                if self.on_bad_row == "stop":
                    raise
                bad.append(BadRow(index, str(error)))
                row[:] = [None] * len(row)
        present = torch.tensor([[x is not None for x in row] for row in rows])
        values = {
            m.name: torch.stack([fill if row[k] is None else row[k] for row in rows])  # type: ignore[misc]
            for k, (m, fill) in enumerate(zip(self.variables, self._fill, strict=True))
        }
        return TensorBatch(values, present, tuple(bad))

    def _read(self, index: int, epoch: int) -> list[Tensor | None]:
        where = self.source.where(index)
        with _named(where):
            row = self.source[index]
        values = {}
        for m in self.variables:
            with _named(f"{where}, {m.name}"):
                raw = decode(row.get(m.name))
            if raw is not None:
                values[m.name] = raw
        if not values:
            names = ", ".join(m.name for m in self.variables)
            raise RequestError(f"{where}: found {', '.join(row) or 'nothing'}, expected one of {names} at least")
        with _named(where):
            for transform in self.transforms:
                values = transform(values, index, epoch)
        return [self._tensor(m, values.get(m.name), where) for m in self.variables]

    def _tensor(self, modality: ModalityProtocol, raw: Any, where: str) -> Tensor | None:
        if raw is None:
            return None
        with _named(f"{where}, {modality.name}"):
            return modality.read(raw)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Put the place before a failure's message, whatever kind of error a source or modality raises for a value it cannot take."""
    try:
        yield
    except PluginError:
        raise
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error
    except Exception as error:
        raise RequestError(f"{what}: reading it gave {brief(error)}, expected a value that can be read") from error
