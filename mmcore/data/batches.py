"""What every loader of endless batches does: it reads here or by workers, counts bad rows, and tells what has gone wrong in one line."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import attrs
import torch
from torch.utils.data import Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from mmcore.data.batch import BadRow, TensorBatch, tell
from mmcore.errors import MmcoreError, PluginError, RequestError
from mmcore.plugins.loading import brief


class Readable(Protocol):
    """What a loader reads: a :class:`Table` or a :class:`Dataset`."""

    def __len__(self) -> int: ...
    def __getitems__(self, indices: Sequence[int], /) -> TensorBatch: ...


@attrs.frozen
class _Failed:
    """An error met in a worker: torch would wrap its message in a traceback."""

    kind: type[MmcoreError]
    problem: str


class _Guarded:
    """A data set whose errors come back as values."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, drawn: Any) -> TensorBatch | _Failed:
        try:
            return self.dataset.__getitems__(drawn)
        except MmcoreError as error:
            # Of a kind that is made of its message alone, so that it can be raised again on the other side.
            kind = next(one for one in (RequestError, PluginError, MmcoreError) if isinstance(error, one))
            return _Failed(kind, str(error))


class Batches(ABC):
    """Endless batches of a size, this rank's share of each; iterating goes on from the state.

    Args:
        dataset: the rows.
        batch_size: of every batch over all ranks; this rank has rows ``rank · B / ranks …`` of it.
        seed: of the order.
        rank: which share of every batch is read here.
        ranks: how many shares there are; they divide ``batch_size``.
        workers: processes that read ahead; 0 reads in this one.
        pin: put batches into pinned memory, for a faster way to a GPU.
        prefetch: batches that each worker reads ahead.
        timeout: seconds to wait for a worker's batch before giving up; 0 waits for ever.
        tell: called with every bad row when it is first skipped; by default it is told on stderr.

    Attributes:
        batches: how many were handed out since the start of training.
        bad: the different rows skipped so far, by index.

    Raises:
        RequestError: a size, share or number that cannot be.
    """

    def __init__(
        self,
        dataset: Readable,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        pin: bool = False,
        prefetch: int = 2,
        timeout: float = 600.0,
        tell: Callable[[BadRow], None] = tell,
    ) -> None:
        if batch_size < 1:
            raise RequestError(f"data: batch size {batch_size}, expected at least 1")
        if ranks < 1 or not 0 <= rank < ranks:
            raise RequestError(f"data: rank {rank} of {ranks}, expected 0 … ranks - 1")
        if batch_size % ranks:
            raise RequestError(f"data: batch size {batch_size} over {ranks} ranks, expected a multiple of {ranks}")
        if workers < 0 or prefetch < 1:
            raise RequestError(f"data: workers = {workers}, prefetch = {prefetch}, expected ≥ 0 and ≥ 1")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.rank, self.ranks, self.workers = rank, ranks, workers
        self.pin, self.prefetch, self.timeout = pin, prefetch, timeout
        self.tell = tell
        self.batches = 0
        self.bad: dict[int, str] = {}

    @abstractmethod
    def _reading(self) -> tuple[Any, Sampler[Any]]:
        """What reads a batch, and what it is asked for, batch by batch from the state on."""

    @abstractmethod
    def _handed_out(self) -> None:
        """One more batch was."""

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, fit for JSON: after the last batch handed out, whatever was read ahead."""
        return {
            "batches": self.batches,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "rows": len(self.dataset),
            "bad": {str(index): problem for index, problem in sorted(self.bad.items())},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state; workers may differ from the loader's that it is of.

        Raises:
            RequestError: it is of another batch size, seed or number of rows.
        """
        here = Batches.state_dict(self)
        for name in ("batch_size", "seed", "rows"):
            if state[name] != here[name]:
                raise RequestError(f"data: {name} = {here[name]}, expected {state[name]} as in the run that is resumed")
        self.batches = state["batches"]
        self.bad = {int(index): problem for index, problem in state["bad"].items()}

    def __iter__(self) -> Iterator[TensorBatch]:
        """Batches from the state on.

        Raises:
            RequestError: a bad row, or more of them than the data set's limit.
            MmcoreError: a worker died, or gave nothing for ``timeout`` seconds.
        """
        batches = iter(self._loader())
        try:
            while True:
                batch = self._next(batches)
                self._count(batch.bad)
                self.batches += 1
                self._handed_out()
                yield batch
        finally:
            # Not left to the collector, which a kept traceback holds off: torch raises again for a dead worker it still knows.
            try:  # noqa: SIM105 (contextlib may be gone when the interpreter ends)
                getattr(batches, "_shutdown_workers", lambda: None)()
            except RuntimeError:
                pass  # torch's signal handler, of the dead worker once more

    def _next(self, batches: Iterator[Any]) -> TensorBatch:
        try:
            batch = next(batches)
        except (RuntimeError, OSError, EOFError) as error:
            # A worker's own exceptions are "Caught …"; a dead one shows by torch's, or by its broken connection.
            lost = str(error).startswith("DataLoader") or not isinstance(error, RuntimeError)
            if not self.workers or not lost or str(error).startswith("Caught"):
                raise
            raise MmcoreError(
                f"data: a worker is gone: {brief(error)} (out of memory? try fewer workers, or workers = 0)"
            ) from error
        if isinstance(batch, _Failed):
            raise batch.kind(batch.problem)
        return batch

    def _loader(self) -> StatefulDataLoader[Any]:
        dataset, drawn = self._reading()
        with warnings.catch_warnings():
            # torchdata 0.11, its newest release, calls this under torch 2.13; a user could mend nothing.
            warnings.filterwarnings("ignore", message=".*set_vital.*")
            return StatefulDataLoader(
                _Guarded(dataset),  # type: ignore[arg-type]
                batch_sampler=drawn,  # type: ignore[arg-type]
                collate_fn=_same,  # type: ignore[arg-type]
                # Its own generator: the loader's start would otherwise draw from the global one.
                generator=torch.Generator(),
                num_workers=self.workers,
                prefetch_factor=self.prefetch if self.workers else None,
                timeout=self.timeout if self.workers else 0,
                pin_memory=self.pin and torch.cuda.is_available(),
            )

    def _count(self, bad: Sequence[BadRow]) -> None:
        for row in bad:
            if row.index not in self.bad:
                self.bad[row.index] = row.problem
                limit = getattr(self.dataset, "bad_row_limit", 0)
                if len(self.bad) > limit:
                    raise RequestError(
                        f"data: {len(self.bad)} bad rows, more than bad_row_limit = {limit}; the last: {row.problem}"
                    )
                self.tell(row)


def _same(batch: TensorBatch) -> TensorBatch:
    return batch
