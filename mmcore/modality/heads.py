"""Parts for decoders: from the backbone's features to a target's parameters."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.errors import RequestError
from mmcore.modality.axes import Axis, Places
from mmcore.space import Space


class SpatialHead(nn.Module):
    """A head from features on the latent grid to a map of any size with as many axes.

    Each place of the grid predicts a cell of the map (as many elements as are needed to cover
    it), and the middle is kept; a map smaller than the grid is averaged down.

    Args:
        width: the features' channels.
        space: the diffusion space.
        channels: of the map.
        size: of the map, one number per axis of the grid.
    """

    def __init__(self, width: int, space: Space, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        if len(size) != len(space.grid):
            raise RequestError(
                f"space {space.shape} has {len(space.grid)} axes, a map of size {size} needs {len(size)}"
            )
        self.size = size
        self.cell = tuple(-(-n // S) for n, S in zip(size, space.grid, strict=True))
        self.channels = channels
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, channels * math.prod(self.cell))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, width, *grid)`` to a map ``(B, channels, *size)``."""
        grid, axes = features.shape[2:], len(self.size)
        places = features.flatten(2).transpose(1, 2)
        y = self.out(F.silu(self.mix(places)) + places).transpose(1, 2).unflatten(2, grid)
        if math.prod(self.cell) > 1:
            # (B, C, r1, r2, S1, S2) -> (B, C, S1, r1, S2, r2)
            y = y.reshape(len(y), self.channels, *self.cell, *grid)
            order = [0, 1] + [axis for i in range(axes) for axis in (2 + axes + i, 2 + i)]
            y = y.permute(order).reshape(len(y), self.channels, *[S * r for S, r in zip(grid, self.cell, strict=True)])
        for axis, n in enumerate(self.size, start=2):
            S = y.shape[axis]
            if n != S and S % n == 0 and self.cell[axis - 2] == 1:
                y = y.unflatten(axis, (n, S // n)).mean(axis + 1)
            elif n != S:
                y = y.narrow(axis, (S - n) // 2, n)
        return y


class PooledHead(nn.Module):
    """A head from features on the latent grid to a flat vector, by learned pooling.

    A few learned weightings of the places pool the features; their concatenation passes one
    hidden layer.

    Args:
        width: the features' channels.
        space: the diffusion space.
        out: the vector's size.
        pools: how many weightings.
        hidden: the hidden layer's size.
    """

    def __init__(self, width: int, space: Space, out: int, *, pools: int = 8, hidden: int = 128) -> None:
        super().__init__()
        places, self.grid = math.prod(space.grid), space.grid
        self.pool = nn.Parameter(torch.randn(places, pools) / places**0.5)
        self.hidden = nn.Linear(width * pools, hidden)
        self.out = nn.Linear(hidden, out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, width, *grid)`` to a vector ``(B, out)``."""
        pooled = features.flatten(2) @ self.pool.to(features.dtype)
        return self.out(F.silu(self.hidden(pooled.flatten(1))))

    def weight_axes(self) -> dict[str, Axis]:
        """The weightings, of places."""
        return {"pool": Places(self.grid, summed=True)}
