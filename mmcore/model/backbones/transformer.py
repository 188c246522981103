"""A transformer over patches of the latents, with adaptive layer norm from the timestep and the roles.

After "Scalable Diffusion Models with Transformers" (Peebles and Xie 2023): each block's
scales, shifts and gates come from the embedding of ``t`` and of the roles, and start at the identity.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.errors import OptionError, refuse
from mmcore.modality.axes import Axis, Inputs, Places
from mmcore.model.backbones.parts import Local, TimestepEmbedding, afford, wrong_sizes
from mmcore.options import whole
from mmcore.space import Space


class Transformer(nn.Module):
    """A transformer over patches (DiT) as denoising network: noisy latents, timesteps, roles and conditioning to features.

    Args:
        space: the diffusion space, of one to three axes after the channels.
        modalities: ``N``.
        steps: ``T``.
        blocks: ``K``, the number of timesteps.
        width: of a token.
        depth: the number of blocks.
        heads: of the attention; divides ``width``.
        patch: places per axis in one token; by default 2 where it divides the grid, else 1.
        features: channels of the output at each place.
    """

    def __init__(
        self,
        *,
        space: Space,
        modalities: int,
        steps: int,
        blocks: int = 1,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        patch: int | None = None,
        features: int = 32,
    ) -> None:
        super().__init__()
        self.check(space=space, width=width, depth=depth, heads=heads, patch=patch, features=features)
        if patch is None:
            patch = 2 if all(S % 2 == 0 for S in space.grid) else 1
        self.grid, self.patch, self.features = space.grid, patch, features
        self.tokens = math.prod(S // patch for S in space.grid)
        cell = patch ** len(space.grid)
        self.read = nn.Linear(space.shape[0] * cell, width)
        self.observe = nn.Linear(2 * space.shape[0] * cell, width)
        # As large as what is read: attention must tell places apart from the first step on.
        self.position = nn.Parameter(0.5 * torch.randn(self.tokens, width))
        self.glance = _Glance(self.tokens, width)
        self.glance_known = _Glance(self.tokens, width)
        self.spread = _Spread(self.tokens, width)
        self.timestep = TimestepEmbedding(width, steps, modalities, blocks)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.write = nn.Linear(width, features * cell)
        self.local = Local(space, features)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        # The noisy space begins unseen: its noise would drown the timestep and the observations.
        nn.init.zeros_(self.glance.mix.weight)

    @staticmethod
    def check(*, space: Space, width: int, depth: int, heads: int, patch: int | None, features: int, **_: Any) -> None:
        """Refuse options of the constructor's without building anything.

        Raises:
            OptionError: with all that cannot be.
        """
        refused = wrong_sizes("transformer", width=width, depth=depth, heads=heads, features=features)
        if not refused and (width % heads or width % 2):
            expected = f"an even number that the heads divide (here heads = {heads})"
            refused.append(OptionError("transformer", "width", width, expected, beside=("heads",)))
        if patch is not None and (not whole(1).holds(patch) or any(S % patch for S in space.grid)):
            refused.append(
                OptionError("transformer", "patch", patch, f"a number that divides the space's grid {space.grid}")
            )
        refuse(refused)
        ends = (3 * space.size + math.prod(space.grid) * (features + 1)) * width
        afford("transformer", width=width, depth=depth, ends=ends, block=18 * width * width, tensors=10)

    def forward(
        self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor, ahead: tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """The features that decoders read.

        Args:
            z: ``(B, *Z)``, scaled to about unit variance.
            t: ``(B, K)`` timesteps, one per block of the space.
            roles: ``(B, N)`` int64, a :class:`mmcore.Role` each.
            condition: ``(B, 2 C, *Z[1:])``, the clean codes that are known beside ``z``, zero elsewhere; then flags
                that say where.
            ahead: what :meth:`ahead` gave of these timesteps and roles; by default it is worked out here.

        Returns:
            ``(B, features, *Z[1:])``.
        """
        (timed,) = self.ahead(t, roles, z.dtype) if ahead is None else ahead
        known = self.observe(self._patches(condition))
        x = self.read(self._patches(z))
        c = F.silu(timed + self.glance(x) + self.glance_known(known))
        x = x + known + self.position + self.spread(c)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulate(c)[:, None].chunk(2, dim=-1)
        x = self.write(self.norm(x) * (1 + scale) + shift)
        return self._unpatch(x) + self.local(z, condition)

    def ahead(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What timesteps ``t (R, K)`` and roles ``(R, N)`` fix, whatever the noisy latents: their embedding ``(R, width)``."""
        return (self.timestep(t, roles, dtype),)

    def weight_axes(self) -> dict[str, Axis]:
        """Of each channel the places of a patch; of tokens their places. A further block of the depth begins as the identity, as all blocks do."""
        cell, grid = self.patch ** len(self.grid), tuple(S // self.patch for S in self.grid)
        return {
            "read.weight": Inputs("channels", cell),
            "observe.weight": Inputs("channels", cell, parts=2),
            "position": Places(grid),
            "glance.places": Places(grid, summed=True),
            "glance_known.places": Places(grid, summed=True),
            "spread.places": Places(grid),
        }

    def _patches(self, z: Tensor) -> Tensor:
        """``(B, C, *grid)`` to ``(B, tokens, C * patch^axes)``."""
        axes = len(self.grid)
        split = [n for S in self.grid for n in (S // self.patch, self.patch)]
        z = z.reshape(len(z), -1, *split)
        order = [0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 2 + 2 * axes, 2)]
        return z.permute(order).reshape(len(z), self.tokens, -1)

    def _unpatch(self, x: Tensor) -> Tensor:
        """``(B, tokens, F * patch^axes)`` to ``(B, F, *grid)``."""
        axes = len(self.grid)
        x = x.reshape(len(x), *[S // self.patch for S in self.grid], self.features, *[self.patch] * axes)
        order = [0, axes + 1] + [axis for i in range(axes) for axis in (1 + i, axes + 2 + i)]
        return x.permute(order).reshape(len(x), self.features, *self.grid)


class _Glance(nn.Module):
    """A summary of all tokens, by a few learned weightings of their places: ``(B, tokens, width)`` to ``(B, width)``.

    A given label lies in a few tokens and moves the whole image; attention alone takes long to learn that.
    """

    def __init__(self, tokens: int, width: int, pools: int = 8) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(tokens, pools) / tokens**0.5)
        self.mix = nn.Linear(pools * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix((x.transpose(1, 2) @ self.places.to(x.dtype)).flatten(1))


class _Spread(nn.Module):
    """The way back: ``(B, width)`` to every token, ``(B, tokens, width)``."""

    def __init__(self, tokens: int, width: int, pools: int = 8) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(tokens, pools) / pools**0.5)
        self.mix = nn.Linear(width, pools * width)

    def forward(self, c: Tensor) -> Tensor:
        return self.places.to(c.dtype) @ self.mix(c).unflatten(1, (self.places.shape[1], -1))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(c)[:, None].chunk(6, dim=-1)
        y = torch.addcmul(shift1, self.norm(x), 1 + scale1)
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = torch.addcmul(x, gate1, y)
        y = torch.addcmul(shift2, self.norm(x), 1 + scale2)
        return torch.addcmul(x, gate2, self.down(F.silu(self.up(y))))
