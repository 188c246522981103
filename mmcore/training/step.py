"""One training step."""

import attrs
import torch
from torch import Tensor

from mmcore.data import TensorBatch
from mmcore.errors import MmcoreError
from mmcore.rng import Rng
from mmcore.training.state import TrainState
from mmcore.training.weighting import WEIGHTINGS


@attrs.frozen(eq=False)
class StepReport:
    """What a step saw; nothing is summed before it can be logged.

    Attributes:
        losses: ``(B, tasks)`` nats, zero where not counted.
        counts: ``(B, tasks)`` bool.
        t: ``(B, K)`` the rows' steps, one per block of the space.
        weights: ``(tasks,)`` of the tasks in this step.
        grad_norm: of the whole gradient, before clipping.
    """

    losses: Tensor
    counts: Tensor
    t: Tensor
    weights: Tensor
    grad_norm: Tensor

    def by_task(self) -> Tensor:
        """Each task's mean over the rows that count, ``(tasks,)``; NaN where none does."""
        return self.losses.sum(0) / self.counts.sum(0)


def training_step(state: TrainState, batch: TensorBatch) -> StepReport:
    """Draw clocks, roles and noise by counter, and take one optimizer step on ``batch``.

    The loss is each task's mean, over the rows where it counts, of ``λ_k(t) l_k`` (:mod:`mmcore.training.weighting`), weighted
    and summed.

    Raises:
        MmcoreError: the loss or gradient is not finite; the step is not taken.
    """
    model, options, weighting = state.model, state.options, WEIGHTINGS[state.options.weighting]
    rng = Rng.for_rows(options.seed, len(batch), device=batch.present.device).at(state.step).of("train")
    t = weighting.draw(model, rng.of("t"))
    roles = options.roles.draw(rng, batch.present, model.generable, model.encoded)
    seen = options.roles.draw_seen(rng, [m for m in model.modalities if model.divisible(m)])
    noise = rng.of("noise").normal(*model.space.shape)
    losses = model(batch.values, t, roles, noise, seen, objective=weighting.objective)
    counts = model.counts(roles)
    means = (losses * weighting.factors(model, t)).sum(0) / counts.sum(0).clamp(min=1)
    weights, offset = state.task_weights(means)
    loss = (means * weights + offset).sum()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    if not norm.isfinite():
        _explain(state, losses.detach(), norm)
    if norm > options.clip:  # most steps need no pass over the gradient for it
        torch.nn.utils.clip_grads_with_norm_(parameters, options.clip, norm, foreach=True)
    for group in state.optimizer.param_groups:
        group["lr"] = options.rate(state.step)
    state.optimizer.step()
    _average(state)
    state.step += 1
    return StepReport(losses.detach(), counts, t, weights.detach(), norm)


def _average(state: TrainState) -> None:
    live = [p.detach() for name, p in state.model.named_parameters() if name in state.ema]
    torch._foreach_lerp_(  # type: ignore[reportPrivateImportUsage]
        list(state.ema.values()), live, 1 - state.options.ema_decay(state.step)
    )


def _explain(state: TrainState, losses: Tensor, norm: Tensor) -> None:
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        row, task = wrong[0].tolist()
        what = f"task {state.model.tasks[task].name!r} has loss {losses[row, task].item()} in row {row} of the batch"
    else:
        what = f"the gradient's norm is {norm.item()}, every loss being finite"
    raise MmcoreError(f"training: at step {state.step}, {what}; the step was not taken (try a lower lr)")
