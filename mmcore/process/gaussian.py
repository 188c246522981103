r"""Isotropic Gaussians :math:`N(\text{mean}, \text{variance}\, I)` and what the bound needs of them."""

import math
from typing import Self

import attrs
import torch
from torch import Tensor


@attrs.define(eq=False)
class Gaussian:
    """A Gaussian with independent elements, one per row of a batch.

    Args:
        mean: ``(B, *Z)``.
        variance: broadcastable to ``mean``; zero is a point mass.
        deviation: its root; either suffices, and where both are given neither loses digits.
    """

    mean: Tensor
    _variance: Tensor | None = attrs.field(default=None, alias="variance")
    _deviation: Tensor | None = attrs.field(default=None, alias="deviation", kw_only=True)

    @property
    def variance(self) -> Tensor:
        """Broadcastable to ``mean``."""
        if self._variance is not None:
            return self._variance
        assert self._deviation is not None, "a Gaussian needs a variance or a deviation"
        return self._deviation.square()

    @property
    def deviation(self) -> Tensor:
        """The variance's root, broadcastable to ``mean``."""
        return self.variance.sqrt() if self._deviation is None else self._deviation

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density at ``x (B, *Z)``, summed over ``Z``: ``(B,)`` nats.

        The variance must be positive.
        """
        variance = self.variance.expand_as(self.mean)
        terms = -0.5 * ((x - self.mean).square() / variance + variance.log() + math.log(2 * math.pi))
        return total(terms)

    def draw(self, noise: Tensor) -> Tensor:
        """A draw by reparameterisation, ``mean + deviation · noise``, for standard normal ``noise (B, *Z)``.

        Raises:
            ValueError: noise of another shape or dtype than the mean's: rows would share it.
        """
        if noise.shape != self.mean.shape or noise.dtype != self.mean.dtype:
            found, expected = (f"{x.dtype} {tuple(x.shape)}" for x in (noise, self.mean))
            raise ValueError(f"process: noise is {found}, expected (B, *Z) = {expected}")
        return (self.deviation * noise).add_(self.mean)

    def kl(self, other: Self) -> Tensor:
        """The divergence ``KL(self ‖ other)``, summed over ``Z``: ``(B,)`` nats.

        Two point masses, and equal variances in general, give the limit
        ``‖mean difference‖² / (2 variance)``, which is 0 where the means agree too.
        """
        own, their = (g.variance.expand_as(self.mean) for g in (self, other))
        ratio = own / their
        distance = (self.mean - other.mean).square() / their
        # r - 1 - log r by log1p: near r = 1 the plain form loses all its digits.
        excess = torch.where(own == their, torch.zeros_like(ratio), ratio - 1)
        terms = 0.5 * (excess - torch.log1p(excess) + distance)
        same = (own == their) & (self.mean == other.mean)
        return total(torch.where(same, torch.zeros_like(terms), terms))


def total(terms: Tensor) -> Tensor:
    """Sum ``(B, *Z)`` over ``Z``, of any rank: ``(B,)``."""
    return terms.reshape(len(terms), -1).sum(1)
