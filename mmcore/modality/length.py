"""Sequences that end early: after the first end symbol there is nothing but it, so a length is one more value that the model draws.

The probability of a sequence is that of its places up to its first end, each by itself; what comes after is certain.
"""

import torch
from torch import Tensor


def ended(x: Tensor, end: int = 0) -> Tensor:
    """Symbols ``x (B, N)`` with nothing but the end after the first end."""
    over = (x == end).cumsum(1) > 0
    return torch.where(over, end, x)


def counted(x: Tensor, end: int = 0, where: Tensor | None = None) -> Tensor:
    """Which places of ``x (B, N)`` have a say in its likelihood: those up to the first end, ``(B, N)`` bool.

    Args:
        x: symbols.
        end: the symbol of the end.
        where: ``(B, N)`` bool, the places that count at all; an end at any other is not seen. None for all.
    """
    ends = x == end if where is None else (x == end) & where
    before = ends.cumsum(1) - ends.long() > 0
    return ~before if where is None else where & ~before


def chances(p: Tensor, end: int = 0) -> Tensor:
    """Of each place the symbols' probabilities once the sequence has ended with its first end: ``(B, N, K)``.

    Args:
        p: ``(B, N, K)``, those of each place by itself.
        end: the symbol of the end.
    """
    going_on = (1 - p[..., end]).cumprod(1)
    alive = torch.cat([torch.ones_like(going_on[:, :1]), going_on[:, :-1]], dim=1)
    before = p * alive[..., None]
    return before + (torch.arange(p.shape[-1], device=p.device) == end) * (1 - alive)[..., None]


def told(logits: Tensor, x: Tensor, where: Tensor, end: int = 0) -> Tensor:
    """Logits of each place where some places are known: certain there, and before a symbol that is known no end: ``(B, N, K)``.

    With them the probability of a sequence, as :func:`counted` says it, is the one given what is known. What a network says at known places has no part in it:
    it never learns to say anything there.

    Args:
        logits: ``(B, N, K)``, those of each place by itself.
        x: symbols ``(B, N)``.
        where: ``(B, N)`` bool, the places that are known.
        end: the symbol of the end.
    """
    symbols = torch.arange(logits.shape[-1], device=logits.device)
    going_on = (where & (x != end)).flip(1).cumsum(1).flip(1) > 0
    never = torch.where(where[..., None], symbols != x[..., None], going_on[..., None] & (symbols == end))
    return logits.masked_fill(never, -torch.inf)
