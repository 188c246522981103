r"""Answers that hold as often as they say, by rows held out: split conformal intervals, and the probability that a class is right.

A network that knows its training rows by heart draws answers that lie too close together. Nothing in the draws shows it; rows with a known truth that were not
trained on do. Where these rows and a new one are exchangeable, what is set by them holds for the new one, whatever the network.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import attrs
import torch
from torch import Tensor

FEW = 10
"""Rows held out that set a class's probability, at least: two numbers are fitted to them."""
_LEAST = torch.finfo(torch.float32).tiny
"""Of numbers above 0: rounding may make one 0, which has no logarithm."""
_STEPS = 50
"""Of Newton's method; it needs about 10."""


def central(draws: Tensor, interval: float) -> tuple[Tensor, Tensor]:
    """The ends ``(…)`` of the central interval of draws ``(M, …)``: their order statistics, interpolated, in float64.

    Of M exchangeable draws and one more, the k-th of M lies above that one with probability ``k / (M + 1)``.
    """
    ends = torch.tensor([(1 - interval) / 2, (1 + interval) / 2], dtype=torch.float64)
    M = len(draws)
    ordered = draws.double().sort(0).values
    places = (ends * (M + 1) - 1).clamp(0, M - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=M - 1)
    low, high = ordered[below] + (places - below).view(2, *[1] * (draws.ndim - 1)) * (ordered[above] - ordered[below])
    return low, high


def fewest(interval: float) -> int:
    """The fewest rows held out that tell an interval: 4 for 80 %, 19 for 95 %."""
    return math.ceil(interval / (1 - interval) - 1e-9)


@attrs.frozen
class Widening:
    r"""How far the central intervals of draws must reach beyond their ends to hold the truth: conformalized quantile regression (Romano, Patterson and Candès 2019).

    Of each of n rows held out, :math:`e_i = \max(l_i - y_i, y_i - h_i)` is how far its truth lies outside of its interval, below 0 inside. Intervals
    :math:`l - c … h + c`, with c the :math:`\lceil (n + 1) \alpha \rceil`-th smallest of them, hold the truth of a new row with a probability of
    at least :math:`\alpha`, and if no two :math:`e_i` are equal of at most :math:`\alpha + 1 / (n + 1)`. c may be below 0: intervals that are too wide become narrower.

    Attributes:
        by: c of each number, as nested lists of ``spec.shape``; of logarithms where ``ratio``.
        ratio: whether ends are multiplied rather than moved, as numbers that are above 0 are.
        rows: n.
        held: of these rows' numbers, the share that the draws' own intervals hold.
    """

    by: Any
    ratio: bool
    rows: int
    held: float

    @classmethod
    def of(cls, draws: Tensor, truth: Tensor, interval: float, *, ratio: bool) -> Self | None:
        """By rows held out; None where they are fewer than :func:`fewest`.

        Args:
            draws: of each row, ``(n, M, *shape)``.
            truth: ``(n, *shape)``.
            interval: :math:`\alpha`.
            ratio: whether all numbers are above 0, and are compared by their logarithms.
        """
        n = len(truth)
        if n < fewest(interval):
            return None
        low, high = central(draws.transpose(0, 1), interval)
        y = truth.double()
        held = ((low <= y) & (y <= high)).double().mean().item()
        if ratio:
            low, high, y = (x.clamp(min=_LEAST).log() for x in (low, high, y))
        outside = torch.maximum(low - y, y - high)
        # Rounding must not ask for one row more: 0.8 × 5 is 4.000000000000001.
        by = outside.sort(0).values[math.ceil((n + 1) * interval - 1e-9) - 1]
        return cls(by.tolist(), ratio, n, held)

    def told(self, interval: float) -> str:
        """In words."""
        return f"intervals of {100 * interval:.4g} % are set by {self.rows:,} rows held out, of which the draws' own hold {self.held:.2f}"

    def ends(self, draws: Tensor, interval: float, low: float | None, high: float | None) -> tuple[Tensor, Tensor]:
        """The ends of a new row's interval, ``(*shape)`` in float64, inside the limits.

        Args:
            draws: of the row, ``(M, *shape)``.
            interval: the same :math:`\alpha`.
            low: the smallest number there is; None for no limit.
            high: the largest.
        """
        by = torch.tensor(self.by, dtype=torch.float64)
        first, last = central(draws, interval)
        if self.ratio:
            first, last = (x.clamp(min=_LEAST).log() for x in (first, last))
        first, last = first - by, last + by
        middle = (first + last) / 2
        # An interval that would be less than empty holds its middle.
        first, last = torch.minimum(first, middle), torch.maximum(last, middle)
        if self.ratio:
            first, last = first.exp(), last.exp()
        return (first, last) if low is None and high is None else (first.clamp(low, high), last.clamp(low, high))


