"""What training is asked now and then: losses on rows kept aside, and pictures."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch

from mmcore import files
from mmcore.data.batches import Readable
from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.model.joint import JointModel
from mmcore.rng import Rng
from mmcore.training.draws import Drawing
from mmcore.training.logs import Logs
from mmcore.training.options import TrainOptions
from mmcore.training.precision import dtype_of
from mmcore.training.ranks import Ranks, gathered
from mmcore.training.state import TrainState
from mmcore.training.step import StepReport
from mmcore.training.timesteps import Timesteps
from mmcore.training.trackers import Trackers
from mmcore.training.weighting import WEIGHTINGS

if TYPE_CHECKING:
    from PIL import Image

Pictures = Callable[[JointModel, int], Mapping[str, "Image.Image"]]
"""Given the model with its averaged weights and the step: pictures by name."""


@attrs.frozen(eq=False)
class Validation:
    """Losses of the averaged weights, by task; a watcher.

    Timesteps, roles and noise are those of the run's seed and the row's number, the same at every validation, so that two differ by
    the weights alone.

    Attributes:
        rows: kept aside from training.
        logs: where a line goes, in ``validation.jsonl``.
        keep_best: called with the model when it is the best so far; every rank calls.
    """

    rows: Readable
    logs: Logs
    keep_best: Callable[[JointModel], object]

    def __call__(self, state: TrainState, report: StepReport) -> None:
        """Where it is time for one."""
        options = state.options
        if state.step % options.validate_every and state.step != options.steps:
            return
        state.settle()
        with state.averaged() as model:
            means, counts = validation_losses(model, self.rows, options, state.ranks, state.timesteps)
            names = [task.name for task in model.tasks]
            figures: dict[str, float | None] = {
                name: mean if count else None for name, mean, count in zip(names, means, counts, strict=True)
            }
            weights = dict(zip(names, (task.weight for task in model.tasks), strict=True))
            figures["total"] = sum(weights[name] * loss for name in names if (loss := figures[name]) is not None)
            best = figures[options.best]
            if best is not None and best < state.best:
                state.best = best
                self.keep_best(model)
        if state.ranks.first:
            self.logs.write(
                "validation.jsonl", {"step": state.step, "losses": figures, "best": options.best, "so_far": state.best}
            )
            self.logs.trackers.scalars(state.step, {f"validation/{name}": value for name, value in figures.items()})


def check_best(tasks: Sequence[str], options: TrainOptions) -> None:
    """Refuse a figure to choose by that there is not.

    Args:
        tasks: their names.
        options: how to train.

    Raises:
        OptionError: naming those there are.
    """
    known = (*tasks, "total")
    if options.best not in known:
        raise OptionError("training", "best", options.best, choices=known)
    if "total" in tasks:
        raise OptionError(
            "training", "tasks.total", expected="another name for the task, as the sum of all is called total"
        )


def validation_losses(
    model: JointModel, rows: Readable, options: TrainOptions, ranks: Ranks, timesteps: Timesteps | None = None
) -> tuple[list[float], list[int]]:
    """Each task's mean of ``λ_k(t) l_k`` over the rows where it counts, and how many those are.

    The ranks share the rows, and each has as many batches as the others, so that none waits for one that does not come.

    Args:
        model: in evaluation mode.
        rows: kept aside.
        options: how it is trained.
        ranks: who trains it.
        timesteps: how training draws them; made for this model where they are not at hand.
    """
    weighting, size = WEIGHTINGS[options.weighting], max(1, options.batch_size // ranks.count)
    timesteps = timesteps or Timesteps.asked(model, options.timesteps, options.weighting)
    drawing = Drawing(model, weighting, options.roles, Rng.for_rows(options.seed, 1, device=model.device), timesteps)
    sums = torch.zeros(2, len(model.tasks), dtype=torch.float64, device=model.device)
    batches = -(-len(rows) // (size * ranks.count))
    with torch.no_grad():
        for number in range(batches):
            start = (number * ranks.count + ranks.rank) * size
            places = torch.arange(start, start + size)
            mine = places < len(rows)
            places = places.clamp(max=len(rows) - 1)
            batch = rows.__getitems__(places.tolist()).to(model.device)
            rng = Rng(options.seed, places.to(model.device)).of("validation")
            t, roles, _ = drawing.ask(rng, weighting.draw(model, rng.of("t")), batch.present)
            noise = rng.of("noise").normal(*model.space.shape, dtype=dtype_of(model))
            losses = model(batch.values, t, roles, noise, objective=weighting.objective) * weighting.factors(model, t)
            counts = model.driver.counts(roles) & mine.to(model.device)[:, None]
            sums += torch.stack([torch.where(counts, losses, 0).sum(0), counts.sum(0)]).double()
    total, counts = ranks.sum(sums)
    return (total / counts).tolist(), [int(n) for n in counts]


@attrs.frozen(eq=False)
class Sketches:
    """Pictures of what the model can do so far; a watcher.

    Attributes:
        draw: given by the caller.
        folder: where PNG files go.
        trackers: what else is given the pictures.
    """

    draw: Pictures
    folder: Path
    trackers: Trackers

    def __call__(self, state: TrainState, report: StepReport) -> None:
        """Where it is time for some; a sharded model needs every rank to draw, and the first one writes."""
        options = state.options
        if state.step % options.pictures_every and state.step != options.steps:
            return
        state.settle()
        if not state.ranks.first and options.parallel == "ddp":
            return
        with state.averaged() as model, gathered(model):
            pictures: Mapping[str, Any] = self.draw(model, state.step)
        if state.ranks.first:
            for name, picture in pictures.items():
                if Path(name).name != name:
                    raise RequestError(f"pictures: one is called {name!r}, expected a plain name")
                path = self.folder / f"step-{state.step:08d}-{name}.png"
                try:
                    data = io.BytesIO()
                    picture.save(data, format="PNG")
                    files.write(path, data.getvalue())
                except OSError as error:
                    raise MmcoreError(f"pictures: {path} cannot be written: {error.strerror or error}") from error
            self.trackers.pictures(state.step, pictures)
