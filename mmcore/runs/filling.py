"""Fill in what rows lack: every row is asked for what it does not have, given what it has."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from mmcore.data import Dataset
from mmcore.data.source import InShort
from mmcore.errors import RequestError, nearest, plainly
from mmcore.files import expanded
from mmcore.limits import BATCH
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.mixed import Mixed
from mmcore.model.joint import JointModel
from mmcore.options import check_call, counted, require
from mmcore.plugins import Registry
from mmcore.runs.answers import Answer, answer, enough
from mmcore.runs.beyond import Beyond
from mmcore.runs.filled import Written, write
from mmcore.runs.held import Asked, HeldOut
from mmcore.runs.reader import Reader
from mmcore.runs.rows import Columns, Opened
from mmcore.runs.seldom import Taught


def predict(
    run: str | Path | Reader | JointModel,
    data: Any,
    *,
    draws: int = 16,
    interval: float = 0.8,
    calibrate: bool = True,
    again: str | Collection[str] = (),
    absent: str | Collection[str] = (),
    columns: Columns | None = None,
    on_bad_row: str = "stop",
    device: str | torch.device = "auto",
    registry: Registry | None = None,
    **how: Any,
) -> "Predictions":
    """Fill in what rows lack, as ``mmcore predict`` does: masks of photographs that have none, the labels and numbers of empty cells.

    Each row is asked for all that it lacks, given all that it has; the answers of a row belong together, draw by draw. Iterate over the rows,
    or write them: ``mmcore.predict("runs/photos", "new/", draws=16).write("filled")``.

    Args:
        run: a run's folder, a model folder, a reader of one, or a model.
        data: a path of data in any form that ``mmcore init`` reads, of a picture, or a pattern of pictures; ``"test"`` and its like for the
            run's own rows; or rows. They are read as the training data were, by the run's columns, missing values and transforms.
        draws: of every row. Of one draw there is neither interval nor agreement, and numbers are the mean that the model predicts.
        interval: the probability between the ends that are told of numbers, inside 0 … 1.
        calibrate: set intervals, and the probabilities of classes, by rows that the run has held out, which are asked the same questions first
            (:class:`~mmcore.runs.held.HeldOut`). Without, or where none are held out, they are the draws' own.
        again: variables to predict also in rows that have them, such as to see answers beside the truth.
        absent: modalities to leave out: not asked for, and not looked at.
        columns: where variables' values are, where these data name them otherwise than the run's.
        on_bad_row: ``"stop"`` at a row that cannot be read, or ``"skip"`` it.
        device: ``"auto"``, or one of torch's devices or its name; a model at hand stays on its own.
        registry: where sources and plugins are found; by default a new :func:`mmcore.discover`.
        **how: of :func:`mmcore.sample`, such as ``steps``, ``sampler``, ``seed`` or ``guidance``; by default as the run's configuration says.

    Raises:
        RequestError: data that cannot be read, no such variable, or too few draws for the interval.
    """
    check_call(predict, locals())
    if isinstance(run, JointModel):
        run = Reader.of(run, registry=registry)
    reader = run if isinstance(run, Reader) else Reader.open(run, registry=registry, device=device)
    names = [m.name for m in reader.model.variables]
    again, absent = ([one] if isinstance(one, str) else list(one) for one in (again, absent))
    for option, asked in (("again", again), ("absent", absent)):
        for name in asked:
            if name not in names:
                raise RequestError(
                    f"predict: {option} {name!r}, expected one of {', '.join(names)}{nearest(name, names)}"
                )
    if len(set(absent)) == len(names):
        raise RequestError("predict: everything is left out, expected something to predict")
    require("predict", draws=(draws, counted()))
    draws, interval = int(draws), float(interval)
    BATCH.check("predict", "draws", draws, 4 * draws * reader.model.space.size)
    if not 0 < interval <= 0.999:
        raise RequestError(f"predict: interval = {interval!r}, expected a number above 0 and at most 0.999")
    if 1 < draws < enough(interval):
        raise RequestError(
            f"predict: {draws} draws cannot tell an interval of {interval:.4g}, expected {enough(interval)} at least, or 1 for none"
        )
    asked = Asked(reader, draws, frozenset(absent), reader.asking(**{"draw": draws > 1, **how}))
    opened = reader.rows(data, columns)
    held = (
        HeldOut(asked, interval, without=str(data) if isinstance(data, str | Path) else "")
        if calibrate and draws > 1
        else None
    )
    return Predictions(
        asked,
        reader.dataset(opened.source, on_bad_row=on_bad_row),
        data if isinstance(data, str | Path) else None,
        opened,
        interval,
        frozenset(again),
        held,
    )


@attrs.frozen(eq=False, repr=False)
class Prediction:
    """One row, filled in.

    Attributes:
        number: of the row.
        key: what names it, such as its files' stem.
        given: what it has, as the data write it; a file by its path. What is predicted :attr:`again <Predictions.again>` is here too.
        answers: what it lacked.
        left: what it lacks and was not asked for: a row that lacks only what a task predicts has nothing to generate.
        bad: why it could not be read; empty where it could.
    """

    number: int
    key: str
    given: Mapping[str, Any]
    answers: Mapping[str, Answer]
    left: tuple[str, ...] = ()
    bad: str = ""

    def __repr__(self) -> str:
        said = [f"given {', '.join(self.given) or 'nothing'}"]
        said += [f"{name} = {one.told()}" for name, one in self.answers.items()]
        said += [f"not asked for: {', '.join(self.left)}"] if self.left and not self.bad else []
        return plainly(f"<Prediction: {self.key}, {'; '.join([self.bad] if self.bad else said)}>", 400)


@attrs.frozen(eq=False, repr=False)
class Predictions(InShort):
    """Rows that are filled in as they are iterated over, or written.

    Attributes:
        asked: how rows are asked.
        rows: as the model sees them.
        data: where they are; None for rows at hand.
        opened: how they were read.
        interval: the probability between the ends that are told of numbers.
        again: variables that are predicted in every row.
        held: what sets intervals and probabilities; None for the draws' own.
        beyond: what of the rows iterated over is far from the training rows.
        kinds: what rows iterated over gave, and what they lacked, by names.
    """

    asked: Asked
    rows: Dataset
    data: str | Path | None
    opened: Opened
    interval: float
    again: frozenset[str]
    held: HeldOut | None
    beyond: Beyond = attrs.field(
        init=False, default=attrs.Factory(lambda self: Beyond(self.asked.reader.model), takes_self=True)
    )
    kinds: set[tuple[tuple[str, ...], tuple[str, ...]]] = attrs.field(init=False, factory=set)

    @property
    def reader(self) -> Reader:
        """Of the model."""
        return self.asked.reader

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return self.rows.names

    @property
    def draws(self) -> int:
        """Of every row."""
        return self.asked.draws

    @property
    def absent(self) -> frozenset[str]:
        """Modalities that are left out."""
        return self.asked.absent

    @property
    def said(self) -> Sequence[str]:
        """How the rows were read, a line each."""
        return self.opened.said

    @property
    def generated(self) -> frozenset[str]:
        """The variables of which one must be lacking for a row to be asked; others, that only a task predicts, are answered beside them."""
        model = self.reader.model
        return frozenset(m.name for m in model.modalities if model.heads.reads(m.name)) - self.absent

    def untaught(self) -> list[str]:
        """A line for each kind of question, of those that rows iterated over asked, that the run's training hardly asked."""
        taught = Taught.of(self.reader.run, self.reader.model)
        if taught is None:
            return []
        return list(dict.fromkeys(line for given, lacked in sorted(self.kinds) for line in taught.told(given, lacked)))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Prediction]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Prediction]:
        """The rows from one on; a row's answer does not depend on where they begin."""
        together = self.asked.together
        # The same rows are computed together wherever one begins, as sums of others are equal to rounding only.
        for at in range(first - first % together, len(self.rows), together):
            for row in self._some(range(at, min(len(self.rows), at + together))):
                if row.number >= first:
                    yield row

    def _some(self, numbers: range) -> Iterator[Prediction]:
        batch, traces = self.rows.traced(numbers)
        bad = {one.index: one.problem for one in batch.bad}
        variables = self.reader.model.variables
        present = batch.present.clone()
        for column, m in enumerate(variables):
            if m.name in self.again or m.name in self.absent:
                present[:, column] = False
        lacks = ~present
        for column, m in enumerate(variables):
            if isinstance(m, Mixed):
                # Each of its parts is a value of its own, as an empty cell of a table is.
                lacks[:, column] |= ~m.spec.there(batch.values[m.name]).all(1)
        lacks &= torch.tensor([m.name not in self.absent for m in variables])
        recovered = torch.tensor([m.name in self.generated for m in variables])
        asked = (lacks & recovered).any(1)
        asked &= torch.tensor([number not in bad for number in numbers])
        # Rows that lack nothing are not asked.
        chosen = asked.nonzero()[:, 0]
        places = dict(zip(chosen.tolist(), range(len(chosen)), strict=True))
        answers = {}
        if places:
            values = {name: x[chosen] for name, x in batch.values.items()}
            self.beyond.see(values, {m.name: present[chosen, column] for column, m in enumerate(variables)})
            answers = self.asked.answer(values, present[chosen], (numbers[0] + chosen).tolist())
        for k, number in enumerate(numbers):
            found = {}
            if k in places:
                wanted = [m for c, m in enumerate(variables) if lacks[k, c] and m.name in answers]
                self.kinds.add((self.asked.given(present[k]), tuple(m.name for m in wanted)))
                held = self.held.about(self.asked.given(present[k])) if self.held and wanted else {}
                found = {
                    m.name: answer(m, answers[m.name][places[k]], traces[k], self.interval, held.get(m.name))
                    for m in wanted
                }
            given = {
                m.name: self._given(m, number, batch.values[m.name][k])
                for column, m in enumerate(variables)
                if batch.present[k, column]
            }
            left = tuple(m.name for column, m in enumerate(variables) if lacks[k, column] and m.name not in found)
            yield Prediction(number, self.rows.source.key(number), given, found, left, bad.get(number, ""))

    def _given(self, m: ModalityProtocol, number: int, x: torch.Tensor) -> Any:
        """What a row has: a path, number or word as it is there, anything else as the modality writes it."""
        raw = self.rows.source[number].get(m.name)
        return raw if isinstance(raw, Path | str | int | float) else m.raw(x)

    def write(self, folder: str | Path, *, force: bool = False, quiet: bool = False) -> Written:
        """Write all rows: a table with a line for each, and below it pictures as PNG and arrays as NPY.

        It goes on where it was stopped; what it has then written is what it would have written in one go.

        Args:
            folder: where to; made if need be.
            force: remove the predictions that are there.
            quiet: show no progress.

        Raises:
            RequestError: there are predictions of another question or other data, files that are not predictions, or rows of one key; a folder that
                cannot be written.
        """
        return write(self, expanded(folder), force=force, quiet=quiet)
