"""What the axes of a module's weights run over, so that they can go over to a model of other sizes.

A weight of one shape goes over as it is. One whose axis runs over channels, modalities, blocks, places or classes of the space changes its shape with them, and only the module
knows which of its columns is which. It says so by a method ``weight_axes()``: by the name of a parameter of its own, what its axis runs over. A module without that
method has weights of fixed shapes, as far as anyone knows.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

OVER = ("channels", "modalities", "blocks")


@attrs.frozen(eq=False)
class Inputs:
    """An axis of a weight reads something of each channel, modality or block: ``parts · n · inner`` numbers, the last axis of a linear layer.

    Attributes:
        over: ``"channels"`` of the space, ``"modalities"`` or ``"blocks"``, of which there are ``n``.
        inner: how many numbers are read of each.
        parts: how often all of them are read, one after the other, as codes and then their flags.
        idle: ``(inner,)``, what is read of one that is absent; None for zeros.
        bias: the name of the layer's bias, to which what is read of an absent one adds.
        axis: of the weight; 1 of a convolution's.
        skip: how many channels, modalities or blocks the first part lacks at its beginning.
        tail: how many numbers are read after all parts, which are of something else.
    """

    over: str
    inner: int = 1
    parts: int = 1
    idle: Tensor | None = None
    bias: str = ""
    axis: int = -1
    skip: int = 0
    tail: int = 0

    def count(self, length: int) -> int:
        """``n`` of an axis of this length; -1 where it is none."""
        whole, size = length - self.tail + self.skip * self.inner, self.parts * self.inner
        return whole // size if size > 0 and whole % size == 0 else -1

    def split(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What a weight reads of each, ``(…, parts, n, inner)``, zeros of those that are skipped; and what else it reads, ``(…, tail)``."""
        x = weight.movedim(self.axis, -1)
        size = x.shape[-1] - self.tail
        each = F.pad(x[..., :size], (self.skip * self.inner, 0))
        return each.unflatten(-1, (self.parts, -1, self.inner)), x[..., size:]

    def join(self, each: Tensor, rest: Tensor) -> Tensor:
        """The way back."""
        x = torch.cat([each.flatten(-3)[..., self.skip * self.inner :], rest], dim=-1)
        return x.movedim(-1, self.axis)


@attrs.frozen
class Places:
    """The first axis runs over places of a grid.

    Attributes:
        grid: of the tokens or of the space, in the order of the axis.
        summed: whether a sum over the places is taken with these weights, which must stay as large when there are more of them.
    """

    grid: tuple[int, ...]
    summed: bool = False


@attrs.frozen
class Rows:
    """The first axis runs over classes, or over blocks of the network's depth: ``(n · inner, …)``.

    Attributes:
        names: of each, by which they are known again.
        inner: how many rows each has.
    """

    names: tuple[str, ...]
    inner: int = 1


@attrs.frozen
class Still:
    """Where the module is added to a trained network, this weight is zero: the module then passes on what it is given."""


Axis = Inputs | Places | Rows | Still


@runtime_checkable
class Growing(Protocol):
    """A module that says what the axes of its own weights run over."""

    def weight_axes(self) -> Mapping[str, Axis]:
        """What an axis of each weight runs over, by the name of the parameter in this module; those that are left out have fixed shapes."""
        ...


def axes_of(model: nn.Module) -> dict[str, Axis]:
    """What all modules of a model say of their weights, by the parameter's full name."""
    found: dict[str, Axis] = {}
    for place, module in model.named_modules():
        if isinstance(module, Growing):
            for name, axis in module.weight_axes().items():
                found[f"{place}.{name}" if place else name] = axis
    return found
