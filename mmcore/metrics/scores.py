"""Answers beside the truth: classes, maps of classes, vectors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore.errors import RequestError
from mmcore.metrics.figure import RESAMPLES, Figure, average, bootstrap

# Cosines closer than this are equal: the same two vectors do not always have the same product.
_TIE = 1e-12


def accuracy(prediction: Tensor, target: Tensor, *, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The share of samples whose class ``(n,)`` is right."""
    _same(prediction, target, "classes")
    return average((prediction == target).double(), seed=seed, resamples=resamples)


def calibration_error(
    probabilities: Tensor, target: Tensor, *, bins: int = 15, seed: int = 0, resamples: int = RESAMPLES
) -> Figure:
    r"""The expected calibration error :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|` (Guo et al. 2017).

    The confidence is the largest of the probabilities; bin ``b`` has those in ``((b - 1)/bins, b/bins]``. Even a calibrated predictor's is above 0,
    as ``acc_b`` of few samples is not its mean; the bootstrap is centred for that reason.

    Args:
        probabilities: of the classes, ``(n, K)``; each row sums to 1.
        target: ``(n,)``.
        bins: of confidence, equally wide.
        seed: of the interval.
        resamples: of the interval.

    Raises:
        RequestError: shapes that do not fit, or rows that are no distribution.
    """
    p = _distributions(probabilities, target)
    confidence, chosen = p.max(1)
    excess = (chosen == target.cpu()).double() - confidence
    bin_ = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    by_bin = F.one_hot(bin_, bins).double() * excess[:, None]

    def statistic(counts: Tensor) -> Tensor:
        return (counts @ by_bin).abs().sum(1) / len(excess)

    return bootstrap(statistic, len(excess), seed=seed, resamples=resamples, centred=True, bounds=(0.0, 1.0))


def log_score(probabilities: Tensor, target: Tensor, *, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    r"""The mean of :math:`-\log p_y` in nats, by the probability of the true class; proper, and infinite where that is 0: at most 708 nats are counted.

    Args:
        probabilities: of the classes, ``(n, K)``; each row sums to 1.
        target: ``(n,)``.
        seed: of the interval.
        resamples: of the interval.

    Raises:
        RequestError: shapes that do not fit, or rows that are no distribution.
    """
    p = _distributions(probabilities, target)
    own = p.gather(1, target.cpu()[:, None])[:, 0]
    return average(0 - own.clamp(min=torch.finfo(p.dtype).tiny).log(), seed=seed, resamples=resamples)


def _distributions(probabilities: Tensor, target: Tensor) -> Tensor:
    """The probabilities in float64.

    Raises:
        RequestError: shapes that do not fit, or rows that are no distribution.
    """
    if probabilities.ndim != 2 or target.shape != probabilities.shape[:1] or not len(target):
        raise RequestError(
            f"metrics: probabilities {tuple(probabilities.shape)} and classes {tuple(target.shape)}, expected (n, K) and (n,)"
        )
    p = probabilities.detach().cpu().double()
    if not ((p >= 0).all() and ((p.sum(1) - 1).abs() < 1e-3).all()):
        row = int(((p < 0).any(1) | ~((p.sum(1) - 1).abs() < 1e-3)).nonzero()[0])
        raise RequestError(f"metrics: probabilities in row {row} sum to {float(p[row].sum()):.6g}, expected 1")
    return p


def mean_iou(
    prediction: Tensor,
    target: Tensor,
    classes: int,
    *,
    void: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    r"""The mean over classes of :math:`\mathrm{TP}_k / (\mathrm{TP}_k + \mathrm{FP}_k + \mathrm{FN}_k)`, counted over all samples together (Everingham et al. 2010).

    Elements whose truth is void count nowhere; a class that neither truth nor prediction has is left out of the mean. The samples, not their
    elements, are resampled.

    Args:
        prediction: classes ``(n, ...)``.
        target: the truth, of the same shape.
        classes: ``K``.
        void: the truth's value where it says nothing; None where there is none.
        seed: of the interval.
        resamples: of the interval.

    Raises:
        RequestError: shapes that do not fit, a value that is no class, or nothing but void.
    """
    _same(prediction, target, "maps")
    a, b = prediction.cpu().flatten(1), target.cpu().flatten(1)
    valid = torch.ones_like(b, dtype=torch.bool) if void is None else b != void
    for label, x in (("prediction", a), ("truth", b)):
        if (wrong := valid & ((x < 0) | (x >= classes))).any():
            raise RequestError(f"metrics: the {label} has class {int(x[wrong][0])}, expected 0 … {classes - 1}")
    if not valid.any():
        raise RequestError("metrics: the truth is void everywhere, expected some element that is not")
    both, either = [], []
    for k in range(classes):
        predicted, true = (a == k) & valid, (b == k) & valid
        both.append((predicted & true).sum(1))
        either.append((predicted | true).sum(1))
    intersection, union = torch.stack(both, 1).double(), torch.stack(either, 1).double()

    def statistic(counts: Tensor) -> Tensor:
        i, u = counts @ intersection, counts @ union
        return torch.where(u > 0, i / u, torch.nan).nanmean(1)

    return bootstrap(statistic, len(a), seed=seed, resamples=resamples, bounds=(0.0, 1.0))


def cosine(prediction: Tensor, target: Tensor, *, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The mean cosine ``x·y / (|x| |y|)`` of vectors ``(n, d)``."""
    _same(prediction, target, "vectors")
    values = F.cosine_similarity(prediction.double(), target.double(), dim=-1)
    return average(values, seed=seed, resamples=resamples)


def retrieval(prediction: Tensor, target: Tensor, *, top: int = 1, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The share of predicted vectors ``(n, d)`` whose own truth is among the ``top`` nearest, by cosine, of all truths.

    Truths that are equally near are in random order, on average: with ``b`` nearer and ``e`` others as near, a sample counts
    ``(top - b)/(e + 1)``, inside 0 … 1. A prediction that is the same for all scores chance, ``top/n``.
    """
    _same(prediction, target, "vectors")
    query, gallery = (F.normalize(x.detach().cpu().double(), dim=1) for x in (prediction, target))
    own = (query * gallery).sum(1)
    scores = []
    for rows in torch.arange(len(query)).split(1024):
        gap = query[rows] @ gallery.T - own[rows, None]
        gap[torch.arange(len(rows)), rows] = 0
        nearer, equal = (gap > _TIE).sum(1), (gap.abs() <= _TIE).sum(1)
        scores.append(((top - nearer).double() / equal).clamp(0, 1))
    return average(torch.cat(scores), seed=seed, resamples=resamples)


def _same(prediction: Tensor, target: Tensor, label: str) -> None:
    if prediction.shape != target.shape or not len(target):
        raise RequestError(
            f"metrics: predicted {label} {tuple(prediction.shape)} and true ones {tuple(target.shape)}, expected the same shape"
        )
