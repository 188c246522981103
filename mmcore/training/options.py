"""How to train: the options, checked when they are made."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import attrs

from mmcore.data.options import parts_by_kind
from mmcore.errors import RequestError
from mmcore.model.roles import RoleMix
from mmcore.training.precision import PRECISIONS
from mmcore.training.weighting import WEIGHTINGS, FixedWeights, LearnedWeights

PARALLEL = ("ddp", "fsdp")
TASK_WEIGHTS = {"fixed": FixedWeights, "learned": LearnedWeights}


FREE = {"decides": False}
"""Marks an option on which the result does not depend."""


@attrs.frozen
class TrainOptions:
    """How to train.

    Attributes:
        steps: of the optimizer.
        batch_size: rows per step, over all ranks.
        lr: the peak learning rate.
        warmup: the share of the steps in which the rate rises linearly; then it falls as a cosine to zero.
        betas: AdamW's.
        weight_decay: of matrices; vectors have none.
        clip: the largest norm of the gradient.
        ema: decay of the weights' average for each step; early on, less of the past is kept.
        ema_every: steps between two updates of the average, each by the decays of all steps since.
        roles: how roles are drawn.
        condition_noise: the largest standard deviation of noise on the codes that are observed, in training alone; each row's is drawn evenly
            up to it. With few rows, answers to what was never seen are better (conditioning augmentation, Ho et al. 2022, section 4).
        weighting: of the steps, ``"simple"``, ``"snr"`` or ``"elbo"`` (:mod:`mmcore.training.weighting`).
        task_weights: ``"fixed"``, as the tasks say, or ``"learned"``, by their homoscedastic uncertainty.
        seed: of the data's order, noise, clocks and roles.
        log_every: steps between two lines of ``metrics.jsonl``.
        accumulate: micro-batches that a rank's rows of a step are computed in, one after the other; the step is the same.
        precision: of the backbone, ``"float32"``, ``"bf16"`` or ``"fp16"``.
        compile: the backbone by ``torch.compile``.
        recompute: the activations of the backbone's blocks in the backward pass, in place of keeping them.
        parallel: of several ranks, ``"ddp"`` or ``"fsdp"``.
        validate_every: steps between two validations; 0 for none.
        best: what the best model is chosen by, ``"total"`` or a task's name; the lowest validation loss wins.
        pictures_every: steps between two calls of ``pictures``; 0 for none.
        save_steps: steps between two checkpoints; 0 for none by steps.
        save_seconds: seconds between two checkpoints; 0 for none by time.
        keep: how many checkpoints stay.
        workers: processes that read rows; 0: this one, as always where the rows are in memory.
        timeout: seconds in which a rank that does not answer is taken for lost.
        trackers: names of installed trackers, or tables with such a name as ``kind`` and the tracker's own options. None (left out) is
            ``["tensorboard"]`` where TensorBoard is installed and the run has a folder.
    """

    steps: int = 1500
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    ema_every: int = 10
    roles: RoleMix = attrs.field(factory=RoleMix)
    condition_noise: float = 0.0
    weighting: str = "simple"
    task_weights: str = "fixed"
    seed: int = 0
    log_every: int = 50
    accumulate: int = 1
    precision: str = "float32"
    compile: bool = False
    recompute: bool = False
    parallel: str = "ddp"
    validate_every: int = 0
    best: str = "total"
    pictures_every: int = 0
    save_steps: int = attrs.field(default=0, metadata=FREE)
    save_seconds: float = attrs.field(default=60.0, metadata=FREE)
    keep: int = attrs.field(default=3, metadata=FREE)
    workers: int = attrs.field(default=0, metadata=FREE)
    timeout: float = attrs.field(default=600.0, metadata=FREE)
    trackers: tuple[str | Mapping[str, Any], ...] | None = attrs.field(
        default=None,
        converter=lambda value: None if value is None else parts_by_kind("training: trackers", "trackers", value),
        metadata=FREE,
    )

    def __attrs_post_init__(self) -> None:
        least = dict.fromkeys(("steps", "batch_size", "ema_every", "log_every", "accumulate", "keep"), 1)
        least |= dict.fromkeys(("validate_every", "pictures_every", "save_steps", "workers"), 0)
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < low:
                raise RequestError(f"training: {name} = {value!r}, expected a whole number of at least {low}")
        limits = {"lr": (0.0, 1.0), "warmup": (0.0, 1.0), "ema": (0.0, 1.0), "timeout": (1.0, math.inf)}
        # Codes have about unit variance: more noise would leave nothing of them.
        limits |= {"condition_noise": (0.0, 10.0)} | dict.fromkeys(("weight_decay", "save_seconds"), (0.0, math.inf))
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, Real) or not low <= float(value) <= high:
                raise RequestError(f"training: {name} = {value!r}, expected a number in {low:g} … {high:g}")
        if not isinstance(self.clip, Real) or not float(self.clip) > 0:
            raise RequestError(f"training: clip = {self.clip!r}, expected a number above 0 (infinity: none)")
        if len(self.betas) != 2 or not all(isinstance(b, Real) and 0 <= float(b) < 1 for b in self.betas):
            raise RequestError(f"training: betas = {self.betas!r}, expected two numbers of at least 0 and below 1")
        if not isinstance(self.roles, RoleMix):
            raise RequestError(f"training: roles = {self.roles!r}, expected a RoleMix")
        choices = {"weighting": WEIGHTINGS, "task_weights": TASK_WEIGHTS, "precision": PRECISIONS, "parallel": PARALLEL}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise RequestError(f"training: {name} = {getattr(self, name)!r}, expected one of {', '.join(known)}")

    def deciding(self) -> dict[str, Any]:
        """The options on which a run's result depends, in JSON's types; the others may change from one session to the next."""
        free = {field.name for field in attrs.fields(type(self)) if field.metadata == FREE}
        found = attrs.asdict(self, filter=lambda field, _: field.name not in free)
        return found | {"betas": list(self.betas)}

    def rate(self, step: int) -> float:
        """The learning rate of step ``0 … steps - 1``."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def ema_decay(self, step: int) -> float:
        """The average's decay at a step: it forgets the initial weights fast, then settles at ``ema``."""
        return min(self.ema, (1 + step) / (10 + step))
