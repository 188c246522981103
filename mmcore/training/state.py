"""What a training run is made of between two steps."""

import math
from typing import Self

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.model import JointModel
from mmcore.roles import RoleMix
from mmcore.training.weighting import WEIGHTINGS, FixedWeights, LearnedWeights

TASK_WEIGHTS = {"fixed": FixedWeights, "learned": LearnedWeights}


@attrs.frozen
class TrainOptions:
    """How to train.

    Attributes:
        steps: of the optimizer.
        batch_size: rows per step.
        lr: the peak learning rate.
        warmup: the share of the steps in which the rate rises linearly; then it falls as a cosine to zero.
        betas: AdamW's.
        weight_decay: of matrices; vectors have none.
        clip: the largest norm of the gradient.
        ema: decay of the weights' average; early on, less of the past is kept.
        roles: how roles are drawn.
        weighting: of the steps, ``"simple"``, ``"snr"`` or ``"elbo"`` (:mod:`mmcore.training.weighting`).
        task_weights: ``"fixed"``, as the tasks say, or ``"learned"``, by their homoscedastic uncertainty.
        seed: of the data's order, noise, clocks and roles.
        log_every: steps between two lines of ``metrics.jsonl``.
    """

    steps: int = 1500
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    roles: RoleMix = attrs.field(factory=RoleMix)
    weighting: str = "simple"
    task_weights: str = "fixed"
    seed: int = 0
    log_every: int = 50

    def __attrs_post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every"):
            if getattr(self, name) < 1:
                raise RequestError(f"training: {name} = {getattr(self, name)}, expected at least 1")
        for name, low, high in (("lr", 0.0, 1.0), ("warmup", 0.0, 1.0), ("ema", 0.0, 1.0), ("clip", 0.0, math.inf)):
            if not low <= getattr(self, name) <= high:
                raise RequestError(f"training: {name} = {getattr(self, name)}, expected {low} … {high}")
        for name, known in (("weighting", tuple(WEIGHTINGS)), ("task_weights", TASK_WEIGHTS)):
            if getattr(self, name) not in known:
                raise RequestError(f"training: {name} = {getattr(self, name)!r}, expected one of {', '.join(known)}")

    def rate(self, step: int) -> float:
        """The learning rate of step ``0 … steps - 1``."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def ema_decay(self, step: int) -> float:
        """The average's decay at a step: it forgets the initial weights fast, then settles at ``ema``."""
        return min(self.ema, (1 + step) / (10 + step))


@attrs.define(eq=False)
class TrainState:
    """The model, its optimizer and average, and how far training has come.

    Attributes:
        model: being trained.
        optimizer: AdamW over the trainable weights.
        ema: the average, by parameter name.
        task_weights: the factors of the tasks' losses.
        step: how many steps are done.
        options: how to train.
    """

    model: JointModel
    optimizer: torch.optim.Optimizer
    ema: dict[str, Tensor]
    task_weights: FixedWeights | LearnedWeights
    options: TrainOptions
    step: int = 0

    @classmethod
    def start(cls, model: JointModel, options: TrainOptions) -> Self:
        """The state before the first step."""
        weights = TASK_WEIGHTS[options.task_weights](model).to(model.device)
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in trainable.values() if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [*(p for p in trainable.values() if p.ndim <= 1), *weights.parameters()], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, fused=True)
        return cls(model, optimizer, {name: p.detach().clone() for name, p in trainable.items()}, weights, options)

    def use_average(self) -> None:
        """Put the averaged weights into the model."""
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if name in self.ema:
                    p.copy_(self.ema[name])
