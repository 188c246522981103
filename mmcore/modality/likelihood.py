"""Likelihoods that several modalities share, per sample in nats."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_SCALE = (-4.0, 3.0)
"""The range that :func:`bounded_log_scale` keeps to."""


def bounded_log_scale(raw: Tensor) -> Tensor:
    """Bound a raw output smoothly to a log standard deviation inside ``LOG_SCALE``; 0 stays 0."""
    low, high = LOG_SCALE
    # Near 0 the slope is 1 on both sides; far out the bounds are approached, never crossed.
    return torch.where(raw < 0, low * torch.tanh(raw / low), high * torch.tanh(raw / high))


def unbounded_log_scale(log_scale: Tensor) -> Tensor:
    """The raw output that :func:`bounded_log_scale` makes this of; of what is at the bounds or beyond them, what makes 0.999 of the bound."""
    low, high = LOG_SCALE
    # bfloat16 has no number between 0.998 and 1, of which this would be infinite.
    wide = log_scale.to(torch.promote_types(log_scale.dtype, torch.float32))
    below, above = (end * torch.atanh((wide / end).clamp(-0.999, 0.999)) for end in (low, high))
    return torch.where(wide < 0, below, above).to(log_scale.dtype)


def total(terms: Tensor, where: Tensor | None = None) -> Tensor:
    """Sum ``terms (B, ...)`` over all but the batch, of the elements in the mask ``where`` alone: ``(B,)``."""
    if where is not None:
        terms = torch.where(where, terms, torch.zeros_like(terms))
    return terms.reshape(len(terms), -1).sum(1)


def gaussian(mean: Tensor, log_scale: Tensor, x: Tensor, *, bin_width: float = 0.0) -> Tensor:
    """Gaussian negative log-likelihood of each element under ``N(mean, exp(log_scale)²)``, nats.

    With ``bin_width = δ > 0``, ``x`` is the middle of a bin of that width and the value is the bound of
    uniform dequantisation (Theis, van den Oord and Bethge 2016), ``-E_u log N(x + u) - log δ`` with ``u`` uniform in
    ``± δ/2``, in closed form: the expected square is ``(x - mean)² + δ²/12``.
    """
    square = (x - mean).square() + bin_width**2 / 12
    nll = 0.5 * square * (-2 * log_scale).exp() + log_scale + 0.5 * math.log(2 * math.pi)
    return nll - math.log(bin_width) if bin_width else nll


def categorical(logits: Tensor, x: Tensor) -> Tensor:
    """Cross-entropy of classes ``x (B, *shape)`` under ``logits (B, K, *shape)``, nats: ``(B, *shape)``."""
    return F.cross_entropy(logits, x, reduction="none")


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of booleans ``x`` under ``logits`` of the same shape, nats, element by element."""
    return F.binary_cross_entropy_with_logits(logits, x.to(logits.dtype), reduction="none")
