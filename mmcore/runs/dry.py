"""A dry run: everything built, one training step, one sample, and what they take."""

import sys
import time
from typing import Any

import attrs
import torch

from mmcore.config.resolve import Setup
from mmcore.data import open_loader
from mmcore.model.joint import JointModel
from mmcore.runs.run import rows_with, use_threads
from mmcore.sampling.ask import sample
from mmcore.training import TrainState, training_step
from mmcore.training.loop import pick_device


@attrs.frozen
class DryRun:
    """What one step and one sample took.

    Attributes:
        rows: of training data.
        space: of the diffusion.
        parameters: of each part, those that learn and those that do not.
        loss: of the first step, weighted.
        first_step: seconds of the first step, with its batch.
        step: seconds of the step after it, with its batch, when everything is warm.
        sampling: seconds of one sample.
        memory: peak bytes, of the process or of the GPU.
        device: where it ran.
        threads: of the CPU.
        steps: that the training would take.
    """

    rows: int
    space: tuple[int, ...]
    parameters: dict[str, tuple[int, int]]
    loss: float
    first_step: float
    step: float
    sampling: float
    memory: int
    device: str
    threads: int
    steps: int

    def table(self) -> str:
        """As text for a terminal."""
        lines = [f"{'part':24}{'learns':>12}{'fixed':>12}"]
        lines += [f"{name:24}{learns:>12,}{fixed:>12,}" for name, (learns, fixed) in self.parameters.items()]
        learns, fixed = (sum(column) for column in zip(*self.parameters.values(), strict=True))
        lines += [f"{'all':24}{learns:>12,}{fixed:>12,}", ""]
        values = {
            "data": f"{self.rows:,} rows",
            "space": " × ".join(map(str, self.space)),
            "device": f"{self.device}, {self.threads} CPU thread{'s' * (self.threads > 1)}",
            "first step": f"{self.first_step * 1000:.0f} ms, loss {self.loss:.3f}",
            "next step": f"{self.step * 1000:.0f} ms; {self.steps:,} steps would take about {_time(self.steps * self.step)}",
            "one sample": f"{self.sampling * 1000:.0f} ms",
            "peak memory": f"{self.memory / 2**20:,.0f} MB",
        }
        return "\n".join([*lines, *(f"{name:16}{text}" for name, text in values.items())])


def dry_run(setup: Setup) -> DryRun:
    """Build all, take one step and one more to time it, and draw one sample; nothing is written.

    Raises:
        RequestError: data that do not fit.
        MmcoreError: a loss that is not finite.
    """
    config = setup.config
    use_threads(config.threads)
    device = pick_device(config.device)
    rows = setup.rows()
    setup = setup.measured(rows)
    model = setup.model()
    rows = rows_with(rows, model)
    state = TrainState.start(model.to(device).train(), config.training)
    times = []
    loss = float("nan")
    batches = iter(open_loader(rows, config.data, config.training.batch_size, config.training.seed))
    while len(times) < 2:
        begin = _now(device)
        batch = next(batches)
        report = training_step(state, batch.to(device))
        times.append(_now(device) - begin)
        if len(times) == 1:
            loss = float((report.weights * report.by_task().nan_to_num()).sum())
    state.use_average()
    begin = _now(device)
    sample(model, 1, **config.sampling.how())
    sampling = _now(device) - begin
    return DryRun(
        len(rows),
        model.space.shape,
        parameters(model),
        loss,
        times[0],
        times[1],
        sampling,
        peak_memory(device),
        str(device),
        torch.get_num_threads(),
        config.training.steps,
    )


def parameters(model: JointModel) -> dict[str, tuple[int, int]]:
    """Of the backbone, each encoder and each head: how many parameters learn, and how many do not."""
    parts: dict[str, Any] = {f"encoder {name}": module for name, module in model.encoders.items()}
    parts |= {"backbone": model.backbone} | {f"head {name}": module for name, module in model.decoders.items()}
    counts = {}
    for name, module in parts.items():
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        counts[name] = (sum(n for n, learns in sizes if learns), sum(n for n, learns in sizes if not learns))
    return counts


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak so far: of the GPU's allocations, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # no POSIX
        return 0
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
