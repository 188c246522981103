"""Rows to begin with: the run's held-out data, or where there are none what the model itself draws."""

import random
from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.data import Dataset
from mmcore.data.source import Row
from mmcore.errors import MmcoreError, RequestError
from mmcore.play.values import Value, value_of
from mmcore.plugins.metadata import one_line
from mmcore.runs.reader import Reader
from mmcore.sampling.ask import sample


@attrs.frozen(eq=False)
class Held:
    """A model's held-out rows.

    Attributes:
        reader: of the model.
        rows: as the model sees them; None where there are none.
        part: of the run's data, such as ``"test"``.
        why: why there are none, in a line.
    """

    reader: Reader
    rows: Dataset | None
    part: str
    why: str = ""

    @classmethod
    def of(cls, reader: Reader) -> "Held":
        """The rows of a run; none of a model folder by itself, or where the data are not here."""
        if reader.run is None:
            return cls(reader, None, "", "a model folder by itself has no rows beside it")
        try:
            _, part = reader.run.held_out()
            rows = reader.dataset(reader.rows(part).source, on_bad_row="skip")
            if not len(rows):
                raise RequestError("they are empty")
        except (MmcoreError, OSError) as error:
            return cls(reader, None, "", f"the run's held-out rows cannot be read: {one_line(str(error))}")
        return cls(reader, rows, part)

    def __len__(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    def row(self, number: int) -> tuple[dict[str, Value], dict[str, Tensor]]:
        """A row's values, to be given, and as the model sees them; what it lacks is in neither.

        Raises:
            RequestError: no such row, or one that cannot be read.
        """
        if self.rows is None or not 0 <= number < len(self.rows):
            raise RequestError(f"row {number}: expected one of 0 … {len(self) - 1}" if len(self) else self.why)
        batch = self.rows.take([number])
        if batch.bad:
            raise RequestError(f"row {number} cannot be read: {batch.bad[0].problem}")
        raws: Row = self.rows.source[number]
        values, truth = {}, {}
        for column, m in enumerate(self.reader.model.variables):
            if not batch.present[0, column]:
                continue
            truth[m.name] = batch.values[m.name][0]
            values[m.name] = self._value(m, raws.get(m.name), truth[m.name])
        return values, truth

    def drawn(self, seed: int) -> tuple[dict[str, Value], dict[str, Tensor]]:
        """The same of a joint sample of the model."""
        found = sample(self.reader.model, 1, seed=seed, registry=self.reader.registry, **_quick(self.reader.how))
        truth = {name: x[0] for name, x in found.items()}
        return {
            name: value_of(m, m.raw(truth[name])) for m in self.reader.model.variables if (name := m.name) in truth
        }, truth

    def _value(self, m: Any, raw: Any, x: Tensor) -> Value:
        """A row's own value, or where that is of no kind that can be given, what the modality makes of it."""
        try:
            found = value_of(m, raw)
            if torch.equal(self.reader.asked({m.name: [found.raw]}).tensors[m.name][0], x):
                return found
        except MmcoreError:
            pass
        return value_of(m, m.raw(x))


def _quick(how: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name != "seed"}


def surprise(dice: random.Random, given: Sequence[str], wanted: Sequence[str]) -> set[str]:
    """Which of some variables are given: one at least, and not all that could be wanted; nothing where there is no such choice.

    Args:
        dice: for the choice.
        given: those that could be.
        wanted: those that could be.
    """
    most = min(len(given), len(wanted) - 1 if set(wanted) <= set(given) else len(wanted))
    return set(dice.sample(list(given), dice.randint(1, most))) if most >= 1 else set()
