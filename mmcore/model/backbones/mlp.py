"""A residual MLP over all latent elements, with adaptive layer norm from the timestep and the roles.

For small spaces: every layer sees every place, which a transformer over patches has to learn. The blocks
share one modulation (adaLN-single, "PixArt-α", Chen et al. 2024), to which each adds one of low rank (adaLN-LoRA, "Cosmos", NVIDIA 2025).
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.errors import OptionError, refuse
from mmcore.modality.axes import Axis, Inputs, Rows, Still
from mmcore.model.backbones.parts import Local, TimestepEmbedding, afford, wrong_sizes
from mmcore.space import Space


class Mlp(nn.Module):
    """A residual MLP as denoising network: noisy latents, timesteps, roles and conditioning to features.

    Args:
        space: the diffusion space, of one to three axes after the channels.
        modalities: ``N``.
        steps: ``T``.
        blocks: ``K``, the number of timesteps.
        width: of the hidden state.
        depth: the number of blocks.
        features: channels of the output at each place.
        rank: of what each block adds to the shared modulation.
        gates: whether what is read of the space and of the condition is scaled by timestep and roles. Near ``T`` the noisy space says nothing,
            but fills as much of the hidden state as the condition does.
    """

    def __init__(
        self,
        *,
        space: Space,
        modalities: int,
        steps: int,
        blocks: int = 1,
        width: int = 256,
        depth: int = 4,
        features: int = 16,
        rank: int = 32,
        gates: bool = False,
    ) -> None:
        super().__init__()
        self.check(space=space, width=width, depth=depth, features=features, rank=rank)
        self.features, self.grid, self.rank = features, space.grid, rank
        places = space.size // space.shape[0]
        self.read = nn.Linear(space.size, width)
        self.observe = nn.Linear(2 * space.size, width)
        self.timestep = TimestepEmbedding(width, steps, modalities, blocks)
        self.gates = nn.Linear(width, 2 * width) if gates else None
        self.modulates = nn.Linear(width, 3 * width)
        self.reduce = nn.Linear(width, depth * rank, bias=False)
        self.blocks = nn.ModuleList(_Block(width, rank) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.write = nn.Linear(width, features * places)
        self.local = Local(space, features)
        for layer in (self.gates, self.modulates, self.modulate):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    @staticmethod
    def check(*, space: Space, width: int, depth: int, features: int, rank: int, **_: Any) -> None:
        """Refuse options of the constructor's without building anything.

        Raises:
            OptionError: with all that cannot be.
        """
        refused = wrong_sizes("mlp", width=width, depth=depth, features=features, rank=rank)
        if not refused and width % 2:
            refused.append(OptionError("mlp", "width", width, "an even number"))
        refuse(refused)
        ends = (3 * space.size + features * math.prod(space.grid)) * width
        afford("mlp", width=width, depth=depth, ends=ends, block=width * (8 * width + 4 * rank), tensors=6)

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
        depth = len(self.blocks)
        if ahead is None:
            gains, end, shared, reduced = self._timed(t, roles, z.dtype)
            told: list[tuple[Tensor, ...]] = [(shared, own) for own in reduced]
        else:
            gains, end, made = ahead[: -2 - 3 * depth], ahead[-2 - 3 * depth : -3 * depth], ahead[-3 * depth :]
            told = [made[k : k + 3] for k in range(0, 3 * depth, 3)]
        noisy, known = self.read(z.flatten(1)), self.observe(condition.flatten(1))
        if gains:
            noisy, known = noisy * gains[0], known * gains[1]
        x = noisy + known
        for block, of_block in zip(self.blocks, told, strict=True):
            x = block(x, *of_block)
        shift, scale = end
        y = self.write(self.norm(x) * scale + shift)
        return y.unflatten(1, (self.features, *self.grid)).add_(self.local(z, condition))

    def ahead(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What timesteps ``t (R, K)`` and roles ``(R, N)`` fix, whatever the noisy latents: all scales, shifts and gates, each ``(R, width)``."""
        gains, end, shared, reduced = self._timed(t, roles, dtype)
        blocks = cast(Sequence[_Block], self.blocks)
        made = [block.modulation(shared, own) for block, own in zip(blocks, reduced, strict=True)]
        return (*gains, *end, *(x for of_block in made for x in of_block))

    def _timed(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Any, Any, Tensor, Sequence[Tensor]]:
        """The gains of what is read, the last shift and scale, and what the blocks' own are made of."""
        c = F.silu(self.timestep(t, roles, dtype))
        gains = () if self.gates is None else tuple(1 + x for x in self.gates(c).chunk(2, dim=-1))
        shift, scale = self.modulate(c).chunk(2, dim=-1)
        return gains, (shift, 1 + scale), self.modulates(c), self.reduce(c).chunk(len(self.blocks), dim=1)

    def weight_axes(self) -> dict[str, Axis]:
        """Of each channel all its places; of each block its rank."""
        places = math.prod(self.grid)
        return {
            "read.weight": Inputs("channels", places),
            "observe.weight": Inputs("channels", places, parts=2),
            "reduce.weight": Rows(tuple(map(str, range(len(self.blocks)))), self.rank),
        }


class _Block(nn.Module):
    """Shifted, scaled and gated as all blocks are, but for its own part of low rank."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.own = nn.Linear(rank, 3 * width)
        nn.init.zeros_(self.own.weight)
        nn.init.zeros_(self.own.bias)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def weight_axes(self) -> dict[str, Axis]:
        """The modulation is shared, so that a further block is the identity only by what it writes."""
        return {"down.weight": Still(), "down.bias": Still()}

    def modulation(self, shared: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, scale and gate, by what all blocks share and the own part of low rank."""
        shift, scale, gate = self.own(own).add_(shared).chunk(3, dim=-1)
        return shift, 1 + scale, gate

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        """A block: ``told`` is what :meth:`modulation` is made of, two tensors, or what it has made, three."""
        # Where weights are sharded block by block, only in here they are whole.
        shift, scale, gate = told if len(told) == 3 else self.modulation(*told)
        y = torch.addcmul(shift, self.norm(x), scale)
        # In place where nothing is recorded: it is the largest tensor of all.
        y = F.silu(self.up(y), inplace=not torch.is_grad_enabled())
        return torch.addcmul(x, gate, self.down(y))
