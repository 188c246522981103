"""Some rows as tensors, and what is told of rows that could not be read."""

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.errors import plainly
from mmcore.plugins.metadata import one_line


@attrs.frozen
class BadRow:
    """A row that could not be read, and was skipped.

    Attributes:
        index: in its data set.
        problem: place, modality, what was found and what was expected, on one line.
    """

    index: int
    problem: str


@attrs.frozen(eq=False, repr=False)
class TensorBatch:
    """A batch of rows as tensors, with a mask of which values are present.

    Attributes:
        values: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
        present: ``(B, V)`` bool, in the variables' order; a skipped row has nothing.
        bad: the rows among them that were skipped.
        complete: whether no row lacks anything; known without asking a device.
    """

    values: dict[str, Tensor]
    present: Tensor
    bad: tuple[BadRow, ...] = ()
    complete: bool = attrs.field(default=attrs.Factory(lambda self: bool(self.present.all()), takes_self=True))

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {tuple(x.shape)}" for name, x in self.values.items())
        return plainly(f"<TensorBatch: {values}{f'; {len(self.bad)} skipped' if self.bad else ''}>", 400)

    def __len__(self) -> int:
        return len(self.present)

    def to(self, device: torch.device) -> "TensorBatch":
        """The same on a device; from pinned memory without waiting for it."""
        values = {k: v.to(device, non_blocking=True) for k, v in self.values.items()}
        return attrs.evolve(self, values=values, present=self.present.to(device, non_blocking=True))

    def pin_memory(self) -> "TensorBatch":
        """The same in pinned memory."""
        values = {k: v.pin_memory() for k, v in self.values.items()}
        return attrs.evolve(self, values=values, present=self.present.pin_memory())


def read_alike(arrays: Sequence[np.ndarray | Tensor], read: Callable[[Tensor], Tensor]) -> Tensor:
    """``read`` of arrays stacked, each at once with those beside it that are alike in kind, shape and dtype.

    Args:
        arrays: at least one.
        read: tensors ``(B, *shape of an array)`` to ``(B, *shape)``, each of their rows by itself.

    Returns:
        ``(len(arrays), *shape)``, in their order.
    """
    parts = []
    for _, group in itertools.groupby(arrays, key=lambda array: (type(array), array.shape, array.dtype)):
        some: list[Any] = list(group)
        parts.append(
            read(torch.stack(some) if isinstance(some[0], Tensor) else torch.from_numpy(np.stack(some)).contiguous())
        )
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def tell(row: BadRow) -> None:
    """Say on stderr that a row was skipped."""
    print(f"mmcore: skipped {one_line(str(row.problem))}", file=sys.stderr, flush=True)
