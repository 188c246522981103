"""Modalities whose figures of calibration are wrong, each by one thing."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.modality import Calibration
from mmcore.modality.calibration import CONFIDENCES, RANKS, Calibrates


def judged(change: Callable[[Any, Calibration, Tensor, Tensor], Calibration]) -> Callable[..., Calibration]:
    """A ``calibration`` that changes what the default answers."""

    def calibration(self: Any, draws: Tensor, truth: Tensor) -> Calibration:
        return change(self, Calibrates.calibration(self, draws, truth), draws, truth)

    return calibration


def scored(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Calibration]:
    """One score in place of all, of draws ``(M, B, k)`` and truth ``(B, k)``."""
    return judged(
        lambda self, found, draws, truth: attrs.evolve(
            found,
            scores={
                "score": score(draws.double().reshape(*draws.shape[:2], -1), truth.double().reshape(len(truth), -1))
            },
        )
    )


def _apart(draws: Tensor) -> Tensor:
    """The sum of the distances between draws, ``(B,)``."""
    return (draws[:, None] - draws[None]).norm(dim=-1).sum((0, 1))


batch_average = judged(
    lambda self, found, draws, truth: attrs.evolve(
        found, scores={name: x.mean().expand(len(x)) for name, x in found.scores.items()}
    )
)
error_alone = scored(lambda x, y: (x - y).norm(dim=-1).mean(0))
spread_pays = scored(lambda x, y: (x - y).norm(dim=-1).mean(0) - _apart(x) / (len(x) * (len(x) - 1)))
few_draws = scored(lambda x, y: (x - y).norm(dim=-1).mean(0) - _apart(x) / (2 * len(x) ** 2))
says_nothing = scored(lambda x, y: torch.zeros(len(y)))


@judged
def too_few_ranks(self: Any, found: Calibration, draws: Tensor, truth: Tensor) -> Calibration:
    """Ranks in as many places as there are draws, for one more value."""
    below = (draws < truth).sum(0).reshape(len(truth), -1)
    at = (below * RANKS // len(draws)).clamp(max=RANKS - 1)
    counts = torch.zeros(len(truth), RANKS, dtype=torch.float64).scatter_add_(1, at, torch.ones(at.shape).double())
    return attrs.evolve(found, ranks={"": counts})


@judged
def chosen_and_told(self: Any, found: Calibration, draws: Tensor, truth: Tensor) -> Calibration:
    """The confidence as the share of all draws that chose the class."""
    shares = torch.stack([(draws == one).double().mean(0) for one in draws])
    confidence, which = shares.max(0)
    right = (draws.gather(0, which[None])[0] == truth).double()
    at = (confidence * CONFIDENCES).ceil().long().sub(1).clamp(min=0)
    told = torch.zeros(len(truth), CONFIDENCES, 3, dtype=torch.float64)
    told[torch.arange(len(truth)), at] = torch.stack([torch.ones_like(right), confidence, right], 1)
    return attrs.evolve(found, reliability={"": told})
