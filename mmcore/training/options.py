"""Training options, checked when they are made."""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from mmcore.model.roles import RoleMix
from mmcore.options import FLAG, TEXT, Rule, above, by_kind, check, named, one_of, option, plain, whole, within
from mmcore.training.learning import LEARNS
from mmcore.training.precision import PRECISIONS, WHOLE
from mmcore.training.timesteps import TIMESTEPS
from mmcore.training.weighting import WEIGHTINGS, FixedWeights, LearnedWeights

PARALLEL = ("ddp", "fsdp")
TASK_WEIGHTS = {"fixed": FixedWeights, "learned": LearnedWeights}
_BETAS = Rule(
    "two numbers of at least 0 and below 1",
    lambda value: (
        isinstance(value, tuple | list) and len(value) == 2 and all(within(0, 1).holds(b) and b < 1 for b in value)
    ),
)


def _floats(values: Any) -> Any:
    """Numbers of a list as torch's optimizers want them, all of one kind; what is none stays as it is, for the rule."""
    values = plain(values)
    if not isinstance(values, tuple | list):
        return values
    return type(values)(float(one) if type(one) is int and abs(one) < 2**53 else one for one in values)


_COMPILE = Rule(
    f"true, false or one of {', '.join(WHOLE)}",
    lambda value: isinstance(value, bool) or (isinstance(value, str) and value in WHOLE),
)
_ROLES = Rule("a RoleMix", lambda value: isinstance(value, RoleMix))


@attrs.frozen
class TrainOptions:
    """Training options: optimizer, EMA, precision, parallelism, validation and checkpoints.

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
        condition_noise: conditioning augmentation (Ho et al. 2022, section 4), the largest standard deviation of noise on the codes that are observed, in
            training alone; each row's is drawn evenly up to it. With few rows, answers to what was never seen are better.
        weighting: of the steps, ``"simple"``, ``"snr"`` or ``"elbo"`` (:mod:`mmcore.training.weighting`).
        timesteps: ``"question"``, by what a row observes and generates (:mod:`mmcore.training.timesteps`), or ``"even"``; ``elbo`` draws its own.
        balance: how a task's losses are averaged over a step: ``"question"``, each kind of row by itself, then by their declared shares
            (:attr:`mmcore.RoleMix.shares`); or ``"rows"``, over all rows alike.
        learns: ``"all"``, or ``"new"``, only what the model's extension added (:func:`mmcore.extend`), and adapters put in since; the other weights keep their bytes.
        task_weights: ``"fixed"``, as the tasks say, or ``"learned"``, by their homoscedastic uncertainty.
        seed: of the data's order, noise, timesteps and roles.
        log_every: steps between two lines of ``metrics.jsonl``.
        accumulate: micro-batches that a rank's rows of a step are computed in, one after the other; the step is the same.
        precision: of the backbone, ``"float32"``, ``"bf16"`` or ``"fp16"``.
        compile: by ``torch.compile``: True, the backbone; ``"step"``, all of a step, as whole graphs; ``"graphs"``, the same, on a GPU each started as one (CUDA
            graphs).
        activation_checkpointing: compute the activations of the backbone's blocks again in the backward pass, for less memory.
        parallel: of several ranks, ``"ddp"`` or ``"fsdp"``.
        validate_every: steps between two validations; 0 for none.
        best: what the best model is chosen by, ``"total"`` or a task's name; the lowest validation loss wins.
        pictures_every: steps between two calls of ``pictures``; 0 for none.
        save_steps: steps between two checkpoints; 0 for none by steps.
        save_seconds: seconds between two checkpoints; 0 for none by time.
        keep: how many checkpoints stay.
        timeout: seconds in which a rank that does not answer is taken for lost.
        trackers: names of installed trackers, or tables with such a name as ``kind`` and the tracker's own options. None (left out) is
            ``["tensorboard"]`` where TensorBoard is installed and the run has a folder.
    """

    steps: int = option(1500, rule=whole(1))
    batch_size: int = option(64, rule=whole(1))
    lr: float = option(2e-3, rule=within(0, 1))
    warmup: float = option(0.1, rule=within(0, 1))
    betas: tuple[float, float] = option((0.9, 0.99), rule=_BETAS, converter=_floats)
    weight_decay: float = option(0.01, rule=within(0))
    clip: float = option(1.0, rule=above(0))
    ema: float = option(0.999, rule=within(0, 1))
    ema_every: int = option(10, rule=whole(1))
    roles: RoleMix = option(factory=RoleMix, rule=_ROLES)
    # Codes have about unit variance: more noise would leave nothing of them.
    condition_noise: float = option(0.0, rule=within(0, 10))
    weighting: str = option("simple", rule=one_of(*WEIGHTINGS))
    timesteps: str = option("question", rule=one_of(*TIMESTEPS))
    balance: str = option("question", rule=one_of("question", "rows"))
    learns: str = option("all", rule=one_of(*LEARNS))
    task_weights: str = option("fixed", rule=one_of(*TASK_WEIGHTS))
    seed: int = option(0, rule=whole())
    log_every: int = option(50, rule=whole(1))
    accumulate: int = option(1, rule=whole(1))
    precision: str = option("float32", rule=one_of(*PRECISIONS))
    compile: bool | str = option(False, rule=_COMPILE)
    activation_checkpointing: bool = option(False, rule=FLAG)
    parallel: str = option("ddp", rule=one_of(*PARALLEL))
    validate_every: int = option(0, rule=whole(0))
    best: str = option("total", rule=TEXT)
    pictures_every: int = option(0, rule=whole(0))
    save_steps: int = option(0, rule=whole(0), decides=False)
    save_seconds: float = option(60.0, rule=within(0), decides=False)
    keep: int = option(3, rule=whole(1), decides=False)
    timeout: float = option(600.0, rule=within(1), decides=False)
    trackers: tuple[str | Mapping[str, Any], ...] | None = option(
        None, converter=by_kind, rule=named("trackers").or_none(), decides=False
    )

    def __attrs_post_init__(self) -> None:
        check(self, "training")

    def deciding(self) -> dict[str, Any]:
        """The options on which a run's result depends, in JSON's types; the others may change from one session to the next."""
        free = {field.name for field in attrs.fields(type(self)) if not field.metadata.get("decides", True)}
        decisive = attrs.asdict(self, filter=lambda field, _: field.name not in free)
        return decisive | {"betas": list(self.betas)}

    def rate(self, step: int) -> float:
        """The learning rate of step ``0 … steps - 1``."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))

    def ema_decay(self, step: int) -> float:
        """The EMA's decay at a step: it forgets the initial weights fast, then settles at ``ema``."""
        return min(self.ema, (1 + step) / (10 + step))
