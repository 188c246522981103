"""Whether a model knows what it does not know: many draws of each row's answer beside the row's truth.

What is told of a variable is what its modality answers to :meth:`mmcore.Modality.calibration`, over the rows that have it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.data import Dataset, Table
from mmcore.errors import PluginError, RequestError
from mmcore.metrics.figure import Figure
from mmcore.metrics.questions import Asked, check_measured
from mmcore.metrics.telling import Diagram, Told
from mmcore.modality.base import Modality
from mmcore.modality.calibration import LEVELS, Calibration, least
from mmcore.model.joint import JointModel
from mmcore.options import check_call, counted, require
from mmcore.progress import Progress
from mmcore.sampling import sample

DRAWS, ROWS = 39, 200
FEW = 100
"""Of fewer rows an interval of a share is wider than ± 0.1, and that is told."""


@attrs.frozen(repr=False)
class Calibrated:
    """What :func:`calibration` found.

    Attributes:
        figures: by name, ``"image->age age.coverage_80"``.
        diagrams: one for each kind and name that a modality answers.
        draws: of each row's answer.
        notes: what the draws or rows are too few for, a line each.
    """

    figures: dict[str, Figure]
    diagrams: tuple[Diagram, ...]
    draws: int
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        some = f"{len(self.figures)} figure{'s' * (len(self.figures) != 1)}"
        return f"<Calibrated: {some} of {self.draws} draws>"

    def __str__(self) -> str:
        return "\n".join([*(f"{name}  {figure}" for name, figure in self.figures.items()), *self.notes])

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return attrs.asdict(self)


def calibration(
    model: JointModel,
    table: Iterable[Mapping[str, Any]] | Dataset | Table,
    questions: str | Sequence[str] | None = None,
    *,
    draws: int = DRAWS,
    rows: int = ROWS,
    seed: int = 0,
    resamples: int | None = None,
    batch_size: int = 500,
    quiet: bool = True,
    **sampling: Any,
) -> Calibrated:
    """Ask for many draws of each row's answer, and tell whether they are spread as the truth is.

    For ``draws × rows`` samples of each question, no more where several are given the same. Real-valued variables are drawn from the last prediction too, as
    :func:`mmcore.predict` draws them.

    Args:
        model: a joint model.
        table: held-out rows, which :func:`mmcore.evaluate` calls ``rows``: mappings from variable name to raw value, or a :class:`mmcore.data.Table` of them.
        questions: such as ``"image->age"``; by default each variable from all others. ``"joint"`` has no truth of a row.
        draws: of each row, at least 2; 3, 9 and 39 are the fewest that tell intervals of 50, 80 and 95 %.
        rows: at most so many of those that take part in a question, spread evenly.
        seed: of the samples and the intervals.
        resamples: of every interval; by default each figure's own number.
        batch_size: samples at once.
        quiet: show no progress.
        sampling: options of :func:`mmcore.sample`, such as ``steps``.

    Raises:
        RequestError: a question that makes no sense, one draw, or fewer than two rows that have what is given and asked.
        PluginError: a modality whose :meth:`mmcore.Modality.calibration` answers no figures of each row.
    """
    check_call(calibration, locals())
    require("calibration", draws=(draws, counted(2)), rows=(rows, counted(2)), batch_size=(batch_size, counted()))
    draws, rows, batch_size = int(draws), int(rows), int(batch_size)
    check_measured(resamples=resamples, sampling=sampling)
    texts = [questions] if isinstance(questions, str) else questions
    asked = Asked.every(model) if texts is None else [Asked.read(text, model) for text in texts]
    if not asked:
        raise RequestError("calibration: nothing to ask; give questions, such as 'image->label'")
    for question in asked:
        if not question.given:
            raise RequestError(
                f"calibration: question '{question}' has no truth of a row, expected something given, such as 'image->label'"
            )
    table = Table.of(table, model.variables)
    options = {"seed": seed} | ({} if resamples is None else {"resamples": resamples})
    sampling = {"draw": True, "seed": seed} | sampling
    notes = [
        f"{draws} draws tell no interval of {level} %, which takes {least(level)}"
        for level in LEVELS
        if draws < least(level)
    ]
    figures: dict[str, Figure] = {}
    diagrams: list[Diagram] = []
    groups = dict.fromkeys(question.given for question in asked)
    for number, given in enumerate(groups, 1):
        together = [question for question in asked if question.given == given]
        names = [m.name for m in model.variables if any(m.name in question.asked for question in together)]
        chosen = _chosen(model, table, given, names, rows)
        with Progress(f"calibration, question {number} of {len(groups)}", len(chosen), quiet=quiet) as bar:
            found = _ask(model, table, given, names, chosen, draws, batch_size, sampling, bar)
        for question in together:
            for name in question.asked:
                told = Told(str(question), name, draws, options)
                new = told.figures(found[name])
                if not new:
                    raise RequestError(
                        f"calibration: question '{question}': nothing is known of {name!r} in these rows"
                    )
                figures |= new
                diagrams += told.diagrams(found[name])
                if (count := max(figure.n for figure in new.values())) < FEW:
                    notes.append(f"{question} {name}: {count} rows, fewer than {FEW}: see how wide the intervals are")
    return Calibrated(figures, tuple(diagrams), draws, tuple(notes))


def _chosen(model: JointModel, table: Table, given: tuple[str, ...], names: Sequence[str], rows: int) -> Tensor:
    """The rows that are asked about: they have what is given, and something of what is asked.

    Raises:
        RequestError: fewer than two of a variable.
    """
    columns = [m.name for m in model.variables]
    present = table.rows.present
    takes_part = present[:, [columns.index(name) for name in given]].all(1)
    takes_part &= present[:, [columns.index(name) for name in names]].any(1)
    chosen = takes_part.nonzero()[:, 0]
    if len(chosen) > rows:
        chosen = chosen[torch.arange(rows) * len(chosen) // rows]
    for name in names:
        count = int(present[chosen, columns.index(name)].sum())
        if count < 2:
            have = f"{count} row has" if count == 1 else "no row has"
            raise RequestError(f"calibration: {have} {' and '.join((*given, name))}, expected at least 2")
    return chosen


def _ask(
    model: JointModel,
    table: Table,
    given: tuple[str, ...],
    names: Sequence[str],
    chosen: Tensor,
    draws: int,
    batch_size: int,
    sampling: dict[str, Any],
    bar: Progress,
) -> dict[str, Calibration]:
    """What each variable answers, of the chosen rows that have it."""
    columns = [m.name for m in model.variables]
    found: dict[str, list[Calibration]] = {name: [] for name in names}
    done = 0
    for some in chosen.split(max(1, batch_size // draws)):
        values = {name: table.rows.values[name][some].repeat_interleave(draws, 0) for name in given}
        # Numbered by row, so that a row's draws do not depend on which others are asked about.
        numbers = (some[:, None] * draws + torch.arange(draws)).flatten().tolist()
        answers = sample(model, len(numbers), given=values, numbers=numbers, batch_size=batch_size, **sampling)
        for name in names:
            here = table.rows.present[some, columns.index(name)]
            if here.any():
                drawn = answers[name].unflatten(0, (len(some), draws)).transpose(0, 1)[:, here]
                truth = table.rows.values[name][some][here]
                found[name].append(_answer(model.variable(name), drawn, truth))
        done += len(some)
        bar.update(done)
    return {name: Calibration.join(parts) for name, parts in found.items()}


def _answer(m: Modality, draws: Tensor, truth: Tensor) -> Calibration:
    """What a modality answers, of the right shapes, on the CPU."""
    found = m.calibration(draws, truth)
    if not isinstance(found, Calibration):
        raise PluginError(
            f"modality {m.name!r}: its calibration gave {type(found).__name__}, expected mmcore.modality.Calibration"
        )
    for part, name, x in found.parts():
        want = (len(truth), *Calibration.SHAPES[part])
        if not isinstance(x, Tensor) or tuple(x.shape) != want:
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise PluginError(f"modality {m.name!r}: its calibration gave {part} {name!r} of {shape}, expected {want}")
    return found
