"""From roles and timesteps to the coefficients of every block, what the network is told, and which losses count."""

from collections.abc import Sequence
from typing import cast

import attrs
import torch
from torch import Tensor, nn

from mmcore.model.roles import Role
from mmcore.process import Blocks, Level
from mmcore.space import Space

DROWNED = 0.002
"""The power ``W_T²`` of a code at ``T`` below which the space at ``T`` counts as pure noise."""


@attrs.define(eq=False)
class Drive:
    """Coefficients of every block for a batch, by its rows' timesteps and roles.

    Attributes:
        t: ``(B, K)``, each block's timestep as the network is told: 0 where all the block has is observed, ``T`` where
            it has nothing.
        moves: ``(B, K)`` bool, the blocks that generate something.
        level: the marginal's coefficients. ``W (B, N)`` is ``W_t`` where a modality is generated, 1 in a block that is observed, else 0;
            ``σ (B, K)`` is ``σ_t``, 0 in an observed block, 1 in one that has nothing.
        scale: ``(B, K)``, what brings the space to unit variance for the network.
        condition: ``(B, N)`` bool, the encodings told to the network beside the space: those observed in a block that generates something, and those of which
            parts may be void.
        timesteps: ``(B, tasks)``, that of each target's block; a target without a code has none of its own, and its decoder is told
            that of the noisiest block that generates something.
        counts: ``(B, tasks)`` bool, the losses that count.
        shown: ``(B, N)`` bool, the modalities whose elements of the space tell the network something: those generated, but where the noise
            at ``T`` has drowned their codes, and those of observed blocks.
        known: ``(B, D)`` bool, the code elements that are known of generated modalities; None for none.
    """

    t: Tensor
    moves: Tensor
    level: Level
    scale: Tensor
    condition: Tensor
    timesteps: Tensor
    counts: Tensor
    shown: Tensor
    known: Tensor | None


