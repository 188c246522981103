"""A run's model, its held-out rows, and figures as lines of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

import mmcore
from mmcore import metrics
from mmcore.data import Table
from mmcore.metrics import Figure
from mmcore.runs.reader import Reader


@attrs.frozen(eq=False)
class Trained:
    """A model of a recipe.

    Attributes:
        reader: of the run.
        rows: held out, by variable.
    """

    reader: Reader
    rows: Mapping[str, Tensor]

    @classmethod
    def of(cls, run: Path, most: int = 500) -> "Trained":
        """The model in a run's folder, and its test rows."""
        reader = Reader.open(run, device="cpu")
        table = Table.read(reader.dataset(reader.rows("test").source))
        return cls(reader, {name: x[:most] for name, x in table.rows.values.items()})

    def ask(
        self, n: int, *, seed: int = 0, where: Mapping[str, Tensor] | None = None, **given: Tensor
    ) -> dict[str, Tensor]:
        """Samples as the recipe says, given some variables, or parts of them."""
        how = {**self.reader.asking(), "seed": seed}
        return mmcore.sample(self.reader.model, n, given=given, where=where, **how)


def same(one: Sequence[str], two: Sequence[str]) -> Figure:
    """The share of two lists' words that are equal."""
    return metrics.average(torch.tensor([float(a == b) for a, b in zip(one, two, strict=True)]))


def markdown(figures: Mapping[str, Figure]) -> str:
    """A line for each figure."""
    lines = ["| asked | figure | interval |", "|---|---|---|"]
    lines += [f"| {name} | {one.value:.3f} | {one.low:.3f} … {one.high:.3f} |" for name, one in figures.items()]
    return "\n".join(lines)