@attrs.frozen
class Sureness:
    r"""How probable it is that the most frequent class of the draws is right, by its share of them: logistic calibration (Platt 1999).

    :math:`p = \sigma(a \, \mathrm{logit}(s) + b)` with the share :math:`s = (k + 1/2) / (M + 1)` of k among M draws, fitted to rows held out.
    The wanted values are Platt's :math:`(N_+ + 1) / (N_+ + 2)` and :math:`1 / (N_- + 2)` for :math:`N_+` right and :math:`N_-` wrong rows: few rows, all right,
    do not make anything certain. a is at least 0: no class is less probable because more draws have it.

    Attributes:
        slope: a.
        offset: b.
        rows: held out.
        told_share: the mean share of these rows' most frequent classes.
        right: the share of rows in which it is right.
    """

    slope: float
    offset: float
    rows: int
    told_share: float
    right: float

    @classmethod
    def of(cls, counts: Sequence[int], right: Sequence[bool], draws: int) -> Self | None:
        """By rows held out; None where there are fewer than :data:`FEW`.

        Args:
            counts: of each row, how many of its draws have the most frequent class.
            right: of each row, whether that is the truth.
            draws: M.
        """
        n = len(counts)
        if n < FEW:
            return None
        hit = torch.tensor(right, dtype=torch.float64)
        x = torch.tensor([_logit(k, draws) for k in counts], dtype=torch.float64)
        wanted = torch.where(hit > 0, (hit.sum() + 1) / (hit.sum() + 2), 1 / (n - hit.sum() + 2))
        slope, offset = _logistic(x, wanted)
        if slope < 0:
            slope, offset = 0.0, float(torch.logit(wanted.mean()))
        return cls(slope, offset, n, sum(counts) / n / draws, float(hit.mean()))

    def told(self, interval: float) -> str:
        """In words; a class has no interval."""
        return f"probabilities are set by {self.rows:,} rows held out, of which {self.right:.2f} are right where the draws say {self.told_share:.2f}"

    def probability(self, count: int, draws: int) -> float:
        """That the class is right which ``count`` of the draws have."""
        return float(torch.sigmoid(torch.tensor(self.slope * _logit(count, draws) + self.offset, dtype=torch.float64)))


def _logit(count: int, draws: int) -> float:
    share = (count + 0.5) / (draws + 1)
    return math.log(share / (1 - share))


def _logistic(x: Tensor, wanted: Tensor) -> tuple[float, float]:
    """The slope and offset of the largest likelihood, by Newton's method with halved steps; slope 0 where all x are equal."""
    design = torch.stack([x - x.mean(), torch.ones_like(x)], 1)
    beta = torch.stack([x.new_tensor(0.0), torch.logit(wanted.mean())])

    def loss(beta: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(design @ beta, wanted, reduction="sum")

    for _ in range(_STEPS):
        p = torch.sigmoid(design @ beta)
        gradient = design.T @ (p - wanted)
        curvature = (design.T * (p * (1 - p))) @ design + 1e-12 * torch.eye(2, dtype=x.dtype)
        step = torch.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(beta - size * step) > loss(beta) and size > 1e-6:
            size /= 2
        beta = beta - size * step
        if step.abs().max() < 1e-10:
            break
    slope, offset = beta.tolist()
    return slope, offset - slope * float(x.mean())
