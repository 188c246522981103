"""Some rows as tensors, and what is told of rows that could not be read."""

import sys

import attrs
import torch
from torch import Tensor


@attrs.frozen
class BadRow:
    """A row that could not be read, and was skipped.

    Attributes:
        index: in its data set.
        problem: place, modality, what was found and what was expected, on one line.
    """

    index: int
    problem: str


@attrs.frozen(eq=False)
class TensorBatch:
    """Some rows.

    Attributes:
        values: ``(B, *spec.shape)`` by variable; placeholders where a row lacks one.
        present: ``(B, V)`` bool, in the variables' order; a skipped row has nothing.
        bad: the rows among them that were skipped.
    """

    values: dict[str, Tensor]
    present: Tensor
    bad: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.present)

    def to(self, device: torch.device) -> "TensorBatch":
        """The same on a device; from pinned memory without waiting for it."""
        values = {k: v.to(device, non_blocking=True) for k, v in self.values.items()}
        return TensorBatch(values, self.present.to(device, non_blocking=True), self.bad)

    def pin_memory(self) -> "TensorBatch":
        """The same in pinned memory."""
        return TensorBatch({k: v.pin_memory() for k, v in self.values.items()}, self.present.pin_memory(), self.bad)


def tell(row: BadRow) -> None:
    """Say on stderr that a row was skipped."""
    print(f"mmcore: skipped {row.problem}", file=sys.stderr, flush=True)
