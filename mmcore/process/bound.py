r"""The variational bound (negative ELBO) :math:`-\log p(X) \le L_0 + \sum_{t=2}^T L_{1,t} + L_2`, per row and in nats.

``L0`` is :func:`prior`, ``L1_t`` is :func:`posterior`; ``L2`` is the sum of the tasks' own loss terms at ``z_1``. A random base state would
add ``L3``, the cost of recovering it from ``z_1`` less its entropy; a known or constant one adds nothing, and the engine has no other.

``L0`` and ``L1_t`` are squares of sums over the modalities. :func:`shares` divides such a square among them.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from mmcore.process.coefficients import Level
from mmcore.process.gaussian import Gaussian
from mmcore.process.process import Process


class Placed(Protocol):
    """How latents of several modalities lie side by side in one tensor ``(B, layers, *Z)``.

    So no copy of the space per modality is needed.
    """

    def spread(self, values: Tensor) -> Tensor:
        """A number for each modality, ``(B, N)``, at the elements that are the modality's: ``(B, layers, *Z)``."""
        ...

    def collect(self, values: Tensor) -> Tensor:
        """Sums of ``(B, layers, *Z)`` over each modality's elements: ``(B, N)``."""
        ...


class Stack:
    """Latents of several modalities stacked, ``(B, N, *Z)``: one copy of the space for each modality.

    Args:
        axes: of the space, with its channels.
    """

    def __init__(self, axes: int) -> None:
        self.axes = axes

    def spread(self, values: Tensor) -> Tensor:
        """A number for each modality, ``(B, N)``, reshaped to broadcast: ``(B, N, 1, …)``."""
        return values.reshape(*values.shape, *[1] * self.axes)

    def collect(self, values: Tensor) -> Tensor:
        """Sums of ``(B, N, *Z)`` over each modality's elements: ``(B, N)``."""
        return values.reshape(*values.shape[:2], math.prod(values.shape[2:])).sum(2)


def shares(d: Tensor, placed: Placed | None = None) -> Tensor:
    r"""Each modality's share of a squared norm ``‖Σ_i d_i‖²``: ``⟨d_i, Σ_j d_j⟩``, ``(B, N)``.

    It is each modality's own square where they do not overlap.

    Args:
        d: ``(B, N, *Z)``, or as ``placed`` has it.
        placed: how ``d`` lies in memory.
    """
    placed = placed or Stack(d.ndim - 2)
    return placed.collect(d * d.sum(1, keepdim=True))


def prior(
    process: Process,
    encodings: Tensor | None,
    z0: Tensor | None = None,
    *,
    h: Tensor | None = None,
    level: Level | None = None,
) -> Tensor:
    """The ELBO's prior term, in nats: ``L0 = KL(q(z_T | X) ‖ N(0, I))``, ``(B,)``.

    Arguments are as :meth:`Process.marginal`'s.

    Args:
        process: the process.
        encodings: ``(B, N, *Z)``, or None with ``h`` or ``z0`` given.
        z0: base state.
        h: ``h_T (B, *Z)``, already weighted.
        level: other coefficients than those of ``T``, as where some rows have blocks in which nothing is generated.
    """
    q = process.marginal(encodings, process.steps if level is None else level, z0, h=h)
    return q.kl(Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.deviation)))


def coefficients(process: Process, t: Tensor) -> Tensor:
    """Each modality's scale in the diffusion term, ``c_i = (W_{t-1}^(i) - k_t W_t^(i)) / sqrt(2 β_t)``: ``(B, N)``.

    Timesteps are ``t ≥ 2``; their values are not checked.
    """
    jump = process.jump(t - 1, t)
    difference = process.level(t - 1).W - process.by_modality(jump.k) * process.level(t).W
    return difference / process.by_modality((2 * jump.beta).sqrt())


def posterior(
    process: Process, gap: Tensor, t: Tensor, *, counts: Tensor | None = None, placed: Placed | None = None
) -> Tensor:
    r"""The ELBO's diffusion term at timestep t, in nats and by modality: ``L1_t (B, N)``.

    It is the KL from the true posterior to the one with predicted encodings.

    .. math:: \| \sum_i c_i (E_i(x_i) - \hat E_i) \|^2, \quad
        c_i = (W_{t-1}^{(i)} - k_t W_t^{(i)}) / \sqrt{2 \beta_t}, \quad k_t = \sqrt{a_t} \sigma_{t-1}^2 / \sigma_t^2

    Both posteriors are affine in their encodings and have one variance, so their KL is the square of what separates their means. It is
    divided among the modalities as :func:`shares` does; the sum over them is the term.

    Args:
        process: the process.
        gap: ``E_i(x_i) - Ê_i``, ``(B, N, *Z)``, or as ``placed`` has it.
        t: ``(B,)`` in ``2 … T``, values unchecked.
        counts: ``(B, N)`` bool, the modalities that take part; all by default.
        placed: how ``gap`` lies in memory.
    """
    placed = placed or Stack(gap.ndim - 2)
    c = coefficients(process, t)
    if counts is not None:
        c = torch.where(counts, c, torch.zeros_like(c))
    return shares(gap * placed.spread(c.to(gap.dtype)), placed)
