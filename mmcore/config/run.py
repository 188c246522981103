"""A run: from a configuration to its folder, and from the folder back to its model, data and samples."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmcore import checkpoint, pictures, report
from mmcore.config import files
from mmcore.config.resolve import Setup, resolve
from mmcore.errors import ConfigError, Problem, RequestError
from mmcore.model import JointModel
from mmcore.plugins import Registry
from mmcore.sampling import sample
from mmcore.training import StepReport, TrainState, fit
from mmcore.training.loop import pick_device

CONFIG = "config.toml"
FREE = ("out", "device", "threads", "sampling")
"""What a resumed run may be told anew: it changes no weight."""


@attrs.frozen(eq=False)
class Run:
    """The folder of a run, and the configuration it was made by.

    Attributes:
        folder: where it is; whatever ``out`` its configuration has.
        setup: its configuration.
    """

    folder: Path
    setup: Setup

    @classmethod
    def open(cls, folder: str | Path, registry: Registry) -> Self:
        """A run's folder.

        Raises:
            RequestError: it is none, or its configuration cannot be used here.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            found = "there is no such folder" if not folder.is_dir() else f"it holds no {CONFIG}"
            raise RequestError(f"run {folder}: {found}, expected what mmcore train made")
        tables = files.read(folder / CONFIG)
        # A run may go on on another machine.
        tables["device"] = "auto"
        return cls(folder, resolve(tables, where=str(folder / CONFIG), registry=registry))

    def model(self, device: str = "auto") -> JointModel:
        """The trained model, in evaluation mode."""
        where = self.folder / "model"
        if not where.is_dir():
            raise RequestError(
                f"run {self.folder}: there is no model yet; let the training end, or mmcore train --resume"
            )
        return checkpoint.load(where, registry=self.setup.registry, device=str(pick_device(device)))


def train(setup: Setup, *, resume: bool = False, quiet: bool = False) -> Path:
    """Train by a configuration, into its folder; it ends with samples and a report.

    Args:
        setup: the configuration.
        resume: go on with the run that the folder holds.
        quiet: show no progress.

    Returns:
        the folder.

    Raises:
        RequestError: the folder holds a run already, or with ``resume`` none or another one; data that do not fit.
        MmcoreError: the training failed.
    """
    config = setup.config
    folder = _claim(setup, resume)
    use_threads(config.threads)
    model = setup.model()
    rows = setup.rows(model)
    _replace(folder / CONFIG, files.text(setup.tables()).encode())
    sheets = Sheets(folder / "samples", config.sampling.every, min(config.sampling.n, 64), config.sampling.how())
    fit(model, rows, out=folder, options=config.training, device=config.device, watch=[sheets], quiet=quiet)
    answer = sample(model, config.sampling.n, **config.sampling.how())
    write_samples(folder / "samples", model, answer, {"n": config.sampling.n, **config.sampling.how()})
    report.write(folder)
    return folder


def _claim(setup: Setup, resume: bool) -> Path:
    """The run's folder, once it is clear that no other run is in it, or with ``resume`` just this one."""
    folder = Path(setup.config.out)
    old = folder / CONFIG
    if resume:
        if not old.is_file():
            raise RequestError(f"--resume: {folder} holds no run; leave --resume out to start one")
        there, here = files.read(old), json.loads(json.dumps(setup.tables()))
        problems = [
            Problem(key, f"the run in {folder} was started with {was}; put that back, or start another run", now)
            for key, was, now in _differences(there, here)
            if key.split(".")[0] not in FREE
        ]
        if problems:
            raise ConfigError("--resume", problems)
    elif old.exists():
        raise RequestError(f"{folder} holds a run already; go on with it by --resume, or choose another by --set out=…")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"out = {str(folder)!r} cannot be made: {error.strerror or error}") from error
    return folder


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], place: str = "") -> list[tuple[str, str, Any]]:
    found = []
    for key in dict.fromkeys([*there, *here]):
        was, now = there.get(key), here.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _differences(was, now, f"{place}{key}.")
        elif was != now:
            found.append((f"{place}{key}", json.dumps(was, default=str), now))
    return found


@attrs.define
class Sheets:
    """A watcher of training that draws a sheet of samples from the averaged weights, every so many steps.

    Attributes:
        folder: where sheets go.
        every: steps between two; 0 for none.
        n: samples on a sheet.
        how: arguments of :func:`mmcore.sample`.
    """

    folder: Path
    every: int
    n: int
    how: Mapping[str, Any]

    def __call__(self, state: TrainState, report: StepReport) -> None:
        """Called after every step."""
        if not self.every or state.step % self.every or state.step == state.options.steps:
            return
        live = {name: p.detach().clone() for name, p in state.model.named_parameters() if name in state.ema}
        state.use_average()
        answer = sample(state.model, self.n, **self.how)
        with torch.no_grad():
            for name, p in state.model.named_parameters():
                if name in live:
                    p.copy_(live[name])
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = pictures.sheet(state.model.variables, answer)
        _replace(self.folder / f"step-{state.step:07}.png", pictures.png(sheet))


def write_samples(
    folder: Path, model: JointModel, answer: Mapping[str, Tensor], question: Mapping[str, Any]
) -> list[Path]:
    """Write an answer: a sheet and a grid for each modality as PNG, the tensors, and what was asked and answered in words.

    Args:
        folder: where to; made if need be.
        model: that answered.
        answer: ``(n, *spec.shape)`` by name.
        question: what was asked, as plain values.

    Returns:
        the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {"samples.png": pictures.png(pictures.sheet(model.variables, answer))}
    words = {}
    for m in model.variables:
        if m.name not in answer:
            continue
        grid = pictures.grid(m, answer[m.name])
        if grid is not None:
            made[f"grid-{m.name}.png"] = pictures.png(grid)
        else:
            words[m.name] = [m.show(x) for x in answer[m.name]]
    made["samples.json"] = (json.dumps({**question, "answers": words}, indent=2) + "\n").encode()
    for name, data in made.items():
        _replace(folder / name, data)
    tensors = {name: x.contiguous() for name, x in answer.items()}
    save_file(tensors, folder / "samples.safetensors.part")
    os.replace(folder / "samples.safetensors.part", folder / "samples.safetensors")
    return [folder / name for name in (*made, "samples.safetensors")]


def use_threads(wanted: int) -> None:
    """Use so many threads of the CPU; for 0 as many as torch finds, by the cores or by ``OMP_NUM_THREADS``."""
    if wanted:
        torch.set_num_threads(wanted)


def _replace(path: Path, data: bytes) -> None:
    """Write a file in one go: whoever reads it finds the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
