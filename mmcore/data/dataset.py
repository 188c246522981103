"""From raw rows to tensors: each row read by its modalities, and an error that names the place where one cannot be."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmcore.data.batch import BadRow, TensorBatch
from mmcore.data.decode import decode
from mmcore.data.select import Together, together
from mmcore.data.source import InShort, Row, Source
from mmcore.data.stream import as_source
from mmcore.data.transforms import Trace, Transform, check_transform, copied, transformed
from mmcore.errors import PluginError, RequestError, about
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.holes import some_there
from mmcore.plugins.loading import brief
from mmcore.rng import Rng

_FEW = 256


class Dataset(InShort):
    """Rows of a source as tensors, read when they are asked for.

    An index from ``len`` on is the same row in a later epoch, so that what transforms draw is a function of row and epoch.

    Args:
        source: raw rows.
        variables: what is read of a row, in the order of :attr:`TensorBatch.present`.
        transforms: applied in order to the raw values that are not missing.
        seed: of what they draw.
        augment: whether what is random in them happens; false for rows that are held out (:meth:`Transform.steady`).
        on_bad_row: ``"stop"`` raises at a row that cannot be read; ``"skip"`` takes it for a row that has nothing,
            which counts in no loss, and tells of it in :attr:`TensorBatch.bad`.
        bad_row_limit: how many different bad rows a :class:`Loader` skips before it raises.
        unpaired: whether a training may take rows of which none has two variables.
        passing: what an error of a bad row says would let it pass; empty where nothing does, as of a value that is asked about.

    Attributes:
        names: of the variables, in the order of :attr:`TensorBatch.present`.

    Raises:
        RequestError: no row, an ``on_bad_row`` that is neither, or a transform that is none or does not fit the variables.
    """

    def __init__(
        self,
        source: Iterable[Row],
        variables: Sequence[ModalityProtocol],
        *,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        augment: bool = True,
        on_bad_row: str = "stop",
        bad_row_limit: int = 100,
        unpaired: bool = False,
        passing: str = 'on_bad_row = "skip"',
    ) -> None:
        if on_bad_row not in ("stop", "skip"):
            raise RequestError(f"data: on_bad_row = {on_bad_row!r}, expected stop or skip")
        self.source = together(as_source(source), variables)
        if not len(self.source):
            raise RequestError("data: found no row, expected at least one")
        self.variables = tuple(variables)
        self.transforms, self.seed, self.augment = tuple(transforms), seed, augment
        self.on_bad_row, self.bad_row_limit, self.unpaired = on_bad_row, bad_row_limit, unpaired
        self.passing = passing
        self.names = tuple(m.name for m in self.variables)
        self._steps = self._bound()

    @property
    def varies(self) -> bool:
        """Whether a row can differ from epoch to epoch."""
        return any(transform.varies for _, transform in self._steps)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> TensorBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TensorBatch:
        """Rows by index, as one batch.

        Raises:
            RequestError: a bad row, unless they are skipped: source, place, modality, found and expected.
            PluginError: a modality cannot read together what it reads one by one.
        """
        return self._read(indices, [None] * len(indices))

    def traced(self, indices: Sequence[int]) -> tuple[TensorBatch, list[Trace]]:
        """Rows by index, as one batch, and for each how its pixels were moved, so that answers can be of the file's size.

        Raises:
            RequestError: as :meth:`__getitems__`.
        """
        traces = [Trace() for _ in indices]
        return self._read(indices, traces), traces

    def _read(self, indices: Sequence[int], traces: Sequence[Trace | None]) -> TensorBatch:
        rows: list[dict[str, Any]] = []
        bad: list[BadRow] = []
        for place, trace in zip(map(int, indices), traces, strict=True):
            epoch, index = divmod(place, len(self))
            try:
                rows.append(self._raw(index, epoch, trace))
            except RequestError as error:
                rows.append(self._without(index, error, bad))
        return self._batch(rows, [int(place) % len(self) for place in indices], bad)

    def take(self, indices: Sequence[int]) -> TensorBatch:
        """Any number of rows as one batch, of which few at a time are held as raw values.

        Raises:
            RequestError: as :meth:`__getitems__`.
        """
        values = {m.name: torch.empty((len(indices), *m.spec.shape), dtype=m.spec.dtype) for m in self.variables}
        present = torch.empty(len(indices), len(self.variables), dtype=torch.bool)
        bad: list[BadRow] = []
        for k in range(0, len(indices), _FEW):
            some = self.__getitems__(indices[k : k + _FEW])
            present[k : k + _FEW] = some.present
            for name, x in some.values.items():
                values[name][k : k + _FEW] = x
            bad += some.bad
        return TensorBatch(values, present, tuple(bad))

    def stored(self, index: int) -> dict[str, Any]:
        """What the source has of one row, by variable: the path of a file, its bytes, or a value; what the row lacks is left out.

        Raises:
            RequestError: the source cannot read it: source, place, variable, found and expected.
        """
        name = None
        try:
            row = self.source[index]
            if not hasattr(row, "get"):
                raise RequestError(f"found a {type(row).__name__}, expected a mapping from name to raw value")
            values = {}
            for name in self.names:
                if (raw := row.get(name)) is not None:
                    values[name] = raw
            name = None
            if not values:
                if empty := [name for name in self.names if name in row]:
                    raise RequestError(f"found no value of {', '.join(empty)}, expected one of them at least")
                found = ", ".join(row) or "nothing"
                raise RequestError(f"found {found}, expected one of {', '.join(self.names)} at least")
            return values
        except PluginError:
            raise
        except Exception as error:
            raise self._placed(error, index, name) from error

    def _raw(self, index: int, epoch: int, trace: Trace | None) -> dict[str, Any]:
        """One row's raw values, decoded and transformed; what it lacks is left out."""
        values, name = {}, None
        stored = self.stored(index)
        try:
            for name, kept in stored.items():
                if (raw := _decoded(self.source, name, kept)) is not None:
                    values[name] = raw
            name = None
            if not values:
                raise RequestError(f"found nothing in {', '.join(stored)}, expected a value in one of them at least")
            return self._transformed(values, index, epoch, trace) if self._steps else values
        except PluginError:
            raise
        except Exception as error:
            raise self._placed(error, index, name) from error

    def _bound(self) -> list[tuple[str, Transform]]:
        """The transforms as they apply here, each with the name of its random numbers."""
        steps = []
        for number, transform in enumerate(self.transforms):
            place = f"transforms[{number}]"
            check_transform(transform, place)
            with about(place):
                bound = transform.bind(self.variables)
            check_transform(bound, f"what {place} is bound to")
            step = bound if self.augment else bound.steady()
            if step is not None:
                check_transform(step, f"what takes the place of {place}")
                steps.append((f"transform/{number}/{type(transform).__name__.lower()}", step))
        return steps

    def _transformed(self, values: dict[str, Any], index: int, epoch: int, trace: Trace | None) -> dict[str, Any]:
        always = Rng(self.seed, torch.tensor([index]))
        now = always.at(epoch)
        values = {name: copied(raw) for name, raw in values.items()}
        for purpose, transform in self._steps:
            if trace is not None:
                trace.add(transform, values)
            values = transformed(transform, values, (now if transform.varies else always).of(purpose))
        return values

    def _batch(self, rows: list[dict[str, Any]], places: Sequence[int], bad: list[BadRow]) -> TensorBatch:
        """Rows of raw values, read variable by variable for all rows at once."""
        values: dict[str, Tensor] = {}
        present = torch.ones(len(rows), len(self.variables), dtype=torch.bool)
        for k, m in enumerate(self.variables):
            raws = [row.get(m.name) for row in rows]
            here = [raw for raw in raws if raw is not None]
            try:
                read = _read_many(m, here)
            except PluginError:
                raise
            except Exception as error:
                # That of many values does not say whose it is. So each is read alone, and without the bad rows all begins anew.
                before = len(bad)
                self._read_each(m, rows, places, bad)
                if len(bad) == before:
                    raise PluginError(
                        f"modality {m.name!r}: its read_many gave {brief(error)} for {len(here)} values, expected what its read "
                        "gives for each"
                    ) from error
                return self._batch(rows, places, bad)
            if len(here) == len(rows):
                values[m.name] = read
            else:
                present[:, k] = torch.tensor([raw is not None for raw in raws])
                values[m.name] = m.spec.placeholder(len(rows))
                values[m.name][present[:, k]] = read
            if m.spec.void is not None:
                # Of what is void as a whole there is nothing.
                present[:, k] &= some_there(m, values[m.name])
        return TensorBatch(values, present, tuple(bad))

    def _read_each(
        self, modality: ModalityProtocol, rows: list[dict[str, Any]], places: Sequence[int], bad: list[BadRow]
    ) -> None:
        for k, index in enumerate(places):
            raw = rows[k].get(modality.name)
            if raw is None:
                continue
            try:
                x = modality.read(raw)[None]
            except PluginError:
                raise
            except Exception as error:
                rows[k] = self._without(index, self._placed(error, index, modality.name), bad)
                continue
            try:
                modality.spec.check(x, self.source.place(index, modality.name))
            except RequestError as error:
                rows[k] = self._without(index, error, bad)

    def _without(self, index: int, error: RequestError, bad: list[BadRow]) -> dict[str, Any]:
        """What a bad row becomes where bad rows are skipped: one that has nothing."""
        if self.on_bad_row == "stop":
            mend = f"; {self.passing} passes over such rows" if self.passing else ""
            raise RequestError(f"{error}{mend}") from error
        bad.append(BadRow(index, str(error)))
        return {}

    def _placed(self, error: Exception, index: int, name: str | None) -> RequestError:
        """The error with its place before it, whatever kind a source or modality raises for a value that it cannot take."""
        where = self.source.place(index, name)
        if isinstance(error, RequestError):
            return RequestError(f"{where}: {error}")
        return RequestError(f"{where}: reading it gave {brief(error)}, expected a value that can be read")


def _decoded(source: Source, name: str, kept: Any) -> Any:
    """A stored value decoded; of several columns each."""
    if isinstance(source, Together) and name in source.columns and isinstance(kept, dict):
        return {column: decode(value) for column, value in kept.items()}
    return decode(kept)


def _read_many(modality: ModalityProtocol, raws: Sequence[Any]) -> Tensor:
    if not raws:
        return modality.spec.placeholder(0)
    many = getattr(modality, "read_many", None)
    x = many(raws) if many else torch.stack([modality.read(raw) for raw in raws])
    modality.spec.check(x, modality.name)
    if len(x) != len(raws):
        raise RequestError(f"found {len(x)} rows, expected {len(raws)}")
    return x
