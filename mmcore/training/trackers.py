"""What a run tells experiment trackers, and TensorBoard as one of them."""

import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mmcore.errors import RequestError
from mmcore.plugins import discover
from mmcore.plugins.loading import brief
from mmcore.training.saving import tell

if TYPE_CHECKING:
    from PIL import Image

    from mmcore.plugins import Registry


class Tracker(ABC):
    """Keeps a run's figures and pictures where runs are compared, such as TensorBoard or an experiment server.

    A subclass has ``scalars``, and what it needs of the rest. It is given to :func:`mmcore.fit` as an object; offered by the hook
    ``mmcore_trackers``, it can be named in the option ``trackers``. A constructor only keeps its options, as it is called to check
    them; what costs time belongs in :meth:`begin`.

    Of several processes the first one tracks. The calls are ``begin``, then ``scalars`` and ``pictures`` in the order of their steps,
    then ``end``. A tracker decides nothing: one that raises is named on stderr and told nothing more, not even the end, and the
    training goes on to the same weights.
    """

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:  # noqa: B027
        """Called before the first step.

        Args:
            folder: of the run; None for a run that keeps none.
            configuration: what decides the run, in JSON's types: ``options`` (:class:`TrainOptions`); ``rows``, their number; ``model``, where there
                is a folder; and ``configuration``, the tables of the file that the model was made by, or None.
            after: the step that a resumed run goes on after, in the same experiment; what it was told of later steps comes again.
                None for a new run.

        Raises:
            RequestError: refuses the run, such as for an account that there is not.
        """

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Called with figures of the model after ``step`` steps.

        Args:
            step: of the optimizer, from 1.
            values: every ``log_every`` steps ``loss/total``, ``loss/TASK`` (nats per sample, for tasks with rows in the batch), ``grad_norm`` and
                ``lr``; every ``validate_every`` steps ``validation/TASK`` and ``validation/total``.
        """

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:  # noqa: B027
        """Called with pictures of what the model makes after ``step`` steps, by name, every ``pictures_every`` steps."""

    def end(self) -> None:  # noqa: B027
        """Called after the last step, or when the run is stopped or fails."""


class TensorBoard(Tracker):
    """Curves and pictures as the event files that ``tensorboard --logdir`` shows.

    Args:
        folder: of the files; by default ``tensorboard`` in the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._writer: Any = None

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        """Raises RequestError where TensorBoard is not installed, or no folder is known."""
        if self.folder is None and folder is None:
            raise RequestError("tensorboard: the run has no folder, expected TensorBoard(folder=…) or fit(out=…)")
        if not _installed():
            raise RequestError("tensorboard: TensorBoard is not installed; pip install tensorboard")
        from torch.utils.tensorboard.writer import SummaryWriter

        log_folder = self.folder if self.folder is not None else Path(folder or "") / "tensorboard"
        self._writer = SummaryWriter(str(log_folder), purge_step=None if after is None else after + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def end(self) -> None:
        self._writer.close()


class Trackers:
    """Several trackers told as one; one that raises is told nothing more.

    Args:
        trackers: in their order.
    """

    def __init__(self, trackers: Iterable[Tracker] = ()) -> None:
        self._trackers = list(trackers)

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        """A new or resumed run.

        Raises:
            RequestError: a tracker refuses it.
        """
        plain = json.dumps(configuration)
        self._each(lambda tracker: tracker.begin(folder, json.loads(plain), after), refusing=True)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Figures after a step; None is left out."""
        if self._trackers:
            known = {name: value for name, value in values.items() if value is not None}
            self._each(lambda tracker: tracker.scalars(step, dict(known)))

    def pictures(self, step: int, pictures: Mapping[str, "Image.Image"]) -> None:
        """Pictures after a step."""
        self._each(lambda tracker: tracker.pictures(step, dict(pictures)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The run's end, also when a step fails."""
        self._each(lambda tracker: tracker.end())

    def _each(self, call: Callable[[Tracker], object], *, refusing: bool = False) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            # A library that calls sys.exit, as for a lacking login, would end the training; Ctrl-C is the user's.
            except (Exception, SystemExit) as error:
                self._trackers.remove(tracker)
                if refusing and isinstance(error, RequestError):
                    raise
                tell(f"training: the tracker {type(tracker).__name__} gave {brief(error)}; the run goes on without it")


def trackers_for(
    trackers: Iterable[Tracker | str | Mapping[str, Any]] | None,
    folder: Path | None,
    registry: "Registry | None" = None,
) -> list[Tracker]:
    """Trackers given as objects or by name.

    Args:
        trackers: objects; names of installed ones; or tables with such a name as ``kind``, and its options. None is TensorBoard where it
            is installed and there is a folder.
        folder: of the run.
        registry: where names are looked up; by default a new :func:`mmcore.discover`.

    Raises:
        RequestError: an object that is no tracker, what it lacks; a name that there is not, or options that it does not take.
    """
    if trackers is None:
        return [TensorBoard()] if folder is not None and _installed() else []
    if isinstance(trackers, str | Mapping) or not isinstance(trackers, Iterable):
        raise RequestError(f"fit: trackers is a {type(trackers).__name__}, expected a list of trackers")
    chosen = []
    for place, tracker in enumerate(trackers):
        if isinstance(tracker, str | Mapping):
            options = {"kind": tracker} if isinstance(tracker, str) else dict(tracker)
            registry = registry or discover()
            chosen.append(registry.make("tracker", options.pop("kind", ""), options)[1])
        else:
            chosen.append(_checked(tracker, f"trackers[{place}]"))
    return chosen


def _checked(tracker: Any, place: str) -> Tracker:
    if isinstance(tracker, type):
        name = tracker.__name__
        raise RequestError(f"fit: {place} is the class {name}, expected an object of it, {name}(…)")
    if not isinstance(tracker, Tracker):
        lacking = [name for name in ("begin", "scalars", "pictures", "end") if not hasattr(tracker, name)]
        raise RequestError(
            f"fit: {place} is a {type(tracker).__name__}, expected an object of a subclass of mmcore.training.Tracker"
            + (f" (it lacks {', '.join(lacking)})" if lacking else "")
        )
    return tracker


def _installed() -> bool:
    try:
        return importlib.util.find_spec("tensorboard") is not None
    except (ImportError, ValueError):
        return False
