r"""How draws lie about the truth, row by row: what every figure of calibration is made of.

A row has a truth :math:`y` and draws :math:`x_1 … x_M` of the answer to it. A model is calibrated where draws and truth are exchangeable: nobody could
tell which of the :math:`M + 1` values was the true one. All that is here has a known expectation then, for every :math:`M \ge 2` and with ties:
scores are fair (Ferro 2014), ranks uniform, intervals covered as often as they say.

:func:`numbers` and :func:`classes` are what :meth:`mmcore.Modality.calibration` answers by default. ``draws`` are ``(M, B, *shape)`` and the truth
``(B, *shape)``; an element whose truth is NaN, or of which ``known (B, *shape)`` is false, counts nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.spec import Spec

RANKS = 40
"""Bins of ranks: the fewest whose edges have the ends of the central 50, 80 and 95 %."""
CONFIDENCES = 10
"""Bins of confidence."""
LEVELS = (50, 80, 95)
"""Of which intervals the width is told, in percent."""
_ENTRIES = 8
"""Vectors of more numbers are not told number by number."""
_TIE = 1e-9


@attrs.frozen(eq=False)
class Calibration:
    """How the draws of ``B`` rows lie about their truths. A row that says nothing has NaN, or counts of 0.

    Names are part of a figure's: ``""`` of all elements together, ``"[2]"`` of the third number of a vector, others come before it.

    Attributes:
        scores: proper scores ``(B,)`` by name, smaller is better: in expectation best where the draws have the truth's own distribution.
        means: other figures ``(B,)`` of which the mean is told, such as the width of intervals.
        ranks: ``(B, RANKS)`` by name, how many elements have their truth at which place among the draws, from below all to above all
            (:func:`places`). Calibrated, all bins have the same expectation.
        depths: ``(B, RANKS)`` by name, the place of the truth as a whole, from the midst of the draws to outside them (:func:`depth`).
        spreads: ``(B, 2)`` by name, the variance that the draws predict for their mean's error, and that error's square.
        reliability: ``(B, CONFIDENCES, 3)`` by name, for elements in a bin of confidence: how many, the sum of their confidences, how many are right.
    """

    scores: Mapping[str, Tensor] = attrs.field(factory=dict)
    means: Mapping[str, Tensor] = attrs.field(factory=dict)
    ranks: Mapping[str, Tensor] = attrs.field(factory=dict)
    depths: Mapping[str, Tensor] = attrs.field(factory=dict)
    spreads: Mapping[str, Tensor] = attrs.field(factory=dict)
    reliability: Mapping[str, Tensor] = attrs.field(factory=dict)

    SHAPES = {
        "scores": (),
        "means": (),
        "ranks": (RANKS,),
        "depths": (RANKS,),
        "spreads": (2,),
        "reliability": (CONFIDENCES, 3),
    }
    """What a row has of each."""

    def parts(self) -> Iterator[tuple[str, str, Tensor]]:
        """Every tensor with the attribute that it is in, and its name."""
        for part in self.SHAPES:
            for name, x in getattr(self, part).items():
                yield part, name, x

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """The rows of all of them, one after the other."""
        return cls(
            **{
                part: {
                    name: torch.cat([getattr(one, part)[name] for one in several]) for name in getattr(several[0], part)
                }
                for part in cls.SHAPES
            }
        )


class Calibrates:
    """What a modality answers about its draws, unless it knows better."""

    spec: Spec

    def calibration(self, draws: Tensor, truth: Tensor) -> Calibration:
        """How draws lie about the truth, for ``mmcore evaluate --calibration``.

        By default real values are judged as numbers, element by element and jointly, and all others as classes. One's own figures come
        beside or in place of them: ``Calibration(scores={"pitch": mmcore.modality.calibration.crps(pitch(draws), pitch(truth)).mean(1)})``.

        Args:
            draws: of each row, at least two, ``(M, B, *spec.shape)``.
            truth: ``(B, *spec.shape)``; what is NaN or void counts nowhere.
        """
        known = torch.ones(truth.shape, dtype=torch.bool, device=truth.device)
        if self.spec.void is not None:
            known &= truth != self.spec.void
        if not self.spec.dtype.is_floating_point:
            return classes(draws, truth, known)
        shape = self.spec.shape
        entries = len(shape) == 1 and 1 < shape[0] <= _ENTRIES and not self.spec.unit_norm
        return numbers(draws, truth, known, entries=entries)


def numbers(draws: Tensor, truth: Tensor, known: Tensor | None = None, *, entries: bool = False) -> Calibration:
    """Real values: each by itself, and where there are several, all of a row jointly.

    Args:
        draws: ``(M, B, *shape)``.
        truth: ``(B, *shape)``.
        known: which elements count, ``(B, *shape)``; by default all that are not NaN.
        entries: tell each element by itself too, as ``"[0]"``, ``"[1]"`` ….
    """
    x, y, known = _flat(draws, truth, known)
    x, y = x.double(), y.double()
    ordered = _ordered(x)
    score = _crps(ordered, y)
    scores = {"crps": _over(score, known)}
    ranks = {"": _counted(x, y, known)}
    means = {f"width_{level}": _over(width, known) for level, width in _widths(ordered).items()}
    error = (x.mean(0) - y).square()
    variance = (1 + 1 / len(x)) * x.var(0)
    spreads = {"": torch.stack([_over(variance, known), _over(error, known)], 1)}
    depths = {}
    if y.shape[1] > 1:
        apart = distances(x, y, known)
        scores["energy"] = energy(apart).where(known.any(1), torch.nan)
        depths["joint"] = depth(apart).where(known.any(1, keepdim=True), 0)
    for k in range(y.shape[1] if entries else 0):
        scores[f"crps[{k}]"] = _over(score[:, k : k + 1], known[:, k : k + 1])
        ranks[f"[{k}]"] = _counted(x[..., k : k + 1], y[:, k : k + 1], known[:, k : k + 1])
    return Calibration(scores=scores, means=means, ranks=ranks, depths=depths, spreads=spreads)


def classes(draws: Tensor, truth: Tensor, known: Tensor | None = None) -> Calibration:
    """Classes, labels that are there or not, maps and sequences: each element by itself, and where there are several, all of a row jointly.

    Args:
        draws: ``(M, B, *shape)``.
        truth: ``(B, *shape)``.
        known: which elements count, ``(B, *shape)``; by default all.
    """
    x, y, known = _flat(draws, truth, known)
    if x.numel() and min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) < 256:
        # Draws are compared with each other, which takes an eighth of the time in a byte.
        x, y = x.to(torch.uint8), y.to(torch.uint8)
    scores = {"brier": _over(brier(x, y), known)}
    depths = {}
    if y.shape[1] > 1:
        apart = distances(x, y, known)
        scores["energy"] = energy(apart).where(known.any(1), torch.nan)
        depths["joint"] = depth(apart).where(known.any(1, keepdim=True), 0)
    return Calibration(scores=scores, depths=depths, reliability={"": reliability(x, y, known)})


# ---- the parts, for authors of modalities ----


def crps(draws: Tensor, truth: Tensor) -> Tensor:
    r"""The fair continuous ranked probability score of each element, in its units: ``(B, k)``.

    .. math:: \frac1M \sum_m |x_m - y| - \frac{1}{2 M (M - 1)} \sum_{m, m'} |x_m - x_{m'}|

    Its expectation over draws is the score of the distribution that they are from, :math:`\int (F(x) - [x \ge y])^2 dx`, whatever
    :math:`M` (Ferro 2014). So of few draws it can be below 0.

    Args:
        draws: ``(M, B, k)``.
        truth: ``(B, k)``.
    """
    return _crps(_ordered(draws), truth)


def _crps(ordered: Tensor, truth: Tensor) -> Tensor:
    M = len(ordered)
    # Of the differences between any two, the m-th smallest is in 2 m - M - 1 more with plus than with minus.
    factor = 2 * torch.arange(1, M + 1, dtype=ordered.dtype, device=ordered.device) - M - 1
    pairs = torch.einsum("m,mbk->bk", factor, ordered)
    return (ordered - truth).abs().mean(0) - pairs / (M * (M - 1))


def brier(draws: Tensor, truth: Tensor) -> Tensor:
    r"""The fair Brier score of each element: ``(B, k)``.

    Its expectation over draws is :math:`\sum_c (p_c - [y = c])^2` of the classes' probabilities; those of the shares themselves would be larger by
    :math:`\sum_c p_c (1 - p_c) / M`.

    Args:
        draws: ``(M, B, k)``.
        truth: ``(B, k)``.
    """
    M = len(draws)
    alike = torch.zeros(truth.shape, dtype=torch.float64, device=truth.device)
    for one in draws:
        alike += (draws == one).sum(0) - 1
    return 2 * (draws != truth).double().mean(0) - (1 - alike / (M * (M - 1)))


def distances(draws: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Between the draws of a row and its truth, which is the last: ``(B, M + 1, M + 1)``, Euclidean over the known elements.

    Two classes are at 0 or 1.

    Args:
        draws: ``(M, B, k)``.
        truth: ``(B, k)``.
        known: ``(B, k)``.
    """
    # NaN times 0 would be NaN.
    points = torch.cat([draws, truth[None]]).where(known, 0).transpose(0, 1)
    if points.is_floating_point():
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    points = points.double()
    return torch.cdist(points, points, p=0).sqrt()


