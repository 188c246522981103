"""One training step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NoReturn

import attrs
import torch
from torch import Tensor

from mmcore.data import TensorBatch
from mmcore.errors import MmcoreError
from mmcore.rng import Rng
from mmcore.training.ranks import divided, entire, local, lost, together
from mmcore.training.state import TrainState
from mmcore.training.weighting import WEIGHTINGS


@attrs.frozen(eq=False)
class StepReport:
    """What a step saw; nothing is summed before it can be logged.

    Attributes:
        losses: ``(B, tasks)`` nats of this rank's rows, zero where not counted.
        counts: ``(B, tasks)`` bool.
        t: ``(B, K)`` the rows' steps, one per block of the space.
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

    def by_task(self) -> Tensor:
        """Each task's mean over the rows of all ranks that count, ``(tasks,)``; NaN where none does."""
        return self.sums / self.rows


def training_step(state: TrainState, batch: TensorBatch) -> StepReport:
    """Draw clocks, roles and noise by counter, and take one optimizer step on ``batch``, this rank's rows.

    The loss is each task's mean, over the rows of all ranks where it counts, of ``λ_k(t) l_k`` (:mod:`mmcore.training.weighting`),
    weighted and summed. Every number is drawn for a row's place in the whole step, and every mean is over the whole step, so
    ranks and micro-batches change nothing but the order of sums.

    Raises:
        MmcoreError: an input, a loss or the gradient is not finite on some rank, memory is short, or a rank is lost; no rank takes
            the step.
    """
    drawn = _draw(state, batch)
    rows = _rows(state, drawn)
    while True:
        losses, weights = _backward(state, drawn, rows)
        norm = _gradient(state)
        # Summed over the ranks, what is not finite on one is so on all: they stop, or try again, together.
        found = state.ranks.sum(torch.cat([losses.sum(0), norm[None].to(losses.dtype)]))
        sums = found[:-1]
        # The one place where a step waits for the device, but for the inputs' check.
        *finite, bounded, long = torch.cat([found.isfinite(), norm[None] > state.options.clip]).tolist()
        finite = all(finite)
        if finite and bounded:
            break
        if not finite or not state.scaler.shrink():
            _explain(state, losses, sums, norm)
    _update(state, norm, long=long)
    return StepReport(losses, drawn.counts, drawn.t, weights, norm, sums, rows)


@attrs.frozen(eq=False)
class _Drawn:
    """A batch with what was drawn for it."""

    values: dict[str, Tensor]
    present: Tensor
    rng: Rng
    t: Tensor
    roles: Tensor
    seen: dict[str, Tensor] | None
    counts: Tensor

    def __getitem__(self, part: slice) -> "_Drawn":
        cut = lambda named: {name: x[part] for name, x in named.items()}  # noqa: E731
        return _Drawn(
            cut(self.values),
            self.present[part],
            attrs.evolve(self.rng, rows=self.rng.rows[part]),
            self.t[part],
            self.roles[part],
            None if self.seen is None else cut(self.seen),
            self.counts[part],
        )


def _draw(state: TrainState, batch: TensorBatch) -> _Drawn:
    model, options = state.model, state.options
    rng = state.rng(len(batch), batch.present.device)
    t = WEIGHTINGS[options.weighting].draw(model, rng.of("t"))
    roles = options.roles.draw(rng, batch.present, model.generable, model.encoded)
    seen = options.roles.draw_seen(rng, [m for m in model.modalities if model.divisible(m)])
    return _Drawn(batch.values, batch.present, rng, t, roles, seen, model.counts(roles))


def _rows(state: TrainState, drawn: _Drawn) -> Tensor:
    """How many rows of all ranks count for each task, ``(tasks,)``.

    Raises:
        MmcoreError: an input is not finite on some rank.
    """
    # Also where a row lacks a value: what its loss does not count, its gradient would still multiply by zero.
    real = {name: x for name, x in drawn.values.items() if x.is_floating_point()}
    # A sum is not finite where a term is not, and takes a fraction of the time to tell; it may also overflow.
    suspect = sum((~x.sum().isfinite() for x in real.values()), drawn.counts.new_zeros(()).long())
    total = state.ranks.sum(torch.cat([drawn.counts.sum(0), suspect[None]]))
    if total[-1]:
        wrong = {name: ~x.flatten(1).isfinite().all(1) for name, x in real.items()}
        if state.ranks.sum(torch.stack([rows.any() for rows in wrong.values()]).sum()):
            places = [
                f"{name!r} is not finite in row {at} of the batch"
                for name, rows in wrong.items()
                if (at := _place(state, rows))
            ]
            _stop(state, "; ".join(places) or "an input is not finite on another rank", "look into the data")
    return total[:-1]


