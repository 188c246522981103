r"""Timesteps by question: rows that observe something, and generate classes, are trained most where the classes are still open.

A row that observes an image and generates its label learns to read the image only where the noisy label does not give itself away. How much is still open
at ``t`` is, as a share of the code's variance,

.. math:: u_i(t) = \frac{E\|E_i - E[E_i \mid W_t^{(i)} E_i + \sigma_t \epsilon]\|^2}{E\|E_i - E[E_i]\|^2},

1 where only noise is seen. For a normal code it is ``σ² / (σ² + W²)``; for classes it falls far sooner, as their codes are few.
"""

import math
from typing import Self, cast

import attrs
import torch
from torch import Tensor

from mmcore.modality.base import Encoder, Modality
from mmcore.modality.holes import code_there, encoded
from mmcore.modality.orthogonal import Turned
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role
from mmcore.rng import Rng
from mmcore.training.weighting import WEIGHTINGS

AT_END, EVEN = 0.5, 0.1
"""Of the rows that observe something and generate classes, the share at ``T`` and the share at even timesteps; the rest go by what is open."""
SAMPLES, POINTS, LEVELS, LARGEST = 256, 512, 33, 1 << 22
"""Of the estimate of what is open: samples, places of theirs, levels of noise between which it is interpolated, and most elements of all their codes."""
TIMESTEPS = ("question", "even")
"""How timesteps are drawn: by what a row observes and generates, or evenly."""


@attrs.frozen(eq=False)
class Timesteps:
    """Draws timesteps by what a row observes and generates, each row's by its own random numbers and roles alone.

    - A row whose whole answer is one class is at ``T``: it is answered there (:func:`mmcore.sample`).
    - In a row that observes something, a block that generates classes is half of the time at ``T``, a tenth of the time at an even timestep, else at
      one in proportion to ``u_i(t)`` of one of the codes that it generates, chosen evenly. All blocks are at ``T`` together.
    - All other timesteps stay even.

    Attributes:
        model: for which.
        steps: ``(N, T)``, the distribution function over ``1 … T`` that is in proportion to each code's ``u_i``.
    """

    model: JointModel
    steps: Tensor

    @classmethod
    def of(cls, model: JointModel) -> Self:
        """The same for every process that trains this model."""
        open_ = torch.stack([left_open(model, i) for i in range(len(model.modalities))])
        return cls(model, (open_.cumsum(1) / open_.sum(1, keepdim=True)).to(model.device))

    @classmethod
    def asked(cls, model: JointModel, how: str, weighting: str) -> Self | None:
        """Those that training options ask for; None for even ones.

        Args:
            model: for which.
            how: one of :data:`TIMESTEPS`.
            weighting: its name; one that is not free draws its own.
        """
        return cls.of(model) if how == "question" and WEIGHTINGS[weighting].free else None

    def __call__(self, rng: Rng, even: Tensor, roles: Tensor) -> Tensor:
        """The timesteps ``(B, K)``.

        Args:
            rng: of the rows.
            even: timesteps that do not know the question, ``(B, K)``.
            roles: ``(B, V)``.
        """
        model, driver = self.model, self.model.driver
        T, K = model.process.steps, model.process.blocks
        generate, observe = driver.are(roles, Role.GENERATE), driver.are(roles, Role.OBSERVE)
        member = generate[:, None] & (
            model.process.block_of.to(even.device) == torch.arange(K, device=even.device)[:, None]
        )
        asks = observe.any(1, keepdim=True) & (member & driver.discrete).any(2)
        u = rng.of("question").uniform(1 + 2 * K, dtype=torch.float64)
        kind, (pick, at) = u[:, :1], u[:, 1:].chunk(2, dim=1)
        # One of those that a block generates, and a timestep at this quantile of its distribution.
        count = member.cumsum(2)
        chosen = (member & (count == (pick[..., None] * count[..., -1:]).long() + 1)).long().argmax(2)
        quantiles = at.flatten().expand(len(self.steps), -1).contiguous()
        of_each = torch.searchsorted(self.steps, quantiles).unflatten(1, at.shape)
        by_open = of_each.gather(0, chosen[None])[0].clamp(max=T - 1) + 1
        t = torch.where(kind < AT_END, T, torch.where(kind < AT_END + EVEN, even, by_open))
        t = torch.where(asks, t, even)
        return torch.where(driver.one_class(roles)[:, None], T, t)


