"""The training loop."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import torch

from mmcore.data import Loader, Table
from mmcore.errors import RequestError
from mmcore.model import JointModel
from mmcore.progress import Progress
from mmcore.training.state import TrainOptions, TrainState
from mmcore.training.step import StepReport, training_step

Watcher = Callable[[TrainState, StepReport], None]


def pick_device(name: str) -> torch.device:
    """``auto``: a GPU where there is one, else the CPU; or any of torch's names.

    Raises:
        RequestError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RequestError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def fit(
    model: JointModel,
    rows: Iterable[Mapping[str, Any]] | Table,
    *,
    out: str | Path | None = None,
    options: TrainOptions | None = None,
    device: str = "auto",
    watch: Iterable[Watcher] = (),
    quiet: bool = False,
    **changes: Any,
) -> TrainState:
    """Train a model; it ends with the averaged weights.

    Args:
        model: trained in place.
        rows: mappings from variable name to raw value (None or missing: the row lacks it), or a
            :class:`mmcore.data.Table` of them.
        out: a folder for ``metrics.jsonl``, ``timing.jsonl``, TensorBoard events and the model; none by default.
        options: how to train.
        device: ``"auto"`` or one of torch's names.
        watch: called after every step with the state and the step's report.
        quiet: show no progress.
        changes: single options, such as ``steps=500``.

    Returns:
        the state after the last step.

    Raises:
        RequestError: options, rows or a device that cannot be used.
        MmcoreError: a loss or gradient that is not finite.
    """
    try:
        options = attrs.evolve(options or TrainOptions(), **changes)
    except TypeError as error:
        known = ", ".join(field.name for field in attrs.fields(TrainOptions))
        raise RequestError(f"fit: {', '.join(changes)}: expected options among {known}") from error
    table = rows if isinstance(rows, Table) else Table.read(rows, model.variables)
    where = pick_device(device)
    model.to(where).train()
    state = TrainState.start(model, options)
    logs = Logs.open(Path(out) if out is not None else None)
    with logs, Progress("training", options.steps, quiet=quiet) as progress:
        for batch in Loader(table, options.batch_size, options.seed):
            report = training_step(state, batch.to(where))
            if state.step % options.log_every == 0 or state.step in (1, options.steps):
                logs.write(state, report)
                progress.update(state.step, loss=_total(report))
            for watcher in watch:
                watcher(state, report)
            if state.step == options.steps:
                break
    state.use_average()
    model.eval()
    if out is not None:
        from mmcore.checkpoint import save

        save(model, Path(out) / "model")
    return state


def _total(report: StepReport) -> float:
    return float((report.weights * report.by_task().nan_to_num()).sum())


@attrs.define
class Logs:
    """``metrics.jsonl`` (the same bytes for the same run), ``timing.jsonl`` and TensorBoard events."""

    folder: Path | None
    board: Any = None
    started: float = attrs.field(factory=time.monotonic)

    @classmethod
    def open(cls, folder: Path | None) -> "Logs":
        """Logs in ``folder``, or nowhere; TensorBoard's where it is installed."""
        if folder is None:
            return cls(None)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "timing.jsonl"):
            (folder / name).write_text("")
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            return cls(folder)
        return cls(folder, SummaryWriter(str(folder / "tensorboard")))

    def write(self, state: TrainState, report: StepReport) -> None:
        """One line for the step just taken."""
        if self.folder is None:
            return
        columns = (report.by_task(), report.counts.sum(0), report.weights)
        means = zip(state.model.tasks, *(column.tolist() for column in columns), strict=True)
        losses = {task.name: {"loss": x if count else None, "rows": count, "weight": w} for task, x, count, w in means}
        line = {
            "step": state.step,
            "loss": _total(report),
            "tasks": losses,
            "grad_norm": report.grad_norm.item(),
            "lr": state.options.rate(state.step - 1),
        }
        _append(self.folder / "metrics.jsonl", line)
        _append(
            self.folder / "timing.jsonl", {"step": state.step, "seconds": round(time.monotonic() - self.started, 3)}
        )
        if self.board is not None:
            self.board.add_scalar("loss/total", line["loss"], state.step)
            for name, part in losses.items():
                if part["loss"] is not None:
                    self.board.add_scalar(f"loss/{name}", part["loss"], state.step)
            self.board.add_scalar("grad_norm", line["grad_norm"], state.step)
            self.board.add_scalar("lr", line["lr"], state.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush what is left, also when a step fails."""
        if self.board is not None:
            self.board.close()


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
