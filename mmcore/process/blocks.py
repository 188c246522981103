"""Diffusion processes side by side: groups of latent channels (blocks), each with its modalities and a timestep of its own.

The blocks are ranges of the space's channels. Nothing couples them but the data, so every closed form of
:class:`Process` holds block by block; only the shape of timesteps and how a coefficient is widened differ.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcore.process.coefficients import Level, Timestep, _Tables
from mmcore.process.process import Process, _Wide
from mmcore.process.schedule import Schedule


class Blocks(Process):
    """Diffusion processes side by side: groups of latent channels, each with a timestep of its own.

    One process per block of the space. Methods are :class:`Process`'s with timesteps ``t (B, K)``, one per block (or one integer for all), and encodings
    ``(B, N, *Z)`` that are zero outside their modality's block. Coefficients of :meth:`level` and :meth:`jump` are ``(B, K)``.

    Args:
        schedules: one per block, all of the same ``T``.
        members: each block's modalities, as places in ``0 … N - 1``, in the order of its schedule's weights.
        channels: each block's number of channels, in the order of the space.

    Raises:
        ValueError: tables that do not fit each other.
    """

    timesteps = "(B, K)"

    def __init__(
        self, schedules: Sequence[Schedule], members: Sequence[Sequence[int]], channels: Sequence[int]
    ) -> None:
        columns = sorted(i for block in members for i in block)
        if not schedules or not len(schedules) == len(members) == len(channels) or columns != list(range(len(columns))):
            raise ValueError(
                f"blocks: found {len(schedules)} schedules, members {[list(b) for b in members]} and channels "
                f"{list(channels)}, expected one of each per block and every modality in exactly one block"
            )
        for b, (schedule, block) in enumerate(zip(schedules, members, strict=True)):
            if schedule.steps != schedules[0].steps or schedule.modalities != len(block):
                raise ValueError(
                    f"blocks: block {b} has a schedule of {schedule.steps} steps and {schedule.modalities} modalities, "
                    f"expected {schedules[0].steps} steps and {len(block)} modalities"
                )
        W = torch.zeros(schedules[0].steps + 1, len(columns), dtype=torch.float64)
        for schedule, block in zip(schedules, members, strict=True):
            W[:, list(block)] = schedule.W
        # The first block's schedule stands for all where only its name, its length or its start is asked.
        first = Schedule(schedules[0].log_A, W, schedules[0].name, schedules[0].eta)
        super().__init__(first, torch.stack([schedule.log_A for schedule in schedules], dim=1))
        self.schedules, self.members, self.channels = tuple(schedules), tuple(map(tuple, members)), tuple(channels)
        block_of = [next(b for b, m in enumerate(members) if i in m) for i in range(len(columns))]
        self._block_of = torch.tensor(block_of, dtype=torch.int64)
        self._block_of_channel = torch.arange(len(channels)).repeat_interleave(torch.tensor(self.channels))
        self._indices: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        return f"Blocks({self.schedule.name}, steps={self.steps}, modalities={self.modalities}, blocks={self.blocks})"

    @property
    def blocks(self) -> int:
        """The number of blocks, ``K``."""
        return len(self.schedules)

    @property
    def block_of(self) -> Tensor:
        """Each modality's block, ``(N,)``."""
        return self._block_of

    def widen(self, coefficient: Tensor, like: Tensor) -> Tensor:
        """Reshape per-row coefficients ``(B, K)`` to broadcast over a latent tensor ``like (B, C, *grid)``, by the channels' blocks; in its dtype."""
        if like.ndim < 2 or like.shape[1] != sum(self.channels):
            raise ValueError(
                f"blocks: found a tensor of shape {tuple(like.shape)}, expected (B, {sum(self.channels)}, …), as the blocks have "
                f"{' + '.join(map(str, self.channels))} channels"
            )
        by_channel = coefficient[:, 0] if self.blocks == 1 else coefficient[:, self._index(like.device)[1]]
        return super().widen(by_channel, like)

    def by_modality(self, coefficient: Tensor) -> Tensor:
        """For each modality the ``coefficient (B, K)`` of its block: ``(B, N)``."""
        if self.blocks == 1:
            return super().by_modality(coefficient[:, 0]).expand(-1, self.modalities)
        return coefficient[:, self._index(coefficient.device)[0]]

    def _look(self, table: Tensor, t: Tensor) -> Tensor:
        return table.gather(0, t)

    def _level(self, tables: _Tables, t: Tensor) -> Level:
        if self.blocks == 1:
            level = super()._level(tables, t[:, 0])
            return Level(level.root_A[:, None], level.W, level.sigma[:, None])
        of = tables.marginal
        return Level(self._look(of.root_A, t), self._weights(of.W, t), self._look(of.sigma, t))

    def _weights(self, W: Tensor, t: Tensor) -> Tensor:
        return W.gather(0, self.by_modality(t))

    def _wide(self, t: Timestep | Level, like: Tensor) -> _Wide:
        return super()._wide(self.level(t) if isinstance(t, Tensor) else t, like)

    def _index(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._indices:
            self._indices[device] = (self._block_of.to(device), self._block_of_channel.to(device))
        return self._indices[device]

    def timestep_shape(self, rows: int) -> tuple[int, ...]:
        """The shape of the timesteps of so many rows: ``(B, K)``."""
        return (*super().timestep_shape(rows), self.blocks)

    def half_log_snr(self, t: Timestep) -> Tensor:
        """Half the log signal-to-noise ratio as :meth:`Process.half_log_snr`, each block's from its own modalities: ``(B, K)``."""
        if isinstance(t, int):
            return super().half_log_snr(t)
        tables = self._on(t.device)
        log_A, W = self._look(tables.log_A, t), self._weights(tables.marginal.W, t)
        of = self._index(t.device)[0]
        signal = torch.zeros_like(log_A).index_add(1, of, W.square()).log()
        empty = torch.tensor([not block for block in self.members], device=t.device)
        return 0.5 * (torch.where(empty, log_A, signal) - (-torch.expm1(log_A)).log())
