"""Whether a model knows what it does not know: many draws of each row's answer beside the row's truth.

What is told of a variable is what its modality answers to :meth:`mmcore.Modality.calibration`, over the rows that have it.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor

from mmcore.data import Table
from mmcore.errors import PluginError, RequestError
from mmcore.metrics.figure import Figure, average, bootstrap
from mmcore.metrics.questions import Asked
from mmcore.modality.base import Modality
from mmcore.modality.calibration import LEVELS, RANKS, Calibration, least
from mmcore.model.joint import JointModel
from mmcore.sampling import sample

DRAWS, ROWS = 39, 200
FEW = 100
"""Of fewer rows an interval of a share is wider than ± 0.1, and that is told."""
Kind = Literal["ranks", "coverage", "reliability", "spread"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BARS = 10
_GROUPS = 5


@attrs.frozen
class Point:
    """One point of a diagram.

    Attributes:
        x: where it is; what the model says.
        y: what is so.
        low: where the 95 % bootstrap interval of ``y`` begins.
        high: where it ends.
        n: how many elements, or rows, it stands for.
    """

    x: float
    y: float
    low: float
    high: float
    n: float


@attrs.frozen
class Diagram:
    """One picture's points.

    Attributes:
        kind: ``"ranks"``: in each tenth of the ranks (``x``, its middle) the share of truths; a tenth is wanted.
            ``"coverage"``: the share of truths in the central interval of probability ``x``. ``"reliability"``: of elements of mean confidence ``x``, in bins of
            0.1, the share that is right. ``"spread"``: of fifths of the rows, by the error that the draws predict (``x``), the error of the draws' mean.
            In the last three ``y = x`` is wanted.
        question: that was asked.
        variable: whose answers they are.
        name: of elements, such as ``"[0]"`` of a vector or ``"joint"`` of all of a row; empty for all elements alike.
        points: in order of ``x``.
    """

    kind: Kind
    question: str
    variable: str
    name: str
    points: tuple[Point, ...]


@attrs.frozen
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

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return attrs.asdict(self)


def wanted(figure: str) -> float | None:
    """What a calibrated model has in expectation, by a figure's name; None where that depends on the data, such as of a score."""
    last = figure.rpartition(".")[2].partition("[")[0]
    name, _, level = last.rpartition("_")
    if name.endswith("coverage") and level.isdigit():
        return int(level) / 100
    for ending, value in (("rank_mean", 0.5), ("rank_dispersion", 1.0), ("spread_error", 1.0), ("calibration_error_of_draws", 0.0)):  # fmt: skip
        if last.endswith(ending):
            return value
    return None


