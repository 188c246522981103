"""Roles: whether each modality is denoised, conditioned on or left out, and how training draws this."""

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from mmcore.options import Together, check, option, within
from mmcore.rng import Rng

if TYPE_CHECKING:
    from mmcore.modality.base import Modality


class Role(IntEnum):
    """Whether a modality is denoised, conditioned on, or left out."""

    GENERATE = 0
    """Denoised: its latent is in ``z_t``, the model must predict it, its loss counts."""
    OBSERVE = 1
    """Conditioned on: its clean latent and a mask are given to the network; no loss."""
    ABSENT = 2
    """Left out: neither in ``z_t``, nor in the condition, nor in the loss."""


_AT_MOST_ALL = Together(("joint", "single"), lambda joint, single: joint + single <= 1, "shares of at most 1 together")


@attrs.frozen
class RoleMix:
    """How often training asks for joint, conditional, marginal and inpainting rows.

    Attributes:
        joint: the share of samples whose present modalities are all generated.
        single: the share of samples that observe just one modality, drawn evenly, and generate the others. Of all questions these
            are asked most, and rows of independently drawn roles seldom are among them.
        absent: of the modalities not generated in the other samples, the share that is absent rather than observed.
        partial: of the generated modalities that can be observed in part, the share that is.
    """

    joint: float = option(0.3, rule=within(0, 1))
    single: float = option(0.3, rule=within(0, 1))
    absent: float = option(0.15, rule=within(0, 1))
    partial: float = option(0.0, rule=within(0, 1))

    def __attrs_post_init__(self) -> None:
        check(self, "roles", _AT_MOST_ALL)

    def draw(self, rng: Rng, present: Tensor, generable: Tensor, encoded: Tensor) -> Tensor:
        """Draw the roles of a batch: ``(B, V)`` int64.

        Outside the joint and single shares, each modality is generated with a probability that is itself
        drawn for the sample, so that questions with few and with many observations are as frequent.
        A sample always generates something that it has.

        Args:
            rng: for the batch's rows.
            present: ``(B, V)`` bool; what is missing is absent.
            generable: ``(V,)`` bool; what no task predicts is only observed.
            encoded: ``(V,)`` bool; what has no code is predicted wherever it is present.
        """
        u = rng.of("roles").uniform(3 + 2 * present.shape[1])
        kind, (pick, drop) = u[:, :1], u[:, 3:].chunk(2, dim=1)
        joint, can = kind < self.joint, generable & present
        # The one that a sample observes, evenly among those that it has and that have a code.
        eligible = present & encoded
        count = eligible.cumsum(1)
        observed = eligible & (count == (u[:, 2:3] * count[:, -1:]).long() + 1)
        single = (kind < self.joint + self.single) & ~joint
        generate = torch.where(single, ~observed, joint | (pick < u[:, 1:2])) & can
        none = ~(generate & encoded).any(1, keepdim=True)
        generate = generate | ((none | ~encoded) & can)
        hidden = torch.where((drop < self.absent) & ~single, Role.ABSENT, Role.OBSERVE)
        roles = torch.where(generate, Role.GENERATE, hidden)
        return torch.where(present, roles, Role.ABSENT)

    def draw_seen(self, rng: Rng, modalities: Sequence["Modality"]) -> dict[str, Tensor] | None:
        """Draw inpainting masks: which elements of generated modalities are observed, ``(B, *spec.shape)`` bool by name; None for none.

        In the ``partial`` share of the rows, squares (segments, cubes) of a drawn size are seen, each with
        a probability that is itself drawn, all channels alike.

        Args:
            rng: for the batch's rows.
            modalities: those that can be observed in part.
        """
        if not self.partial or not modalities:
            return None
        seen = {}
        for m in modalities:
            mask_rng = rng.of("seen").of(m.name)
            grid = _places(m)
            u = mask_rng.of("choice").uniform(3)
            sizes = [size for size in (1, 2, 4) if size <= max(grid, default=1)]
            chance, pick = u[:, 1], (u[:, 2] * len(sizes)).long()
            cells = mask_rng.of("cells").uniform(*grid)
            hit = torch.zeros(len(u), *grid, dtype=torch.bool, device=u.device)
            for choice, size in enumerate(sizes):
                coarse = cells
                for axis, n in enumerate(grid, start=1):
                    coarse = coarse.index_select(axis, torch.arange(n, device=u.device) // size * size)
                chosen = (coarse < _wide(chance, coarse)) & _wide(pick == choice, coarse)
                hit = hit | chosen
            hit = hit & _wide(u[:, 0] < self.partial, hit)
            seen[m.name] = hit.reshape(len(u), *[1] * (len(m.spec.shape) - len(grid)), *grid).expand(-1, *m.spec.shape)
        return seen


def _places(m: "Modality") -> tuple[int, ...]:
    """The axes of a sample's places: those of a spatial code behind its channels; beside a flat code all of one or two, of more all but the first."""
    shape, spatial = m.spec.shape, m.code[1:]
    if spatial and shape[len(shape) - len(spatial) :] == spatial:
        return spatial
    return shape[1:] if len(shape) > 2 else shape


def _wide(x: Tensor, like: Tensor) -> Tensor:
    return x.reshape(-1, *[1] * (like.ndim - 1))
