"""One training step."""

import attrs
import torch
from torch import Tensor

from mmcore.data import TensorBatch
from mmcore.errors import MmcoreError
from mmcore.model import JointModel
from mmcore.rng import Rng
from mmcore.training.state import TrainState


@attrs.frozen(eq=False)
class StepReport:
    """What a step saw; nothing is summed before it can be logged.

    Attributes:
        losses: ``(B, tasks)`` nats, zero where not counted.
        counts: ``(B, tasks)`` bool.
        t: ``(B, K)`` the rows' steps, one per block of the space.
        grad_norm: of the whole gradient, before clipping.
    """

    losses: Tensor
    counts: Tensor
    t: Tensor
    grad_norm: Tensor

    def by_task(self) -> Tensor:
        """Each task's mean over the rows that count, ``(tasks,)``; NaN where none does."""
        return self.losses.sum(0) / self.counts.sum(0)


def training_step(state: TrainState, batch: TensorBatch) -> StepReport:
    """Draw clocks, roles and noise by counter, and take one optimizer step on ``batch``.

    The objective is the ``simple`` one: each task's mean, over the rows where it counts, of
    ``λ_k(t) l_k`` (:func:`balance`), weighted and summed.

    Raises:
        MmcoreError: the loss or gradient is not finite; the step is not taken.
    """
    model, options = state.model, state.options
    rng = Rng.for_rows(options.seed, len(batch), device=batch.present.device).at(state.step).of("train")
    t = rng.of("t").integers(1, model.process.steps + 1, model.process.blocks)
    roles = options.roles.draw(rng, batch.present, model.generable, model.encoded)
    seen = options.roles.draw_seen(rng, model.modalities)
    noise = rng.of("noise").normal(*model.space.shape)
    losses = model(batch.values, t, roles, noise, seen)
    counts = model.counts(roles)
    weights = losses.new_tensor([task.weight for task in model.tasks])
    loss = ((losses * balance(model, t)).sum(0) / counts.sum(0).clamp(min=1) * weights).sum()
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
    return StepReport(losses.detach(), counts, t, norm)


def balance(model: JointModel, t: Tensor) -> Tensor:
    """``λ_k(t)`` of the ``simple`` objective at ``t (B, K)``, ``(B, tasks)``.

    A real-valued target's likelihood has a learned deviation, whose square falls with the noise
    about as ``σ_t² / (σ_t² + W_t²)``, the posterior variance of a standard normal code. This factor undoes it:
    the mean is trained by about its squared error at every ``t``, where else the nearly clean
    steps would drown the others. Discrete targets, and those without a code, have 1.
    """
    level = model.process.level(t)
    noise = level.sigma.square()[:, model.process.block_of.to(t.device)]
    share = noise / (noise + level.W.square())
    columns = []
    for task in model.tasks:
        target = model.variable(task.target if isinstance(task.target, str) else task.target.name)
        coded = target in model.modalities and not target.discrete
        columns.append(share[:, model.modalities.index(target)] if coded else torch.ones_like(share[:, 0]))
    return torch.stack(columns, dim=1).to(torch.get_default_dtype())


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