def left_open(model: JointModel, place: int) -> Tensor:
    """The share ``u_i(t)`` of a code's variance that its noisy code alone leaves open, for ``t = 1 … T``: ``(T,)`` float64 on the CPU.

    Of classes it is estimated with a fixed seed: from the codes of typical samples, at each place of the grid by itself.

    Args:
        model: whose process and encoder are meant.
        place: of the modality among the model's.
    """
    process, m = model.process, model.modalities[place]
    t = torch.arange(1, process.steps + 1)[:, None].expand(-1, process.blocks)
    level = process.level(t)
    W, sigma = level.W[:, place].double(), process.by_modality(level.sigma)[:, place].double()
    if not m.discrete:
        return sigma.square() / (sigma.square() + W.square())
    at = torch.linspace(0, process.steps - 1, min(LEVELS, process.steps)).round().long()
    open_ = _of_classes(_codes(model, m), W[at], sigma[at])
    # Between two levels by a straight line.
    right = torch.searchsorted(at, torch.arange(process.steps)).clamp(min=min(1, len(at) - 1))
    left = (right - 1).clamp(min=0)
    span = (at[right] - at[left]).clamp(min=1)
    share = (torch.arange(process.steps) - at[left]).double() / span
    return open_[left] + share * (open_[right] - open_[left])


def _codes(model: JointModel, m: Modality) -> Tensor:
    """Codes of typical samples, ``(points, C)`` float64: whole ones, or of spatial codes those of places."""
    encoder = model.encoders[m.name]
    # Without its turn, which training moves and which changes no distance.
    fixed = cast(Encoder, encoder.inner if isinstance(encoder, Turned) else encoder)
    count = max(16, min(SAMPLES, LARGEST // math.prod(m.code)))
    x = m.typical(count, 0).to(model.device)
    with torch.no_grad():
        codes = encoded(m, fixed, x).double().cpu()
    there = code_there(m, x)
    known = torch.ones_like(codes, dtype=torch.bool) if there is None else there.cpu().expand_as(codes)
    if len(m.code) > 1:
        codes, known = (part.movedim(1, -1).flatten(0, -2) for part in (codes, known))
    # What is void says nothing; of nothing but void there is nothing to learn.
    codes = codes[known.all(1)] if bool(known.all(1).any()) else codes
    if len(m.code) > 1:
        some = Rng.for_rows(0, 1).of("places").integers(0, len(codes), POINTS)[0]
        codes = codes[some]
    return codes


def _of_classes(codes: Tensor, W: Tensor, sigma: Tensor) -> Tensor:
    """The share left open of these codes ``(n, C)``, as likely as they are often among them, at each level ``(L,)``."""
    noise = Rng.for_rows(0, len(codes)).of("left open").normal(codes.shape[1], dtype=torch.float64)
    # Codes that are equal are one class.
    points, of_class, count = codes.unique(dim=0, return_inverse=True, return_counts=True)
    weight = (count / len(codes)).log()
    left = []
    for w, s in zip(W.tolist(), sigma.tolist(), strict=True):
        z = w * codes + s * noise
        logits = weight - torch.cdist(z, w * points).square() / (2 * s**2)
        left.append((points[of_class] - logits.softmax(1) @ points).square().sum(1).mean())
    variance = (codes - codes.mean(0)).square().sum(1).mean()
    # A class that is always the same leaves nothing open, and any timestep is as good.
    return torch.stack(left) / variance if variance > 0 else torch.ones(len(W), dtype=torch.float64)