def _backward(state: TrainState, drawn: _Drawn, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the whole step's loss, in micro-batches; the losses ``(B, tasks)`` and the tasks' weights."""
    options, ranks, mine = state.options, state.ranks, len(drawn.present)
    weighting, dtype = WEIGHTINGS[options.weighting], state.ema[next(iter(state.ema))].dtype
    cuts = [mine * i // options.accumulate for i in range(options.accumulate + 1)]
    pieces = [slice(low, high) for low, high in pairwise(cuts) if high > low]
    # Before the forward pass: the old gradient and the new activations are not in memory together.
    state.optimizer.zero_grad(set_to_none=True)
    found, weights = [], rows
    for at in pieces:
        part = drawn[at] if len(pieces) > 1 else drawn
        noise, blur = _noise(state, part.rng, dtype)
        with enough_memory(state, at), together(state.network, last=at is pieces[-1]):
            losses = state.network(
                part.values, part.t, part.roles, noise, part.seen, blur=blur, objective=weighting.objective
            )
            means = (losses * weighting.factors(state.model, part.t)).sum(0) / rows.clamp(min=1)
            weights, offset = state.task_weights(means)
            loss = (means * weights).sum()
            if offset is not None:
                # A task that no row counts for must not move its weight.
                loss = loss + (offset * (rows > 0)).sum() * (len(noise) / (mine * ranks.count))
            # The ranks' gradients are averaged, and their sum is wanted.
            (loss * (ranks.count * state.scaler.scale)).backward()
        found.append(losses.detach())
    return torch.cat(found) if len(found) > 1 else found[0], weights.detach()


def _noise(state: TrainState, rng: Rng, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Noise of the space, ``(B, *Z)``, and for the observed codes, ``(B, D)``, in one draw; None for none."""
    model, largest = state.model, state.options.condition_noise
    size = sum(math.prod(m.code) for m in model.modalities) if largest else 0
    noise, blur = rng.of("noise").normal(model.space.size + size, dtype=dtype).split([model.space.size, size], dim=1)
    noise = noise.reshape(-1, *model.space.shape)
    if not largest:
        return noise, None
    return noise, largest * rng.of("blur level").uniform(1).to(dtype) * blur


def _gradient(state: TrainState) -> Tensor:
    """Finish the gradient, the sum over all ranks and without the scaler's factor; returns its norm."""
    ranks = state.ranks
    grads = [p.grad for group in state.optimizer.param_groups for p in group["params"] if p.grad is not None]
    parts, undivided = [], grads
    if ranks.count > 1:
        # FSDP2 divides some of the weights, DDP none.
        parts, undivided = [g for g in grads if divided(g)], [g for g in grads if not divided(g)]
        # What lies outside the wrapped model, or could not be divided, has this rank's share alone.
        mine = undivided if parts else [p.grad for p in state.task_weights.parameters() if p.grad is not None]
        for g in mine:
            g.copy_(ranks.sum(g) / ranks.count)
    if state.scaler.scale != 1:
        torch._foreach_mul_([local(g) for g in grads], 1 / state.scaler.scale)  # type: ignore[reportPrivateImportUsage]
    norm = torch.zeros((), device=state.model.device)
    if undivided:
        # As torch's total norm, without sorting the gradients by device first: these are on one.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(undivided)))  # type: ignore[reportPrivateImportUsage]
    if parts:
        with lost():
            norm = torch.hypot(norm, entire(torch.nn.utils.get_total_norm(parts, foreach=True)))
    return norm


def _update(state: TrainState, norm: Tensor, *, long: bool) -> None:
    options, optimizer = state.options, state.optimizer
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    if long:
        longer = (norm + 1e-6) / options.clip
        if state.ranks.count == 1 and longer.dtype == torch.float32:
            # What torch's gradient scaler sets: the fused kernel divides by it as it reads, which spares a pass over the gradient.
            optimizer.grad_scale = longer  # type: ignore[attr-defined]
        else:  # the kernel takes it in single precision only, and not beside divided tensors
            grads = [local(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch._foreach_div_(grads, longer)  # type: ignore[reportPrivateImportUsage]
    for group in optimizer.param_groups:
        group["lr"] = options.rate(state.step)
    optimizer.step()
    _average(state)
    state.scaler.advance()
    state.step += 1


def _average(state: TrainState) -> None:
    """Every ``ema_every`` steps, and after the last, by the decays of the steps since: one pass over the weights for many steps."""
    options, done = state.options, state.step + 1
    since = done % options.ema_every or options.ema_every
    if since < options.ema_every and done < options.steps:
        return
    decay = math.prod(options.ema_decay(step) for step in range(done - since, done))
    live = [local(p.detach()) for name, p in state.model.named_parameters() if name in state.ema]
    torch._foreach_lerp_(  # type: ignore[reportPrivateImportUsage]
        [local(x) for x in state.ema.values()], live, 1 - decay
    )


def _explain(state: TrainState, losses: Tensor, sums: Tensor, norm: Tensor) -> NoReturn:
    what = []
    for k, task in enumerate(state.model.tasks):
        wrong = ~losses[:, k].isfinite()
        if at := _place(state, wrong):
            what.append(f"task {task.name!r} has loss {losses[wrong, k][0].item()} in row {at} of the batch")
    if not what and not sums.isfinite().all():
        what.append("a loss is not finite on another rank")
    if not what:
        what.append(f"the gradient's norm is {norm.item()}, every loss being finite")
    _stop(state, "; ".join(what), "try a lower lr")


def _place(state: TrainState, wrong: Tensor) -> str:
    """The first few places in the whole step where ``wrong (B,)`` holds."""
    at = [int(i) + state.ranks.rank * len(wrong) for i in wrong.nonzero()[:, 0]]
    return ", ".join(map(str, at[:8])) + (", …" if len(at) > 8 else "")


def _stop(state: TrainState, what: str, mend: str) -> NoReturn:
    who = f" on rank {state.ranks.rank}" if state.ranks.count > 1 else ""
    raise MmcoreError(f"training: at step {state.step}{who}, {what}; the step was not taken ({mend})")


@contextmanager
def enough_memory(state: TrainState, part: slice) -> Iterator[None]:
    """Says in one line what to try where a device's memory does not suffice for the rows ``part``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
        if not short:
            raise
        rows, options = part.stop - part.start, state.options
        if rows == 1:
            mend = "not even one row fits: try a smaller model, recompute = true or precision = 'bf16'"
        else:
            mend = (
                f"try batch_size = {max(state.ranks.count, options.batch_size // 2)}, or accumulate = {2 * options.accumulate}, "
                "which computes the same steps"
            )
        raise MmcoreError(
            f"training: at step {state.step}, {rows} rows at once do not fit the memory of {state.model.device}; {mend}"
        ) from error
