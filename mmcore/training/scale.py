"""Whether codes are as large as the process assumes, looked at on the first rows of a training."""

import warnings

import torch
from torch import Tensor

from mmcore.data import TensorBatch
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating
from mmcore.plugins.metadata import one_line

ROWS = 256
"""The rows that are looked at."""
FEW = 64
"""Of fewer rows a mean square may be small by chance, as where they are alike."""
MOST, LEAST = 4.0, 0.1
"""Mean squares of a code from which on it is far too large, and far too small."""


class CodeScaleWarning(UserWarning):
    """Codes are far from the zero mean and unit variance that the process assumes."""


class CodeScale:
    """Warns where the codes of the first rows have a mean square far from 1.

    The process adds noise as if codes had zero mean and unit variance. Where they have not, the model still trains, and its answers are wrong.

    Args:
        model: whose encoders make the codes.
        steps: at most so many batches will come.
    """

    def __init__(self, model: JointModel, steps: int) -> None:
        self.model, self.left, self.rows = model, steps, 0
        self._squares: Tensor | None = None
        self._count: Tensor | None = None

    @property
    def looking(self) -> bool:
        """Whether more batches are wanted."""
        return self.left > 0 and self.rows < ROWS

    @torch.no_grad()
    def see(self, batch: TensorBatch) -> None:
        """Look at one more batch, and warn after the last one that is wanted."""
        model = self.model
        with evaluating(model):
            codes, there = model.encode(batch.values), model.there(batch.values)
        present = model.frame.by_code(batch.present[:, : len(model.modalities)].to(codes.dtype)) > 0
        counts = present if there is None else present & there
        parts = model.frame.split(torch.where(counts, codes, 0.0).double().square())
        squares = torch.stack([part.sum() for part in parts])
        count = torch.stack([part.sum() for part in model.frame.split(counts)])
        self._squares = squares if self._squares is None else self._squares + squares
        self._count = count if self._count is None else self._count + count
        self.rows, self.left = self.rows + len(batch), self.left - 1
        if not self.looking:
            self._warn(self._squares / self._count, self._count)

    def _warn(self, mean: Tensor, count: Tensor) -> None:
        for m, size, found, elements in zip(
            self.model.modalities, self.model.frame.sizes, mean.tolist(), count.tolist(), strict=True
        ):
            # Of a few rows it may be small by chance; it is NaN where there is none.
            if found > MOST or (found < LEAST and elements >= FEW * size):
                warnings.warn(
                    f"training: over the first {self.rows:,} rows the codes of {one_line(m.name)!r} have a mean square of {found:.3g}, "
                    "expected about 1, as the process assumes zero mean and unit variance; either the values hardly differ, or what the "
                    "plugin's `measured` finds of the data belongs in its options, and a configuration that leaves them out measures "
                    "them (see `mmcore data`)",
                    CodeScaleWarning,
                    stacklevel=3,
                )
