"""One training step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import attrs
import torch
from torch import Tensor

from mmcore.data import TensorBatch
from mmcore.errors import MmcoreError, plainly
from mmcore.rng import Rng
from mmcore.training.draws import Draws, split
from mmcore.training.finite import Finding, explain, fine, found, inputs_wrong
from mmcore.training.precision import Compiled, dtype_of
from mmcore.training.ranks import full_tensor, gradient_synchronisation, is_sharded, local_shard, lost
from mmcore.training.state import TrainState
from mmcore.training.weighting import WEIGHTINGS


@attrs.frozen(eq=False, repr=False)
class StepReport:
    """Losses, counts and gradient norm of one training step.

    Attributes:
        losses: ``(B, tasks)`` nats of this rank's rows, zero where not counted.
        counts: ``(B, tasks)`` bool.
        t: ``(B, K)`` the rows' timesteps, one per block of the space.
        weights: ``(tasks,)`` of the tasks in this step.
        grad_norm: of the whole gradient, before clipping.
        sums: ``(tasks,)`` the losses' sums over all ranks.
        rows: ``(tasks,)`` how many rows of all ranks count.
    """

    losses: Tensor
    counts: Tensor
    t: Tensor
    weights: Tensor
    grad_norm: Tensor
    sums: Tensor
    rows: Tensor

    def __repr__(self) -> str:
        losses = ", ".join(f"{one:.4g}" for one in self.by_task().tolist())
        return plainly(f"<StepReport: {len(self.losses)} rows, mean loss by task {losses} nats>", 400)

    def by_task(self) -> Tensor:
        """Each task's mean loss over the rows of all ranks that count, ``(tasks,)``; NaN where none does."""
        return self.sums / self.rows


def training_step(state: TrainState, batch: TensorBatch, *, wait: bool = True) -> StepReport:
    """One optimizer step: draw timesteps, roles and noise, compute the losses, update weights and EMA.

    The loss is each task's mean, over the rows of all ranks where it counts, of ``λ_k(t) l_k`` (:mod:`mmcore.training.weighting`),
    weighted and summed. With ``balance="question"`` the mean is of the means over each kind of row, weighted by the kinds' declared shares. ``batch`` has this rank's rows. Every number is drawn by counter for a row's place in the whole step, and every
    mean is over the whole step, so ranks and micro-batches change nothing but the order of sums.

    A step in which an input, a loss or the gradient is not finite, on any rank, changes nothing: the device itself leaves weights, optimizer and EMA
    as they were. Without ``wait`` nothing of the step is read; what was wrong is told one step later, which is not taken either, or by
    :meth:`TrainState.settle`. In ``fp16``, and where weights are sharded, every step is waited for.

    Args:
        state: changed in place.
        batch: this rank's rows.
        wait: for the device, to tell at once whether the step was taken.

    Raises:
        MmcoreError: an input, a loss or the gradient is not finite on some rank, memory is short, or a rank is lost; no rank takes
            the step, and ``state.step`` is its number.
    """
    draws = state.draws(batch)
    rows, wrong = _rows(state, batch, draws)
    share_of_row = _shares(state, draws, rows)
    rows = rows.sum(0)
    for group in state.optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # where compiled: another number would be another graph
            group["lr"].fill_(state.options.rate(state.step))
        else:
            group["lr"] = state.options.rate(state.step)
    while True:
        with state.seeded():
            losses, weights = _backward(state, batch, draws, rows, share_of_row)
        norm, summed, told = state.compiled(_measured)(state, losses, wrong)
        finding = Finding.sent(state.step, batch.values, losses, told)
        if not (state.scaler.on or state.sharded) or finding.good():
            break
        if not finding.overflown() or not state.scaler.shrink():
            explain(state.model, state.ranks, finding)
    state.compiled(_clip)(state, norm, told)
    # One kernel of torch's for all weights, of which no graph can be made: its compiler knows no shapes for it.
    state.optimizer.step()
    _average(state)
    state.scaler.advance()
    state.step += 1
    # While this step is on its way.
    state.settle()
    state.finding = finding
    if wait:
        state.settle()
    return StepReport(losses, draws.drive.counts, draws.t, weights, norm, summed, rows)