def energy(apart: Tensor) -> Tensor:
    r"""The fair energy score ``(B,)`` by the :func:`distances` (Gneiting and Raftery 2007).

    .. math:: \frac1M \sum_m \lVert x_m - y \rVert - \frac{1}{2 M (M - 1)} \sum_{m, m'} \lVert x_m - x_{m'} \rVert

    For one number it is the CRPS.
    """
    M = apart.shape[1] - 1
    return apart[:, M, :M].mean(1) - apart[:, :M, :M].sum((1, 2)) / (2 * M * (M - 1))


def places(draws: Tensor, truth: Tensor) -> Tensor:
    r"""Where the truth lies among the draws, as shares of ``RANKS`` bins of 0 … 1: ``(B, k, RANKS)``.

    With :math:`b` draws below and :math:`e` equal to it, the truth is evenly in :math:`\frac{b}{M + 1} … \frac{b + e + 1}{M + 1}`: the ranks of the
    truth, ties broken at random, and of that the mean over all ways to break them (Czado, Gneiting and Held 2009). Calibrated, every bin's
    expectation is ``1 / RANKS``, whatever :math:`M` and however many ties. With 39 draws bins are ranks.

    Args:
        draws: ``(M, B, k)``.
        truth: ``(B, k)``.
    """
    return _shares((draws < truth).sum(0), (draws == truth).sum(0), len(draws))


