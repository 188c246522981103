"""Given values that are far from all that the model was trained on, as those of another unit are, and pictures of another range."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import attrs
import torch
from torch import Tensor

from mmcore.modality.base import ModalityProtocol
from mmcore.modality.holes import encoded
from mmcore.modality.mixed import Mixed
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating

FAR = 8.0
"""Deviations from the mean of the training rows from which on a number is told; a code has one of about 1."""

FLAT = 0.01
"""The share of a picture's range of values that one of another range may use of it: floats in 0 … 1 where 0 … 255 are expected, or 8 bits where 16 are."""


@attrs.frozen(eq=False)
class Beyond:
    """Counts numbers and vectors that are given and lie further out than training rows do, and pictures that hardly use their range.

    Nothing is refused: a model may be asked about what it never saw. Its answers are then a guess, and nothing in them shows it.

    Attributes:
        model: that is asked.
        given: how many values of each variable were looked at.
        far: how many of them are far out.
        some: one of these, for a person.
        flat: how many pictures hardly use their range.
    """

    model: JointModel
    given: Counter[str] = attrs.field(factory=Counter)
    far: Counter[str] = attrs.field(factory=Counter)
    some: dict[str, str] = attrs.field(factory=dict)
    flat: Counter[str] = attrs.field(factory=Counter)

    def see(self, values: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Look at some rows.

        Args:
            values: ``(rows, *spec.shape)`` by name.
            present: which rows have them, ``(rows,)`` bool by name.
        """
        with evaluating(self.model), torch.no_grad():
            for m in self.model.modalities:
                if m.name in values and present[m.name].any():
                    x = values[m.name][present[m.name]]
                    if len(m.code) == 1:
                        self._see(m, x)
                    elif m.planar and x.is_floating_point() and m.spec.low is not None and m.spec.high is not None:
                        low, high = x.flatten(1).aminmax(dim=1)
                        self.given[m.name] += len(x)
                        self.flat[m.name] += int((high - low < FLAT * (m.spec.high - m.spec.low)).sum())

    def _see(self, m: ModalityProtocol, x: Tensor) -> None:
        if isinstance(m, Mixed):
            there = m.packed.there(x)
            for (name, part), at, value in zip(m.parts.items(), m.packed.slices, m.packed.split(x), strict=True):
                if len(part.code) == 1:
                    self._count(name, part, part.encoder(), value[there[:, at].all(1)])
        else:
            self._count(m.name, m, self.model.encoders[m.name], x.to(self.model.device))  # type: ignore[arg-type]

    def _count(self, name: str, m: ModalityProtocol, encoder: Callable[[Tensor], Tensor], x: Tensor) -> None:
        # A class's code is large where the class is rare.
        if getattr(m, "discrete", False) or not len(x):
            return
        out = encoded(m, encoder, x).flatten(1).double().square().mean(1).sqrt() > FAR
        self.given[name] += len(x)
        self.far[name] += int(out.sum())
        if out.any() and name not in self.some:
            shown = m.show(x[out][0].cpu()) if not m.spec.shape else ""
            self.some[name] = f", such as {shown}" if isinstance(shown, str) and shown else ""

    def told(self) -> Iterator[str]:
        """A line for each variable of which some are far out, or flat."""
        for name, count in self.flat.items():
            if count:
                yield (
                    f"{name}: {count:,} of {self.given[name]:,} given use less than {FLAT:.0%} of the range of values: are their numbers in the range that "
                    "the training pictures' had, which limits says?"
                )
        for name, count in self.far.items():
            if count:
                yield (
                    f"{name}: {count:,} of {self.given[name]:,} given lie more than {FAR:g} deviations from the mean of the training "
                    f"rows{self.some[name]}: are they of the same unit? Training rows hardly had such"
                )
