"""Bounds for checks by samples, each with its false-alarm rate."""

import math

import torch
from torch import Tensor

ALPHA = 1e-8
"""The false-alarm rate of one comparison, over all of its elements together."""


class Moments:
    """What bounds need of numbers ``(n, m)`` that may come in parts: how many, their mean and variance, the smallest and the largest.

    Attributes:
        n: how many.
        mean: their mean, ``(m,)``.
        low: the smallest, ``(m,)``.
        high: the largest, ``(m,)``.
    """

    def __init__(self, draws: Tensor) -> None:
        self.n, self.mean = len(draws), draws.mean(0)
        self.low, self.high = draws.amin(0), draws.amax(0)
        self._square = draws.var(0, correction=0) * self.n

    def add(self, draws: Tensor) -> None:
        """More of them (Chan, Golub and LeVeque 1983)."""
        n, apart = len(draws), draws.mean(0) - self.mean
        self._square += draws.var(0, correction=0) * n + apart.square() * (self.n * n / (self.n + n))
        self.mean = self.mean + apart * (n / (self.n + n))
        self.n += n
        self.low, self.high = torch.minimum(self.low, draws.amin(0)), torch.maximum(self.high, draws.amax(0))

    def bound(self, reach: Tensor | float = 0.0) -> Tensor:
        """How far the mean may be from the true one: ``(m,)``.

        The empirical Bernstein bound (Maurer and Pontil 2009, theorem 4), united over the elements: a
        true mean is further away with probability ``ALPHA`` at most, for draws within a bounded range. The range is
        the observed one, widened to ``reach``, so it does not rely on the normal approximation where classes are rare.
        """
        spread = torch.maximum(self.high - self.low, torch.as_tensor(reach).to(self.mean))
        doubt = math.log(2 * len(self.mean) / ALPHA)
        variance = self._square / (self.n - 1)
        return (2 * variance * doubt / self.n).sqrt() + 7 * spread * doubt / (3 * (self.n - 1))

    def heavy(self) -> Tensor:
        """Of which elements a single draw makes up a twentieth of the variance or more: ``(m,)``.

        Means of those converge too slowly for :meth:`bound`, whose range is the observed one. Of 4000 normal numbers it is a two-hundredth.
        """
        return torch.maximum(self.high - self.mean, self.mean - self.low).square() > 0.05 * self._square


def mean_bound(draws: Tensor, reach: Tensor | float = 0.0) -> Tensor:
    """:meth:`Moments.bound` of ``draws (n, m)``."""
    return Moments(draws).bound(reach)


def heavy(draws: Tensor) -> Tensor:
    """:meth:`Moments.heavy` of ``draws (n, m)``."""
    return Moments(draws).heavy()


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
