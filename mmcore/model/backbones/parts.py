"""Parts that the backbones share."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.errors import OptionError
from mmcore.limits import TENSORS, WEIGHTS
from mmcore.modality.axes import Axis, Inputs
from mmcore.model.roles import Role
from mmcore.options import whole
from mmcore.space import Space

ROLES = 3
LARGEST = 1 << 16
"""Most channels and layers of a backbone: a number beyond it is a slip, and no memory holds what it would build."""


def wrong_sizes(backbone: str, **sizes: int) -> list[OptionError]:
    """Refusals of those numbers of channels and layers that are none.

    Args:
        backbone: its name.
        sizes: its options.
    """
    return [
        OptionError(backbone, name, size, f"a whole number in 1 … {LARGEST}")
        for name, size in sizes.items()
        if not whole(1).holds(size) or size > LARGEST
    ]


def afford(backbone: str, *, width: int, depth: int, ends: int, block: int, tensors: int) -> None:
    """Refuse a network whose weights would take more than the limit, before any is made.

    Args:
        backbone: its name.
        width: of the hidden state.
        depth: how many blocks.
        ends: weights before and after them, about.
        block: weights of each, about.
        tensors: of each.

    Raises:
        OptionError: beyond the limit.
    """
    TENSORS.check(backbone, "depth", depth, depth * tensors)
    WEIGHTS.check(backbone, "width", width, 4 * (ends + depth * block), f" (weights; here depth = {depth})")


class TimestepEmbedding(nn.Module):
    """Embeds timesteps (sinusoidally) and roles: ``(B, width)``.

    Args:
        width: of the embedding, even.
        steps: ``T``.
        modalities: ``N``.
        blocks: ``K``, the number of timesteps.
    """

    def __init__(self, width: int, steps: int, modalities: int, blocks: int) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.steps, self.width = steps, width
        self.mix = nn.Sequential(nn.Linear(blocks * width, width), nn.SiLU(), nn.Linear(width, width))
        self.roles = nn.Linear(ROLES * modalities, width)
        # Smooth in t: no frequency turns by more than a fraction of a period between neighbouring timesteps.
        frequencies = 0.5 * math.pi * torch.exp(torch.linspace(0, math.log(100), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> Tensor:
        """The embedding of timesteps ``t (B, K)`` and ``roles (B, N)``."""
        c = self.mix(self._waves(t.to(dtype)).flatten(1))
        # By comparing, as one_hot looks for the largest first.
        each = roles[..., None] == torch.arange(ROLES, device=roles.device)
        return c + self.roles(each.to(dtype).flatten(1))

    def weight_axes(self) -> dict[str, Axis]:
        """A block that has nothing is told as one at ``T``, and a modality's role has a number of its own."""
        idle = self._waves(self.frequencies.new_full((1, 1), self.steps))[0, 0]
        absent = F.one_hot(torch.tensor(int(Role.ABSENT)), ROLES).to(idle)
        return {
            "mix.0.weight": Inputs("blocks", self.width, idle=idle, bias="mix.0.bias"),
            "roles.weight": Inputs("modalities", ROLES, idle=absent, bias="roles.bias"),
        }

    def _waves(self, t: Tensor) -> Tensor:
        """Timesteps ``(B, K)`` as waves, ``(B, K, width)``."""
        angle = (t / self.steps)[:, :, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=2)


class Local(nn.Module):
    """The way past the network: each place's own input, linearly, to its features.

    What a place shows of itself (a pixel's ink, its clean value once the noise is gone) need not pass
    through layers that see everything.
    """

    def __init__(self, space: Space, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * space.shape[0], features)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """``z (B, *Z)`` and ``condition (B, 2 C, *grid)`` to ``(B, features, *Z[1:])``."""
        return self.linear(torch.cat([z, condition], dim=1).movedim(1, -1)).movedim(-1, 1)

    def weight_axes(self) -> dict[str, Axis]:
        """Of each channel the noisy code, the known code and its flag."""
        return {"linear.weight": Inputs("channels", parts=3)}
