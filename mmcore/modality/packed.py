"""The spec of samples of several modalities, flat and side by side."""

import itertools
import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.spec import VOID, Spec

WHOLE = 2**24
"""Up to this float32 has every whole number."""


@attrs.frozen
class PackedSpec(Spec):
    """Samples of several specs, flat and side by side in float32; :data:`~mmcore.modality.spec.VOID` where an element is missing.

    Attributes:
        parts: the specs in their order, with their names.
    """

    parts: tuple[tuple[str, Spec], ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, Spec]) -> "PackedSpec":
        """The spec of these beside each other."""
        return cls((sum(math.prod(spec.shape) for spec in parts.values()),), void=VOID, parts=tuple(parts.items()))

    @property
    def slices(self) -> list[slice]:
        """Where each part lies."""
        ends = np.cumsum([0, *(math.prod(spec.shape) for _, spec in self.parts)]).tolist()
        return list(itertools.starmap(slice, itertools.pairwise(ends)))

    def split(self, x: Tensor) -> list[Tensor]:
        """Each part of ``x (B, D)`` as its own spec has it, ``(B, *shape)``; a valid value where it is void."""
        x, values = self.filled(x), []
        for (_, spec), at in zip(self.parts, self.slices, strict=True):
            value = x[:, at].reshape(len(x), *spec.shape)
            values.append(value if spec.dtype.is_floating_point else value.round().to(spec.dtype))
        return values

    def split_mask(self, where: Tensor) -> list[Tensor]:
        """Each part of a mask ``(B, D)``, ``(B, *shape)`` bool."""
        pairs = zip(self.parts, self.slices, strict=True)
        return [where[:, at].reshape(len(where), *spec.shape) for (_, spec), at in pairs]

    def join(self, values: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """The parts ``(B, *shape)`` side by side, ``(B, D)``; what is void to a part's own spec is so here."""
        flat = []
        for (_, spec), value in zip(self.parts, values, strict=True):
            x = value.to(dtype)
            flat.append(
                (x if spec.void is None else torch.where(spec.there(value), x, VOID)).reshape(
                    len(value), math.prod(spec.shape)
                )
            )
        return torch.cat(flat, dim=1)

    def check(self, x: Tensor, label: str) -> None:
        super().check(x, label)
        there = self.there(x)
        for (name, spec), at, value in zip(self.parts, self.slices, self.split(x), strict=True):
            if not spec.dtype.is_floating_point:
                off = ((x[:, at].round() != x[:, at]) | (x[:, at].abs() > WHOLE)) & there[:, at]
                if off.any():
                    found = f"{x[:, at][off][0].item():.6g} in row {int(off.any(1).nonzero()[0])}"
                    raise RequestError(f"{label}, {name}: found {found}, expected whole numbers up to {WHOLE}")
            spec.check(value.to(spec.dtype), f"{label}, {name}")

    def placeholder(self, count: int) -> Tensor:
        return self.join([spec.placeholder(count) for _, spec in self.parts])

    def limits(self, element: int) -> tuple[float | None, float | None]:
        for (_, spec), at in zip(self.parts, self.slices, strict=True):
            if element < at.stop:
                return (0, 1) if spec.dtype == torch.bool else spec.limits(element - at.start)
        raise IndexError(element)
