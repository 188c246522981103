"""What is told of a variable's calibration: figures with intervals, and the points of diagrams."""

from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor

from mmcore.metrics.figure import LEVEL, Figure, average, bootstrap
from mmcore.modality.calibration import LEVELS, RANKS, Calibration, least

Kind = Literal["ranks", "coverage", "reliability", "spread"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BARS, _GROUPS = 10, 5
_EXACT = 1e-9
"""Sums of shares that are 0 or 1 are so to rounding only."""


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


@attrs.frozen
class Told:
    """The figures and diagrams of one variable's answers to one question.

    Attributes:
        question: that was asked.
        variable: whose answers they are.
        draws: of each row.
        options: of :func:`~mmcore.metrics.figure.bootstrap`.
    """

    question: str
    variable: str
    draws: int
    options: dict[str, Any]

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
        return self._proportion(x[:, first:last].sum(1), x.sum(1))

    def _proportion(self, part: Tensor, count: Tensor) -> Figure:
        """The same of a share. Where all rows agree, resampling sees no spread: then it is the exact interval of as many rows (Clopper and Pearson 1934)."""
        found = self._of(part, count, (0, 1))
        least = ((1 - LEVEL) / 2) ** (1 / int((count > 0).sum()))
        if found.value > 1 - _EXACT:
            return attrs.evolve(found, low=least)
        return attrs.evolve(found, high=1 - least) if found.value < _EXACT else found

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
        found = self._proportion(part, count)
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
    """A figure of ``""``, ``"[2]"``, ``"joint"`` or ``"pose[2]"``: the element last, the rest first."""
    first, bracket, entry = name.partition("[")
    return f"{first}_{figure}{bracket}{entry}" if first else figure + name