class Driver(nn.Module):
    """Looks up every block's noise-schedule coefficients, from timesteps and roles; knows no network.

    Args:
        process: the forward process, of ``K`` blocks.
        space: the diffusion space.
        sizes: of the codes of the ``N`` modalities.
        targets: of each task the place of its target among the ``V`` variables, which begin with the modalities.
        variables: ``V``.
        discrete: of each modality, whether its values are classes.
        single: of each modality, whether a sample is one class.
        void: of each modality, whether elements of it may be void; none by default.

    Attributes:
        generable: ``(V,)`` bool, what some task recovers.
        encoded: ``(V,)`` bool, what has an encoding.
        discrete: ``(N,)`` bool, the modalities whose values are classes.
        single: ``(N,)`` bool, those of which a sample is one class, and nothing is left of its code at ``T``.
    """

    generable: Tensor
    encoded: Tensor
    discrete: Tensor
    single: Tensor

    def __init__(
        self,
        process: Blocks,
        space: Space,
        sizes: Sequence[int],
        targets: Sequence[int],
        variables: int,
        discrete: Sequence[bool],
        single: Sequence[bool],
        void: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        drowned = process.schedule.W[-1].square() < DROWNED
        self.process, self.modalities, self.sizes = process, len(sizes), tuple(sizes)
        n, block_of = len(sizes), process.block_of
        block_sizes = torch.tensor(process.channels)[block_of] * (space.size // space.shape[0])
        first = [c if c < n and list(targets).index(c) == k else n for k, c in enumerate(targets)]
        tables = {
            "generable": torch.tensor([i in targets for i in range(variables)]),
            "encoded": torch.arange(variables) < n,
            "discrete": torch.tensor(list(discrete)),
            "single": torch.tensor(list(single)) & drowned,
            "_drowned": drowned,
            # In a block that is observed nothing else says which elements are void.
            "_void": torch.tensor(list(void) or [False] * n),
            # d_i/d, the share of its block that a modality's code is.
            "_share": torch.tensor(sizes, dtype=torch.float64) / block_sizes,
            "_block_of": block_of,
            "_member": torch.nn.functional.one_hot(block_of, process.blocks).double(),
            "_targets": torch.tensor(targets, dtype=torch.int64),
            # What a task predicts, and whose share of L1 it has; N is no modality.
            "_coded": torch.tensor([min(column, n) for column in targets]),
            "_first": torch.tensor(first),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, t: Tensor, roles: Tensor, known: Tensor | None = None) -> Drive:
        """Noise-schedule coefficients of every block, from timesteps and roles.

        A block that generates something runs at its timestep; what is observed in it is told beside it. A block
        of which all that is there is observed holds the clean codes at timestep 0; one of which nothing is there holds
        noise at timestep ``T``.

        Args:
            t: ``(B, K)``, or ``(B,)`` for all blocks; values unchecked.
            roles: ``(B, V)``.
            known: ``(B, D)`` bool, the code elements of generated modalities that are known.
        """
        process = self.process
        t = t[:, None].expand(-1, process.blocks) if t.ndim == 1 else t
        generate, observe = self.are(roles, Role.GENERATE), self.are(roles, Role.OBSERVE)
        moves = self._any(generate)
        clean = self._any(observe) & ~moves
        timestep = torch.where(moves, t, torch.where(clean, 0, process.steps))
        level = process.level(timestep)
        W = level.W * generate
        still = observe & process.by_modality(clean)
        share = W.square() * cast(Tensor, self._share)
        if known is not None:
            parts = known.split(self.sizes, dim=1)
            share = share * torch.stack([1 - part.double().mean(1) for part in parts], dim=1)
        scale = (self._by_block(share) + level.sigma.square()).rsqrt()
        at_end = process.by_modality(timestep == process.steps) & cast(Tensor, self._drowned)
        noisiest = torch.where(moves, timestep, 0).amax(1, keepdim=True)
        by_modality = torch.cat([timestep.index_select(1, cast(Tensor, self._block_of)), noisiest], dim=1)
        sigma = torch.where(moves, level.sigma, torch.where(clean, 0.0, 1.0))
        return Drive(
            timestep,
            moves,
            Level(level.root_A, torch.where(still, 1.0, W), sigma),
            torch.where(moves, scale, 1.0),
            observe & (~still | cast(Tensor, self._void)),
            by_modality.index_select(1, cast(Tensor, self._coded)),
            self.counts(roles),
            (generate & ~at_end) | still,
            known,
        )

    def beginning(self, drive: Drive) -> Drive:
        """The coefficients where sampling begins: pure noise, ``N(0, I)``, and the clean latents of observed blocks."""
        sigma = drive.level.sigma
        still = sigma.index_select(1, cast(Tensor, self._block_of)) == 0
        level = Level(drive.level.root_A, torch.where(still, drive.level.W, 0.0), (sigma != 0).to(sigma.dtype))
        return attrs.evolve(drive, level=level)

    def one_class(self, roles: Tensor) -> Tensor:
        """Whether one class is all that a row generates, ``(B,)`` bool, for ``roles (B, V)``.

        At ``T`` the network's distribution is then the answer itself: nothing is left to be related to it on the way. A target without a code is something left: it is
        told of the class by the noisy code, and would be drawn beside it as if the two were independent.
        """
        generate = roles == Role.GENERATE
        return (generate.sum(1) == 1) & (self.are(roles, Role.GENERATE) & self.single).any(1)

    def are(self, roles: Tensor, role: Role) -> Tensor:
        """Which modalities have a role, ``(B, N)`` bool, of ``roles (B, V)``."""
        return roles[:, : self.modalities] == role

    def counts(self, roles: Tensor) -> Tensor:
        """Which task losses count in which row, ``(B, tasks)`` bool, for ``roles (B, V)``."""
        return roles.index_select(1, cast(Tensor, self._targets)) == Role.GENERATE

    def by_task(self, values: Tensor, uncoded: float) -> Tensor:
        """Reorder per-modality ``values (B, N)`` to the tasks that predict them, ``(B, tasks)``; ``uncoded`` for targets without a latent."""
        rest = values.new_full((len(values), 1), uncoded)
        return torch.cat([values, rest], dim=1).index_select(1, cast(Tensor, self._coded))

    def to_first_task(self, values: Tensor) -> Tensor:
        """Reorder per-modality ``values (B, N)`` to the first task that predicts each, ``(B, tasks)``; zero for other tasks."""
        return torch.cat([values, values.new_zeros(len(values), 1)], dim=1).index_select(1, cast(Tensor, self._first))

    def _by_block(self, values: Tensor) -> Tensor:
        """Sums ``(B, N)`` over each block's modalities: ``(B, K)``."""
        return values @ cast(Tensor, self._member).to(values.dtype)

    def _any(self, marks: Tensor) -> Tensor:
        """Whether ``marks (B, N)`` hold for any of a block's modalities: ``(B, K)`` bool."""
        return marks.any(1, keepdim=True) if self.process.blocks == 1 else self._by_block(marks.double()) > 0
