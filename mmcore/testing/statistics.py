"""Bounds for checks by samples, each with its false-alarm rate."""

import math

import torch
from torch import Tensor

ALPHA = 1e-8
"""The false-alarm rate of one comparison, over all of its elements together."""


def mean_bound(draws: Tensor, reach: Tensor | float = 0.0) -> Tensor:
    """How far the mean of ``draws (n, m)`` may be from the true one: ``(m,)``.

    The empirical Bernstein bound (Maurer and Pontil 2009, theorem 4), united over the elements: a
    true mean is further away with probability ``ALPHA`` at most, for draws within a bounded range. The range is
    the observed one, widened to ``reach``, so it does not rely on the normal approximation where classes are rare.
    """
    n, m = draws.shape
    spread = torch.maximum(draws.max(0).values - draws.min(0).values, torch.as_tensor(reach).to(draws))
    doubt = math.log(2 * m / ALPHA)
    return (2 * draws.var(0) * doubt / n).sqrt() + 7 * spread * doubt / (3 * (n - 1))


def heavy(draws: Tensor) -> Tensor:
    """Of which elements of ``draws (n, m)`` a single draw makes up a twentieth of the variance or more: ``(m,)``.

    Means of those converge too slowly for :func:`mean_bound`, whose range is the observed one. Of 4000 normal numbers it is a two-hundredth.
    """
    square = (draws - draws.mean(0)).square()
    return square.max(0).values > 0.05 * square.sum(0)


def sigmas(comparisons: int = 1) -> float:
    """The normal quantile that one of ``comparisons`` exceeds in size with probability ``ALPHA``."""
    return float(-torch.special.ndtri(torch.tensor(ALPHA / 2 / comparisons, dtype=torch.float64)))


def of_draws(count: int, draws: Tensor) -> Tensor:
    """How far the mean of ``count`` draws may be from the true one, by the deviation of ``draws (n, m)``: ``(m,)``; 0 for a count of 0, of an exact mean."""
    return sigmas(draws.shape[1]) * draws.std(0) / count**0.5 if count else torch.zeros_like(draws[0])


def legendre(u: Tensor) -> Tensor:
    """The first four Legendre polynomials on 0 … 1, ``(..., 4)``: of mean 0 and variance 1 where ``u`` is uniform.

    Their means tell apart places, widths, skews and tails (Neyman's smooth test, 1937).
    """
    z = 2 * u - 1
    p2, p3 = (3 * z**2 - 1) / 2, (5 * z**3 - 3 * z) / 2
    p4 = (35 * z**4 - 30 * z**2 + 3) / 8
    return torch.stack([z * 3**0.5, p2 * 5**0.5, p3 * 7**0.5, p4 * 3.0], dim=-1)


def rare(count: int, n: int, p: float, comparisons: int = 1) -> bool:
    """Whether ``count`` of ``n`` is one of ``comparisons`` that chance, of probability ``p`` each, does not reach but once in ``1 / ALPHA``.

    By Chernoff's bound, on either side.
    """
    q = count / n
    divergence = (q * math.log(q / p) if q else 0.0) + ((1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0)
    return n * divergence > math.log(2 * comparisons / ALPHA)
