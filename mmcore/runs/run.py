"""A run: from a configuration to its folder, and from the folder back to its model, data and samples."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import torch

from mmcore import files as door
from mmcore.config import files
from mmcore.config.resolve import Setup, configured
from mmcore.data import Dataset
from mmcore.errors import ConfigError, MmcoreError, Problem, RequestError, plainly
from mmcore.files import expanded
from mmcore.modality.base import Modality
from mmcore.model.devices import pick_device
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.plugins.metadata import lines, one_line
from mmcore.runs import pictures, report
from mmcore.runs.samples import write_samples
from mmcore.sampling.ask import sample
from mmcore.store.folder import check_free, is_run
from mmcore.store.model import load
from mmcore.training import StepReport, TrainState, fit
from mmcore.training.saving import tell
from mmcore.training.trackers import trackers_for

CONFIG = "config.toml"


@attrs.frozen(eq=False, repr=False)
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
        folder = expanded(folder)
        if not (folder / CONFIG).is_file():
            fault = "there is no such folder" if not folder.is_dir() else f"it holds no {CONFIG}"
            if folder.is_file():
                fault = "it is a file, and a run is a folder, the one that its configuration calls out"
            mend = ""
            if (folder / "model" / "config.json").is_file():
                fault = f"it was trained in Python, by mmcore.fit, and holds no {CONFIG}"
                mend = "; mmcore sample, predict, play and evaluate --source take it as it is"
            elif is_run(folder):
                mend = "; one that mmcore.fit has begun goes on in Python, by fit(..., resume=True)"
            raise RequestError(f"run {folder}: {fault}, expected what mmcore train made{mend}")
        tables = files.read(folder / CONFIG)
        # A run may go on on another machine.
        tables["device"] = "auto"
        return cls(folder, configured(tables, where=str(folder / CONFIG), registry=registry, to_train=False))

    def __repr__(self) -> str:
        return plainly(f"<Run: {self.folder}, of {', '.join(m.name for m in self.setup.variables)}>")

    def model(self, device: str | torch.device = "auto") -> JointModel:
        """The trained model, in evaluation mode."""
        model_folder = self.folder / "model"
        if not model_folder.is_dir():
            raise RequestError(
                f"run {self.folder}: there is no model yet; go on with the training (mmcore train --resume)"
            )
        beside = [file.path for m in self.setup.variables for file in m.files.values() if file.path is not None]
        # Where the run's configuration names none, those of the environment.
        return load(model_folder, registry=self.setup.registry, device=str(pick_device(device)), beside=beside or None)

    def held_out(self) -> tuple[Dataset, str]:
        """Rows that training has not seen, and the name of their part: the test rows, or where there are none the validation rows.

        Raises:
            RequestError: there are neither.
        """
        for part in ("test", "validation"):
            try:
                return self.setup.rows(part), part
            except RequestError as error:
                refused = error
        raise RequestError(
            f"run {self.folder}: its data have neither test nor validation rows ({refused}); hold some out by "
            "data.split before training, or name rows by --source"
        )


def train(
    setup: Setup,
    *,
    resume: bool = False,
    replace: bool = False,
    accept_changes: bool = False,
    quiet: bool = False,
) -> Path:
    """Train by a configuration, into its folder; it ends with samples and a report.

    Args:
        setup: the configuration.
        resume: go on with the run that the folder holds.
        replace: remove the run that the folder holds.
        accept_changes: resume although the configuration has changed.
        quiet: show no progress.

    Returns:
        the folder.

    Raises:
        RequestError: the folder holds a run already, or with ``resume`` none or another one; data that do not fit.
        MmcoreError: the training failed.
    """
    use_threads(setup.config.threads)
    _check_folder(Path(setup.config.out), resume=resume, replace=replace)
    rows = setup.rows()
    setup = setup.measured(rows)
    config, folder = setup.config, Path(setup.config.out)
    sampling = config.sampling.how()
    validation = _held_out(setup) if config.training.validate_every else None
    model = setup.model()
    written = recorded(setup)
    first = int(os.environ.get("RANK", "0")) == 0
    if model.grown is not None and first and not (quiet or resume):
        print(lines(str(model.grown)), flush=True)

    def keep(state: TrainState, report: StepReport) -> None:
        # A folder that is refused, before the first step, keeps its configuration.
        nonlocal written
        if first and written:
            door.write(folder / CONFIG, written)
            written = b""

    def draw(model: JointModel, step: int) -> dict[str, Any]:
        return {"sheet": pictures.sheet(model.variables, sample(model, min(config.sampling.n, 64), **sampling))}

    fit(
        model,
        rows_with(rows, model),
        out=folder,
        options=config.training,
        device=config.device,
        validation=validation,
        loading=config.data,
        pictures=draw,
        watch=[keep],
        trackers=trackers_for(config.training.trackers, folder, setup.registry),
        quiet=quiet,
        resume=resume,
        replace=replace,
        accept_changes=accept_changes,
    )
    if first:
        answer = sample(model, config.sampling.n, **sampling)
        write_samples(folder / "samples", model, answer, {"n": config.sampling.n, **sampling})
        show_data(folder / "samples", model.variables, rows)
        report.write(folder)
    return folder


def show_data(folder: Path, variables: Sequence[Modality], rows: Any, count: int = 16) -> None:
    """Write ``data.png``: some rows as a model sees them, spread evenly over the data; none of a stream, or where no such row is whole.

    A row that cannot be read, and that the training did not come to, is told of: it does not undo what is done.

    Args:
        folder: where it goes.
        variables: the model's.
        rows: the training data.
        count: how many rows are looked at.
    """
    if not isinstance(rows, Dataset) or not len(rows):
        return
    try:
        batch = rows.take(sorted({k * len(rows) // count for k in range(count)}))
    except MmcoreError as error:
        tell(f"{folder / 'data.png'} is not written: {one_line(str(error))}")
        return
    whole = batch.present.all(1)
    if whole.any():
        values = {name: x[whole] for name, x in batch.values.items()}
        door.write(folder / "data.png", pictures.png(pictures.sheet(variables, values)))


def _check_folder(folder: Path, *, resume: bool, replace: bool) -> None:
    """Refuse a folder before anything is read: that of another run, or of files that are none of a run's.

    Raises:
        RequestError: naming a file, and what to do.
    """
    check_free(folder, resume=resume, replace=replace)
    for path in (folder / CONFIG, folder / report.PAGE):
        if not is_run(folder) and os.path.lexists(path):
            raise RequestError(
                f"training: {path} is there, where a run would write its own, and nothing says that a run has left it; choose another "
                "folder, or move the file away"
            )
    check_own(folder)
    report.check_own(folder)


_BEGINS = "# What a run of mmcore was made by, with every default stated.\n"
"""The first line of a configuration that a run has written."""


def recorded(setup: Setup) -> bytes:
    """A configuration as the run keeps it."""
    return f"{_BEGINS}{files.text(setup.recorded())}".encode()


def check_own(folder: Path) -> None:
    """Refuse to overwrite a configuration that no run has written, such as the user's own beside a run that was begun in Python.

    Raises:
        RequestError: there is one.
    """
    path = folder / CONFIG
    try:
        with door.opened(path) as file:
            found = file.read(len(_BEGINS))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise RequestError(f"training: {path} cannot be read: {error.strerror or error}") from error
    if not _BEGINS.encode().startswith(found):
        raise RequestError(
            f"training: {path} is there, and no run has written it; choose another folder, or move the file away"
        )


def _held_out(setup: Setup) -> Dataset:
    """The validation rows, before anything is written.

    Raises:
        ConfigError: the data have none.
    """
    try:
        return setup.rows("validation")
    except RequestError as error:
        words = "; ".join(map(str, error.problems)) if isinstance(error, ConfigError) else str(error)
        text = f"expected 0, or rows to validate on: {words}"
        problem = Problem("training.validate_every", text, setup.config.training.validate_every)
        raise ConfigError(setup.where, [problem]) from error


def rows_with(rows: Dataset, model: JointModel | Setup) -> Dataset:
    """The same rows, read by the variables of a model, or of a configuration whose statistics have been measured."""
    return Dataset(
        rows.source,
        model.variables,
        transforms=rows.transforms,
        seed=rows.seed,
        augment=rows.augment,
        on_bad_row=rows.on_bad_row,
        bad_row_limit=rows.bad_row_limit,
        unpaired=rows.unpaired,
    )


def use_threads(wanted: int) -> None:
    """Use so many threads of the CPU; for 0 as many as torch finds, by the cores or by ``OMP_NUM_THREADS``."""
    if wanted:
        torch.set_num_threads(wanted)
