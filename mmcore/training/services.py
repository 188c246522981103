"""Trackers of experiment servers: trackio, W&B and MLflow.

Each library is imported as a run begins, and is an extra of the distribution. The run's folder keeps which experiment it is tracked in, so
that a resumed run goes on in the same one. What a resumed run tells again has the values of before, as it is the same run.
"""

import contextlib
import contextvars
import io
import json
import logging
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcore.errors import RequestError
from mmcore.training.experiment import fresh, keep, kept, library
from mmcore.training.trackers import Tracker

if TYPE_CHECKING:
    from PIL import Image

PROJECT = "mmcore"
"""Where nothing says in which project, or in which of MLflow's experiments, runs are compared."""


def _title(name: str | None, folder: Path | None) -> str:
    """How a run is called where runs are compared: as its folder, where nothing else is said."""
    return name or (folder.name if folder is not None else "") or "run"


class Trackio(Tracker):
    """Curves and pictures in trackio's own place on this machine, or in a Space, as ``trackio show`` shows them.

    That place is the environment's ``TRACKIO_DIR``, by default in the cache of Hugging Face.

    Args:
        project: in which runs are compared.
        name: of the run; by default its folder's. A part of its own is put behind it, as trackio knows runs by their names.
        space: a Space that is written to, ``user/name``; None for this machine.
    """

    def __init__(self, project: str = PROJECT, name: str | None = None, space: str | None = None) -> None:
        self.project, self.name, self.space = project, name, space
        self._library: Any = None
        self._run: Any = None

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        """Raises RequestError where trackio is not installed."""
        trackio = self._library = library("trackio", "trackio")
        name = kept("trackio", folder, after) or f"{_plain_name(_title(self.name, folder))}-{fresh()}"
        how: dict[str, Any] = {"config": dict(configuration), "resume": "allow", "embed": False, "auto_log_cpu": False}
        with _unsaid():
            # In a context of its own: trackio ends whichever run of this one is going on.
            self._run = contextvars.Context().run(
                lambda: trackio.init(self.project, name=name, space_id=self.space, **how)
            )
        keep("trackio", folder, name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:
        drawn = {name: self._library.Image(picture.convert("RGB")) for name, picture in pictures.items()}
        if drawn:
            self._run.log(drawn, step=step)

    def end(self) -> None:
        with _unsaid():
            self._run.finish()


def _plain_name(name: str) -> str:
    return re.sub(r"[^\w .-]+", "-", name).strip(" .-_")[:100] or "run"


@contextlib.contextmanager
def _unsaid() -> Iterator[None]:
    """Keeps what trackio prints out of the training's own lines."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class Wandb(Tracker):
    """Curves and pictures in W&B; where it is offline, in the run's folder for ``wandb sync``.

    Args:
        project: in which runs are compared.
        name: of the run; by default its folder's.
        entity: the user or team; by default the account's own.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; by default as the environment's ``WANDB_MODE`` says, else online.
        folder: in which W&B keeps its files, in ``wandb``; by default the run's.
    """

    def __init__(
        self,
        project: str = PROJECT,
        name: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.project, self.name, self.entity, self.mode = project, name, entity, mode
        self.folder = None if folder is None else Path(folder)
        self._library: Any = None
        self._run: Any = None
        self._finish: Any = None

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        """Raises RequestError where W&B is not installed, no folder is known, or there is no login."""
        place = self.folder or folder
        if place is None:
            raise RequestError("wandb: the run has no folder, expected Wandb(folder=…) or fit(out=…)")
        wandb = self._library = library("wandb", "W&B")
        identity = kept("wandb", folder, after) or fresh()
        quiet = wandb.Settings(silent=True, console="off", save_code=False)
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=self.project,
                name=_title(self.name, folder),
                entity=self.entity,
                mode=self.mode,
                id=identity,
                resume="allow",
                config=dict(configuration),
                dir=str(place),
                reinit="create_new",
                settings=quiet,
            )
        except (wandb.errors.UsageError, ValueError) as error:
            raise RequestError(
                f"wandb: {' '.join(str(error).split())}; wandb login, or mode = 'offline' of the tracker"
            ) from error
        # A tracker that is let go without its end, as by a training that was given up in a notebook, would keep the run from being resumed.
        self._finish = weakref.finalize(self, self._run.finish)
        keep("wandb", folder, identity)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:
        drawn = {name: self._library.Image(picture.convert("RGB")) for name, picture in pictures.items()}
        self._run.log(drawn, step=step)

    def end(self) -> None:
        self._finish()
        if self._run.offline:
            _settle(Path(self._run.settings.sync_file))


def _settle(file: Path, seconds: float = 3.0) -> None:
    """Wait until a file is written: W&B's own process goes on with it after ``finish`` has returned."""
    until, before = time.monotonic() + seconds, -1
    while time.monotonic() < until:
        found = file.stat().st_size if file.exists() else 0
        if found and found == before:
            return
        before = found
        time.sleep(0.05)


class MLflow(Tracker):
    """Curves, pictures and parameters in MLflow, on a server or in a database of the run's folder.

    Figures are sent some at a time: a server takes as long for one as for many.

    Args:
        uri: of the server or database; by default the environment's ``MLFLOW_TRACKING_URI``, else ``mlflow/mlflow.db`` in the run's folder.
        experiment: in which runs are compared; made where it is missing.
        name: of the run; by default its folder's.
    """

    FEW, SECONDS = 400, 10.0
    """So many figures are sent together, or those of so many seconds."""

    def __init__(self, uri: str | None = None, experiment: str = PROJECT, name: str | None = None) -> None:
        self.uri, self.experiment, self.name = uri, experiment, name
        self._entities: Any = None
        self._client: Any = None
        self._run = ""
        self._waiting: list[Any] = []
        self._sent = 0.0

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        """Raises RequestError where MLflow is not installed, or neither a server nor a folder is known."""
        mlflow = library("mlflow", "MLflow")
        self._entities = library("mlflow.entities", "MLflow")
        uri, artifacts = self.uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            if folder is None:
                raise RequestError("mlflow: the run has no folder, expected MLflow(uri=…) or fit(out=…)")
            place = (folder / "mlflow").resolve()
            place.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{place / 'mlflow.db'}", (place / "artifacts").as_uri()
        known = kept("mlflow", folder, after)
        with _hushed("mlflow"):
            self._client, self._sent = mlflow.MlflowClient(tracking_uri=uri), time.monotonic()
            if known is not None:
                try:
                    self._client.update_run(known, status="RUNNING")
                except mlflow.MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    known = None
            self._run = known or self._new(_title(self.name, folder), artifacts, configuration)
            # Of a resumed run too: what decides nothing may have changed.
            self._client.log_dict(self._run, dict(configuration), "configuration.json")
        keep("mlflow", folder, self._run)

    def _new(self, title: str, artifacts: str | None, configuration: Mapping[str, Any]) -> str:
        there = self._client.get_experiment_by_name(self.experiment)
        number = (
            there.experiment_id
            if there
            else self._client.create_experiment(self.experiment, artifact_location=artifacts)
        )
        run = self._client.create_run(number, run_name=title).info.run_id
        told = [self._entities.Param(key, value) for key, value in _flat(configuration)]
        for start in range(0, len(told), 100):
            self._client.log_batch(run, params=told[start : start + 100])
        return run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [self._entities.Metric(_key(name), float(value), now, step) for name, value in values.items()]
        if len(self._waiting) >= self.FEW or time.monotonic() > self._sent + self.SECONDS:
            self._send()

    def _send(self) -> None:
        while self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting[:1000])
            del self._waiting[:1000]
        self._sent = time.monotonic()

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:
        self._send()
        for name, picture in pictures.items():
            self._client.log_image(self._run, picture.convert("RGB"), key=_key(name), step=step)

    def end(self) -> None:
        self._send()
        self._client.set_terminated(self._run)
        # A database in a file stays open otherwise, as long as the process lives.
        engine = getattr(getattr(getattr(self._client, "_tracking_client", None), "store", None), "engine", None)
        if engine is not None:
            engine.dispose()


@contextlib.contextmanager
def _hushed(name: str) -> Iterator[None]:
    """Keeps a library's information, but not its warnings, out of the training's own lines."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _key(name: str) -> str:
    """A name as MLflow takes them."""
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", name)


def _flat(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Parameters by their path in a configuration, as MLflow takes them: 250 characters of name, and 6,000 of value."""
    for name, value in tables.items():
        path = f"{before}{_key(name)}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        elif value is not None:
            yield path[:250], (value if isinstance(value, str) else json.dumps(value))[:6000]