def _shares(state: TrainState, draws: Draws, rows: Tensor) -> Tensor:
    """The share of each row's losses in their tasks' means, ``(B, tasks)``: over the rows of all ranks that count they add up to 1.

    Args:
        state: of the training.
        draws: of this rank's rows.
        rows: ``(kinds, tasks)``, how many rows of all ranks count.
    """
    if state.options.balance == "rows":
        return (1 / rows.sum(0).clamp(min=1)).expand_as(draws.factors)
    there = torch.where(rows > 0, state.shares[:, None], 0.0)
    # Kinds that this step has none of leave their share to the others.
    each = there / (rows.clamp(min=1) * there.sum(0).clamp(min=torch.finfo(there.dtype).tiny))
    return each[draws.kinds]


def _rows(state: TrainState, batch: TensorBatch, draws: Draws) -> tuple[Tensor, Tensor]:
    """How many rows of all ranks count for each task, by their kind, ``(kinds, tasks)``; and on how many ranks an input is not finite."""
    # By comparing, as one_hot looks for the largest first.
    kinds = draws.kinds[:, None] == torch.arange(len(state.shares), device=draws.kinds.device)
    counts = kinds.T.to(draws.factors.dtype) @ draws.drive.counts.to(draws.factors.dtype)
    total = state.ranks.sum(torch.cat([counts.flatten(), inputs_wrong(batch.values).to(counts.dtype)[None]]))
    return total[:-1].round().long().unflatten(0, (kinds.shape[1], -1)), total[-1]


