"""A dry run: everything built, some training steps, and of all else that a training does one, to tell how long it would take."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from safetensors.torch import save as to_bytes

from mmcore.config.resolve import Setup
from mmcore.data import Batches, Dataset, Table, TensorBatch, at_hand, open_loader
from mmcore.data.stream import head_of
from mmcore.model.devices import pick_device
from mmcore.model.joint import JointModel
from mmcore.progress import words
from mmcore.runs import pictures
from mmcore.runs.duration import Seconds, Share, by_rows, shares
from mmcore.runs.run import rows_with, use_threads
from mmcore.sampling.ask import sample
from mmcore.training import TrainState, training_step
from mmcore.training.draws import draws_globally
from mmcore.training.logs import peak_memory
from mmcore.training.precision import backbone_execution
from mmcore.training.saving import snapshot
from mmcore.training.validation import validation_losses

LONG = 3.0
"""Seconds of warm steps, and of samples, after which no further one is begun."""
MOST = 50
"""Warm steps at most."""


@attrs.frozen
class DryRun:
    """What each thing takes that a training does.

    Attributes:
        rows: of training data.
        space: of the diffusion.
        parameters: of each part, those that learn and those that do not.
        loss: of the first step, weighted.
        first_step: seconds of the first step, with its batch.
        step: seconds of a step after it, with its batch, when everything is warm: the median.
        warm: how many steps that is the median of.
        sampling: seconds of one sample.
        shares: of the training's time.
        memory: peak bytes, of the process or of the GPU.
        device: where it ran.
        threads: of the CPU.
        stream: whether the rows are the first ones of a stream.
    """

    rows: int
    space: tuple[int, ...]
    parameters: dict[str, tuple[int, int]]
    loss: float
    first_step: float
    step: float
    warm: int
    sampling: float
    shares: tuple[Share, ...]
    memory: int
    device: str
    threads: int
    stream: bool = False

    @property
    def training(self) -> float:
        """Seconds that the training would take."""
        return sum(share.whole for share in self.shares)

    def table(self) -> str:
        """As text for a terminal."""
        lines = [f"{'part':24}{'learns':>12}{'fixed':>12}"]
        lines += [f"{name:24}{learns:>12,}{fixed:>12,}" for name, (learns, fixed) in self.parameters.items()]
        learns, fixed = (sum(column) for column in zip(*self.parameters.values(), strict=True))
        lines += [f"{'all':24}{learns:>12,}{fixed:>12,}", ""]
        values = {
            "data": f"a stream, {self.rows:,} rows of it looked at" if self.stream else f"{self.rows:,} rows",
            "space": " × ".join(map(str, self.space)),
            "device": f"{self.device}, {self.threads} CPU thread{'s' * (self.threads > 1)}",
            "first step": f"{self.first_step * 1000:.0f} ms, loss {self.loss:.3f}",
            "next step": f"{self.step * 1000:.0f} ms{f', the median of {self.warm}' if self.warm > 1 else ''}",
            "one sample": f"{self.sampling * 1000:.0f} ms",
            "training": f"about {words(self.training)}: {', '.join(map(str, self.shares))}",
            "peak memory": f"{self.memory / 2**20:,.0f} MB",
        }
        return "\n".join([*lines, *(f"{name:16}{text}" for name, text in values.items())])


def dry_run(setup: Setup, before: float = 0.0) -> DryRun:
    """Build all, take some steps, and do once, or in part, whatever else the training does; nothing is written.

    Args:
        setup: the configuration.
        before: seconds that the program took to come so far, which a training's takes too.

    Raises:
        RequestError: data that do not fit.
        MmcoreError: a loss that is not finite.
    """
    begin = time.perf_counter()
    config = setup.config
    options = config.training
    use_threads(config.threads)
    device = pick_device(config.device)
    rows = setup.rows()
    setup = setup.measured(rows)
    model = setup.model()
    rows = rows_with(rows, model)
    held = at_hand(rows_with(setup.rows("validation"), model), config.data) if options.validate_every else None
    with backbone_execution(
        model.to(device).train().backbone,
        precision=options.precision,
        compiled=options.compile is True,
        activation_checkpointing=options.activation_checkpointing,
        draws=draws_globally(model),
    ):
        state = TrainState.start(model, options)
        loader = open_loader(rows, config.data, options.batch_size, options.seed)
        start = before + time.perf_counter() - begin
        steps, loss = _steps(state, loader, device)
        validation = 0.0 if held is None else _validation(state, held, device)
        checkpoint = _timed(device, lambda: _checkpoint(state, loader))
        state.use_average()
        how, n = config.sampling.how(), config.sampling.n

        def draw(count: int) -> float:
            return _timed(device, lambda: pictures.sheet(model.variables, sample(model, count, **how)))

        one, sheet, end = by_rows(draw, [1, min(n, 64), n], LONG)
    warm = statistics.median(steps[1:])
    seconds = Seconds(
        start=start, first=steps[0], step=warm, validation=validation, sheet=sheet, checkpoint=checkpoint, end=end
    )
    return DryRun(
        len(rows),
        model.space.shape,
        parameters(model),
        loss,
        steps[0],
        warm,
        len(steps) - 1,
        one,
        shares(options, seconds),
        peak_memory(device),
        str(device),
        torch.get_num_threads(),
        head_of(rows.source) is not None,
    )


def _steps(state: TrainState, loader: Batches, device: torch.device) -> tuple[list[float], float]:
    """Seconds of the first step and of some after it, and the first one's loss."""
    batches, times, loss = iter(loader), [], float("nan")
    while len(times) < 2 or (len(times) <= MOST and sum(times[1:]) < LONG):
        begin = _now(device)
        report = training_step(state, next(batches).to(device))
        times.append(_now(device) - begin)
        if len(times) == 1:
            loss = float((report.weights * report.by_task().nan_to_num()).sum())
    return times, loss


@attrs.frozen
class _Some:
    """The first rows of those that are read."""

    rows: Dataset | Table
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: Sequence[int]) -> TensorBatch:
        return self.rows.__getitems__(indices)


def _validation(state: TrainState, held: Dataset | Table, device: torch.device) -> float:
    """Seconds of a validation, by one batch of it."""
    size = state.options.batch_size
    some = _Some(held, min(len(held), size))
    with state.averaged() as model:
        one = _timed(device, lambda: validation_losses(model, some, state.options, state.ranks))
    return one * -(-len(held) // size)


def _checkpoint(state: TrainState, loader: Batches) -> None:
    """What a checkpoint takes but for the disk: a copy, and its bytes."""
    for content in snapshot(state, loader, {}).values():
        if all(isinstance(x, torch.Tensor) for x in content.values()):
            to_bytes({name: x.contiguous() for name, x in content.items()})


def _timed(device: torch.device, do: Callable[[], Any]) -> float:
    begin = _now(device)
    do()
    return _now(device) - begin


def parameters(model: JointModel) -> dict[str, tuple[int, int]]:
    """Of the backbone, each encoder and each head: how many parameters learn, and how many do not."""
    parts: dict[str, Any] = {f"encoder {name}": module for name, module in model.encoders.items()}
    parts |= {"backbone": model.backbone} | {f"head {name}": module for name, module in model.decoders.items()}
    counts = {}
    for name, module in parts.items():
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        counts[name] = (sum(n for n, learns in sizes if learns), sum(n for n, learns in sizes if not learns))
    return counts


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