def depth(apart: Tensor) -> Tensor:
    """How far outside of the draws the truth as a whole is, as :func:`places` says it: ``(B, RANKS)`` by the :func:`distances`.

    Ranked is each value's mean distance from the others (Knüppel, Krüger and Pohle 2022); the truth in the last bins is farther from the draws than
    they are from each other. It sees what no element shows by itself, such as a correlation that is missing.
    """
    M = apart.shape[1] - 1
    far = apart.sum(2)
    own, others = far[:, M:], far[:, :M]
    # The same distances do not always have the same sum.
    equal = (others - own).abs() <= _TIE * own
    return _shares(((others < own) & ~equal).sum(1), equal.sum(1), M)


def reliability(draws: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """For elements in each bin of confidence: how many, the sum of confidences, how many are right. ``(B, CONFIDENCES, 3)``.

    One half of the draws chooses the class, its most frequent, and the bin, by that class's share. The confidence is the share in the
    other half, which knows no more of the choice than the truth does. So calibrated, confidence and share of the right are
    equal in expectation in every bin; the share by which a class was chosen is too high. Each half chooses once, and counts a half.

    Args:
        draws: ``(M, B, k)``.
        truth: ``(B, k)``.
        known: ``(B, k)``.
    """
    half = len(draws) // 2
    total = torch.zeros(len(truth), CONFIDENCES, 3, dtype=torch.float64, device=truth.device)
    for choosing, telling in ((draws[:half], draws[half:]), (draws[half:], draws[:half])):
        frequent = torch.stack([(choosing == one).sum(0) for one in choosing])
        most, which = frequent.max(0)
        chosen = choosing.gather(0, which[None])[0]
        confidence, right = (telling == chosen).double().mean(0), (truth == chosen).double()
        # Whole numbers, as no share is exact: the bin of most / n is (b / 10, (b + 1) / 10].
        at = (most * CONFIDENCES + len(choosing) - 1) // len(choosing) - 1
        counted = torch.stack([torch.ones_like(right), confidence, right], 2).where(known[..., None], 0)
        index = at.clamp(0, CONFIDENCES - 1)[..., None].expand(*at.shape, 3)
        total.scatter_add_(1, index, counted / 2)
    return total


def widths(draws: Tensor) -> dict[int, Tensor]:
    """Of the central intervals that ``draws (M, B, k)`` can tell: ``(B, k)`` by level in percent.

    The ends are the draws of rank ``(1 ± level) (M + 1) / 2``, and in between those beside it: a truth that is one more such draw lies inside with just
    that probability.
    """
    return _widths(_ordered(draws))


def _widths(ordered: Tensor) -> dict[int, Tensor]:
    M = len(ordered)

    def end(share: float) -> Tensor:
        place = share * (M + 1) - 1
        below = min(max(int(place + _TIE), 0), M - 1)
        above = min(below + 1, M - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    told = (level for level in LEVELS if least(level) <= M)
    return {level: end((1 + level / 100) / 2) - end((1 - level / 100) / 2) for level in told}


def _ordered(draws: Tensor) -> Tensor:
    """From the smallest draw to the largest, element by element; a sort along the last axis is much the faster."""
    return draws.movedim(0, -1).contiguous().sort(-1).values.movedim(-1, 0)


def least(level: int) -> int:
    """The fewest draws that tell an interval of so many percent: 3, 9 and 39 for 50, 80 and 95."""
    return -(-200 // (100 - level)) - 1


def _shares(below: Tensor, equal: Tensor, M: int) -> Tensor:
    """Of a value evenly in ``below … below + equal + 1`` of ``M + 1``, the share of each bin: ``(*below.shape, RANKS)``."""
    edges = torch.arange(RANKS + 1, dtype=torch.float64, device=below.device) * ((M + 1) / RANKS)
    left = ((edges - below[..., None]) / (equal + 1)[..., None]).clamp(0, 1)
    return left.diff(dim=-1)


def _counted(draws: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """How many elements of a row are in each bin of ranks, ``(B, RANKS)``: the sum of :func:`places`, which is the same for the same ranks."""
    M = len(draws)
    pair = (draws < truth).sum(0) * (M + 1) + (draws == truth).sum(0)
    kinds = torch.arange((M + 1) ** 2, device=truth.device)
    counts = torch.zeros(len(truth), len(kinds), dtype=torch.float64, device=truth.device)
    counts.scatter_add_(1, pair, known.double())
    return counts @ _shares(kinds // (M + 1), kinds % (M + 1), M)


def _over(values: Tensor, known: Tensor) -> Tensor:
    """The mean over a row's known elements ``(B, k)``; NaN where there is none."""
    return values.where(known, 0).sum(1) / known.sum(1).where(known.any(1), torch.nan)


def _flat(draws: Tensor, truth: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``(M, B, k)``, ``(B, k)`` and ``(B, k)``.

    Raises:
        RequestError: shapes that do not fit, fewer than two draws, or one that is NaN or infinite.
    """
    if draws.shape[1:] != truth.shape or not truth.ndim:
        raise RequestError(
            f"calibration: draws {tuple(draws.shape)} and truth {tuple(truth.shape)}, expected (M, B, …) and (B, …)"
        )
    if len(draws) < 2:
        raise RequestError(f"calibration: {len(draws)} draw of each row, expected at least 2")
    x, y = (
        draws.flatten(2) if truth.ndim > 1 else draws[..., None],
        truth.flatten(1) if truth.ndim > 1 else truth[:, None],
    )
    known = (torch.ones_like(y, dtype=torch.bool) if known is None else known.reshape(y.shape)) & ~y.isnan()
    # A row without a score would be left out, and the rest would look well.
    if (wrong := ~x.isfinite() & known).any():
        draw, row, _ = wrong.nonzero()[0].tolist()
        raise RequestError(f"calibration: draw {draw} of row {row} is {x[wrong][0].item()}, expected finite values")
    return x, y, known