def calibration(
    model: JointModel,
    table: Table,
    questions: Sequence[str] | None = None,
    *,
    draws: int = DRAWS,
    rows: int = ROWS,
    seed: int = 0,
    resamples: int | None = None,
    batch_size: int = 500,
    **sampling: Any,
) -> Calibrated:
    """Ask for many draws of each row's answer, and tell whether they are spread as the truth is.

    For ``draws × rows`` samples of each question, no more where several are given the same. Real-valued variables are drawn from the last prediction too, as
    :func:`mmcore.predict` draws them.

    Args:
        model: a joint model.
        table: held-out rows.
        questions: such as ``"image->age"``; by default each variable from all others. ``"joint"`` has no truth of a row.
        draws: of each row, at least 2; 3, 9 and 39 are the fewest that tell intervals of 50, 80 and 95 %.
        rows: at most so many of those that take part in a question, spread evenly.
        seed: of the samples and the intervals.
        resamples: of every interval; by default each figure's own number.
        batch_size: samples at once.
        sampling: options of :func:`mmcore.sample`, such as ``steps``.

    Raises:
        RequestError: a question that makes no sense, one draw, or fewer than two rows that have what is given and asked.
        PluginError: a modality whose :meth:`mmcore.Modality.calibration` answers no figures of each row.
    """
    for option, value, fewest in (("draws", draws, 2), ("rows", rows, 2), ("batch_size", batch_size, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < fewest:
            raise RequestError(f"calibration: {option} = {value!r}, expected a whole number of at least {fewest}")
    texts = [questions] if isinstance(questions, str) else questions
    asked = Asked.every(model) if texts is None else [Asked.read(text, model) for text in texts]
    if not asked:
        raise RequestError("calibration: nothing to ask; give questions, such as 'image->label'")
    for question in asked:
        if not question.given:
            raise RequestError(
                f"calibration: question '{question}' has no truth of a row, expected something given, such as 'image->label'"
            )
    options = {"seed": seed} | ({} if resamples is None else {"resamples": resamples})
    sampling = {"draw": True, "seed": seed} | sampling
    notes = [
        f"{draws} draws tell no interval of {level} %, which takes {least(level)}"
        for level in LEVELS
        if draws < least(level)
    ]
    figures: dict[str, Figure] = {}
    diagrams: list[Diagram] = []
    for given in dict.fromkeys(question.given for question in asked):
        together = [question for question in asked if question.given == given]
        names = [m.name for m in model.variables if any(m.name in question.asked for question in together)]
        chosen = _chosen(model, table, given, names, rows)
        found = _ask(model, table, given, names, chosen, draws, batch_size, sampling)
        for question in together:
            for name in question.asked:
                told = _Told(str(question), name, draws, options)
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
) -> dict[str, Calibration]:
    """What each variable answers, of the chosen rows that have it."""
    columns = [m.name for m in model.variables]
    found: dict[str, list[Calibration]] = {name: [] for name in names}
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


@attrs.frozen
class _Told:
    """The figures and diagrams of one variable's answers to one question."""

    question: str
    variable: str
    draws: int
    options: dict[str, int]

    def figures(self, found: Calibration) -> dict[str, Figure]:
        """By name; a name of an element comes last, any other first."""
        told: dict[str, Figure] = {}
        for part in (found.scores, found.means):
            for name, x in part.items():
                if (x := x[~x.isnan()]).numel():
                    told[name] = average(x, **self.options)
        for name, x in found.ranks.items():
            if (x := x[x.sum(1) > 0]).numel():
                told |= {_named(name, figure): value for figure, value in self._ranks(x).items()}
        for name, x in found.depths.items():
            if (x := x[x.sum(1) > 0]).numel():
                told |= {_named(name, f"coverage_{level}"): self._share(x, level / 100, 0) for level in self._levels}
        for name, x in found.spreads.items():
            x = x[~x.isnan().any(1)]
            if len(x) and float(x[:, 1].sum()) > 0:
                told[_named(name, "spread_error")] = self._ratio(x)
        for name, x in found.reliability.items():
            if (x := x[x[..., 0].sum(1) > 0]).numel():
                told[_named(name, "calibration_error_of_draws")] = self._gap(x)
        return {f"{self.question} {self.variable}.{name}": figure for name, figure in told.items()}

    def diagrams(self, found: Calibration) -> list[Diagram]:
        """For each name."""
        told: list[tuple[Kind, str, list[Point]]] = []
        for name, x in found.ranks.items():
            if (x := x[x.sum(1) > 0]).numel():
                bars = x.unflatten(1, (_BARS, -1)).sum(2)
                points = [self._point((k + 0.5) / _BARS, bars[:, k], x.sum(1)) for k in range(_BARS)]
                told.append(("ranks", name, [attrs.evolve(point, n=point.y * point.n) for point in points]))
                told.append(("coverage", name, self._curve(x, 1)))
        for name, x in found.depths.items():
            if (x := x[x.sum(1) > 0]).numel():
                told.append(("coverage", name, self._curve(x, 0)))
        for name, x in found.reliability.items():
            bins = ((float(b[:, 1].sum() / b[:, 0].sum()), b) for b in x.unbind(1) if b[:, 0].sum() > 0)
            points = [self._point(at, b[:, 2], b[:, 0]) for at, b in bins]
            if points:
                told.append(("reliability", name, points))
        for name, x in found.spreads.items():
            if len(x := x[~x.isnan().any(1)]) >= 2 * _GROUPS:
                told.append(("spread", name, self._groups(x)))
        return [Diagram(kind, self.question, self.variable, name, tuple(points)) for kind, name, points in told]

    @property
    def _levels(self) -> list[int]:
        return [level for level in LEVELS if self.draws >= least(level)]

    def _ranks(self, x: Tensor) -> dict[str, Figure]:
        centre = (torch.arange(RANKS, dtype=torch.float64) + 0.5) / RANKS
        within = 1 / (12 * RANKS**2)
        count = x.sum(1)
        told = {f"coverage_{level}": self._share(x, level / 100, 1) for level in self._levels}
        told["rank_mean"] = self._of(x @ centre, count, (0, 1))
        told["rank_dispersion"] = self._of(12 * (x @ ((centre - 0.5).square() + within)), count, (0, 3))
        return told

    def _share(self, x: Tensor, level: float, sides: int) -> Figure:
        """Of the truths in the middle of the ranks, or in the first of depths."""
        first, last = (_edge((1 - level) / 2), _edge((1 + level) / 2)) if sides else (0, _edge(level))
        return self._of(x[:, first:last].sum(1), x.sum(1), (0, 1))

    def _of(self, part: Tensor, count: Tensor, bounds: tuple[float, float]) -> Figure:
        """The sum of ``part (n,)`` over that of ``count (n,)``."""
        return bootstrap(lambda c: (c @ part) / (c @ count), len(part), bounds=bounds, **self.options)

    def _ratio(self, x: Tensor) -> Figure:
        def statistic(c: Tensor) -> Tensor:
            predicted, error = (c @ x).unbind(1)
            return torch.where(error > 0, predicted / error, torch.nan).sqrt()

        return bootstrap(statistic, len(x), **self.options)

    def _gap(self, x: Tensor) -> Figure:
        """Centred: noise can only enlarge it, and resampling does so once more."""
        excess, count = (x[..., 2] - x[..., 1]).double(), x[..., 0].sum(1)

        def statistic(c: Tensor) -> Tensor:
            return (c @ excess).abs().sum(1) / (c @ count)

        return bootstrap(statistic, len(x), centred=True, bounds=(0.0, 1.0), **self.options)

    def _curve(self, x: Tensor, sides: int) -> list[Point]:
        shares = [(k / _BARS, self._share(x, k / _BARS, sides)) for k in range(1, _BARS)]
        return [Point(level, share.value, share.low, share.high, float(x.sum())) for level, share in shares]

    def _point(self, at: float, part: Tensor, count: Tensor) -> Point:
        found = self._of(part, count, (0, 1))
        return Point(at, found.value, found.low, found.high, float(count.sum()))

    def _groups(self, x: Tensor) -> list[Point]:
        """Fifths of the rows by the error that is predicted."""
        points = []
        for some in x[x[:, 0].argsort(stable=True)].tensor_split(_GROUPS):
            error = bootstrap(lambda c, some=some: (c @ some[:, 1] / len(some)).sqrt(), len(some), **self.options)
            points.append(Point(float(some[:, 0].mean().sqrt()), error.value, error.low, error.high, len(some)))
        return points


def _edge(share: float) -> int:
    """The bin's edge at a share of the ranks, which is there for all levels and tenths."""
    return round(share * RANKS)


def _named(name: str, figure: str) -> str:
    if not name or name.startswith("["):
        return figure + name
    return f"{name}_{figure}"
