"""Roles: what each modality is to each sample, and how training draws them."""

from enum import IntEnum

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.rng import Rng


class Role(IntEnum):
    """What a modality is to a sample."""

    GENERATE = 0
    """Its encoding drives ``z_t``, the model must recover it, its loss counts."""
    OBSERVE = 1
    """Known: its clean code and a flag are given to the network; no loss."""
    ABSENT = 2
    """Not there: neither in ``z_t``, nor in the condition, nor in the loss."""


@attrs.frozen
class RoleMix:
    """How training draws roles.

    Attributes:
        joint: the share of samples whose present modalities are all generated.
        absent: of the modalities not generated in the others, the share that is absent rather than observed.
    """

    joint: float = 0.4
    absent: float = 0.15

    def __attrs_post_init__(self) -> None:
        for name in ("joint", "absent"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"roles: {name} is {getattr(self, name)}, expected a share in 0 … 1")

    def draw(self, rng: Rng, present: Tensor, generable: Tensor, encoded: Tensor) -> Tensor:
        """Roles for a batch: ``(B, V)`` int64.

        Outside the joint share, each modality is generated with a probability that is itself
        drawn for the sample, so that questions with few and with many observations are as frequent.
        A sample always generates something that it has.

        Args:
            rng: for the batch's rows.
            present: ``(B, V)`` bool; what is missing is absent.
            generable: ``(V,)`` bool; what no task predicts is only observed.
            encoded: ``(V,)`` bool; what has no code is predicted wherever it is present.
        """
        u = rng.of("roles").uniform(2 + 2 * present.shape[1])
        keep = torch.where(u[:, :1] < self.joint, torch.ones_like(u[:, :1]), u[:, 1:2])
        pick, drop = u[:, 2:].chunk(2, dim=1)
        generate = (pick < keep) & generable & present
        none = ~(generate & encoded).any(1, keepdim=True)
        generate = generate | ((none | ~encoded) & generable & present)
        hidden = torch.where(drop < self.absent, Role.ABSENT, Role.OBSERVE)
        roles = torch.where(generate, Role.GENERATE, hidden)
        return torch.where(present, roles, Role.ABSENT)
