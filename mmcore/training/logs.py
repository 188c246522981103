"""What a run writes down while it trains: JSON lines, and whatever trackers keep."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from mmcore import files
from mmcore.errors import MmcoreError, RequestError
from mmcore.store.reading import DamagedError, opened, parse_json
from mmcore.training.state import TrainState
from mmcore.training.step import StepReport
from mmcore.training.trackers import Trackers

SAME = ("metrics.jsonl", "validation.jsonl")
"""Files that have the same bytes for the same run; clock times have a file of their own."""
TIMING = "timing.jsonl"
_LINE = 16 << 20
"""The longest line of a log that is read, in bytes."""


@attrs.define
class Logs:
    """``metrics.jsonl``, ``validation.jsonl`` and ``timing.jsonl``, each line with its ``step``; the same figures go to trackers."""

    folder: Path | None
    trackers: Trackers
    started: float = attrs.field(factory=time.monotonic)

    @classmethod
    def open(cls, folder: Path | None, after: int | None, trackers: Trackers) -> "Logs":
        """Logs in ``folder``, or nowhere; new ones, or those of a run that goes on ``after`` a step."""
        if folder is None:
            return cls(None, trackers)
        try:
            for name in (*SAME, TIMING):
                path = folder / name
                kept = 0 if after is None or not os.path.lexists(path) else _until(path, after)
                # Cut where it is: on no file system does a kill lose a line by that.
                with files.edited(path) as file:
                    file.truncate(kept)
            return cls(folder, trackers)
        except DamagedError as error:
            raise RequestError(f"resume: {error}; move it away to go on without its lines") from error
        except OSError as error:
            raise MmcoreError(f"training: {folder} cannot be written: {error.strerror or error}") from error

    def step(self, state: TrainState, report: StepReport) -> None:
        """A line of ``metrics.jsonl`` for the step just taken."""
        if self.folder is None and not self.trackers:
            return
        columns = (report.by_task(), report.rows, report.weights)
        means = zip(state.model.tasks, *(column.tolist() for column in columns), strict=True)
        losses = {task.name: {"loss": x if count else None, "rows": count, "weight": w} for task, x, count, w in means}
        line = {
            "step": state.step,
            "loss": total(report),
            "tasks": losses,
            "grad_norm": report.grad_norm.item(),
            "lr": state.options.rate(state.step - 1),
        }
        self.write("metrics.jsonl", line)
        spent = {"seconds": round(time.monotonic() - self.started, 3), "memory": peak_memory(report.losses.device)}
        self.write(TIMING, {"step": state.step, **spent})
        figures = {"loss/total": line["loss"], "grad_norm": line["grad_norm"], "lr": line["lr"]}
        self.trackers.scalars(state.step, figures | {f"loss/{name}": part["loss"] for name, part in losses.items()})

    def write(self, name: str, line: Mapping[str, Any]) -> None:
        """One line of a file.

        Raises:
            MmcoreError: it cannot be written.
        """
        if self.folder is None:
            return
        try:
            files.append(self.folder / name, (json.dumps(line) + "\n").encode())
        except OSError as error:
            raise MmcoreError(f"training: {self.folder / name} cannot be written: {error.strerror or error}") from error

    def marks(self) -> dict[str, Any]:
        """Size and digest of the lines so far, by file."""
        if self.folder is None:
            return {}
        return {name: mark(_whole(self.folder / name)) for name in SAME}

    def flush(self) -> None:
        """See to it that the lines so far are on the disk."""
        if self.folder is not None:
            for name in SAME:
                files.sync(self.folder / name)


def total(report: StepReport) -> float:
    """The weighted sum of the tasks' losses."""
    return float((report.weights * report.by_task().nan_to_num()).sum())


def mark(lines: bytes) -> dict[str, Any]:
    """Size and digest of some lines."""
    return {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest()}


def _whole(path: Path) -> bytes:
    with files.opened(path) as file:
        return file.read()


def _until(path: Path, step: int) -> int:
    """The size of the whole lines of steps up to ``step``; a torn or foreign one ends them."""
    kept = 0
    with opened(path, follow=False) as file:
        while (line := file.readline(_LINE)).endswith(b"\n"):
            try:
                if parse_json(line, path)["step"] > step:
                    break
            except (DamagedError, KeyError, TypeError):
                break
            kept += len(line)
    return kept


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