def _backward(
    state: TrainState, batch: TensorBatch, draws: Draws, rows: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of the whole step's loss, in micro-batches; the losses ``(B, tasks)`` and the tasks' weights."""
    options = state.options
    cuts = [len(batch) * i // options.accumulate for i in range(options.accumulate + 1)]
    sizes = [high - low for low, high in pairwise(cuts) if high > low]
    pieces = [(batch.values, draws, shares)]
    if len(sizes) > 1:
        pieces = list(zip(split(batch.values, sizes), split(draws, sizes), split(shares, sizes), strict=True))
    # Before the forward pass: the old gradient and the new activations are not in memory together.
    state.optimizer.zero_grad(set_to_none=True)
    all_losses, weights = [], rows
    if isinstance(state.compiled, Compiled):
        state.compiled.begin()
    for k, (values, piece, share) in enumerate(pieces, start=1):
        with enough_memory(state, len(share)), gradient_synchronisation(state.network, last=k == len(pieces)):
            loss, losses, weights = state.compiled(_loss)(
                state, values, piece, piece.rng.key(), share, rows, len(share) / len(batch)
            )
            loss.backward()
        all_losses.append(losses.detach())
    return torch.cat(all_losses) if len(all_losses) > 1 else all_losses[0], weights.detach()


def _loss(
    state: TrainState, values: dict[str, Tensor], draws: Draws, key: Tensor, shares: Tensor, rows: Tensor, part: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What is differentiated of some rows, ``()``, their losses ``(B, tasks)``, and the tasks' weights.

    Args:
        state: of the training.
        values: of the rows, by variable.
        draws: of the rows.
        key: of their random numbers.
        shares: of each row's losses in their tasks' means, ``(B, tasks)``.
        rows: ``(tasks,)``, how many of the whole step count.
        part: how many of this rank's rows these are, as a share.
    """
    noise, condition_noise = _noise(state, draws, Rng.keyed(key, draws.rng.purpose))
    losses = state.network(
        values,
        draws.t,
        draws.roles,
        noise,
        draws.seen,
        condition_noise=condition_noise,
        objective=WEIGHTINGS[state.options.weighting].objective,
        drive=draws.drive,
    )
    means = (losses * draws.factors * shares).sum(0)
    weights, offset = state.task_weights(means)
    loss = (means * weights).sum()
    if offset is not None:
        # A task that no row counts for must not move its weight.
        loss = loss + (offset * (rows > 0)).sum() * (part / state.ranks.count)
    # The ranks' gradients are averaged, and their sum is wanted.
    scale = state.ranks.count * state.scaler.scale
    return (loss if scale == 1 else loss * scale), losses, weights


def _noise(state: TrainState, draws: Draws, rng: Rng) -> tuple[Tensor, Tensor | None]:
    """Noise of the space, ``(B, *Z)``, and for the observed codes, ``(B, D)``, in one draw; None for none."""
    model, largest, dtype = state.model, state.options.condition_noise, dtype_of(state.model)
    size = sum(math.prod(m.code) for m in model.modalities) if largest else 0
    noise, condition_noise = (
        rng.of("noise").normal(model.space.size + size, dtype=dtype).split([model.space.size, size], dim=1)
    )
    noise = noise.reshape(-1, *model.space.shape)
    return noise, largest * draws.level.to(dtype) * condition_noise if largest else None


def _measured(state: TrainState, losses: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient's norm, ``()``; over all ranks the tasks' losses, ``(tasks,)``; and all by which the step is judged, :func:`found`."""
    norm = _gradient(state)
    # Summed over the ranks, what is not finite on one is so on all: they stop, or try again, together.
    summed = state.ranks.sum(torch.cat([losses.sum(0), norm[None].to(losses.dtype)]))
    return norm, summed[:-1], found(summed, wrong)


def _gradient(state: TrainState) -> Tensor:
    """Finish the gradient, the sum over all ranks and without the scaler's factor; returns its norm."""
    ranks = state.ranks
    grads = [p.grad for group in state.optimizer.param_groups for p in group["params"] if p.grad is not None]
    sharded, unsharded = [], grads
    if ranks.count > 1:
        # FSDP2 shards some of the weights, DDP none.
        sharded, unsharded = [g for g in grads if is_sharded(g)], [g for g in grads if not is_sharded(g)]
        # What lies outside the wrapped model, or could not be sharded, has this rank's share alone.
        unsynchronised = (
            unsharded if sharded else [p.grad for p in state.task_weights.parameters() if p.grad is not None]
        )
        for g in unsynchronised:
            g.copy_(ranks.sum(g) / ranks.count)
    if state.scaler.scale != 1:
        torch._foreach_mul_([local_shard(g) for g in grads], 1 / state.scaler.scale)  # type: ignore[reportPrivateImportUsage]
    norm = torch.zeros((), device=state.model.device)
    if unsharded:
        # As torch's total norm, without sorting the gradients by device first: these are on one.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(unsharded)))  # type: ignore[reportPrivateImportUsage]
    if sharded:
        with lost():
            norm = torch.hypot(norm, full_tensor(torch.nn.utils.get_total_norm(sharded, foreach=True)))
    return norm


def _clip(state: TrainState, norm: Tensor, told: Tensor) -> None:
    """Tell the optimizer by what to shorten the gradient, and to do nothing if what was ``told`` of this step, or of one not yet read, is not finite."""
    options, optimizer = state.options, state.optimizer
    # Where it is 1, the optimizer's kernel changes nothing.
    state.fault.masked_fill_(~fine(told), 1.0)
    longer = torch.where(norm > options.clip, (norm + 1e-6) / options.clip, 1.0)
    if state.sharded or longer.dtype != torch.float32:
        # The kernel takes it in single precision only, and not beside sharded tensors.
        grads = [local_shard(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_div_(grads, longer)  # type: ignore[reportPrivateImportUsage]
    else:
        # What torch's gradient scaler sets: the fused kernel divides by it as it reads, which spares a pass over the gradient.
        optimizer.grad_scale.copy_(longer)  # type: ignore[attr-defined]


def _average(state: TrainState) -> None:
    """Every ``ema_every`` steps, and after the last, by the decays of the steps since: one pass over the weights for many steps."""
    options, done = state.options, state.step + 1
    since = done % options.ema_every or options.ema_every
    if since < options.ema_every and done < options.steps:
        return
    decay = math.prod(options.ema_decay(step) for step in range(done - since, done))
    live = {name: local_shard(p.detach()) for name, p in state.model.named_parameters() if name in state.ema}
    share = {dtype: ((1 - state.fault.double()) * (1 - decay)).to(dtype) for dtype in {x.dtype for x in live.values()}}
    for name, x in state.ema.items():
        local_shard(x).lerp_(live[name], share[live[name].dtype])


@contextmanager
def enough_memory(state: TrainState, rows: int) -> Iterator[None]:
    """Says in one line what to try where a device's memory does not suffice for so many rows."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
        if not short:
            raise
        options = state.options
        if rows == 1:
            mend = "not even one row fits: try a smaller model, activation_checkpointing = true or precision = 'bf16'"
        else:
            mend = (
                f"try batch_size = {max(state.ranks.count, options.batch_size // 2)}, or accumulate = {2 * options.accumulate}, "
                "which computes the same steps"
            )
        raise MmcoreError(
            f"training: at step {state.step}, {rows} rows at once do not fit the memory of {state.model.device}; {mend}"
        ) from error
