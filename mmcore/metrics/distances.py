r"""Distances between sets of samples, in the features of any extractor.

Each takes features ``(n, d)`` of generated samples and ``(m, d)`` of real ones. All depend on how many samples there are, the Fréchet
distance strongly: compare at equal ``n`` and ``m``.
"""

import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.metrics.figure import RESAMPLES, Figure, average, bootstrap

_ROWS = 1024


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance ``|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)`` of Gaussians fitted to features ``(n, d)`` (Heusel et al. 2017)."""
    a, b = _checked(a, b, least=2)
    return float(_between(*(_fitted(x, x.new_ones(len(x))) for x in (a, b))))


def frechet(generated: Tensor, real: Tensor, *, seed: int = 0, resamples: int = 100) -> Figure:
    """The Fréchet distance (FID in Inception features): :func:`frechet_distance` with a centred bootstrap over both sets' rows.

    The fitted covariances' noise enlarges the distance, resampling does so once more; so the interval is for the distance
    that is to be expected at this ``n`` and ``m``.
    """
    generated, real = _checked(generated, real, least=2)

    def statistic(*counts: Tensor) -> Tensor:
        pairs = zip(*counts, strict=True)
        return torch.stack([_between(_fitted(generated, c), _fitted(real, w)) for c, w in pairs])

    bounds = (0.0, torch.inf)
    return bootstrap(statistic, len(generated), len(real), seed=seed, resamples=resamples, centred=True, bounds=bounds)


def _fitted(x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and a factor ``A`` of the covariance ``AᵀA`` of rows ``x (n, d)`` that count ``(n,)`` times; no more than ``d`` rows in ``A``."""
    n, drawn = counts.sum(), counts > 0
    x, counts = x[drawn], counts[drawn]
    mean = counts @ x / n
    factor = (counts / (n - 1)).sqrt()[:, None] * (x - mean)
    return mean, torch.linalg.qr(factor, mode="r").R if len(factor) > x.shape[1] else factor


def _between(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    (mean_a, A), (mean_b, B) = a, b
    # tr (Σ_a Σ_b)^½ is the sum of A Bᵀ's singular values: no root is taken of what rounding made negative.
    cross = torch.linalg.svdvals(A @ B.T).sum()
    return (mean_a - mean_b).square().sum() + A.square().sum() + B.square().sum() - 2 * cross


def kernel(generated: Tensor, real: Tensor, *, seed: int = 0, resamples: int = 200) -> Figure:
    r"""The kernel distance KID: the unbiased MMD² with ``k(x, y) = (x·y/d + 1)³`` (Bińkowski et al. 2018).

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m (m - 1)} - \frac{2 \sum_{i, j} k(x_i, y_j)}{n m}

    Over all pairs, not over random subsets. It is 0 on average for equal distributions, and so below 0 half the time. In a resample a
    row's copies are no pairs of each other. For equal distributions the interval is wider than it need be.
    """
    x, y = _checked(generated, real, least=2)

    def pairs(a: Tensor, b: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``Σ_ij left_i k(a_i, b_j) right_j`` of counts ``(B, n)`` and ``(B, m)``: ``(B,)``."""
        total = left.new_zeros(len(left))
        for rows in torch.arange(len(a)).split(_ROWS):
            total += ((left[:, rows] @ _cubic(a[rows] @ b.T, a.shape[1])) * right).sum(1)
        return total

    def within(a: Tensor, counts: Tensor) -> Tensor:
        own, squares = _cubic(a.square().sum(1), a.shape[1]), counts.square()
        return (pairs(a, a, counts, counts) - squares @ own) / (counts.shape[1] ** 2 - squares.sum(1))

    def statistic(c: Tensor, w: Tensor) -> Tensor:
        return within(x, c) + within(y, w) - 2 * pairs(x, y, c, w) / (len(x) * len(y))

    return bootstrap(statistic, len(x), len(y), seed=seed, resamples=resamples)


def _cubic(products: Tensor, d: int) -> Tensor:
    return (products / d + 1).pow(3)


def precision_recall(generated: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """k-NN precision and recall (Kynkäänniemi et al. 2019) of features ``(n, d)``."""
    generated, real = _checked(generated, real, least=k + 1)
    return float(_covered(generated, real, k).mean()), float(_covered(real, generated, k).mean())


def precision(generated: Tensor, real: Tensor, *, k: int = 3, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The share of generated samples within the ``k``-NN distance of some real one (Kynkäänniemi et al. 2019).

    Each real sample is the centre of a ball that reaches to its ``k``-th neighbour among the real. The interval is that of the samples
    tested; the balls stay.
    """
    generated, real = _checked(generated, real, least=k + 1)
    return average(_covered(generated, real, k), seed=seed, resamples=resamples)


def recall(generated: Tensor, real: Tensor, *, k: int = 3, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The recall of generated samples, :func:`precision` the other way round: the share of real samples that the generated ones cover; its ``n`` is the real ones' number."""
    return precision(real, generated, k=k, seed=seed, resamples=resamples)


def _covered(points: Tensor, centres: Tensor, k: int) -> Tensor:
    """1 for each of ``points`` within the ``k``-th neighbour's distance of any centre, else 0: ``(n,)``."""
    # The nearest to a centre is itself.
    radius = torch.cat([torch.cdist(x, centres).kthvalue(k + 1, dim=1).values for x in centres.split(_ROWS)])
    return torch.cat([(torch.cdist(x, centres) <= radius).any(1) for x in points.split(_ROWS)]).double()


def _checked(generated: Tensor, real: Tensor, *, least: int) -> tuple[Tensor, Tensor]:
    for label, x in (("generated", generated), ("real", real)):
        if x.ndim != 2 or x.shape[1] != real.shape[-1] or not x.is_floating_point():
            raise RequestError(
                f"metrics: {label} features are {x.dtype} {tuple(x.shape)}, expected floats (n, d) of one width"
            )
        if len(x) < least:
            raise RequestError(f"metrics: {len(x)} {label} samples, expected at least {least}")
        if not x.isfinite().all():
            row = int((~x.isfinite()).any(1).nonzero()[0])
            raise RequestError(f"metrics: {label} features have NaN or infinity in row {row}, expected finite values")
    return generated.detach().cpu().double(), real.detach().cpu().double()
